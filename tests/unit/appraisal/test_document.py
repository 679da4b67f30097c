"""The subset of YAML that profiles are written in."""

import pytest

from attestd.appraisal.document import ProfileError, read_json, read_yaml, write_json
from attestd.protocol.limits import MAX_PROFILE_DOCUMENT


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: '1'", {"a": "1"}),
        ("a: 0x10", {"a": "0x10"}),
        ("a: 1.5", {"a": "1.5"}),
        ("a: 2001-01-01", {"a": "2001-01-01"}),
        ("a: true", {"a": True}),
        ("a: 'no'", {"a": "no"}),
        ("4: [a, b]", {"4": ["a", "b"]}),
        ("a: {b: {c: []}}", {"a": {"b": {"c": []}}}),
        ("a: 'line\\n'", {"a": "line\\n"}),
        ('a: "line\\n"', {"a": "line\n"}),
        ("# only a comment\na: b # another", {"a": "b"}),
    ],
)
def test_text_numbers_lists_and_keys_are_read(text, value):
    assert read_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: &x 1\nb: *x", "anchors"),
        ("a: *x", "alias"),
        ("a: !!python/object:os.system ls", "tags"),
        ("a: !x 1", "tags"),
        ("<<: {a: 1}", "merge"),
        ("a: 1\na: 2", "twice"),
        ("a: 1\n'a': 2", "twice"),
        ("a: no", "several meanings"),
        ("a: Yes", "several meanings"),
        ("a: True", "several meanings"),
        ("a: null", "several meanings"),
        ("a:", "several meanings"),
        ("a: ~", "several meanings"),
        ("? [a]\n: b", "key must be text"),
        ("a: 1\n---\nb: 2", "one document"),
        ("", "empty"),
        ("a: [", "not YAML"),
        ("a: \x00", "not YAML"),
        ("[" * 9 + "]" * 9, "nested deeper"),
        ("[" * 100_000, "nested deeper"),
    ],
)
def test_what_is_outside_the_subset_is_refused(text, part):
    with pytest.raises(ProfileError, match=part):
        read_yaml(text)


def test_p06_an_alias_bomb_is_refused():
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    with pytest.raises(ProfileError, match="anchors"):
        read_yaml(bomb)


def test_a_document_that_is_too_large_is_refused():
    with pytest.raises(ProfileError, match="exceeds"):
        read_yaml("a: " + "x" * MAX_PROFILE_DOCUMENT)
    with pytest.raises(ProfileError, match="exceeds"):
        read_json(b'"' + b"x" * MAX_PROFILE_DOCUMENT + b'"')


def test_an_error_names_its_line():
    with pytest.raises(ProfileError) as caught:
        read_yaml("a: 1\nb: no\n")
    assert caught.value.path == "line 2"


def test_canonical_json_is_sorted_and_compact():
    assert write_json({"b": ["é", 1], "a": True}) == '{"a":true,"b":["é",1]}'.encode()


@pytest.mark.parametrize(
    "data", [b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1,"a":1}', b'{"a":1}\n', b"\xff", b"{", b"[" * 100_000, b'{"a":NaN}']
)
def test_json_in_another_form_is_refused(data):
    with pytest.raises(ProfileError):
        read_json(data)
