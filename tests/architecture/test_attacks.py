"""The attack list and the suite are held against each other."""

from pathlib import Path

from architecture.attack_list import ABSENT, ATTACKS, find_tests

TESTS = Path(__file__).resolve().parents[1]
KNOWN = {identifier for section in ATTACKS.values() for identifier in section}
FOUND = find_tests(TESTS)


def test_every_attack_has_a_test_or_a_reason_to_have_none() -> None:
    assert sorted(KNOWN - set(FOUND) - set(ABSENT)) == []


def test_no_test_performs_an_attack_that_nobody_listed() -> None:
    assert sorted(set(FOUND) - KNOWN) == []


def test_no_test_of_an_attack_is_switched_off() -> None:
    assert [test.name for tests in FOUND.values() for test in tests if test.skipped] == []
