"""Patterns: what they match, and that they always end."""

from fnmatch import fnmatchcase
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.appraisal.pattern import glob_matches


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("a", "a", True),
        ("a", "ab", False),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("*c", "abc", True),
        ("a*c", "ac", True),
        ("ab*ba", "aba", False),
        ("a*b*c", "a--b--c", True),
        ("a*b*c", "a--c--b", False),
        ("/tmp/*", "/tmp/a/b", True),
        ("/tmp/*", "/var/tmp/a", False),
        ("a?c", "abc", False),
        ("[ab]", "a", False),
        ("**", "anything", True),
        ("*x*x*", "x", False),
        ("*x*x*", "xx", True),
    ],
)
def test_a_star_stands_for_any_run_of_characters_and_nothing_else_is_special(pattern, text, expected):
    assert glob_matches(pattern, text) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_it_agrees_with_the_usual_matcher(pattern, text):
    assert glob_matches(pattern, text) is fnmatchcase(text, pattern)


@pytest.mark.parametrize("piece", ["a*", "*a", "a*b", "aa*", "*"])
def test_p06_a_pattern_made_to_never_end_ends(piece):
    pattern = (piece * 256)[:256] + "c"
    text = "a" * 200_000
    start = process_time()
    assert glob_matches(pattern, text) is False
    assert process_time() - start < 0.5
