"""From facts and verdicts to rows, for enrolments and attestations alike. No decision is made here."""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection as Connection

from attestd.appraisal.appraise import evidence_digest
from attestd.appraisal.ear import ear_claims, sign_ear
from attestd.appraisal.policy import Tier
from attestd.appraisal.result import FindingDetail
from attestd.changes.book import PolicyBook
from attestd.errors import Refused
from attestd.evidence.challenge import issued_at
from attestd.evidence.prove import ProvedEvidence
from attestd.lifecycle.table import Event, State
from attestd.protocol.messages import Next, SignedAttest
from attestd.protocol.reasons import Reason
from attestd.services.context import Verifier
from attestd.services.judge import Judgement
from attestd.store import log
from attestd.store.columns import encode_document
from attestd.store.devices import EvidenceRecord, LoadedDevice, Move, StateRecord
from attestd.store.errors import StoreError
from attestd.store.routine import AttestationRow

DEFAULT_INTERVAL: Final = 60
DEFAULT_DEADLINE: Final = 300
"""Seconds; for a device whose profile does not say because it has none."""
REFUSAL_PAUSE_MS: Final = 10_000
"""One refusal of a kind is recorded for a device in this time: a device in a loop must not fill the record."""
ACTOR: Final = "verifier"


def timing_of(judged: Judgement | None) -> tuple[int, int]:
    """Return (interval, deadline) in seconds, as the profile says."""
    if judged is None or judged.profile is None:
        return DEFAULT_INTERVAL, DEFAULT_DEADLINE
    return judged.profile.interval, judged.profile.deadline


def deadline_of(judged: Judgement | None, nonce: bytes) -> int:
    """Return until when trust lasts without another proof, in milliseconds since the epoch.

    Counted from when the nonce of this proof was issued, not from now: nobody knows how long after that the quote was made.
    """
    return issued_at(nonce) + timing_of(judged)[1] * 1000


def check_in_time(deadline: int, *, now: int) -> None:
    """Refuse a proof that would continue trust for less than a second: its nonce is too old for the profile of today.

    *Raises* Refused (nonce-expired).
    """
    if deadline - now < 1000:
        raise Refused(Reason.NONCE_EXPIRED, "issued longer ago than the profile's deadline allows")


def following(verifier: Verifier, device_id: str, judged: Judgement, *, deadline: int, now: int) -> Next:
    """Return when and over which nonce to prove again: at the latest when half of the time until the deadline has passed.

    The nonce is good until the deadline. Assumes `check_in_time`.
    """
    left = (deadline - now) // 1000
    nonce = new_nonce(verifier, device_id, now=now, expires_ms=deadline)
    return Next(nonce, max(1, min(timing_of(judged)[0], left // 2)), left)


def new_nonce(verifier: Verifier, device_id: str, *, now: int, expires_ms: int) -> bytes:
    """Return a nonce for a device's proof."""
    return verifier.challenger.attest_nonce(device_id, random=verifier.random(16), issued_ms=now, expires_ms=expires_ms)


def state_record(
    device_id: str,
    proved: ProvedEvidence,
    judged: Judgement | None,
    *,
    state: State,
    since: int,
    deadline: int | None,
    now: int,
) -> StateRecord:
    """Return the hot row after a proof; `deadline` in milliseconds since the epoch, None where silence ends nothing."""
    clock = proved.quote.clock
    result = judged.result if judged else None
    return StateRecord(
        device_id=device_id,
        state=state.value,
        since=since,
        deadline=deadline,
        reset_count=clock.reset_count,
        restart_count=clock.restart_count,
        clock=clock.clock,
        pcr_digest=proved.quote.pcr_digest,
        log_digest=proved.log_digest,
        tier=(result.tier if result else Tier.NONE).name.lower(),
        vector=vector_bytes(result.vector) if result else None,
        profile=result.profile if result else None,
        profile_version=result.profile_version if result else None,
        appraised_at=now,
        interval=timing_of(judged)[0],
    )


def vector_bytes(vector: tuple[int, ...]) -> bytes:
    """Return a trustworthiness vector as eight signed bytes."""
    return struct.pack("8b", *vector)


def vector_of(stored: bytes) -> tuple[int, ...]:
    """Return the vector of eight signed bytes."""
    return struct.unpack("8b", stored)


def evidence_record(device_id: str, proved: ProvedEvidence, judged: Judgement | None) -> EvidenceRecord:
    """Return what the next proof is compared with.

    A runtime list is continued only from where it was good: after a warning the next proof brings the whole list, or what was
    warned about would be forgotten with the first good file behind it. With it stands which profile it was good for.
    """
    registers = b"".join(value for _, value in proved.evidence.quote.pcrs)
    runtime = proved.evidence.runtime
    if judged is None or not judged.result.affirming or runtime is None:
        return EvidenceRecord(device_id, registers)
    return EvidenceRecord(
        device_id, registers, runtime.count, runtime.value, runtime_verdict(judged.result.profile_digest)
    )


def runtime_verdict(profile_digest: bytes) -> dict[str, str]:
    """Return, as a JSON value, that a profile accepted a runtime list; no other profile takes this over (E10)."""
    return {"profile": profile_digest.hex()}


def move_record(
    device_id: str, before: State | None, after: State, *, event: Event, judged: Judgement | None, now: int
) -> Move:
    """Return the transition, with its cause: every finding, as operators may see it."""
    return Move(
        device_id=device_id,
        at=now,
        from_state=before.value if before else None,
        to_state=after.value,
        event=event.value,
        cause=cause_of(judged),
        actor=ACTOR,
    )


def cause_of(judged: Judgement | None) -> dict[str, object]:
    """Return the cause of a move as a JSON value."""
    if judged is None:
        return {}
    result = judged.result
    return {
        "profile": result.profile,
        "version": result.profile_version,
        "findings": [finding_document(finding) for finding in result.findings[:MAX_STORED_FINDINGS]],
    }


MAX_STORED_FINDINGS: Final = 32
"""Findings kept with one row; a device that fails in more places has failed."""


def finding_document(finding: FindingDetail) -> dict[str, object]:
    """Return one finding as operators see it."""
    return {
        "code": finding.code.value,
        "claim": finding.claim,
        "component": finding.component,
        "expected": finding.expected,
        "actual": finding.actual,
        "tier": finding.tier.name.lower(),
        "pcr": finding.pcr,
        "event": finding.event,
    }


def attestation_row(
    device_id: str,
    proved: ProvedEvidence,
    judged: Judgement | None,
    *,
    state: State,
    kind: str,
    signed: SignedAttest,
    nonce: bytes,
    now: int,
) -> AttestationRow:
    """Return the row that records one proof, whole: what was signed, over which nonce, and what became of it."""
    result = judged.result if judged else None
    findings = [finding_document(finding) for finding in result.findings[:MAX_STORED_FINDINGS]] if result else []
    return AttestationRow(
        device_id=device_id,
        at=now,
        kind=kind,
        tier=(result.tier if result else Tier.NONE).name.lower(),
        state=state.value,
        profile=result.profile if result else None,
        profile_version=result.profile_version if result else None,
        log_digest=proved.log_digest,
        pcr_digest=proved.quote.pcr_digest,
        reset_count=proved.quote.clock.reset_count,
        clock=proved.quote.clock.clock,
        attest=signed.attest,
        signature=signed.signature,
        nonce=nonce,
        findings=findings or None,
    )


def record_refusal(verifier: Verifier, device_id: str, refused: Refused, *, route: str, now: int) -> None:
    """Record that a TPM that proved itself was refused. A database that is away does not turn one refusal into another."""
    key = (device_id, refused.reason.value)
    last = verifier.refusals.get(key)
    if last is not None and now - last < REFUSAL_PAUSE_MS:
        return
    findings = [{"code": f.code, "claim": f.claim, "component": f.component} for f in refused.findings[:8]]
    detail = {"detail": refused.detail[:1024], "findings": findings}
    encode_document(detail)
    try:
        with verifier.store.write() as connection:
            log.insert_refusal(connection, log.Refusal(device_id, now, refused.reason.value, route, detail))
    except StoreError:
        return  # the caller still learns why it was refused, and the journal says so too
    verifier.refusals.put(key, now)


def sign_result(verifier: Verifier, judged: Judgement, *, nonce: bytes, deadline: int, now: int) -> str:
    """Return the attestation result as a signed EAR that ends with the device's deadline; `nonce` is the proof's."""
    lifetime = deadline // 1000 - now // 1000
    claims = ear_claims(judged.result, now=now // 1000, lifetime=lifetime, verifier=verifier.identity, nonce=nonce)
    return sign_ear(claims, verifier.result_key)


@dataclass(frozen=True, slots=True)
class StoredFinding:
    """The code of a finding that was recorded."""

    code: Reason


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result as the record has it: what an EAR is made of."""

    device_id: str
    tier: Tier
    vector: tuple[int, ...]
    findings: tuple[StoredFinding, ...]
    profile: str
    profile_version: int
    profile_digest: bytes
    evidence_digest: bytes


def stored_result(
    book: PolicyBook, known: LoadedDevice, last: log.AttestationRecord, *, tier: Tier
) -> StoredResult | None:
    """Return the last result of a device out of its rows, or None where it has none. `tier` is what it is worth now."""
    state = known.state
    if state.vector is None or not state.profile or state.profile_version is None:
        return None
    profile = book.profiles.get(state.profile)
    versions = (*profile.active, *profile.retired) if profile else ()
    digest = next((one.digest for one in versions if one.version == state.profile_version), bytes(32))
    runtime = known.evidence.runtime_value if known.evidence else None
    return StoredResult(
        device_id=state.device_id,
        tier=tier,
        vector=vector_of(state.vector),
        findings=tuple(StoredFinding(Reason(finding["code"])) for finding in last.findings or ()),
        profile=state.profile,
        profile_version=state.profile_version,
        profile_digest=digest,
        evidence_digest=evidence_digest(
            hashlib.sha256(last.attest).digest(), log_digest=state.log_digest, runtime_value=runtime or b""
        ),
    )


def sign_stored(verifier: Verifier, result: StoredResult, *, issued_ms: int, expires_ms: int) -> str:
    """Return a stored result as a signed EAR: the same token for the same result, since Ed25519 draws no randomness."""
    lifetime = max(1, (expires_ms - issued_ms) // 1000)
    claims = ear_claims(result, now=issued_ms // 1000, lifetime=lifetime, verifier=verifier.identity)
    return sign_ear(claims, verifier.result_key)
