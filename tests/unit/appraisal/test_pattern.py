"""Patterns: what they match, and that they always end."""

import re
from fnmatch import fnmatchcase
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.appraisal.pattern import arguments_match, glob_matches


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/vmlinuz-6.1 root=UUID=1111-2222 ro", True),
        ("/vmlinuz- root=UUID= ro", True),
        ("/vmlinuz-6.1 root=UUID=1 init=/bin/sh ro", False),
        ("/vmlinuz-6.1 x root=UUID=1 ro", False),
        ("/vmlinuz-6.1 root=UUID=1\tinit=/bin/sh ro", False),
        ('/vmlinuz-6.1 root=UUID=" ro', False),
        ("/vmlinuz-6.1 root=UUID=' ro", False),
        ("/vmlinuz-6.1 root=UUID=\\ ro", False),
        ("/vmlinuz-6.1 root=UUID=\u00a0x ro", False),
        ("/vmlinuz-6.1 root=UUID=\u00e0x ro", False),
        ("/vmlinuz-6.1 root=UUID=\x00 ro", False),
        ("/vmlinuz-6.1  root=UUID=1 ro", False),
        ("/vmlinuz-6.1 root=UUID=1 ro quiet", False),
    ],
)
def test_in_a_command_line_a_star_stays_within_one_argument(text, expected):
    assert arguments_match("/vmlinuz-* root=UUID=* ro", text) is expected


def test_what_a_pattern_says_itself_may_have_quotes_and_spaces():
    assert arguments_match('menuentry "Debian\tGNU" id=*', 'menuentry "Debian\tGNU" id=7')
    assert not arguments_match('menuentry "Debian\tGNU" id=*', 'menuentry "Debian\tGNU" id=7"')


@given(st.text('ab *"', max_size=8), st.text('ab "', max_size=12))
def test_a_line_is_matched_if_and_only_if_some_reading_keeps_every_star_within_an_argument(pattern, text):
    expression = "".join("[ab]*" if c == "*" else re.escape(c) for c in pattern)
    assert arguments_match(pattern, text) is (re.fullmatch(expression, text) is not None)
