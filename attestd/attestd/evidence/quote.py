"""A quote, checked step by step; the numbers are those of docs/protocol.md, "What the verifier checks".

Proves that one attestation key signed exactly these bytes, that a TPM made them, for this exchange, over exactly the
registers that were asked for. Assumes a key that passed `evidence.ak`. Does not say whether the values are good: that is
appraisal's business. No step is optional and none can be switched off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attestd.errors import Refused
from attestd.evidence.ak import TPM_GENERATED_VALUE
from attestd.protocol.messages import PcrValue, SignedAttest
from attestd.protocol.reasons import Reason
from attestd.tpm.algorithms import DIGEST_SIZES
from attestd.tpm.attest import Attest, ClockInfo, QuoteBody, parse_attest
from attestd.tpm.errors import BadSignature, Malformed
from attestd.tpm.pcr import pcr_digest
from attestd.tpm.public import Public
from attestd.tpm.signature import parse_signature, verify

_SELECTION_CODES = frozenset({"pcr-selection-count", "pcr-selection-size", "pcr-index", "algorithm-unknown"})
"""Refusals of the parser that are about the selection; in an attestation the only algorithm is a PCR bank's."""
_SCHEME_CODES = frozenset({"algorithm-unknown", "scheme-unknown", "signature-scheme-null", "curve-unknown"})

SELECT_SIZE: Final = 3
"""Bytes of the bitmap of 24 registers (PC client platform TPM profile 1.05, 4.6.2). One selection has one encoding."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The registers that are asked for: one bank, indices in rising order."""

    bank: str
    pcrs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a TPM's clock stood at the last accepted proof. `clock` is in milliseconds of power."""

    reset_count: int
    restart_count: int
    clock: int


@dataclass(frozen=True, slots=True)
class AuthenticQuote:
    """A quote that passed steps 1 to 6. `digest_hash` is the hash of the signing scheme, which is also the PCR digest's."""

    statement: Attest
    pcr_digest: bytes
    digest_hash: str

    @property
    def clock(self) -> ClockInfo:
        """The TPM's clock, reset and restart counts when it signed."""
        return self.statement.clock


def authenticate_quote(
    attestation_key: Public, signed: SignedAttest, *, qualifying_data: bytes, selection: Selection
) -> AuthenticQuote:
    """Return the quote if it is one, made by this TPM key, for this exchange, over this selection.

    Raises `Refused` (quote-malformed, quote-magic, quote-type, quote-scheme, quote-signature, quote-binding,
    quote-selection). TPM 2.0 Part 2, 10.12.8; Part 3, 18.4.
    """
    # Step 1: the bytes are one TPMS_ATTEST, whole.
    try:
        statement = parse_attest(signed.attest)
    except Malformed as error:
        raise Refused(
            Reason.QUOTE_SELECTION if error.code in _SELECTION_CODES else Reason.QUOTE_MALFORMED, str(error)
        ) from None
    # Step 2: a TPM made them.
    if statement.magic != TPM_GENERATED_VALUE:
        raise Refused(Reason.QUOTE_MAGIC, f"{statement.magic:#010x}")
    # Step 3: as a quote, not as any other statement.
    body = statement.body
    if not isinstance(body, QuoteBody):
        raise Refused(Reason.QUOTE_TYPE, statement.kind)
    # Step 4: the key signed these very bytes, by the scheme that its public area pins.
    digest_hash = _check_signature(attestation_key, signed)
    # Step 5: for this exchange: nonces, device, keys, server and purpose.
    if statement.extra_data != qualifying_data:
        raise Refused(Reason.QUOTE_BINDING)
    # Step 6: over exactly what was asked for. A relabelled, added, dropped or doubled register ends here.
    _check_selection(body, selection)
    return AuthenticQuote(statement, body.pcr_digest, digest_hash)


def check_pcr_values(
    quote: AuthenticQuote, values: Sequence[PcrValue], selection: Selection
) -> tuple[tuple[int, bytes], ...]:
    """Return (index, value) in rising order if these are the quoted registers, and all of them (steps 7 to 9).

    Assumes that `authenticate_quote` accepted the quote for the same selection. Raises `Refused` (pcr-values-malformed,
    quote-pcr-digest, pcr-bank-inactive).
    """
    # Step 7: exactly the quoted registers, once each, in order, each as long as the bank's digests.
    size = DIGEST_SIZES[selection.bank]
    if tuple(value.index for value in values) != selection.pcrs or any(len(value.value) != size for value in values):
        raise Refused(Reason.PCR_VALUES_MALFORMED)
    # Step 8: they hash to what was signed (TPM 2.0 Part 1, 17.6.1: in the order of the selection).
    if pcr_digest((value.value for value in values), quote.digest_hash) != quote.pcr_digest:
        raise Refused(Reason.QUOTE_PCR_DIGEST)
    # Step 9: the firmware extends this bank; else anybody could, after the fact.
    boot = [value.value for value in values if value.index < 8]
    if not boot or not any(any(value) for value in boot):
        raise Refused(Reason.PCR_BANK_INACTIVE, selection.bank)
    return tuple((value.index, value.value) for value in values)


def check_progress(last: Progress | None, quote: AuthenticQuote, *, rebooted: bool) -> None:
    """Check that the TPM's clock moved forward since the last accepted proof (step 10).

    This is also what makes a nonce good for one proof only. `safe` = 0 after a power cut, suspend, resume and an announced
    reboot pass: a power cut may set the clock back a little, but then the reset count has moved (TPM 2.0 Part 1, 36.3).
    Raises `Refused` (replayed, tpm-clock-backwards, tpm-reset-backwards, tpm-reset-unannounced, tpm-diverged).
    """
    if last is None:
        return
    now = quote.clock
    if _contradicts(last, now):
        raise Refused(Reason.TPM_DIVERGED, f"{_position(now)} after {_position(last)}")
    if now.reset_count < last.reset_count:
        raise Refused(Reason.TPM_RESET_BACKWARDS, f"{now.reset_count} after {last.reset_count}")
    if now.reset_count > last.reset_count:
        if not rebooted:
            raise Refused(Reason.TPM_RESET_UNANNOUNCED, f"{now.reset_count} after {last.reset_count}")
        return
    if now.clock == last.clock:
        raise Refused(Reason.REPLAYED)
    if now.clock < last.clock or now.restart_count < last.restart_count:
        raise Refused(Reason.TPM_CLOCK_BACKWARDS, f"{now.clock} ms after {last.clock} ms")


def _contradicts(last: Progress, now: ClockInfo) -> bool:
    """Return whether one counter is behind what was seen and another one ahead: these are two TPMs with one set of keys.

    One TPM alone takes counters back only together, by TPM2_Clear, which sets all to zero; a reset sets the restarts to zero
    and may lose a little of the clock, but moves the reset count on (TPM 2.0 Part 1, 36.3 to 36.5).
    """
    if now.reset_count > last.reset_count:
        return False
    if now.reset_count < last.reset_count:
        return now.clock > last.clock
    return (now.restart_count - last.restart_count) * (now.clock - last.clock) < 0


def _position(at: Progress | ClockInfo) -> str:
    return f"reset {at.reset_count}, restart {at.restart_count}, {at.clock} ms"


def _check_signature(key: Public, signed: SignedAttest) -> str:
    try:
        signature = parse_signature(signed.signature)
        verify(key, signature, signed.attest)
    except Malformed as error:
        raise Refused(
            Reason.QUOTE_SCHEME if error.code in _SCHEME_CODES else Reason.QUOTE_MALFORMED, str(error)
        ) from None
    except BadSignature as error:
        raise Refused(
            Reason.QUOTE_SCHEME if error.code == "signature-scheme" else Reason.QUOTE_SIGNATURE, str(error)
        ) from None
    return signature.hash


def _check_selection(body: QuoteBody, selection: Selection) -> None:
    if len(body.selections) != 1:
        raise Refused(Reason.QUOTE_SELECTION, f"{len(body.selections)} banks")
    (quoted,) = body.selections
    if (quoted.algorithm, quoted.pcrs, quoted.size_of_select) != (selection.bank, selection.pcrs, SELECT_SIZE):
        raise Refused(Reason.QUOTE_SELECTION, f"{quoted.algorithm}:{quoted.pcrs} in {quoted.size_of_select} bytes")
