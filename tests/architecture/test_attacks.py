"""The attack list and the suite are held against each other."""

import re
from pathlib import Path

from architecture.attack_list import ABSENT, ATTACKS, find_tests

TESTS = Path(__file__).resolve().parents[1]
KNOWN = {identifier for section in ATTACKS.values() for identifier in section}
FOUND = find_tests(TESTS)


def test_every_attack_has_a_test_or_a_reason_to_have_none() -> None:
    assert sorted(KNOWN - set(FOUND) - set(ABSENT)) == []


def test_no_test_performs_an_attack_that_nobody_listed() -> None:
    assert sorted(set(FOUND) - KNOWN) == []


def test_a_known_gap_is_expected_to_fail_strictly_and_says_why() -> None:
    """An attack that succeeds is shown in docs/threat-model.md as a gap; the day it is closed, its test says so."""
    gaps = [test for tests in FOUND.values() for test in tests if test.skipped]
    decorators = ["\n".join(test.path.read_text().splitlines()[test.line - 8 : test.line]) for test in gaps]

    assert [
        gap.name for gap, text in zip(gaps, decorators, strict=True) if not re.search(r"xfail\(.*strict=True", text)
    ] == []
