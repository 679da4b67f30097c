from dataclasses import replace
from typing import Any

import pytest

from attestd.changes import bounds
from attestd.changes.errors import ChangeRefused
from attestd.changes.statement import Change, digest, statement
from changes_world import EMPTY, activate_on

CHANGE = Change(12, "profile-activate", "edge", b'{"a":1}', bytes(range(32)), "alice@example.com", 1_795_350_000_123)


def test_the_statement_is_text_for_people() -> None:
    assert statement(CHANGE).decode("ascii") == (
        "attestd change v1\n"
        "sequence: 12\n"
        "kind: profile-activate\n"
        "subject: edge\n"
        "sha256: 015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862\n"
        "previous: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
        "proposed-by: alice@example.com\n"
        "proposed-at: 2026-11-22T12:20:00.123Z\n"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"sequence": 13},
        {"kind": "profile-retire"},
        {"subject": "edge2"},
        {"body": b'{"a":2}'},
        {"previous": bytes(32)},
        {"proposed_by": "bob"},
        {"proposed_at": 1_795_350_000_124},
    ],
    ids=str,
)
def test_p02_every_field_is_under_the_signature(other: dict[str, Any]) -> None:
    assert statement(replace(CHANGE, **other)) != statement(CHANGE)
    assert digest(replace(CHANGE, **other)) != digest(CHANGE)


def test_the_statement_does_not_hold_the_document() -> None:
    change = activate_on(EMPTY, "edge", 1)
    assert change.body not in statement(change)
    assert len(statement(change)) < 500


@pytest.mark.parametrize(
    "wrong",
    [
        {"sequence": 0},
        {"sequence": True},
        {"sequence": bounds.MAX_SEQUENCE + 1},
        {"kind": "tokens"},
        {"subject": ""},
        {"subject": "edge\nkind: rules"},
        {"subject": "edge "},
        {"subject": "e" * 129},
        {"body": b""},
        {"body": "text"},
        {"previous": bytes(31)},
        {"proposed_by": "alice\nproposed-at: 0"},
        {"proposed_by": "\N{CYRILLIC SMALL LETTER A}lice"},
        {"proposed_at": -1},
        {"proposed_at": bounds.MAX_TIME + 1},
    ],
    ids=str,
)
def test_a_field_without_its_form_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ChangeRefused) as caught:
        replace(CHANGE, **wrong)
    assert caught.value.code == "change-malformed"


def test_the_last_instant_of_the_calendar_can_be_written() -> None:
    assert b"proposed-at: 9999-12-31T23:59:59.999Z\n" in statement(replace(CHANGE, proposed_at=bounds.MAX_TIME))
