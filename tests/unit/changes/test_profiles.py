"""The life of a profile's versions: what a change may make of one, and what never comes back."""

from collections.abc import Callable

import pytest

from attestd.changes import bounds, canonical
from attestd.changes.book import PolicyBook, fold
from attestd.changes.errors import ChangeRefused
from attestd.changes.profiles import MEANINGS, MOVES, ProfileState, Standing
from attestd.changes.statement import Change
from changes_world import EMPTY, activate_on, change_on, profile_document, retire_on, stage_on


def after(*steps: tuple[str, int]) -> PolicyBook:
    """Return the book after these steps of the profile `edge`."""
    book = EMPTY
    for step, version in steps:
        book = fold(book, change(book, step, version))
    return book


def change(book: PolicyBook, step: str, version: int) -> Change:
    makers: dict[str, Callable[[PolicyBook, str, int], Change]]
    makers = {"stage": stage_on, "activate": activate_on, "retire": retire_on}
    return makers[step](book, "edge", version)


def refusal(book: PolicyBook, made: Change) -> str:
    with pytest.raises(ChangeRefused) as caught:
        fold(book, made)
    return caught.value.code


def standings(book: PolicyBook) -> dict[int, str]:
    return {one.version: standing.value for standing, one in book.profiles["edge"].versions()}


def test_a_staged_version_is_not_active() -> None:
    book = after(("activate", 1), ("stage", 2))
    assert standings(book) == {1: "active", 2: "staged"}
    assert [one.version for one in book.active("edge")] == [1]
    assert [one.version for one in book.staged("edge")] == [2]


def test_a_profile_may_begin_with_a_staged_version_and_has_no_active_one_then() -> None:
    book = after(("stage", 1))
    assert (book.active("edge"), [one.version for one in book.staged("edge")]) == ((), [1])
    assert standings(fold(book, activate_on(book, "edge", 1))) == {1: "active"}


def test_a_staged_version_becomes_active_with_the_document_that_was_staged() -> None:
    book = after(("stage", 2))
    other = change_on(book, "profile-activate", "edge", profile_document("edge", 2, claims={}))
    assert refusal(book, other) == "policy-staged"
    told = fold(book, activate_on(book, "edge", 2))
    assert (told.active("edge")[0].digest, told.staged("edge")) == (book.staged("edge")[0].digest, ())


def test_the_number_of_a_staged_version_is_taken() -> None:
    book = after(("stage", 2))
    assert refusal(book, stage_on(book, "edge", 2)) == "policy-staged"
    assert refusal(book, stage_on(book, "edge", 2, claims={})) == "policy-staged"


@pytest.mark.parametrize("step", ["stage", "activate"])
def test_e10_a_version_that_was_staged_and_withdrawn_never_comes_back(step: str) -> None:
    book = after(("activate", 1), ("stage", 2), ("retire", 2))
    assert standings(book) == {1: "active", 2: "withdrawn"}
    assert refusal(book, change(book, step, 2)) == "policy-rollback"


@pytest.mark.parametrize("step", ["stage", "activate"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_e10_neither_staging_nor_activating_leads_below_what_was_ever_active(step: str, version: int) -> None:
    book = after(("activate", 2), ("activate", 3), ("retire", 2))
    assert refusal(book, change(book, step, version)) == "policy-rollback"


def test_e10_withdrawing_the_highest_staged_version_opens_no_way_back() -> None:
    book = after(("activate", 3), ("stage", 5), ("stage", 4), ("retire", 5))
    assert refusal(book, activate_on(book, "edge", 5)) == "policy-rollback"
    assert standings(fold(book, activate_on(book, "edge", 4))) == {3: "active", 4: "active", 5: "withdrawn"}


def test_versions_that_a_later_activation_overtakes_are_withdrawn() -> None:
    book = after(("stage", 2), ("stage", 3), ("stage", 4), ("activate", 3))
    assert standings(book) == {2: "withdrawn", 3: "active", 4: "staged"}
    assert refusal(book, activate_on(book, "edge", 2)) == "policy-rollback"


def test_one_change_may_retire_an_active_version_and_withdraw_a_staged_one() -> None:
    book = after(("activate", 1), ("stage", 2))
    body = canonical.write({"profile": "edge", "versions": [1, 2]})
    assert standings(fold(book, change_on(book, "profile-retire", "edge", body))) == {1: "retired", 2: "withdrawn"}


@pytest.mark.parametrize("version", [2, 3, 9])
def test_what_is_neither_active_nor_staged_cannot_be_retired(version: int) -> None:
    book = after(("activate", 1), ("stage", 2), ("retire", 2), ("stage", 4))
    assert refusal(book, retire_on(book, "edge", version)) == "policy-unknown"


@pytest.mark.parametrize(
    ("step", "version", "said"),
    [
        ("activate", 2, "is active already: another document needs the next number"),
        ("activate", 1, "is retired and never comes back: give"),
        ("stage", 2, "is active already"),
        ("stage", 3, "is staged already: activate it"),
        ("retire", 1, "is retired already"),
        ("retire", 9, "is neither active nor staged: attestd profile list"),
    ],
)
def test_a_refused_move_says_how_the_version_stands_and_what_can_be_done(step: str, version: int, said: str) -> None:
    book = after(("activate", 1), ("activate", 2), ("retire", 1), ("stage", 3))
    with pytest.raises(ChangeRefused, match=said):
        fold(book, change(book, step, version))


def test_the_number_of_staged_versions_is_bounded() -> None:
    book = after(*(("stage", version) for version in range(1, bounds.MAX_STAGED + 1)))
    assert refusal(book, stage_on(book, "edge", 99)) == "profile-malformed"


@pytest.mark.parametrize(
    "document", [{"profile": "lab", "version": 2}, {"profile": "edge"}, {"profile": "edge", "version": 0}], ids=str
)
def test_a_staged_document_has_the_form_of_an_active_one(document: object) -> None:
    assert refusal(EMPTY, change_on(EMPTY, "profile-stage", "edge", canonical.write(document))) == "profile-malformed"


def test_every_standing_has_a_meaning_and_no_move_leads_back() -> None:
    assert set(MEANINGS) == set(Standing)
    order = [Standing.DRAFT, Standing.STAGED, Standing.ACTIVE, Standing.RETIRED, Standing.WITHDRAWN]
    assert all(order.index(before) < order.index(then) for (before, _), then in MOVES.items())
    assert ProfileState().standing(7) is Standing.DRAFT
