"""What is written of an allow-list reads back as it, alone and in a profile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.appraisal.policy import Check, Violations
from attestd.appraisal.profile import ProfileError, parse_profile_yaml
from attestd.reference.allowlist import document, onto, runtime_lines
from attestd.reference.files import ArtefactRefused, PlaceFiles, combine
from file_trees import listed

PROFILE = """\
# Gateways. Approved in May.
profile: gateway
version: 3  # the third
claims:
  # Shim alone.
  loader: {check: required, accept: [{text: "x"}]}
runtime:
  check: optional  # not all of them measure
  violations: warn
  exclude: ["/tmp/*"]
  allow:
    "/usr/bin/app": [sha256:%s]
# Behind it.
tpm:
  manufacturers: ["IFX"]
""" % ("11" * 32)


def place(name="root", **contents):
    return PlaceFiles(name, "directory", digests={path.encode(): listed(content) for path, content in contents.items()})


def one(*paths, name="root", content=b"x"):
    return combine([place(name, **dict.fromkeys(paths, content))])


def code_of(act):
    with pytest.raises(ArtefactRefused) as refused:
        act()
    return refused.value.code


def test_a_document_allows_what_was_listed():
    found = parse_profile_yaml(document(one("/usr/bin/a", "/b"), name="gateway", version=7))

    assert (found.name, found.version, found.runtime.check, found.runtime.allow) == (
        "gateway", 7, Check.REQUIRED, (("/b", listed(b"x")), ("/usr/bin/a", listed(b"x"))),
    )  # fmt: skip


def test_a_document_of_files_alone_requires_nothing_of_a_boot():
    assert not parse_profile_yaml(document(one("/b"), name="gateway", version=1)).requires_something


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True))
def test_whatever_a_path_is_called_reads_back(names):
    paths = sorted(f"/{name}" for name in names)

    found = parse_profile_yaml(document(one(*paths), name="x", version=1))

    assert sorted(path for path, _ in found.runtime.allow) == paths


def test_nothing_that_a_terminal_obeys_is_written():
    text = document(one("/a\x1b[2J\u202e", name="root\x1b]0;x\n# "), name="x", version=1)

    assert all(character.isprintable() or character == "\n" for character in text)
    assert len(text.splitlines()) == 9


def test_a_comment_says_which_places_have_the_paths_below_it():
    found = combine([place("one", **{"/a": b"1", "/b": b"1"}), place("two", **{"/a": b"2", "/c": b"2"})])

    lines = runtime_lines(found)

    assert [line.strip() for line in lines if line.strip().startswith("#")] == [
        '# directory "one": 1 paths',
        '# directory "one" and directory "two": 1 paths',
        '# directory "two": 1 paths',
    ]
    assert next(line for line in lines if '"/a"' in line).endswith("# several contents")


def test_a_configuration_file_is_marked():
    marked = place(**{"/etc/init.d/x": b"x"})
    marked.conffiles.add(b"/etc/init.d/x")

    assert any(line.endswith("# configuration: a device may have another") for line in runtime_lines(combine([marked])))


def test_onto_a_profile_is_its_next_version_with_its_comments():
    text = onto(PROFILE, one("/usr/bin/new"))
    found, old = parse_profile_yaml(text), parse_profile_yaml(PROFILE)

    assert found.version == 4
    assert (found.claims, found.tpm, found.registers, found.warnings) == (
        old.claims, old.tpm, old.registers, old.warnings,
    )  # fmt: skip
    assert (found.runtime.check, found.runtime.violations, found.runtime.exclude) == (
        Check.OPTIONAL, Violations.WARN, ("/tmp/*",),
    )  # fmt: skip
    for remark in ("# Gateways. Approved in May.", "version: 4  # the third", "# Shim alone.", "# Behind it."):
        assert remark in text


def test_onto_a_profile_a_path_may_have_what_it_might_have_before_too():
    found = parse_profile_yaml(onto(PROFILE, one("/usr/bin/app", "/usr/bin/new")))

    assert found.runtime.allow == (
        ("/usr/bin/app", tuple(sorted([("sha256", bytes([0x11] * 32)), *listed(b"x")]))),
        ("/usr/bin/new", listed(b"x")),
    )


def test_what_was_allowed_before_can_be_replaced_as_a_whole():
    found = parse_profile_yaml(onto(PROFILE, one("/usr/bin/new"), replace_all=True))

    assert (found.version, found.runtime.check, found.runtime.exclude) == (4, Check.OPTIONAL, ("/tmp/*",))
    assert found.runtime.allow == (("/usr/bin/new", listed(b"x")),)


@pytest.mark.parametrize("line", ["", "runtime: {check: ignored}", "runtime: {check: absent}"])
def test_onto_a_profile_that_judged_no_files_they_become_required(line):
    found = parse_profile_yaml(onto(f"profile: x\nversion: 1\n{line}\npcrs: {{7: ignored}}\n", one("/a")))

    assert (found.runtime.check, found.runtime.allow) == (Check.REQUIRED, (("/a", listed(b"x")),))


def test_the_same_list_onto_its_own_document_changes_the_version_alone():
    first = document(one("/a", "/b"), name="x", version=1)

    assert parse_profile_yaml(onto(first, one("/a", "/b"))).runtime == parse_profile_yaml(first).runtime


@pytest.mark.parametrize(
    "text",
    [
        "{profile: x, version: 1}\n",
        'profile: x\nversion: 1\n"run\\x74ime": {check: ignored}\n',
        'profile: x\n"versio\\x6e": 1\n',
    ],
)
def test_a_profile_whose_keys_cannot_be_found_is_refused_and_not_mangled(text):
    parse_profile_yaml(text)

    assert code_of(lambda: onto(text, one("/a"))) == "profile-layout"


def test_onto_what_is_no_profile_is_refused():
    with pytest.raises(ProfileError):
        onto("profile: x\n", one("/a"))


def test_an_empty_list_has_no_lines_and_makes_no_document():
    empty = combine([place()])

    assert runtime_lines(empty) == []
    assert code_of(lambda: document(empty, name="x", version=1)) == "allow-list-empty"
    assert code_of(lambda: onto(PROFILE, empty)) == "allow-list-empty"


@pytest.fixture
def narrow(monkeypatch):
    """Profiles of at most 2,000 bytes."""
    for module in ("reference.allowlist", "appraisal.document"):
        monkeypatch.setattr(f"attestd.{module}.MAX_PROFILE_DOCUMENT", 2000)


def test_more_paths_than_a_profile_can_have_are_refused_with_what_to_do(narrow):
    many = one(*(f"/usr/lib/{number}" for number in range(30)))

    with pytest.raises(ArtefactRefused, match="--only") as refused:
        runtime_lines(many)

    assert refused.value.code == "allow-list-size"


def test_a_list_that_fits_alone_and_not_in_its_profile_is_refused(narrow):
    many = one(*(f"/usr/lib/{number}" for number in range(15)))
    assert runtime_lines(many)

    assert code_of(lambda: onto(PROFILE + "# padding\n" * 60, many)) == "allow-list-size"
