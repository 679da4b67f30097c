"""Policy and inventory changed without the operators: in the database, by too few of them, with an approval of something else."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attacks.fixtures_pct import (
    a_token,
    announced,
    credentials_of,
    fresh_policy,
    is_trusted,
    on_stage,
    problem_code,
    refused,
    second_verifier,
    sql,
    unchanged,
)
from attestd.appraisal.profile import parse_profile_yaml
from attestd.changes.book import empty_book
from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.changes.operators import sign_change
from attestd.changes.rules import AdmissionRule, rules_document
from attestd.changes.statement import NAMESPACE, Change, Kind, statement
from attestd.store import changes
from attestd.store.changes import ChangeRecord
from softchip import SoftChip
from world import PROFILE, Operator, World, golden_profile

pytest_plugins = ("attacks.fixtures_pct",)

EVERYBODY = rules_document((AdmissionRule("*", "*", PROFILE),))


def next_change(world: World, kind: Kind, subject: str, body: bytes, proposer: str = "alice") -> Change:
    """Return the change that would come next in the chain."""
    with world.verifier.store.read() as connection:
        book = world.verifier.policy.book(connection)
    return Change(book.sequence + 1, kind, subject, body, book.digest, proposer, max(world.now(), book.changed_at))


def plant(world: World, change: Change, *signatures: str) -> None:
    """Write a change into the database as if it had been approved and applied."""
    row = {name: getattr(change, name) for name in change.__slots__}
    with world.verifier.store.write() as connection:
        changes.insert_proposal(connection, ChangeRecord(**row, signatures=signatures))
        changes.apply_change(connection, change.sequence, now=world.now())


def pull_out(world: World, sequence: int) -> None:
    sql(world, f"DELETE FROM change WHERE sequence = {sequence}")


@pytest.fixture
def two_of_three(sqlite_url: str, journal: object) -> Iterator[World]:
    """A verifier whose changes need two of its three operators: alice, bob and carol."""
    made = World(sqlite_url, threshold=2)
    made.operators.append(Operator("carol"))
    object.__setattr__(made.verifier, "policy", fresh_policy(made, threshold=2))
    with on_stage(made):
        yield made
    made.verifier.store.close()


# --- What is in the database is not believed ----------------------------------------------------------------------------


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_a_change_that_nobody_signed_is_refused_and_so_is_everything_after_it(fleet_on_both: World) -> None:
    fleet, gate, stranger = fleet_on_both, announced(fleet_on_both), SoftChip(fleet_on_both.now_s)
    nonce = fleet.enrol(gate).next.nonce
    planted = next_change(fleet, "rules", "rules", EVERYBODY)
    plant(fleet, planted)
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(stranger)
    with refused(fleet, "policy-unapproved"):
        fleet.attest(gate.attest_request(nonce))
    reader = {"authorization": f"Bearer {a_token(fleet, 'trust:read')}"}
    asked = fleet.call("GET", f"/v1/devices/{gate.device_id}/trust", headers=reader)
    assert problem_code(asked) == (403, "policy-unapproved"), "a relying party is not told that it is trusted"
    pull_out(fleet, planted.sequence)
    assert fleet.attest(gate.attest_request(nonce)).state == "trusted"
    fleet.change("rules", "rules", EVERYBODY)
    assert fleet.enrol(stranger).state == "trusted", "the same change, signed"


FORGERIES: dict[str, Callable[[Change], str]] = {
    "no operator's key": lambda change: sign_change(change, Operator("mallory").pem),
    "an operator's name on another key": lambda change: sign_change(change, Operator("alice").pem),
    "not a signature": lambda _: "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
    "nothing": lambda _: "",
}


@pytest.mark.attack("P02", reason="policy-unapproved")
@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_p02_a_forged_approval_counts_for_nothing(fleet: World, gate: SoftChip, forge: Callable[[Change], str]) -> None:
    nonce = fleet.enrol(gate).next.nonce
    planted = next_change(fleet, "rules", "rules", EVERYBODY)
    plant(fleet, planted, forge(planted))
    stranger = SoftChip(fleet.now_s)
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(stranger)
    with refused(fleet, "policy-unapproved"):
        fleet.attest(gate.attest_request(nonce))
    pull_out(fleet, planted.sequence)
    assert fleet.attest(gate.attest_request(nonce)).state == "trusted"
    plant(fleet, planted, sign_change(planted, fleet.operators[0].pem))
    assert fleet.enrol(stranger).state == "trusted", "the same change, signed by an operator"


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_an_approval_of_one_change_approves_no_other(fleet: World, gate: SoftChip) -> None:
    fleet.enrol(gate)
    stranger = SoftChip(fleet.now_s)
    with fleet.verifier.store.read() as connection:
        earlier = changes.load_changes(connection, 0)
    for record in earlier:
        planted = next_change(fleet, "rules", "rules", EVERYBODY)
        plant(fleet, planted, *record.signatures)
        with refused(fleet, "policy-unapproved"):
            fleet.enrol(stranger)
        pull_out(fleet, planted.sequence)
    fleet.change("rules", "rules", EVERYBODY)
    assert fleet.enrol(stranger).state == "trusted", "with an approval of its own"


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_an_applied_change_cannot_be_applied_once_more(fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    with fleet.verifier.store.read() as connection:
        record = changes.load_changes(connection, 0)[-1]
    again = {
        name: getattr(record, name) for name in ("kind", "subject", "body", "previous", "proposed_by", "proposed_at")
    }
    plant(fleet, Change(record.sequence + 1, **again), *record.signatures)
    with refused(fleet, "policy-unapproved"):
        fleet.attest(gate.attest_request(nonce))


TAMPERINGS = {
    "body of an inventory change": "UPDATE change SET body = replace(CAST(body AS TEXT), 'harbour', 'seaport') WHERE sequence = 1",
    "kind": "UPDATE change SET kind = 'profile-retire' WHERE sequence = 2",
    "subject": "UPDATE change SET subject = 'other' WHERE sequence = 2",
    "proposer": "UPDATE change SET proposed_by = 'bob' WHERE sequence = 1",
    "time": "UPDATE change SET proposed_at = proposed_at - 1 WHERE sequence = 2",
    "signatures removed": "UPDATE change SET signatures = '[]' WHERE sequence = 1",
    "previous": "UPDATE change SET previous = (SELECT previous FROM change WHERE sequence = 1) WHERE sequence = 2",
    "first one deleted": "DELETE FROM change WHERE sequence = 1",
    "first one taken back": "UPDATE change SET applied_at = NULL WHERE sequence = 1",
}


@pytest.mark.attack("P02", reason="policy-unapproved")
@pytest.mark.parametrize("name", TAMPERINGS)
def test_p02_an_altered_chain_is_refused_by_whoever_reads_it_anew(fleet: World, gate: SoftChip, name: str) -> None:
    nonce = fleet.enrol(gate).next.nonce
    sql(fleet, TAMPERINGS[name])
    with second_verifier(fleet) as starting:
        with refused(starting, "policy-unapproved"):
            starting.attest(gate.attest_request(nonce))
        with refused(starting, "policy-unapproved"):
            starting.enrol(SoftChip(starting.now_s))
    # Whoever has verified the chain before goes on by what was approved, whatever now stands in the database.
    assert fleet.attest(gate.attest_request(nonce)).state == "trusted"


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_two_changes_in_each_others_place_are_refused(fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    for number, place in ((1, 99), (2, 1), (99, 2)):
        sql(fleet, f"UPDATE change SET sequence = {place} WHERE sequence = {number}")
    with second_verifier(fleet) as starting, refused(starting, "policy-unapproved"):
        starting.attest(gate.attest_request(nonce))
    for number, place in ((1, 99), (2, 1), (99, 2)):
        sql(fleet, f"UPDATE change SET sequence = {place} WHERE sequence = {number}")
    with second_verifier(fleet) as starting:
        assert starting.attest(gate.attest_request(nonce)).state == "trusted"


def test_p02_an_untouched_chain_is_accepted_by_whoever_reads_it_anew(fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    with second_verifier(fleet) as starting:
        assert starting.attest(gate.attest_request(nonce)).state == "trusted"


@pytest.mark.attack("P02", reason="policy-unapproved")
@pytest.mark.parametrize(
    "roll_back",
    ["DELETE FROM change WHERE sequence = {}", "UPDATE change SET applied_at = NULL WHERE sequence = {}"],
    ids=["deleted", "taken back"],
)
def test_p02_a_verifier_does_not_go_back_behind_a_change_that_it_has_seen(fleet_on_both: World, roll_back: str) -> None:
    fleet, gate = fleet_on_both, announced(fleet_on_both)
    nonce = fleet.enrol(gate).next.nonce
    retired = fleet.change("profile-activate", "edge", b'{"profile":"edge","version":7}')
    with refused(fleet, "policy-missing"):
        fleet.attest(gate.attest_request(nonce))
    sql(fleet, roll_back.format(retired.sequence))
    with refused(fleet, "policy-unapproved"):
        fleet.attest(gate.attest_request(nonce))
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(SoftChip(fleet.now_s))


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_a_proposal_marked_as_applied_by_hand_is_refused(two_of_three: World) -> None:
    fleet, stranger = two_of_three, SoftChip(two_of_three.now_s)
    golden = parse_profile_yaml(golden_profile(stranger)).document
    fleet.change("profile-activate", PROFILE, golden, signers=2)
    proposal = next_change(fleet, "rules", "rules", EVERYBODY)
    row = {name: getattr(proposal, name) for name in proposal.__slots__}
    signature = sign_change(proposal, fleet.operators[0].pem)
    with fleet.verifier.store.write() as connection:
        changes.insert_proposal(connection, ChangeRecord(**row, signatures=(signature,)))
    sql(fleet, f"UPDATE change SET applied_at = 1 WHERE sequence = {proposal.sequence}")
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(stranger)
    sql(fleet, f"UPDATE change SET applied_at = NULL WHERE sequence = {proposal.sequence}")
    with fleet.verifier.store.write() as connection:
        changes.add_signature(connection, proposal.sequence, sign_change(proposal, fleet.operators[1].pem))
        changes.apply_change(connection, proposal.sequence, now=fleet.now())
    assert fleet.enrol(stranger).state == "trusted", "with the second approval"


# --- Too few, or the same one twice -------------------------------------------------------------------------------------


def signed_by(*names: str) -> Callable[[World, Change], tuple[str, ...]]:
    def sign(world: World, change: Change) -> tuple[str, ...]:
        keys = {one.name: one.pem for one in world.operators}
        return tuple(sign_change(change, keys[name]) for name in names)

    return sign


@pytest.mark.attack("P02", reason="policy-unapproved")
@pytest.mark.parametrize(
    "sign",
    [signed_by(), signed_by("alice"), signed_by("alice", "alice"), signed_by("bob"), signed_by("bob", "bob", "bob")],
    ids=["nobody", "the proposer alone", "the proposer twice", "one other", "one other three times"],
)
def test_p02_fewer_operators_than_it_takes_decide_nothing(
    two_of_three: World, sign: Callable[[World, Change], tuple[str, ...]]
) -> None:
    fleet, chip = two_of_three, SoftChip(two_of_three.now_s)
    entry = inventory_document([InventoryEntry(chip.device_id, "gate-1", "harbour", PROFILE)])
    planted = next_change(fleet, "inventory", "inventory", entry, proposer="alice")
    plant(fleet, planted, *sign(fleet, planted))
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(chip)
    assert credentials_of(fleet, chip) == 0


@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "carol"), ("alice", "bob", "carol")])
def test_p02_enough_operators_decide(two_of_three: World, names: tuple[str, ...]) -> None:
    fleet, chip = two_of_three, SoftChip(two_of_three.now_s)
    for kind, subject, body in (
        ("inventory", "inventory", inventory_document([InventoryEntry(chip.device_id, "gate-1", "harbour", PROFILE)])),
        ("profile-activate", PROFILE, parse_profile_yaml(golden_profile(chip)).document),
    ):
        change = next_change(fleet, kind, subject, body)  # type: ignore[arg-type]
        plant(fleet, change, *signed_by(*names)(fleet, change))
    assert fleet.enrol(chip).state == "trusted"
    assert is_trusted(fleet, chip)


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_a_change_of_another_fleet_of_the_same_operators_is_refused(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    elsewhere = empty_book("other.example")
    change = Change(1, "rules", "rules", EVERYBODY, elsewhere.digest, "alice", fleet.now())
    plant(fleet, change, sign_change(change, fleet.operators[0].pem))
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(chip)


# --- The command line -----------------------------------------------------------------------------------------------------


def ssh_keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True)


def test_p02_an_approval_that_ssh_keygen_made_counts(fleet: World, gate: SoftChip, tmp_path: Path) -> None:
    key = tmp_path / "alice"
    key.write_bytes(fleet.operators[0].pem)
    key.chmod(0o600)
    change = next_change(fleet, "rules", "rules", EVERYBODY)
    text = tmp_path / "change.txt"
    text.write_bytes(statement(change))
    ssh_keygen("-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(text))
    plant(fleet, change, text.with_name("change.txt.sig").read_text())
    stranger = SoftChip(fleet.now_s)
    assert fleet.enrol(stranger).state == "trusted"


@pytest.mark.attack("P02", reason="policy-unapproved")
@pytest.mark.parametrize("what", ["another namespace", "another file"])
def test_p02_a_signature_of_ssh_keygen_for_something_else_approves_nothing(
    fleet: World, gate: SoftChip, tmp_path: Path, what: str
) -> None:
    key = tmp_path / "alice"
    key.write_bytes(fleet.operators[0].pem)
    key.chmod(0o600)
    change = next_change(fleet, "rules", "rules", EVERYBODY)
    text = tmp_path / "change.txt"
    text.write_bytes(statement(change) + (b"\n" if what == "another file" else b""))
    ssh_keygen("-Y", "sign", "-n", "git" if what == "another namespace" else NAMESPACE, "-f", str(key), str(text))
    plant(fleet, change, text.with_name("change.txt.sig").read_text())
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(SoftChip(fleet.now_s))


@pytest.mark.attack("P02")
def test_p02_a_refused_chain_is_named_in_the_log(fleet: World, journal: Any) -> None:
    plant(fleet, next_change(fleet, "rules", "rules", EVERYBODY))
    with unchanged(fleet), pytest.raises(Exception, match="policy-unapproved"):
        fleet.enrol(SoftChip(fleet.now_s))
    assert '"code": "policy-unapproved"' in journal.getvalue()
    assert "approval-threshold" in journal.getvalue(), "which the caller is not told"
