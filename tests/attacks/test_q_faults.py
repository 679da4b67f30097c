"""Q15: an exception in any single step of the verification ends as "not trusted".

Twice: every function that an honest run calls is made to fail, one after the other, without HTTP; and the named steps are made
to fail behind HTTP, where the caller gets an opaque answer.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from attestd.appraisal import appraise, steps
from attestd.changes import operators
from attestd.errors import Refused
from attestd.evidence import ak, boot, challenge, ek, prove, quote
from attestd.lifecycle import table
from attestd.protocol import binding, codec
from attestd.protocol.messages import PATH_ATTEST, PATH_ENROL, PATH_ENROL_PROOF, Enrolled
from attestd.protocol.reasons import Reason
from attestd.services import attest, enrol, issue, judge, records
from attestd.services.policy import PolicySource
from attestd.store import credentials, devices, log, routine
from attestd.store.errors import StoreError
from attestd.tpm import attest as tpm_attest
from attestd.tpm import credential, eventlog, pcr, public, signature
from attestd_pki import chain, ekcert
from attestd_pki import signatures as pki_signatures
from exchanges import SWEEP, Attestation, Enrolment, nothing_changes, refusals, refused, snapshot
from faults import HITS, ForcedFault, Target, called, failing, targets
from softchip import SoftChip
from world import Problem, World

ChipFactory = Callable[..., SoftChip]
ROOMS = (
    "attestd.tpm.",
    "attestd.evidence.",
    "attestd.appraisal.",
    "attestd.lifecycle.",
    "attestd.changes.",
    "attestd.issuance.",
    "attestd.services.",
    "attestd.store.",
    "attestd.protocol.binding",
    "attestd_pki.",
)


def forget(world: World, *, policy: bool = True) -> None:
    """Let the verifier forget what it has computed before, so that every step is done again; the policy costs most of it."""
    verifier = world.verifier
    for memory in (verifier.boots, verifier.identities, verifier.keys):
        memory._items.clear()
    if policy:
        fresh = PolicySource(verifier.policy._operators, fleet="fleet.example", now=verifier.now)
        object.__setattr__(verifier, "policy", fresh)


# --- Every function -------------------------------------------------------------------------------------------------------


class Direct:
    """Both exchanges without HTTP, in this thread, so that what they call can be seen.

    `guard` surrounds what the verifier does and nothing of what the device does.
    """

    def __init__(self, world: World, chip: Callable[[], SoftChip]) -> None:
        self.world, self.chip = world, chip
        self.guard: Callable[[], AbstractContextManager[object]] = nullcontext
        self.enrolling = chip()
        self.known = Attestation(world, chip())

    def enrol(self) -> Enrolled:
        """Run one whole enrolment of a device that is not enrolled yet."""
        chip, verifier = self.enrolling, self.world.verifier
        request = chip.request()
        body = codec.encode(request, codec.CBOR)
        with self.guard():
            challenged = enrol.challenge(verifier, request, body)
        proof = chip.proof(body, challenged)
        with self.guard():
            return enrol.prove(verifier, proof, codec.CBOR)

    def attest(self) -> object:
        """Send one routine proof, whole, of a device that is."""
        chip, verifier = self.known.chip, self.world.verifier
        request = chip.attest_request(self.known.nonce, pcrs=chip.values(), event_log=chip.event_log)
        with self.guard():
            attest.check_nonce(verifier, request)
            (outcome,) = attest.attest_batch(verifier, [request])
        if isinstance(outcome, Refused):
            raise outcome
        return outcome


@pytest.fixture
def direct(world: World, chip: ChipFactory) -> Direct:
    """A device that is about to enrol, and one that is enrolled."""
    return Direct(world, chip)


def end_of(direct: Direct, run: Callable[[], object], target: Target, *, policy: bool = False) -> str:
    """Run with the target failing and return how it ended: unused, unchanged, untrusted, or what is wrong with it."""
    forget(direct.world, policy=policy)
    before = snapshot(direct.world)
    HITS.clear()
    direct.guard = partial(failing, target.function)
    try:
        run()
    except Exception:  # noqa: BLE001 (a driver may wrap the fault; what counts is what is believed afterwards)
        pass
    else:
        return "trusted although it failed" if HITS else "unused"
    finally:
        direct.guard = nullcontext
    if snapshot(direct.world) == before:
        return "unchanged"
    return "untrusted" if _distrusted(direct, before) else "changed"


def _distrusted(direct: Direct, before: dict[str, Any]) -> bool:
    """Say whether the device that was at work has lost everything, and nobody else anything."""
    after = snapshot(direct.world)
    ids = {direct.enrolling.device_id, direct.known.chip.device_id}
    states = {row[0]: row[1] for row in after["device_state"]}
    touched = {row[0] for row in after["device_state"] if row not in before["device_state"]}
    alive = {row[1] for row in after["certificate"] if row[5] is None}
    return touched <= ids and all(states[device] == "untrusted" and device not in alive for device in touched)


@pytest.mark.parametrize("route", ["enrol", "attest"])
def test_q15_fault_in_any_function_of_the_verification_is_not_trusted(direct: Direct, route: str) -> None:
    run = getattr(direct, route)
    with SWEEP:
        forget(direct.world)
        steps_taken = called(run, targets(ROOMS), until=attest._tell)
    assert len(steps_taken) > 150
    wrong, seen = [], 0
    for target in steps_taken:
        with SWEEP:
            _renew(direct)
            ended = end_of(direct, run, target)
            if ended == "unused":
                _renew(direct)
                ended = end_of(direct, run, target, policy=True)
        seen += ended in ("unchanged", "untrusted")
        if ended not in ("unchanged", "untrusted", "unused"):
            wrong.append(f"{target.name}: {ended}")
    assert wrong == []
    assert seen > 150


def _renew(direct: Direct) -> None:
    """Take other devices where the last fault has left a trace: one that is unknown, one that is trusted."""
    states = {row[0]: row[1] for row in snapshot(direct.world)["device_state"]}
    if direct.enrolling.device_id in states:
        direct.enrolling = direct.chip()
    if states[direct.known.chip.device_id] != "trusted":
        direct.known = Attestation(direct.world, direct.chip())


def test_q15_fault_in_one_appraisal_is_not_remembered_for_the_next(direct: Direct) -> None:
    """The verdict on a boot is remembered; a verdict that a fault prevented must not be."""
    with SWEEP:
        forget(direct.world)
        with failing(steps.compare_claims), pytest.raises(Refused) as refusal:
            direct.enrol()
    assert refusal.value.reason is Reason.EVIDENCE_REFUSED
    assert direct.enrol().state == "trusted"


# --- Named steps, behind HTTP ---------------------------------------------------------------------------------------------

FIRST_MESSAGE: tuple[Any, ...] = (
    ek.read_endorsement_key,
    public.parse_public,
    ak.check_attestation_key,
    ak.check_device_key,
    ek.identify,
    ekcert.check_ek_profile,
    chain.build_and_verify_chain,
    pki_signatures.verify_signature,
    credential.make_credential,
    challenge.Challenger.enrol_nonce,
)
ENROLMENT: tuple[Any, ...] = (
    challenge.Challenger.check_enrol_nonce,
    challenge.Challenger.activation_secret,
    ak.check_certification,
    tpm_attest.parse_attest,
    signature.parse_signature,
    signature.verify,
    binding.qualifying_data,
    quote.authenticate_quote,
    quote._check_selection,
    quote.check_pcr_values,
    pcr.pcr_digest,
    prove.gather,
    eventlog.parse_event_log,
    boot.boot_facts,
    operators.verify_approvals,
    judge.judge,
    appraise.appraise_boot,
    appraise.assemble,
    table.move,
    devices.upsert_enrolment,
    log.append_attestation,
    issue.issue_certificate,
    issue.issue_vpn,
    credentials.redeem_grant,
    records.sign_result,
)
ATTESTATION: tuple[Any, ...] = (
    challenge.Challenger.check_attest_nonce,
    routine.peek_routine,
    ak.check_attestation_key,
    tpm_attest.parse_attest,
    signature.parse_signature,
    signature.verify,
    binding.qualifying_data,
    quote.authenticate_quote,
    quote._check_selection,
    quote.check_progress,
    quote.check_pcr_values,
    pcr.pcr_digest,
    prove.gather,
    eventlog.parse_event_log,
    boot.boot_facts,
    operators.verify_approvals,
    judge.judge,
    appraise.assemble,
    table.move,
    routine.store_routine,
)
STEPS = (steps.require_a_policy, steps.require_a_boot_log, steps.require_explained_registers, steps.compare_claims)


def name_of(function: Any) -> str:
    return str(function.__qualname__)


def faulty(world: World, function: Any, *, path: str, body: bytes) -> None:
    """Make a function fail under a message: an opaque answer, nothing recorded, nothing changed."""
    forget(world)
    HITS.clear()
    with failing(function):
        problem = refused(world, lambda: world.post(path, body, Enrolled), Reason.INTERNAL)
    assert HITS
    assert problem.status == 500
    assert "forced" not in str(problem.document)


@pytest.mark.parametrize("function", FIRST_MESSAGE, ids=name_of)
def test_q15_fault_in_a_step_of_the_first_message_gives_no_challenge(enrolment: Enrolment, function: Any) -> None:
    faulty(enrolment.world, function, path=PATH_ENROL, body=enrolment.body)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("function", ENROLMENT, ids=name_of)
def test_q15_fault_in_a_step_of_the_enrolment_gives_no_trust(enrolment: Enrolment, function: Any) -> None:
    body = codec.encode(enrolment.proof(), codec.CBOR)
    faulty(enrolment.world, function, path=PATH_ENROL_PROOF, body=body)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("function", ATTESTATION, ids=name_of)
def test_q15_fault_in_a_step_of_a_routine_proof_is_not_accepted(world: World, chip: ChipFactory, function: Any) -> None:
    proof = Attestation(world, chip())
    request = proof.chip.attest_request(proof.nonce, pcrs=proof.chip.values(), event_log=proof.chip.event_log)
    faulty(world, function, path=PATH_ATTEST, body=codec.encode(request, codec.CBOR))
    assert proof.send().state == "trusted"


@pytest.mark.parametrize("function", STEPS, ids=name_of)
def test_q15_fault_in_a_step_of_the_appraisal_is_a_finding_and_ends_trust(
    world: World, chip: ChipFactory, function: Any
) -> None:
    routine = Attestation(world, chip())
    forget(world)
    with failing(function):
        problem = refused(world, routine.send, Reason.EVIDENCE_REFUSED, changes=True)
    assert Reason.APPRAISAL_ERROR.value in {finding["code"] for finding in problem.document["findings"]}
    with pytest.raises(Problem) as after:
        routine.send()
    assert after.value.code == "enrolment-needed"
    routine.chip.renew_keys()
    assert world.enrol(routine.chip).state == "trusted"


def test_q15_fault_in_one_devices_proof_trusts_nobody_and_the_next_batch_passes(
    world: World, chip: ChipFactory
) -> None:
    proofs = [Attestation(world, chip()) for _ in range(3)]
    requests = [one.chip.attest_request(one.nonce) for one in proofs]
    with nothing_changes(world), failing(quote.check_progress), pytest.raises(ForcedFault):
        attest.attest_batch(world.verifier, requests)
    assert [one.send().state for one in proofs] == ["trusted"] * 3


def test_q15_refusal_that_cannot_be_recorded_is_still_the_same_refusal(
    enrolment: Enrolment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away at that moment; the caller must not be able to tell, and must not be trusted either."""

    def away(*_: object) -> None:
        raise StoreError("away")

    forged = replace(enrolment.proof(), quote=enrolment.chip.quote(b""))
    told = refusals(enrolment.world)
    with monkeypatch.context() as patch:
        patch.setattr(log, "insert_refusal", away)
        with pytest.raises(Problem) as problem:
            enrolment.world.prove(forged)
    assert problem.value.code == Reason.QUOTE_BINDING.value
    assert refusals(enrolment.world) == told
    enrolment.refuse(Reason.QUOTE_BINDING, quote=enrolment.chip.quote(b""))
    assert isinstance(enrolment.send(), Enrolled)
