"""What a proof leaves out because the verifier has it: registers, boot log, the runtime list so far.

Every part is named by the proof itself (a digest, an offset) and looked up here; what is not there is asked for. Proves
nothing new: `evidence.prove.gather` does, from the parts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from attestd.appraisal.policy import Check, Profile
from attestd.errors import Refused
from attestd.evidence.prove import ProvedEvidence, gather
from attestd.evidence.quote import AuthenticQuote, check_pcr_values
from attestd.evidence.types import EkIdentity
from attestd.protocol.messages import AttestRequest, PcrValue, RuntimeList
from attestd.protocol.reasons import Reason
from attestd.services.context import Verifier
from attestd.services.judge import remembered_pcrs
from attestd.services.records import runtime_verdict
from attestd.store import Connection, devices, log
from attestd.store.devices import EvidenceRecord
from attestd.store.kept import KeptProof
from attestd.store.routine import RoutineRow
from attestd.tpm.algorithms import DIGEST_SIZES


@dataclass(frozen=True, slots=True)
class Recalled:
    """The whole evidence of a proof, and the active profiles that may judge it."""

    proved: ProvedEvidence
    profiles: tuple[Profile, ...]


def recall(
    verifier: Verifier,
    connection: Connection,
    row: RoutineRow,
    *,
    request: AttestRequest,
    quote: AuthenticQuote,
    profiles: Sequence[Profile],
) -> Recalled:
    """Return the whole evidence of a proof. A boot whose verdict is remembered is named by its log's digest and not read.

    A runtime list that goes on where an earlier proof ended is judged by the profile that judged the entries up to there and
    by no other; one that no profile asks for is not even read.
    Assumes an authentic quote of this device. Raises `Refused` (pcr-values-needed, log-needed, runtime-needed, and what
    `check_pcr_values` and `gather` raise).
    """
    same_boot = quote.clock.reset_count == row.reset_count  # the TPM says it, not the message
    stored, runtime = None, None
    judges = tuple(profiles)
    if any(profile.runtime.check is not Check.IGNORED for profile in profiles):
        stored = devices.load_evidence(connection, row.device_id)
        runtime = _runtime(request, stored, profiles=profiles, same_boot=same_boot)
        judges = _judges(judges, runtime, stored)
    known = remembered_pcrs(judges, log_digest=request.log, pcr_digest=quote.pcr_digest, boots=verifier.boots)
    if stored is None and known is None and not request.pcrs:
        stored = devices.load_evidence(connection, row.device_id)
    proved = gather(
        identity_of(row),
        quote,
        attest=request.quote.attest,
        pcrs=_registers(verifier, row, request, quote, known=known, stored=stored),
        bank=verifier.selection.bank,
        event_log=_event_log(connection, request, judged=known is not None and not _is_whole(runtime)),
        log_digest=request.log,
        runtime=runtime,
        continues=(stored.runtime_count, stored.runtime_value) if stored and same_boot else (0, None),
    )
    return Recalled(proved, judges)


def identity_of(row: RoutineRow | KeptProof) -> EkIdentity:
    """Return the identity under which a device was enrolled: it is not proved again, its attestation key is."""
    return EkIdentity(
        device_id=row.device_id,
        manufacturer=row.manufacturer or "",
        model=row.model or "",
        certificate_sha256=row.ek_certificate_sha256,
    )


def _runtime(
    request: AttestRequest, stored: EvidenceRecord | None, *, profiles: Sequence[Profile], same_boot: bool
) -> RuntimeList | None:
    """Return the part of the runtime list to judge; a proof without one says that there are no entries since the last.

    Raises `Refused` (runtime-needed) where there was none before, and every profile requires one.
    """
    if request.runtime is not None:
        return request.runtime
    if stored is not None and stored.runtime_count and same_boot:
        return RuntimeList(stored.runtime_count, b"")
    if all(profile.runtime.check is Check.REQUIRED for profile in profiles):
        raise Refused(Reason.RUNTIME_NEEDED, "the profile requires the whole list")
    return None


def _is_whole(runtime: RuntimeList | None) -> bool:
    """Return whether the list begins with the boot: its first entry is held against what the boot log handed over."""
    return runtime is not None and not runtime.offset


def _judges(
    profiles: tuple[Profile, ...], runtime: RuntimeList | None, stored: EvidenceRecord | None
) -> tuple[Profile, ...]:
    """Return the profiles that may judge this part of the runtime list: all of them a whole one.

    Raises `Refused` (runtime-needed) where the profile that judged the earlier entries is not active any longer (E10).
    """
    if runtime is None or not runtime.offset:
        return profiles
    verdict = stored.runtime_verdict if stored is not None else None
    judges = tuple(profile for profile in profiles if runtime_verdict(profile.digest) == verdict)
    if not judges:
        raise Refused(Reason.RUNTIME_NEEDED, "the earlier entries were not judged by an active profile")
    return judges


def _registers(
    verifier: Verifier,
    row: RoutineRow,
    request: AttestRequest,
    quote: AuthenticQuote,
    *,
    known: tuple[tuple[int, bytes], ...] | None,
    stored: EvidenceRecord | None,
) -> tuple[tuple[int, bytes], ...]:
    """Return the quoted registers: those that came along, or the last proof's if the quote is over the same values.

    `known` are those of another proof whose quote had the same PCR digest.
    """
    if request.pcrs:
        return check_pcr_values(quote, request.pcrs, verifier.selection)
    if known is not None:
        return known
    if stored is None or row.pcr_digest != quote.pcr_digest:
        raise Refused(Reason.PCR_VALUES_NEEDED)
    size = DIGEST_SIZES[verifier.selection.bank]
    parts = (stored.pcrs[at : at + size] for at in range(0, len(stored.pcrs), size))
    kept = [PcrValue(index, value) for index, value in zip(verifier.selection.pcrs, parts, strict=False)]
    try:
        return check_pcr_values(quote, kept, verifier.selection)
    except Refused as error:  # the database is believed as far as the quote goes, and no further
        raise Refused(Reason.PCR_VALUES_NEEDED, f"what is stored: {error}") from None


def _event_log(connection: Connection, request: AttestRequest, *, judged: bool) -> bytes | None:
    """Return the boot log, sent or kept; None where this boot was `judged` before and the log need not be read.

    Raises `Refused` (log-malformed when it is not the one named, log-needed).
    """
    sent = request.event_log
    if sent is not None and hashlib.sha256(sent).digest() != request.log:
        raise Refused(Reason.LOG_MALFORMED, "not the log whose digest is named")
    if judged or sent is not None:
        return None if judged else sent
    kept = log.get_event_log(connection, request.log)
    if kept is None:
        raise Refused(Reason.LOG_NEEDED)
    return kept
