"""A staged version is watched and decides nothing: whoever stages, relabels or replays one gains no device any trust."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from attacks.fixtures_pct import (
    EVIL,
    announced,
    credentials_of,
    fresh_policy,
    on_stage,
    profile_with,
    refused,
    second_verifier,
    sql,
    state_of,
)
from attestd.appraisal.profile import parse_profile_yaml
from attestd.changes.errors import ChangeRefused
from attestd.changes.operators import sign_change, verify_approval
from attestd.changes.statement import NAMESPACE, Change, Kind, statement
from attestd.services import proposals, shadow
from attestd.store import changes
from attestd.store.changes import ChangeRecord
from softchip import SoftChip
from world import PROFILE, Operator, Problem, World, golden_profile

pytest_plugins = ("attacks.fixtures_pct",)

WITHDRAW_TWO = b'{"profile":"edge","versions":[2]}'


def evil(world: World) -> SoftChip:
    """Return a device that booted what only the staged version accepts."""
    return SoftChip(world.now_s, image=EVIL)


def document_for(chip: SoftChip, version: int = 2) -> bytes:
    return parse_profile_yaml(golden_profile(chip, version=version)).document


def next_change(world: World, kind: Kind, body: bytes) -> Change:
    with world.verifier.store.read() as connection:
        book = world.verifier.policy.book(connection)
    return Change(book.sequence + 1, kind, PROFILE, body, book.digest, "alice", max(world.now(), book.changed_at))


def plant(world: World, change: Change, *signatures: str) -> None:
    """Write a change into the database as if it had been approved and applied."""
    row = {name: getattr(change, name) for name in change.__slots__}
    with world.verifier.store.write() as connection:
        changes.insert_proposal(connection, ChangeRecord(**row, signatures=signatures))
        changes.apply_change(connection, change.sequence, now=world.now())


@pytest.fixture
def two_of_two(sqlite_url: str, journal: object) -> Iterator[World]:
    """A verifier whose changes need both of its operators."""
    made = World(sqlite_url, threshold=2)
    object.__setattr__(made.verifier, "policy", fresh_policy(made, threshold=2))
    with on_stage(made):
        yield made
    made.verifier.store.close()


# --- It decides nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.attack("P01", reason="evidence-refused")
def test_p01_a_staged_version_lets_nobody_in(fleet_on_both: World) -> None:
    fleet, _ = fleet_on_both, announced(fleet_on_both)
    chip = evil(fleet)
    fleet.announce(chip, "gate-2")
    fleet.change("profile-stage", PROFILE, document_for(chip))
    with pytest.raises(Problem) as problem:
        fleet.enrol(chip)
    assert (problem.value.code, state_of(fleet, chip)) == ("evidence-refused", "untrusted")
    assert credentials_of(fleet, chip) == 0
    fleet.change("profile-activate", PROFILE, document_for(chip))
    assert fleet.enrol(chip).state == "trusted", "the same document, active"


@pytest.mark.attack("P01", reason="policy-missing")
def test_p01_a_profile_that_is_only_staged_is_no_profile(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    fleet.change("profile-stage", PROFILE, document_for(chip, 1))
    with pytest.raises(Problem) as problem:
        fleet.enrol(chip)
    assert (problem.value.code, credentials_of(fleet, chip)) == ("policy-missing", 0)


def told(answer: Any) -> dict[str, Any]:
    """Return what a device reads in an answer, but for what every proof has of its own."""
    return {name: getattr(answer, name) for name in answer.__slots__ if name not in ("result", "next")}


@pytest.mark.attack("P01")
@pytest.mark.parametrize("staged", ["refuses it", "accepts it", "is no profile", "asks for the runtime list"])
def test_p01_a_device_does_not_learn_what_is_staged_nor_feel_it(fleet: World, gate: SoftChip, staged: str) -> None:
    first = fleet.attest(gate.attest_request(fleet.enrol(gate).next.nonce))
    bodies = {
        "refuses it": document_for(evil(fleet)),
        "accepts it": document_for(gate),
        "is no profile": b'{"profile":"edge","version":2}',
        "asks for the runtime list": parse_profile_yaml(
            profile_with(gate, version=2, runtime={"check": "required", "allow": {"/bin/sh": [f"sha256:{'0' * 64}"]}})
        ).document,
    }
    fleet.change("profile-stage", PROFILE, bodies[staged])
    shadow.look(fleet.verifier, shadow.Watch())
    second = fleet.attest(gate.attest_request(first.next.nonce))
    assert told(second) == told(first)
    assert second.next.interval == first.next.interval
    assert state_of(fleet, gate) == "trusted"


@pytest.mark.attack("P02")
def test_p02_what_stands_in_the_table_of_shadow_verdicts_decides_nothing(fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    fleet.change("profile-stage", PROFILE, document_for(evil(fleet)))
    shadow.look(fleet.verifier, shadow.Watch())
    chip = evil(fleet)
    fleet.announce(chip, "gate-2")
    with pytest.raises(Problem):
        fleet.enrol(chip)
    sql(fleet, "UPDATE shadow_verdict SET outcome = 'pass', findings = NULL, profile_version = 1")
    with pytest.raises(Problem) as problem:
        fleet.enrol(chip)
    assert (problem.value.code, credentials_of(fleet, chip)) == ("evidence-refused", 0)
    sql(fleet, "UPDATE shadow_verdict SET outcome = 'fail'")
    assert fleet.attest(gate.attest_request(nonce)).state == "trusted"


# --- It takes the operators, and their signatures are for staging alone ---------------------------------------------------


def nobody(_world: World, _change: Change) -> tuple[str, ...]:
    return ()


def one(world: World, change: Change) -> tuple[str, ...]:
    return (sign_change(change, world.operators[0].pem),)


def stranger(world: World, change: Change) -> tuple[str, ...]:
    return (*one(world, change), sign_change(change, Operator("bob").pem))


@pytest.mark.attack("P02", reason="policy-unapproved")
@pytest.mark.parametrize("sign", [nobody, one, stranger])
def test_p02_a_version_staged_by_too_few_is_not_staged(
    two_of_two: World, sign: Callable[[World, Change], tuple[str, ...]]
) -> None:
    fleet, chip = two_of_two, SoftChip(two_of_two.now_s)
    planted = next_change(fleet, "profile-stage", document_for(chip, 1))
    plant(fleet, planted, *sign(fleet, planted))
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(chip)
    sql(fleet, f"DELETE FROM change WHERE sequence = {planted.sequence}")
    plant(fleet, planted, *(sign_change(planted, operator.pem) for operator in fleet.operators))
    with fleet.verifier.store.read() as connection:
        assert [version.version for version in fleet.verifier.policy.book(connection).staged(PROFILE)] == [1]


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_the_approval_of_a_stage_activates_nothing(fleet: World, gate: SoftChip) -> None:
    fleet.enrol(gate)
    chip = evil(fleet)
    fleet.announce(chip, "gate-2")
    staged = next_change(fleet, "profile-stage", document_for(chip))
    signature = sign_change(staged, fleet.operators[0].pem)
    plant(fleet, replace(staged, kind="profile-activate"), signature)
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(chip)
    assert credentials_of(fleet, chip) == 0


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_a_stage_that_is_relabelled_in_the_database_is_refused_by_whoever_reads_it_anew(fleet: World) -> None:
    announced(fleet)
    chip = evil(fleet)
    fleet.announce(chip, "gate-2")
    staged = fleet.change("profile-stage", PROFILE, document_for(chip))
    sql(fleet, f"UPDATE change SET kind = 'profile-activate' WHERE sequence = {staged.sequence}")
    with second_verifier(fleet) as starting, refused(starting, "policy-unapproved"):
        starting.enrol(chip)


@pytest.mark.attack("P02")
@pytest.mark.parametrize("other", ["profile-activate", "profile-retire", "rules", "inventory"])
def test_p02_the_kind_is_in_the_text_that_is_signed(fleet: World, other: str) -> None:
    staged = next_change(fleet, "profile-stage", document_for(SoftChip(fleet.now_s), 1))
    signature = sign_change(staged, fleet.operators[0].pem)
    assert b"\nkind: profile-stage\n" in statement(staged)
    with pytest.raises(ChangeRefused) as caught:
        verify_approval(replace(staged, kind=cast(Kind, other)), signature, fleet.verifier.policy._operators)
    assert caught.value.code == "approval-invalid"


def test_p02_the_approval_of_a_stage_can_be_checked_with_openssh_alone(fleet: World, tmp_path: Path) -> None:
    staged = next_change(fleet, "profile-stage", document_for(SoftChip(fleet.now_s), 1))
    (tmp_path / "allowed_signers").write_text(fleet.operators[0].line + "\n")
    (tmp_path / "change.sig").write_text(sign_change(staged, fleet.operators[0].pem))
    check = ["ssh-keygen", "-Y", "verify", "-f", "allowed_signers", "-I", "alice", "-n", NAMESPACE, "-s", "change.sig"]

    def verified(change: Change) -> bool:
        return subprocess.run(check, input=statement(change), cwd=tmp_path, capture_output=True).returncode == 0

    assert verified(staged)
    assert not verified(replace(staged, kind="profile-activate"))


@pytest.mark.attack("P02", reason="policy-unapproved")
def test_p02_the_statement_of_a_stage_cannot_be_replayed_after_its_withdrawal(fleet: World, gate: SoftChip) -> None:
    nonce = fleet.enrol(gate).next.nonce
    staged = fleet.change("profile-stage", PROFILE, document_for(evil(fleet)))
    with fleet.verifier.store.read() as connection:
        record = changes.load_changes(connection, staged.sequence - 1)[0]
    fleet.change("profile-retire", PROFILE, WITHDRAW_TWO)
    again = replace(staged, sequence=staged.sequence + 2)
    plant(fleet, again, *record.signatures)
    with refused(fleet, "policy-unapproved"):
        fleet.attest(gate.attest_request(nonce))


# --- It does not come back ------------------------------------------------------------------------------------------------


@pytest.mark.attack("E10")
@pytest.mark.parametrize("kind", ["profile-stage", "profile-activate"])
@pytest.mark.parametrize("history", ["retired", "withdrawn", "overtaken"])
def test_e10_what_was_retired_withdrawn_or_overtaken_is_proposed_in_vain(fleet: World, kind: str, history: str) -> None:
    chip = SoftChip(fleet.now_s)
    document = document_for(chip)
    fleet.change("profile-activate" if history == "retired" else "profile-stage", PROFILE, document)
    if history == "overtaken":
        fleet.change("profile-activate", PROFILE, document_for(chip, 3))
    else:
        fleet.change("profile-retire", PROFILE, WITHDRAW_TWO)
    with pytest.raises(ChangeRefused) as caught:
        proposals.draft(fleet.verifier, cast(Kind, kind), PROFILE, body=document, proposer="alice")
    assert caught.value.code == "policy-rollback"


@pytest.mark.attack("E10", reason="policy-unapproved")
@pytest.mark.parametrize("kind", ["profile-stage", "profile-activate"])
def test_e10_a_withdrawn_version_comes_back_not_even_with_every_signature(
    fleet: World, gate: SoftChip, kind: str
) -> None:
    chip = evil(fleet)
    fleet.announce(chip, "gate-2")
    fleet.change("profile-stage", PROFILE, document_for(chip))
    fleet.change("profile-retire", PROFILE, WITHDRAW_TWO)
    change = next_change(fleet, cast(Kind, kind), document_for(chip))
    plant(fleet, change, *(sign_change(change, operator.pem) for operator in fleet.operators))
    with refused(fleet, "policy-unapproved"):
        fleet.enrol(chip)
    assert credentials_of(fleet, chip) == 0


@pytest.mark.attack("E10", reason="evidence-refused")
def test_e10_what_only_a_withdrawn_version_accepted_is_refused(fleet: World, gate: SoftChip) -> None:
    chip = evil(fleet)
    fleet.announce(chip, "gate-2")
    fleet.change("profile-stage", PROFILE, document_for(chip))
    shadow.look(fleet.verifier, shadow.Watch())
    fleet.change("profile-retire", PROFILE, WITHDRAW_TWO)
    with pytest.raises(Problem) as problem:
        fleet.enrol(chip)
    assert problem.value.code == "evidence-refused"
