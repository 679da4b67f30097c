"""A known device proves itself again: one message, one read, one transaction for a whole batch.

The numbers are those of docs/protocol.md, "Attestation". What changes nothing but the clock goes through `store_routine`
with the rest of its batch; a proof that changes more (a state, a log, a certificate that is due) has a transaction of its
own, so that its failure is nobody else's.
"""

from collections.abc import Sequence

import structlog
from sqlalchemy import Connection

from attestd.appraisal.policy import Tier
from attestd.appraisal.result import findings_for_device
from attestd.changes.book import Admission, PolicyBook
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key
from attestd.evidence.quote import (
    AuthenticQuote,
    Progress,
    authenticate_quote,
    check_progress,
)
from attestd.lifecycle.table import MEANINGS, Event, State, move
from attestd.protocol.binding import Purpose, qualifying_data
from attestd.protocol.messages import PATH_ATTEST, Attested, AttestRequest
from attestd.protocol.reasons import Reason
from attestd.services import records
from attestd.services.context import Verifier
from attestd.services.judge import judge
from attestd.services.recall import recall
from attestd.services.storing import Judged, Stored, store_all
from attestd.store.errors import StoreError
from attestd.store.routine import RoutineRow, peek_routine

_log = structlog.get_logger("attestd.attest")

_RECORDED = frozenset(
    {
        Reason.TPM_CLOCK_BACKWARDS,
        Reason.TPM_DIVERGED,
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
            stored = store_all(verifier, judged, book)
            if stored is not None:
                return [_tell(verifier, outcome) for outcome in stored]
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
    {
        Reason.NONCE_EXPIRED,
        Reason.LOG_NEEDED,
        Reason.PCR_VALUES_NEEDED,
        Reason.QUOTE_PCR_DIGEST,
        Reason.RUNTIME_NEEDED,
        Reason.TPM_RESET_UNANNOUNCED,
    }
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
    recalled = recall(verifier, connection, row, request=request, quote=quote, profiles=profiles)
    proved = recalled.proved
    judgement = judge(proved.evidence, recalled.profiles, log_digest=request.log, boots=verifier.boots, now=now)
    if len(recalled.profiles) < len(profiles) and not judgement.result.affirming:
        raise Refused(Reason.RUNTIME_NEEDED, "another active profile has to see the whole list")
    event = _EVENTS[judgement.result.tier] if isinstance(admission, Admission) else Event.WITHDRAWN
    before = State(row.state)
    after = move(before, event)
    if MEANINGS[after].keeps:
        records.check_in_time(records.deadline_of(judgement, request.nonce), now=now)
    return Judged(request, row, proved, judgement, before, after, event, now)


_EVENTS = {
    Tier.AFFIRMING: Event.PASSED,
    Tier.WARNING: Event.WARNED,
    Tier.CONTRAINDICATED: Event.FAILED,
    Tier.NONE: Event.FAILED,
}


# --- Answering --------------------------------------------------------------------------------------------------------


def _tell(verifier: Verifier, outcome: Stored | Refused) -> Attested | Refused:
    """Answer, whatever happens: what is raised here would have a turn tried again that is stored already."""
    try:
        return _answer(verifier, outcome)
    except Exception:  # noqa: BLE001 (see above)
        _log.exception("not answered")
        return Refused(Reason.INTERNAL)


def _answer(verifier: Verifier, outcome: Stored | Refused) -> Attested | Refused:
    """Return what the device is told, once its proof is durable."""
    if isinstance(outcome, Refused):
        return outcome
    judged = outcome.judged
    findings = findings_for_device(judged.judgement.result)
    if not MEANINGS[judged.after].keeps:
        reason = Reason.INVENTORY_WITHDRAWN if judged.event is Event.WITHDRAWN else Reason.EVIDENCE_REFUSED
        return Refused(reason, judged.after.value, findings=findings)
    nonce, now = judged.request.nonce, judged.now
    deadline = records.deadline_of(judged.judgement, nonce)
    return Attested(
        state=judged.after.value,
        result=records.sign_result(verifier, judged.judgement, nonce=nonce, deadline=deadline, now=now),
        next=records.following(verifier, judged.row.device_id, judged.judgement, deadline=deadline, now=now),
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
    return records.new_nonce(verifier, device_id, now=now, expires_ms=now + records.DEFAULT_DEADLINE * 1000)
