"""Make proofs durable: those after which a device stays what it is share one transaction, all others have their own.

Assumes proofs that were authenticated and appraised. A proof is stored whole or not at all, and only if nothing moved since it
was judged: not the device's row, not the policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from attestd.changes.book import PolicyBook
from attestd.errors import Refused
from attestd.evidence.prove import ProvedEvidence
from attestd.issuance.mint import Subject
from attestd.lifecycle.table import MEANINGS, Event, State
from attestd.protocol.messages import AttestRequest
from attestd.protocol.reasons import Reason
from attestd.services import records
from attestd.services.context import Verifier
from attestd.services.issue import issue_certificate, withdraw
from attestd.services.judge import Judgement
from attestd.services.publish import publish_revocations
from attestd.store import Connection, devices, log
from attestd.store.devices import Move
from attestd.store.errors import StaleState, StoreError
from attestd.store.routine import AttestationRow, RoutineRow, RoutineUpdate, policy_head, store_routine

_log = structlog.get_logger("attestd.storing")

RENEW_SHARE = 3
"""A certificate is renewed when less than a third of its life is left."""


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
    def stays(self) -> bool:
        """Whether the device stays in a state in which it keeps what it has."""
        return self.before is self.after and MEANINGS[self.after].keeps

    @property
    def new_evidence(self) -> bool:
        """Whether the next proof is to be compared with other evidence than this one was."""
        return self.new_registers or self.proved.evidence.runtime is not None

    @property
    def new_registers(self) -> bool:
        """Whether the registers differ from the last proof's."""
        return self.proved.quote.pcr_digest != self.row.pcr_digest


@dataclass(frozen=True, slots=True)
class Stored:
    """A proof that is durable, and the certificate chain if a new one was issued."""

    judged: Judged
    chain: tuple[bytes, ...] = ()


def store_all(
    verifier: Verifier, judged: Sequence[Judged | Refused], book: PolicyBook
) -> list[Stored | Refused] | None:
    """Store a turn; None when the policy changed since it was judged, and nothing was stored."""
    together = [one for one in judged if isinstance(one, Judged) and one.stays and not _renewal_due(verifier, one)]
    lost: frozenset[str] = frozenset()
    if together:
        with verifier.store.write() as connection:
            if policy_head(connection) != book.sequence:
                return None
            lost = _store_proofs(connection, together)
    shared = {id(one) for one in together}
    return [
        one
        if isinstance(one, Refused)
        else (Refused(Reason.REPLAYED) if one.row.device_id in lost else Stored(one))
        if id(one) in shared
        else _store_guarded(verifier, one, book)
        for one in judged
    ]


def _store_proofs(connection: Connection, proofs: Sequence[Judged]) -> frozenset[str]:
    """Store proofs of distinct devices with the logs and the evidence they brought; return the devices that lost a race.

    Nothing is stored for those, but a log that came along: it is named by its content and says nothing about a device.
    """
    logs = {one.request.log: one.request.event_log for one in proofs if one.request.event_log is not None}
    if logs:
        log.put_event_logs(connection, logs, now=proofs[0].now)
    lost = store_routine(connection, [_update(one) for one in proofs], [_row(one) for one in proofs])
    renewed = [one for one in proofs if one.new_evidence and one.row.device_id not in lost]
    devices.store_evidence(
        connection, *(records.evidence_record(one.row.device_id, one.proved, one.judgement) for one in renewed)
    )
    return lost


def _store_guarded(verifier: Verifier, judged: Judged, book: PolicyBook) -> Stored | Refused:
    """Store a proof alone; whatever happens to it, the rest of its turn is durable and must be told so (T05)."""
    try:
        return _store_alone(verifier, judged, book)
    except StaleState:
        return Refused(Reason.SERVER_BUSY, "the device's state changed meanwhile", retry_after=1)
    except StoreError as error:
        return Refused(Reason.SERVER_BUSY, error.code)
    except Refused as refused:
        return refused
    except Exception:  # noqa: BLE001 (raised, it would have the whole turn tried again, and those that are stored refused)
        _log.exception("not stored", device=judged.row.device_id)
        return Refused(Reason.INTERNAL)


def _store_alone(verifier: Verifier, judged: Judged, book: PolicyBook) -> Stored | Refused:
    """Store a proof that moves a device or renews its certificate, with all that it changes, in its own transaction."""
    device_id = judged.row.device_id
    chain: tuple[bytes, ...] = ()
    withdrawn = False
    with verifier.store.write() as connection:
        if policy_head(connection) != book.sequence:
            return Refused(Reason.POLICY_CHANGED, retry_after=1)
        if _store_proofs(connection, [judged]):
            return Refused(Reason.REPLAYED)
        if judged.after is not judged.before:
            devices.move_state(connection, _move(judged), version=judged.row.version, deadline=_deadline(judged))
        if not MEANINGS[judged.after].keeps:
            withdrawn = withdraw(connection, device_id, now=judged.now, reason="privilegeWithdrawn")
        elif _renewal_due(verifier, judged):
            chain = issue_certificate(
                verifier, connection, judged.judgement.result, subject=_subject(judged.row), now=judged.now
            )
    if withdrawn:
        publish_revocations(verifier)
    return Stored(judged, chain)


def _subject(row: RoutineRow) -> Subject:
    return Subject(row.device_id, row.ak_name, row.device_key_spki, row.vpn_keys)


def _renewal_due(verifier: Verifier, judged: Judged) -> bool:
    if judged.after is not State.TRUSTED:  # it keeps what it has and gets nothing new
        return False
    ends = judged.row.certificate_not_after
    return ends is None or ends - judged.now < verifier.timing.certificate * 1000 // RENEW_SHARE


def _deadline(judged: Judged) -> int | None:
    if not MEANINGS[judged.after].keeps:
        return None
    return records.deadline_of(judged.judgement, judged.request.nonce)


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
