"""What a proof leaves out because the verifier has it: registers, boot log, the runtime list so far.

Every part is named by the proof itself (a digest, an offset) and looked up here; what is not there is asked for. Proves
nothing new: `evidence.prove.gather` does, from the parts.
"""

import hashlib
from collections.abc import Sequence

from attestd.appraisal.policy import Check, Profile
from attestd.errors import Refused
from attestd.evidence.prove import ProvedEvidence, gather
from attestd.evidence.quote import AuthenticQuote, check_pcr_values
from attestd.evidence.types import EkIdentity
from attestd.protocol.messages import AttestRequest, PcrValue, RuntimeList
from attestd.protocol.reasons import Reason
from attestd.services.context import Verifier
from attestd.services.judge import remembered_pcrs
from attestd.store import Connection, devices, log
from attestd.store.devices import EvidenceRecord
from attestd.store.routine import RoutineRow
from attestd.tpm.algorithms import DIGEST_SIZES


def recall(
    verifier: Verifier,
    connection: Connection,
    row: RoutineRow,
    *,
    request: AttestRequest,
    quote: AuthenticQuote,
    profiles: Sequence[Profile],
) -> ProvedEvidence:
    """Return the whole evidence of a proof. A boot whose verdict is remembered is named by its log's digest and not read.

    Assumes an authentic quote of this device. Raises `Refused` (pcr-values-needed, log-needed, runtime-needed, and what
    `check_pcr_values` and `gather` raise).
    """
    known = remembered_pcrs(profiles, log_digest=request.log, pcr_digest=quote.pcr_digest, boots=verifier.boots)
    listed = any(profile.runtime.check is not Check.IGNORED for profile in profiles) or request.runtime is not None
    stored = None
    if listed or (known is None and not request.pcrs):
        stored = devices.load_evidence(connection, row.device_id)
    runtime = _runtime(row, request, stored, profiles) if listed else None
    return gather(
        _identity(row),
        quote,
        attest=request.quote.attest,
        pcrs=_registers(verifier, row, request, quote, known=known, stored=stored),
        bank=verifier.selection.bank,
        event_log=_event_log(connection, request, judged=known is not None),
        log_digest=request.log,
        runtime=runtime,
        continues=(stored.runtime_count, stored.runtime_value) if stored and not request.rebooted else (0, None),
    )


def _identity(row: RoutineRow) -> EkIdentity:
    return EkIdentity(
        device_id=row.device_id,
        manufacturer=row.manufacturer or "",
        model=row.model or "",
        certificate_sha256=row.ek_certificate_sha256,
    )


def _runtime(
    row: RoutineRow, request: AttestRequest, stored: EvidenceRecord | None, profiles: Sequence[Profile]
) -> RuntimeList | None:
    """Return the part of the runtime list to judge; a proof without one says that there are no entries since the last.

    Raises `Refused` (runtime-needed) where the entries so far were judged by another version of the profile.
    """
    runtime = request.runtime
    if runtime is None and stored is not None and stored.runtime_count and not request.rebooted:
        runtime = RuntimeList(stored.runtime_count, b"")
    if runtime is not None and runtime.offset and row.profile_version not in {one.version for one in profiles}:
        raise Refused(Reason.RUNTIME_NEEDED, "the earlier entries were judged by another version of the profile")
    return runtime


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
