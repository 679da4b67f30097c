"""A known device proves itself again: one message, one read, one transaction for a whole batch.

The numbers are those of docs/protocol.md, "Attestation". What changes nothing but the clock goes through `store_routine`
with the rest of its batch; a proof that changes more (a state, a log, a certificate that is due) has a transaction of its
own, so that its failure is nobody else's.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from attestd.appraisal.policy import Profile, Tier
from attestd.appraisal.result import findings_for_device
from attestd.changes.book import Admission, PolicyBook
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key
from attestd.evidence.prove import ProvedEvidence, gather
from attestd.evidence.quote import (
    AuthenticQuote,
    Progress,
    authenticate_quote,
    check_pcr_values,
    check_progress,
)
from attestd.evidence.types import EkIdentity
from attestd.issuance.mint import Subject
from attestd.lifecycle.table import MEANINGS, Event, State, move
from attestd.protocol.binding import Purpose, qualifying_data
from attestd.protocol.messages import PATH_ATTEST, Attested, AttestRequest, Next, PcrValue
from attestd.protocol.reasons import Reason
from attestd.services import records
from attestd.services.context import Verifier
from attestd.services.issue import issue_certificate, withdraw
from attestd.services.judge import Judgement, judge, remembered_pcrs
from attestd.services.publish import refresh_crl
from attestd.store import devices, log
from attestd.store.devices import Move
from attestd.store.errors import StaleState, StoreError
from attestd.store.routine import AttestationRow, RoutineRow, RoutineUpdate, peek_routine, policy_head, store_routine
from attestd.tpm.algorithms import DIGEST_SIZES

RENEW_SHARE = 3
"""A certificate is renewed when less than a third of its life is left."""
_RECORDED = frozenset(
    {
        Reason.TPM_CLOCK_BACKWARDS,
        Reason.TPM_RESET_BACKWARDS,
        Reason.TPM_RESET_UNANNOUNCED,
        Reason.TPM_FIRMWARE_CHANGED,
        Reason.PCR_VALUES_MALFORMED,
        Reason.QUOTE_PCR_DIGEST,
        Reason.PCR_BANK_INACTIVE,
        Reason.LOG_MALFORMED,
        Reason.RUNTIME_MALFORMED,
    }
)
"""Refusals of a proof that the device's own key signed over a fresh nonce: a person should see them.

All come after steps 1 to 6, so a stranger, who has no such key, causes no write.
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """A proof that was authenticated and appraised, with everything that storing it needs."""

    request: AttestRequest
    row: RoutineRow
    proved: ProvedEvidence
    judgement: Judgement
    before: State
    after: State
    event: Event
    now: int

    @property
    def is_routine(self) -> bool:
        """Whether nothing but the clock changes."""
        return self.before is self.after is State.TRUSTED and not self.brings_log and not self.new_registers

    @property
    def brings_log(self) -> bool:
        """Whether a boot log came along."""
        return self.request.event_log is not None

    @property
    def new_registers(self) -> bool:
        """Whether the registers differ from the last proof's."""
        return self.proved.quote.pcr_digest != self.row.pcr_digest


def check_nonce(verifier: Verifier, request: AttestRequest) -> None:
    """Refuse a nonce that is not this verifier's for this device, before anything waits for a database.

    The refusal carries a fresh nonce: it is good for a proof by that device's TPM and for nothing else.
    """
    now = verifier.now()
    try:
        verifier.challenger.check_attest_nonce(request.nonce, device_id=request.device_id, now_ms=now)
    except Refused as refused:
        refused.nonce = _fresh_nonce(verifier, request.device_id, now)
        raise


def attest_batch(verifier: Verifier, requests: Sequence[AttestRequest]) -> list[Attested | Refused]:
    """Return one outcome for each request, in order, after all of them are durable."""
    outcomes: list[Attested | Refused | None] = [None] * len(requests)
    waiting = list(range(len(requests)))
    while waiting:  # a device that occurs twice in a batch gets its turns one after the other
        turn: dict[str, int] = {}
        for index in waiting:
            turn.setdefault(requests[index].device_id, index)
        chosen = list(turn.values())
        for index, outcome in zip(chosen, _turn(verifier, [requests[index] for index in chosen]), strict=True):
            outcomes[index] = outcome
        waiting = [index for index in waiting if outcomes[index] is None]
    return [outcome for outcome in outcomes if outcome is not None]


def _turn(verifier: Verifier, requests: Sequence[AttestRequest]) -> list[Attested | Refused]:
    """Handle requests of distinct devices."""
    now = verifier.now()
    try:
        for _ in range(3):
            judged, book = _judge_all(verifier, requests, now)
            stored = _store_all(verifier, judged, book)
            if stored is not None:
                return [_answer(verifier, outcome) for outcome in stored]
    except StoreError as error:
        return [Refused(Reason.SERVER_BUSY, error.code)] * len(requests)
    return [Refused(Reason.POLICY_CHANGED, retry_after=1)] * len(requests)


def _judge_all(
    verifier: Verifier, requests: Sequence[AttestRequest], now: int
) -> tuple[list[Judged | Refused], PolicyBook]:
    with verifier.store.read() as connection:
        rows = peek_routine(connection, [request.device_id for request in requests])
        head = next((row.policy_head for row in rows.values()), None)
        book = verifier.policy.book(connection, head)
        judged = [_judge(verifier, connection, rows.get(request.device_id), request, book, now) for request in requests]
    for request, outcome in zip(requests, judged, strict=True):
        if isinstance(outcome, Refused) and outcome.reason in _RECORDED:
            records.record_refusal(verifier, request.device_id, outcome, route=PATH_ATTEST, now=now)
    return judged, book


def _judge(
    verifier: Verifier,
    connection: Connection,
    row: RoutineRow | None,
    request: AttestRequest,
    book: PolicyBook,
    now: int,
) -> Judged | Refused:
    try:
        if row is None:
            raise Refused(Reason.DEVICE_UNKNOWN)
        quote = _authenticate(verifier, row, request)
        _check_standing(row, quote, request, now)
        return _appraise(verifier, connection, row, request, quote, book, now)
    except Refused as refused:
        if refused.reason in _REPEATABLE:
            refused.nonce = _fresh_nonce(verifier, request.device_id, now)
        return refused


_REPEATABLE = frozenset(
    {Reason.LOG_NEEDED, Reason.PCR_VALUES_NEEDED, Reason.RUNTIME_NEEDED, Reason.TPM_RESET_UNANNOUNCED}
)


def _authenticate(verifier: Verifier, row: RoutineRow, request: AttestRequest) -> AuthenticQuote:
    """Steps 1 to 6: the device's own key signed this, for this exchange, over what is asked for."""
    if request.server not in verifier.server_names:
        raise Refused(Reason.QUOTE_BINDING, f"another server: {request.server[:64]}")
    key = verifier.keys.get(row.ak_public)
    if key is None:
        key = check_attestation_key(row.ak_public)
        verifier.keys.put(row.ak_public, key)
    bound = qualifying_data(
        Purpose.ATTEST_QUOTE,
        server=request.server,
        nonces=(request.nonce,),
        device_id=row.device_id,
        device_key_name=row.device_key_name,
        vpn_keys=row.vpn_keys,
    )
    return authenticate_quote(key, request.quote, qualifying_data=bound, selection=verifier.selection)


def _check_standing(row: RoutineRow, quote: AuthenticQuote, request: AttestRequest, now: int) -> None:
    """Refuse a device whose trust has ended, and a proof that is not newer than the last (step 10).

    Whether the sweep has already expired a silent device makes no difference: its deadline decides.
    """
    state = State(row.state)
    if state is State.BANNED:
        raise Refused(Reason.DEVICE_BANNED)
    if state is State.RETIRED:
        raise Refused(Reason.DEVICE_RETIRED)
    if not MEANINGS[state].keeps or row.deadline is None or row.deadline <= now:
        raise Refused(Reason.ENROLMENT_NEEDED, state.value)
    check_progress(Progress(row.reset_count, row.restart_count, row.clock), quote, rebooted=request.rebooted)
    if row.tpm_firmware not in (None, quote.statement.firmware_version):
        raise Refused(Reason.TPM_FIRMWARE_CHANGED, f"{quote.statement.firmware_version:#x}")


def _appraise(
    verifier: Verifier,
    connection: Connection,
    row: RoutineRow,
    request: AttestRequest,
    quote: AuthenticQuote,
    book: PolicyBook,
    now: int,
) -> Judged:
    """Gather what the proof does not carry, and hold it against the active versions of the device's profile."""
    admission = book.admission(row.device_id, manufacturer=row.manufacturer or None, model=row.model)
    profiles = verifier.policy.profiles(book, admission.profile) if isinstance(admission, Admission) else ()
    proved = _gather(verifier, connection, row, request, quote, profiles)
    judgement = judge(proved.evidence, profiles, log_digest=request.log, boots=verifier.boots, now=now)
    event = _EVENTS[judgement.result.tier] if isinstance(admission, Admission) else Event.WITHDRAWN
    before = State(row.state)
    return Judged(request, row, proved, judgement, before, move(before, event), event, now)


_EVENTS = {
    Tier.AFFIRMING: Event.PASSED,
    Tier.WARNING: Event.WARNED,
    Tier.CONTRAINDICATED: Event.FAILED,
    Tier.NONE: Event.FAILED,
}


def _gather(
    verifier: Verifier,
    connection: Connection,
    row: RoutineRow,
    request: AttestRequest,
    quote: AuthenticQuote,
    profiles: Sequence[Profile],
) -> ProvedEvidence:
    """Return the evidence. A boot whose verdict is remembered is named by its log's digest and not looked at again."""
    known = None
    if request.event_log is None and request.runtime is None:
        known = remembered_pcrs(profiles, log_digest=request.log, pcr_digest=quote.pcr_digest, boots=verifier.boots)
    stored = None
    if known is None:
        stored = devices.load_evidence(connection, row.device_id)
    pcrs = known or _registers(verifier, row, request, quote, stored)
    event_log = None if known else _event_log(connection, request)
    if (
        request.runtime is not None
        and request.runtime.offset
        and row.profile_version not in {p.version for p in profiles}
    ):
        raise Refused(Reason.RUNTIME_NEEDED, "the earlier entries were judged by another version of the profile")
    identity = EkIdentity(
        device_id=row.device_id, manufacturer=row.manufacturer or "", model=row.model or "", certificate_sha256=None
    )
    return gather(
        identity,
        quote,
        attest=request.quote.attest,
        pcrs=pcrs,
        bank=verifier.selection.bank,
        event_log=event_log,
        log_digest=request.log,
        runtime=request.runtime,
        continues=(stored.runtime_count, stored.runtime_value) if stored and not request.rebooted else (0, None),
    )


def _registers(
    verifier: Verifier,
    row: RoutineRow,
    request: AttestRequest,
    quote: AuthenticQuote,
    stored: devices.EvidenceRecord | None,
) -> tuple[tuple[int, bytes], ...]:
    """Return the quoted registers: those that came along, or the last proof's if the quote is over the same values."""
    if request.pcrs:
        return check_pcr_values(quote, request.pcrs, verifier.selection)
    if stored is None or row.pcr_digest != quote.pcr_digest:
        raise Refused(Reason.PCR_VALUES_NEEDED)
    size = DIGEST_SIZES[verifier.selection.bank]
    parts = (stored.pcrs[at : at + size] for at in range(0, len(stored.pcrs), size))
    kept = [PcrValue(index, value) for index, value in zip(verifier.selection.pcrs, parts, strict=False)]
    try:
        return check_pcr_values(quote, kept, verifier.selection)
    except Refused as error:  # the database is believed as far as the quote goes, and no further
        raise Refused(Reason.PCR_VALUES_NEEDED, f"what is stored: {error}") from None


def _event_log(connection: Connection, request: AttestRequest) -> bytes:
    """Return the boot log, sent or kept. Raises `Refused` (log-malformed when it is not the one named, log-needed)."""
    if request.event_log is not None:
        if hashlib.sha256(request.event_log).digest() != request.log:
            raise Refused(Reason.LOG_MALFORMED, "not the log whose digest is named")
        return request.event_log
    kept = log.get_event_log(connection, request.log)
    if kept is None:
        raise Refused(Reason.LOG_NEEDED)
    return kept


# --- Storing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """A proof that is durable, and the certificate chain if a new one was issued."""

    judged: Judged
    chain: tuple[bytes, ...] = ()


def _store_all(
    verifier: Verifier, judged: Sequence[Judged | Refused], book: PolicyBook
) -> list[Stored | Refused] | None:
    """Store a turn; None when the policy changed since it was judged, and nothing was stored."""
    routine = [one for one in judged if isinstance(one, Judged) and one.is_routine and not _renewal_due(verifier, one)]
    lost: frozenset[str] = frozenset()
    if routine:
        with verifier.store.write() as connection:
            if policy_head(connection) != book.sequence:
                return None
            lost = store_routine(connection, [_update(one) for one in routine], [_row(one) for one in routine])
    quick = {id(one) for one in routine}
    return [
        one
        if isinstance(one, Refused)
        else (Refused(Reason.REPLAYED) if one.row.device_id in lost else Stored(one))
        if id(one) in quick
        else _store_alone(verifier, one, book)
        for one in judged
    ]


def _store_alone(verifier: Verifier, judged: Judged, book: PolicyBook) -> Stored | Refused:
    """Store a proof that changes more than the clock, with all that it changes, in its own transaction."""
    device_id = judged.row.device_id
    chain: tuple[bytes, ...] = ()
    withdrawn = False
    try:
        with verifier.store.write() as connection:
            if policy_head(connection) != book.sequence:
                return Refused(Reason.POLICY_CHANGED, retry_after=1)
            if judged.request.event_log is not None:
                log.put_event_log(connection, judged.request.event_log, now=judged.now)
            if store_routine(connection, [_update(judged)], [_row(judged)]):
                return Refused(Reason.REPLAYED)
            if judged.new_registers or judged.proved.evidence.runtime is not None:
                devices.store_evidence(connection, records.evidence_record(device_id, judged.proved, judged.judgement))
            if judged.after is not judged.before:
                devices.move_state(connection, _move(judged), version=judged.row.version, deadline=_deadline(judged))
            if not MEANINGS[judged.after].keeps:
                withdrawn = withdraw(connection, device_id, now=judged.now, reason="privilegeWithdrawn")
            elif judged.after is State.TRUSTED and _renewal_due(verifier, judged):
                chain = issue_certificate(
                    verifier, connection, judged.judgement.result, subject=_subject(judged.row), now=judged.now
                )
    except StaleState:
        return Refused(Reason.SERVER_BUSY, "the device's state changed meanwhile", retry_after=1)
    except Refused as refused:
        return refused
    if withdrawn:
        refresh_crl(verifier)
    return Stored(judged, chain)


def _subject(row: RoutineRow) -> Subject:
    return Subject(row.device_id, row.ak_name, row.device_key_spki, row.vpn_keys)


def _renewal_due(verifier: Verifier, judged: Judged) -> bool:
    ends = judged.row.certificate_not_after
    return ends is None or ends - judged.now < verifier.timing.certificate * 1000 // RENEW_SHARE


def _deadline(judged: Judged) -> int | None:
    if not MEANINGS[judged.after].keeps:
        return None
    return judged.now + records.timing_of(judged.judgement)[1] * 1000


def _update(judged: Judged) -> RoutineUpdate:
    clock, result = judged.proved.quote.clock, judged.judgement.result
    return RoutineUpdate(
        device_id=judged.row.device_id,
        version=judged.row.version,
        previous_attestation=judged.row.last_attestation,
        deadline=_deadline(judged),
        reset_count=clock.reset_count,
        restart_count=clock.restart_count,
        clock=clock.clock,
        pcr_digest=judged.proved.quote.pcr_digest,
        log_digest=judged.request.log,
        tier=result.tier.name.lower(),
        vector=records.vector_bytes(result.vector),
        profile=result.profile,
        profile_version=result.profile_version,
        appraised_at=judged.now,
        interval=records.timing_of(judged.judgement)[0],
    )


def _row(judged: Judged) -> AttestationRow:
    return records.attestation_row(
        judged.row.device_id,
        judged.proved,
        judged.judgement,
        state=judged.after,
        kind="attest",
        signed=judged.request.quote,
        nonce=judged.request.nonce,
        now=judged.now,
    )


def _move(judged: Judged) -> Move:
    return records.move_record(
        judged.row.device_id,
        judged.before,
        judged.after,
        event=judged.event,
        judged=judged.judgement,
        now=judged.now,
    )


# --- Answering --------------------------------------------------------------------------------------------------------


def _answer(verifier: Verifier, outcome: Stored | Refused) -> Attested | Refused:
    """Return what the device is told, once its proof is durable."""
    if isinstance(outcome, Refused):
        return outcome
    judged = outcome.judged
    findings = findings_for_device(judged.judgement.result)
    if not MEANINGS[judged.after].keeps:
        reason = Reason.INVENTORY_WITHDRAWN if judged.event is Event.WITHDRAWN else Reason.EVIDENCE_REFUSED
        return Refused(reason, judged.after.value, findings=findings)
    interval, deadline = records.timing_of(judged.judgement)
    return Attested(
        state=judged.after.value,
        result=records.sign_result(verifier, judged.judgement, nonce=judged.request.nonce, now=judged.now),
        next=Next(
            records.next_nonce(verifier, judged.row.device_id, deadline=deadline, now=judged.now), interval, deadline
        ),
        changed=_changes(judged),
        findings=findings,
        certificate_chain=outcome.chain,
    )


def _changes(judged: Judged) -> tuple[str, ...]:
    """Return what differs from the last proof, in words of the protocol."""
    changed = []
    if judged.after is not judged.before:
        changed.append(f"state: {judged.before.value} to {judged.after.value}")
    if judged.proved.quote.clock.reset_count != judged.row.reset_count:
        changed.append("rebooted")
    if judged.request.log != judged.row.log_digest:
        changed.append("boot log")
    if judged.new_registers:
        changed.append("registers")
    if judged.judgement.result.profile_version != judged.row.profile_version:
        changed.append("profile version")
    return tuple(changed)


def _fresh_nonce(verifier: Verifier, device_id: str, now: int) -> bytes:
    return records.next_nonce(verifier, device_id, deadline=records.DEFAULT_DEADLINE, now=now)
