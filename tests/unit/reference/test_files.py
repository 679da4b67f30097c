"""Members become digests under the paths that a kernel names."""

import hashlib
import io

import pytest

from attestd.reference.files import (
    ArtefactRefused,
    Kind,
    Member,
    PlaceFiles,
    Wish,
    collect,
    combine,
    follow,
    member_path,
)
from file_trees import ELF, EVERYTHING, SCRIPT, digests, listed


def file(path: bytes, content: bytes = SCRIPT, mode: int = 0o644) -> tuple[Member, io.BytesIO]:
    return Member(path, Kind.FILE, mode), io.BytesIO(content)


def link(path: bytes, target: bytes, kind: Kind = Kind.SYMLINK) -> tuple[Member, io.BytesIO]:
    return Member(path, kind, 0, target), io.BytesIO()


def test_a_file_is_listed_with_the_digest_of_its_content():
    assert digests([file(b"/usr/bin/app")]) == {"/usr/bin/app": listed(SCRIPT)}


def test_a_file_in_a_linked_directory_has_the_path_behind_the_link():
    assert set(digests([link(b"/bin", b"usr/bin"), file(b"/bin/sh")])) == {"/usr/bin/sh"}


def test_a_link_of_a_link_is_followed_to_its_end():
    found = digests([link(b"/lib64", b"/lib"), link(b"/lib", b"usr/lib"), file(b"/lib64/x.so")])

    assert set(found) == {"/usr/lib/x.so"}


def test_a_link_to_a_file_is_no_file():
    assert set(digests([file(b"/usr/bin/dash"), link(b"/usr/bin/sh", b"dash")])) == {"/usr/bin/dash"}


def test_links_that_lead_in_a_circle_are_a_finding():
    place = collect([link(b"/a", b"b"), link(b"/b", b"a"), file(b"/a/x")], PlaceFiles("p", "k"), wish=EVERYTHING)

    assert ([one.code for one in place.findings], place.digests) == (["path-loop"], {})


@pytest.mark.parametrize("target", [b"../../../etc", b"/../etc"])
def test_a_link_that_climbs_out_of_the_tree_ends_at_its_root(target):
    assert follow(b"/x/passwd", {b"/x": target}) == b"/etc/passwd"


def test_of_two_members_with_one_path_the_later_counts():
    assert digests([file(b"/init", b"old"), file(b"/init", b"new")]) == {"/init": listed(b"new")}


def test_a_link_in_the_place_of_a_file_takes_it_away():
    assert digests([file(b"/init"), link(b"/init", b"sbin/init")]) == {}


def test_a_file_in_the_place_of_a_link_is_no_longer_behind_it():
    assert set(digests([link(b"/a", b"b"), file(b"/a"), file(b"/a/x")])) == {"/a", "/a/x"}


def test_a_hard_link_has_the_content_of_the_file_that_it_names():
    found = digests([file(b"/usr/bin/perl"), link(b"/usr/bin/perl5", b"/usr/bin/perl", Kind.HARDLINK)])

    assert found == dict.fromkeys(["/usr/bin/perl", "/usr/bin/perl5"], listed(SCRIPT))


def test_a_hard_link_to_a_file_that_was_not_wanted_is_a_finding():
    members = [file(b"/usr/bin/perl"), link(b"/usr/bin/perl5", b"/usr/bin/perl", Kind.HARDLINK)]
    place = collect(members, PlaceFiles("p", "k"), wish=Wish(only=("*/perl5",)))

    assert [(one.code, one.path) for one in place.findings] == [("link-unread", "/usr/bin/perl5")]


def test_a_path_that_is_not_utf8_is_a_finding_and_is_not_listed():
    place = collect([file(b"/usr/bin/\xff\x1b[2J")], PlaceFiles("p", "k"), wish=EVERYTHING)

    assert ([one.code for one in place.findings], place.digests) == (["path-not-utf8"], {})


@pytest.mark.parametrize(
    ("path", "mode", "content"),
    [
        (b"/usr/bin/tool", 0o755, b"data"),
        (b"/opt/tool", 0o644, ELF),
        (b"/opt/tool", 0o600, SCRIPT),
        (b"/usr/lib/libx.so", 0o644, b"data"),
        (b"/usr/lib/libx.so.6.1", 0o644, b"data"),
        (b"/lib/modules/6.1/x.ko", 0o644, b"data"),
        (b"/lib/modules/6.1/x.ko.xz", 0o644, b"data"),
        (b"/lib/modules/6.1/x.ko.zst", 0o644, b"data"),
    ],
)
def test_what_runs_is_mapped_or_loaded_is_code(path, mode, content):
    assert set(digests([file(path, content, mode)], Wish())) == {path.decode()}


@pytest.mark.parametrize("path", [b"/etc/passwd", b"/usr/lib/python3/os.py", b"/lib/firmware/x.bin", b"/a.sofa"])
def test_what_is_only_read_is_no_code(path):
    assert digests([file(path, b"data")], Wish()) == {}


def test_firmware_is_listed_where_it_is_asked_for():
    members = [file(b"/usr/lib/firmware/x.bin", b"data"), file(b"/etc/passwd", b"data")]

    assert set(digests(members, Wish(firmware=True))) == {"/usr/lib/firmware/x.bin"}


def test_patterns_choose_among_the_paths_that_are_real():
    members = [link(b"/bin", b"usr/bin"), file(b"/bin/a"), file(b"/bin/b"), file(b"/opt/a")]

    assert set(digests(members, Wish(everything=True, only=("/usr/*",), exclude=("*/b",)))) == {"/usr/bin/a"}


def test_every_asked_digest_is_taken_of_the_same_bytes():
    content = SCRIPT * 200_000
    found = digests([file(b"/x", content)], Wish(everything=True, hashes=("sha256", "sha1")))

    assert found == {
        "/x": (("sha256", hashlib.sha256(content).digest()), ("sha1", hashlib.sha1(content).digest())),
    }


def test_a_path_of_two_places_may_have_the_content_of_either():
    places = [
        collect([file(b"/x", content)], PlaceFiles(name, "k"), wish=EVERYTHING)
        for name, content in (("one", b"1"), ("two", b"2"))
    ]
    found = combine(places)

    assert [(item.path, set(item.digests), item.places) for item in found.paths] == [
        ("/x", {*listed(b"1"), *listed(b"2")}, (0, 1))
    ]


def test_paths_come_in_the_order_of_their_bytes():
    names = [b"/b", b"/a/b", b"/\xc3\xa4", b"/a"]
    place = collect([file(name) for name in names], PlaceFiles("p", "k"), wish=EVERYTHING)

    assert [item.path for item in combine([place]).paths] == ["/a", "/a/b", "/b", "/ä"]


@pytest.mark.parametrize(
    ("name", "path"), [(b"./usr/bin/x", b"/usr/bin/x"), (b"init", b"/init"), (b"/a//b/./c", b"/a/b/c"), (b".", b"/")]
)
def test_the_name_of_a_member_is_a_path_from_the_root(name, path):
    assert member_path(name) == path


@pytest.mark.parametrize("name", [b"../etc/passwd", b"/usr/../../x", b"a\0b", b"x" * 5000])
def test_a_member_that_leads_out_of_its_tree_is_refused(name):
    with pytest.raises(ArtefactRefused) as refused:
        member_path(name)

    assert refused.value.code == "artefact-path"


def test_a_place_with_too_many_files_is_refused(monkeypatch):
    monkeypatch.setattr("attestd.reference.files.MAX_ARTEFACT_FILES", 2)

    with pytest.raises(ArtefactRefused) as refused:
        digests([file(b"/%d" % number) for number in range(3)])

    assert refused.value.code == "artefact-files"


def test_findings_of_a_place_end_at_their_bound(monkeypatch):
    monkeypatch.setattr("attestd.reference.files.MAX_ARTEFACT_FINDINGS", 2)
    place = collect([file(b"/\xff%d" % number) for number in range(5)], PlaceFiles("p", "k"), wish=EVERYTHING)

    assert len(place.findings) == 2
