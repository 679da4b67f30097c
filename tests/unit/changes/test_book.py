import random
from dataclasses import replace

import pytest

from attestd.changes import bounds, canonical
from attestd.changes.book import Admission, PolicyBook, Withdrawn, empty_book, fold, verify_chain
from attestd.changes.errors import ChangeRefused
from attestd.changes.operators import Operators
from attestd.changes.rules import AdmissionRule, read_rules, rules_document
from attestd.changes.statement import Change, digest
from attestd.protocol import limits
from changes_world import (
    EMPTY,
    Person,
    activate_on,
    change_on,
    device,
    entry,
    inventory_on,
    operators,
    profile_document,
    retire_on,
)

ALICE, BOB, MALLORY = Person("alice"), Person("bob"), Person("mallory")
TWO = operators(ALICE, BOB, threshold=2)

Signed = tuple[Change, list[str]]


def approved(change: Change, *people: Person) -> Signed:
    return change, [person.sign(change) for person in people or (ALICE, BOB)]


def refusal(book: PolicyBook, *changes: Signed, people: Operators = TWO) -> str:
    with pytest.raises(ChangeRefused) as caught:
        verify_chain(changes, people, book=book)
    return caught.value.code


def folded(book: PolicyBook, *changes: Change) -> PolicyBook:
    for change in changes:
        book = fold(book, change)
    return book


def fold_refusal(book: PolicyBook, change: Change) -> str:
    with pytest.raises(ChangeRefused) as caught:
        fold(book, change)
    return caught.value.code


def history() -> list[Signed]:
    """Return five approved changes that follow each other."""
    book, changes = EMPTY, []
    for step in range(5):
        change = activate_on(book, "edge", step + 1) if step % 2 else inventory_on(book, entry(step))
        changes.append(approved(change))
        book = fold(book, change)
    return changes


# --- The chain --------------------------------------------------------------------------------------------------------


def test_the_book_is_what_the_approved_changes_say() -> None:
    book = verify_chain(history(), TWO, book=EMPTY)
    assert (book.sequence, book.digest) == (5, digest(history()[-1][0]))
    assert set(book.entries) == {device(0), device(2), device(4)}
    assert [version.version for version in book.active("edge")] == [2, 4]


def test_a_book_is_continued_where_it_ends() -> None:
    changes = history()
    book = verify_chain(changes[:2], TWO, book=EMPTY)
    assert verify_chain(changes[2:], TWO, book=book) == verify_chain(changes, TWO, book=EMPTY)


def test_l01_a_change_that_is_dropped_swapped_or_told_twice_breaks_the_chain() -> None:
    changes = history()
    for broken in (changes[1:], changes[:2] + changes[3:], changes[:1] * 2, [changes[1], changes[0]]):
        assert refusal(EMPTY, *broken) == "change-sequence"


def test_l01_a_change_replaced_by_another_approved_one_breaks_the_chain() -> None:
    changes = history()
    other = approved(replace(changes[1][0], body=profile_document("edge", 7)))
    verify_chain([changes[0], other], TWO, book=EMPTY)
    assert refusal(EMPTY, changes[0], other, changes[2]) == "change-chain"


@pytest.mark.parametrize("field", ["body", "subject", "proposed_by", "proposed_at", "kind"])
def test_p02_a_change_altered_in_the_database_is_refused(field: str) -> None:
    change, signatures = approved(activate_on(EMPTY, "edge", 1))
    altered = {
        "body": profile_document("edge", 1, claims={}),
        "subject": "lab",
        "proposed_by": "bob",
        "proposed_at": 5,
        "kind": "rules",
    }
    assert refusal(EMPTY, (replace(change, **{field: altered[field]}), signatures)) == "approval-invalid"  # type: ignore[arg-type]


def test_p02_a_change_inserted_into_the_database_is_refused() -> None:
    change = inventory_on(EMPTY, entry(666))
    assert refusal(EMPTY, (change, [])) == "approval-threshold"
    assert refusal(EMPTY, approved(change, ALICE)) == "approval-threshold"
    assert refusal(EMPTY, approved(change, ALICE, ALICE)) == "approval-duplicate"
    assert refusal(EMPTY, approved(change, ALICE, MALLORY)) == "approval-unknown-operator"


def test_p02_the_approvals_of_one_change_do_not_carry_another() -> None:
    first, signatures = approved(inventory_on(EMPTY, entry(1)))
    book = fold(EMPTY, first)
    assert refusal(book, (inventory_on(book, entry(666)), signatures)) == "approval-invalid"


def test_p02_changes_approved_for_another_fleet_are_refused() -> None:
    staging = empty_book("staging.example")
    assert refusal(EMPTY, approved(inventory_on(staging, entry(1)))) == "change-chain"
    assert staging.digest != EMPTY.digest


def test_p02_a_later_change_cannot_be_dated_before_an_earlier_one() -> None:
    book = fold(EMPTY, replace(inventory_on(EMPTY, entry(1)), proposed_at=1_000))
    early = replace(inventory_on(book, entry(2)), proposed_at=999)
    assert refusal(book, approved(early)) == "change-time"


def test_a_refused_change_leaves_the_book_as_it_was() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1)))
    before = (book.sequence, book.digest, dict(book.entries), dict(book.names))
    assert fold_refusal(book, inventory_on(book, entry(2, name="edge-1"))) == "inventory-duplicate"
    assert (book.sequence, book.digest, dict(book.entries), dict(book.names)) == before


def test_a_book_cannot_be_changed_in_place() -> None:
    book = folded(
        EMPTY, inventory_on(EMPTY, entry(1)), activate_on(fold(EMPTY, inventory_on(EMPTY, entry(1))), "edge", 1)
    )
    for mapping in (book.entries, book.profiles, book.withdrawn, book.names):
        with pytest.raises(TypeError):
            mapping["x"] = None  # type: ignore[index]


# --- Profiles ---------------------------------------------------------------------------------------------------------


def test_p01_an_unknown_profile_has_no_active_version() -> None:
    assert EMPTY.active("edge") == ()


def test_versions_stay_active_until_they_are_retired() -> None:
    book = folded(EMPTY, activate_on(EMPTY, "edge", 1))
    book = fold(book, activate_on(book, "edge", 3))
    assert [version.version for version in book.active("edge")] == [1, 3]
    book = fold(book, retire_on(book, "edge", 1))
    assert [version.version for version in book.active("edge")] == [3]
    assert [version.version for version in book.profiles["edge"].retired] == [1]
    assert book.active("edge")[0].document == profile_document("edge", 3)
    book = fold(book, retire_on(book, "edge", 3))
    assert book.active("edge") == ()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_e10_a_version_never_goes_back(version: int) -> None:
    book = folded(EMPTY, activate_on(EMPTY, "edge", 3))
    assert fold_refusal(book, activate_on(book, "edge", version)) == "policy-rollback"


def test_e10_a_retired_version_does_not_come_back() -> None:
    book = folded(EMPTY, activate_on(EMPTY, "edge", 3))
    book = fold(book, retire_on(book, "edge", 3))
    assert fold_refusal(book, activate_on(book, "edge", 3)) == "policy-rollback"
    assert fold_refusal(book, activate_on(book, "edge", 2)) == "policy-rollback"


def test_what_is_not_active_cannot_be_retired() -> None:
    book = folded(EMPTY, activate_on(EMPTY, "edge", 1))
    for change in (retire_on(book, "edge", 2), retire_on(book, "edge", 1, 2), retire_on(book, "lab", 1)):
        assert fold_refusal(book, change) == "policy-unknown"


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("profile-activate", {"version": 1}),
        ("profile-activate", {"profile": "lab", "version": 1}),
        ("profile-activate", {"profile": "edge"}),
        ("profile-activate", {"profile": "edge", "version": 0}),
        ("profile-activate", {"profile": "edge", "version": "1"}),
        ("profile-activate", {"profile": "edge", "version": True}),
        ("profile-activate", {"profile": "edge", "version": 2**31}),
        ("profile-retire", {"profile": "edge"}),
        ("profile-retire", {"profile": "lab", "versions": [1]}),
        ("profile-retire", {"profile": "edge", "versions": []}),
        ("profile-retire", {"profile": "edge", "versions": [2, 1]}),
        ("profile-retire", {"profile": "edge", "versions": [1, 1]}),
        ("profile-retire", {"profile": "edge", "versions": [True]}),
        ("profile-retire", {"profile": "edge", "versions": [1], "why": "x"}),
    ],
    ids=str,
)
def test_a_profile_document_of_another_form_is_refused(kind: str, document: object) -> None:
    change = change_on(EMPTY, kind, "edge", canonical.write(document))  # type: ignore[arg-type]
    assert fold_refusal(EMPTY, change) == "profile-malformed"


def test_the_number_of_active_versions_is_bounded() -> None:
    book = EMPTY
    for version in range(1, bounds.MAX_ACTIVE + 1):
        book = fold(book, activate_on(book, "edge", version))
    assert fold_refusal(book, activate_on(book, "edge", 99)) == "profile-malformed"


def test_a_profile_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PROFILE_DOCUMENT", 20)
    assert fold_refusal(EMPTY, activate_on(EMPTY, "edge", 1)) == "profile-malformed"


@pytest.mark.parametrize(
    "body", [b'{"profile":"edge","version":1.0}', b'{"version":1,"profile":"edge"}', b"[1]", b"NaN"]
)
def test_a_profile_that_is_not_canonical_is_refused(body: bytes) -> None:
    assert fold_refusal(EMPTY, change_on(EMPTY, "profile-activate", "edge", body)) == "change-malformed"


# --- Inventory and admission ------------------------------------------------------------------------------------------


def admitted(book: PolicyBook, number: int, manufacturer: str | None = "id:1", model: str | None = "m") -> object:
    return book.admission(device(number), manufacturer=manufacturer, model=model)


def test_an_announced_device_is_admitted_under_its_profile() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1)))
    assert admitted(book, 1, None, None) == Admission("edge", "edge-1", "berlin", "inventory")
    assert book.entry(device(1)) == entry(1)


def test_k11_a_device_that_nobody_announced_waits_for_a_person() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1)))
    assert admitted(book, 2) is None
    assert book.entry(device(2)) is None


def test_k11_a_withdrawn_device_is_not_admitted_by_any_rule() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1)))
    book = fold(book, rules_on(book, AdmissionRule("*", "*", "edge")))
    book = fold(book, inventory_on(book, withdraw=[device(1), device(2)]))
    assert admitted(book, 1) == Withdrawn(3)
    assert admitted(book, 2) == Withdrawn(3)
    assert book.entry(device(1)) is None


def test_a_withdrawn_device_that_is_announced_again_is_admitted_again() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, withdraw=[device(1)]))
    book = fold(book, inventory_on(book, entry(1)))
    assert admitted(book, 1) == Admission("edge", "edge-1", "berlin", "inventory")


def test_an_entry_is_replaced_and_its_name_is_free_again() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1, name="old")))
    book = fold(book, inventory_on(book, entry(1, name="new", profile="lab")))
    book = fold(book, inventory_on(book, entry(2, name="old")))
    assert admitted(book, 1) == Admission("lab", "new", "berlin", "inventory")
    assert dict(book.names) == {"new": device(1), "old": device(2)}


def test_two_devices_swap_their_names_in_one_change() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1, name="a"), entry(2, name="b")))
    book = fold(book, inventory_on(book, entry(1, name="b"), entry(2, name="a")))
    assert dict(book.names) == {"b": device(1), "a": device(2)}


def test_the_name_of_a_withdrawn_device_is_free_in_the_same_change() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1, name="router")))
    book = fold(book, inventory_on(book, entry(2, name="router"), withdraw=[device(1)]))
    assert dict(book.names) == {"router": device(2)}


def test_c04_the_name_of_another_device_is_refused() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1)))
    assert fold_refusal(book, inventory_on(book, entry(2, name="edge-1"))) == "inventory-duplicate"


# --- Rules ------------------------------------------------------------------------------------------------------------


def rules_on(book: PolicyBook, *rules: AdmissionRule) -> Change:
    return change_on(book, "rules", "rules", rules_document(rules))


def test_the_first_rule_that_matches_decides() -> None:
    rules = (
        AdmissionRule("id:494658*", "SLB*", "edge"),
        AdmissionRule("id:494658*", "*", None),
        AdmissionRule("*", "*", "lab"),
    )
    book = folded(EMPTY, rules_on(EMPTY, *rules))
    assert admitted(book, 1, "id:49465800", "SLB9670") == Admission("edge", None, None, "rule:1")
    assert admitted(book, 1, "id:49465800", "other") is None
    assert admitted(book, 1, "id:53544D20", None) == Admission("lab", None, None, "rule:3")


def test_k05_a_device_without_a_manufacturer_matches_no_rule() -> None:
    book = folded(EMPTY, rules_on(EMPTY, AdmissionRule("*", "*", "edge")))
    assert admitted(book, 1, None, None) is None


def test_the_inventory_comes_before_the_rules() -> None:
    book = folded(EMPTY, inventory_on(EMPTY, entry(1)))
    book = fold(book, rules_on(book, AdmissionRule("*", "*", "lab")))
    found = admitted(book, 1)
    assert isinstance(found, Admission)
    assert found.how == "inventory"


def test_a_change_replaces_all_rules() -> None:
    book = folded(EMPTY, rules_on(EMPTY, AdmissionRule("*", "*", "lab")))
    assert fold(book, rules_on(book)).rules == ()


@pytest.mark.parametrize(
    "rules",
    [
        {},
        "x",
        [7],
        [{"manufacturer": "*", "model": "*"}],
        [{"manufacturer": "", "model": "*", "profile": None}],
        [{"manufacturer": "*", "model": 1, "profile": None}],
        [{"manufacturer": "*\n", "model": "*", "profile": None}],
        [{"manufacturer": "*" * 257, "model": "*", "profile": None}],
        [{"manufacturer": "*", "model": "*", "profile": ""}],
        [{"manufacturer": "*", "model": "*", "profile": "a b"}],
        [{"manufacturer": "*", "model": "*", "profile": None, "more": 1}],
        [{"manufacturer": "*", "model": "*", "profile": None}] * (bounds.MAX_RULES + 1),
    ],
    ids=lambda rules: str(rules)[:60],
)
def test_rules_of_another_form_are_refused(rules: object) -> None:
    with pytest.raises(ChangeRefused) as caught:
        read_rules(canonical.write({"rules": rules}))
    assert caught.value.code == "rules-malformed"


def test_the_rules_are_one_list() -> None:
    assert fold_refusal(EMPTY, change_on(EMPTY, "rules", "more", rules_document(()))) == "rules-malformed"


def test_p06_a_rule_costs_time_linear_in_the_text() -> None:
    rule = AdmissionRule("*a" * 120 + "b", "*", "edge")
    assert not rule.matches("a" * 1_000, "m")


# --- Any history ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_names_and_entries_agree_after_any_history(seed: int) -> None:
    chance, book = random.Random(seed), EMPTY
    for _ in range(60):
        number, name = chance.randrange(6), f"n{chance.randrange(6)}"
        gone = [device(chance.randrange(6))]
        change = (
            inventory_on(book, withdraw=gone) if chance.random() < 0.3 else inventory_on(book, entry(number, name=name))
        )
        try:
            book = fold(book, change)
        except ChangeRefused:
            continue
        assert dict(book.names) == {item.name: device_id for device_id, item in book.entries.items()}
        assert not set(book.withdrawn) & set(book.entries)
