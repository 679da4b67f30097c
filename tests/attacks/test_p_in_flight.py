"""Policy that changes while a proof is under way, or on another verifier: the proof is held against what is in force."""

from collections.abc import Callable
from typing import Any

import pytest

from attacks.fixtures_pct import (
    EVIL,
    announced,
    credentials_of,
    is_trusted,
    refused,
    revoked,
    second_verifier,
    serial,
    state_of,
    turned_away,
)
from attestd import clock
from attestd.changes.operators import parse_operators
from attestd.changes.rules import AdmissionRule, rules_document
from attestd.protocol import codec
from attestd.services import attest, enrol, storing
from attestd.services.policy import PolicySource
from attestd.store import routine
from attestd_agent.lab.firmware import BootImage
from pki_world import TRUST_DOMAIN
from softchip import SoftChip
from world import Operator, Problem, World, golden_profile

pytest_plugins = ("attacks.fixtures_pct",)

RETIRE_ONE = b'{"profile":"edge","versions":[1]}'


@pytest.fixture
def fleet_and_gate(fleet_on_both: World) -> tuple[World, SoftChip]:
    return fleet_on_both, announced(fleet_on_both)


def in_between(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, event: Callable[[], object], times: int = 1
) -> None:
    """Let something happen right before a function of a service runs, the first `times` times."""
    function, left = getattr(module, name), [times]

    def paused(*arguments: Any, **fields: Any) -> Any:
        if left[0]:
            left[0] -= 1
            event()
        return function(*arguments, **fields)

    monkeypatch.setattr(module, name, paused)


# --- P03: between the two messages of an enrolment ---------------------------------------------------------------------


@pytest.mark.attack("P03", reason="policy-missing")
def test_p03_a_profile_retired_between_the_two_messages_admits_nobody(fleet_and_gate: tuple[World, SoftChip]) -> None:
    fleet, gate = fleet_and_gate
    body = codec.encode(gate.request(), codec.CBOR)
    challenge = fleet.begin(body)
    fleet.change("profile-retire", "edge", RETIRE_ONE)
    with turned_away("policy-missing"):
        fleet.prove(gate.proof(body, challenge))
    assert credentials_of(fleet, gate) == 0
    fleet.golden(gate, version=2)
    assert fleet.enrol(gate).state == "trusted"


@pytest.mark.attack("P03", reason="inventory-withdrawn")
def test_p03_an_entry_withdrawn_between_the_two_messages_admits_nobody(fleet_and_gate: tuple[World, SoftChip]) -> None:
    fleet, gate = fleet_and_gate
    body = codec.encode(gate.request(), codec.CBOR)
    challenge = fleet.begin(body)
    fleet.withdraw(gate)
    with refused(fleet, "inventory-withdrawn"):
        fleet.prove(gate.proof(body, challenge))
    fleet.announce(gate)
    assert fleet.prove(gate.proof(body, challenge)).state == "trusted"


@pytest.mark.attack("P03", reason="evidence-refused")
def test_p03_a_proof_is_held_against_the_policy_of_its_arrival_not_of_its_challenge(
    fleet: World, gate: SoftChip
) -> None:
    body = codec.encode(gate.request(), codec.CBOR)
    challenge = fleet.begin(body)
    fleet.golden(SoftChip(fleet.now_s, image=EVIL), version=2)
    fleet.change("profile-retire", "edge", RETIRE_ONE)
    with turned_away("evidence-refused"):
        fleet.prove(gate.proof(body, challenge))
    assert credentials_of(fleet, gate) == 0


@pytest.mark.attack("P03", reason="inventory-withdrawn")
def test_p03_an_entry_withdrawn_while_the_proof_is_checked_admits_nobody(
    fleet_and_gate: tuple[World, SoftChip], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, gate = fleet_and_gate
    in_between(monkeypatch, enrol, "prove_evidence", lambda: fleet.withdraw(gate))
    with turned_away("inventory-withdrawn"):
        fleet.enrol(gate)
    assert credentials_of(fleet, gate) == 0
    fleet.announce(gate)
    assert fleet.enrol(gate).state == "trusted"


# --- P03: between the reading and the writing of a routine proof --------------------------------------------------------


@pytest.mark.attack("P03", reason="inventory-withdrawn")
def test_p03_an_entry_withdrawn_between_reading_and_writing_ends_trust(
    fleet_and_gate: tuple[World, SoftChip], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, gate = fleet_and_gate
    nonce = fleet.enrol(gate).next.nonce
    in_between(monkeypatch, attest, "store_all", lambda: fleet.withdraw(gate))
    with turned_away("inventory-withdrawn"):
        fleet.attest(gate.attest_request(nonce))
    assert state_of(fleet, gate) == "untrusted"


@pytest.mark.attack("P03", reason="evidence-refused")
def test_p03_a_profile_retired_between_reading_and_writing_ends_trust(
    fleet_and_gate: tuple[World, SoftChip], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, gate = fleet_and_gate
    nonce = fleet.enrol(gate).next.nonce
    in_between(monkeypatch, attest, "store_all", lambda: fleet.change("profile-retire", "edge", RETIRE_ONE))
    with pytest.raises(Problem) as problem:
        fleet.attest(gate.attest_request(nonce))
    assert problem.value.code == "evidence-refused"
    assert [one["code"] for one in problem.value.document["findings"]] == ["policy-missing"]
    assert state_of(fleet, gate) == "untrusted"


@pytest.mark.attack("P03")
def test_p03_a_change_that_does_not_concern_a_device_costs_it_nothing(
    fleet_and_gate: tuple[World, SoftChip], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, gate = fleet_and_gate
    nonce = fleet.enrol(gate).next.nonce
    other = SoftChip(fleet.now_s)
    in_between(monkeypatch, attest, "store_all", lambda: fleet.announce(other, "gate-2"))
    assert fleet.attest(gate.attest_request(nonce)).state == "trusted"


@pytest.mark.attack("P03", reason="policy-changed")
def test_p03_a_proof_that_cannot_keep_up_with_the_changes_comes_again(
    fleet: World, gate: SoftChip, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonce = fleet.enrol(gate).next.nonce
    rules = rules_document((AdmissionRule("nobody", "*", None),))
    in_between(monkeypatch, attest, "store_all", lambda: fleet.change("rules", "rules", rules), times=3)
    with pytest.raises(Problem) as problem:
        fleet.attest(gate.attest_request(nonce))
    assert (problem.value.code, problem.value.headers["retry-after"]) == ("policy-changed", "1")
    assert fleet.attest(gate.attest_request(nonce)).state == "trusted"


@pytest.mark.attack("P03", reason="policy-changed")
def test_p03_no_certificate_is_renewed_under_a_policy_that_has_gone(
    fleet: World, gate: SoftChip, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.activate(golden_profile(gate, version=2, interval=3600, deadline=6 * 3600))
    enrolled = fleet.enrol(gate)
    fleet.pass_time(5 * 3600)
    held = credentials_of(fleet, gate)
    in_between(monkeypatch, storing, "_store_alone", lambda: fleet.withdraw(gate))
    with turned_away("policy-changed"):
        fleet.attest(gate.attest_request(enrolled.next.nonce))
    with turned_away("inventory-withdrawn"):
        fleet.attest(gate.attest_request(enrolled.next.nonce))
    assert (credentials_of(fleet, gate), state_of(fleet, gate)) == (held, "untrusted")


@pytest.mark.attack("P03")
def test_p03_a_verifier_that_learns_of_a_change_while_it_reads_raises_no_false_alarm(
    fleet_and_gate: tuple[World, SoftChip], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, gate = fleet_and_gate
    nonce = fleet.enrol(gate).next.nonce
    peek = routine.peek_routine
    once = iter([True])

    def overtaken(connection: Any, device_ids: Any) -> Any:
        rows = peek(connection, device_ids)
        if next(once, False):
            fleet.announce(SoftChip(fleet.now_s), "gate-2")
            assert is_trusted(fleet, gate), "another thread of the verifier has read the newer chain"
        return rows

    monkeypatch.setattr(attest, "peek_routine", overtaken)
    assert fleet.attest(gate.attest_request(nonce)).state == "trusted"


# --- P04 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("P04", reason="inventory-withdrawn")
def test_p04_a_withdrawal_at_one_verifier_is_in_force_at_the_others_next_proof(
    fleet_and_gate: tuple[World, SoftChip],
) -> None:
    fleet, gate = fleet_and_gate
    with second_verifier(fleet) as other:
        nonce = fleet.enrol(gate).next.nonce
        nonce = other.attest(gate.attest_request(nonce)).next.nonce
        fleet.withdraw(gate)
        with turned_away("inventory-withdrawn"):
            other.attest(gate.attest_request(nonce))
        assert not is_trusted(fleet, gate)
        assert not is_trusted(other, gate)


@pytest.mark.attack("P04", reason="evidence-refused")
def test_p04_a_retired_profile_is_not_remembered_by_the_other_verifier(fleet_and_gate: tuple[World, SoftChip]) -> None:
    fleet, gate = fleet_and_gate
    with second_verifier(fleet) as other:
        nonce = other.enrol(gate).next.nonce
        for _ in range(3):
            nonce = other.attest(gate.attest_request(nonce)).next.nonce
        fleet.golden(SoftChip(fleet.now_s, image=EVIL), version=2)
        fleet.change("profile-retire", "edge", RETIRE_ONE)
        with turned_away("evidence-refused"):
            other.attest(gate.attest_request(nonce))
        assert not is_trusted(other, gate)


@pytest.mark.attack("P04")
def test_p04_what_one_verifier_allows_the_other_allows_at_once(fleet_and_gate: tuple[World, SoftChip]) -> None:
    fleet, gate = fleet_and_gate
    with second_verifier(fleet) as other:
        nonce = other.enrol(gate).next.nonce
        newer = BootImage().with_kernel("6.1.0-31-amd64")
        fleet.activate(golden_profile(SoftChip(fleet.now_s, image=newer), version=2))
        gate.boot(newer)
        assert other.attest(gate.whole_attest_request(nonce)).state == "trusted"
        chip = SoftChip(fleet.now_s)
        fleet.announce(chip, "gate-2")
        assert other.enrol(chip).state == "trusted"


@pytest.mark.attack("P04", reason="policy-unapproved")
def test_p04_a_verifier_with_other_operators_does_not_take_the_change_over(fleet: World, gate: SoftChip) -> None:
    strangers = parse_operators("\n".join(Operator(name).line for name in ("alice", "bob")), threshold=1)
    policy = PolicySource(strangers, fleet=TRUST_DOMAIN, now=clock.now_ms)
    with second_verifier(fleet, policy=policy) as other, refused(other, "policy-unapproved"):
        other.enrol(gate)
    assert fleet.enrol(gate).state == "trusted"


def test_p04_both_verifiers_renew_and_list_revocations_as_one(fleet_and_gate: tuple[World, SoftChip]) -> None:
    fleet, gate = fleet_and_gate
    with second_verifier(fleet) as other:
        enrolled = fleet.enrol(gate)
        gate.boot(EVIL)
        with turned_away("evidence-refused"):
            other.attest(gate.whole_attest_request(enrolled.next.nonce))
        assert serial(enrolled.certificate_chain) in revoked(fleet) & revoked(other)
