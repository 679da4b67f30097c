"""The proving function: an authentic quote, and what came with it, become evidence that may be appraised.

Proves that the registers are the quoted ones, that the boot log was replayed against them and the runtime list too. Assumes an
`AuthenticQuote`, which only `authenticate_quote` makes. This is the only file that calls `authenticated`.
"""

import hashlib
from dataclasses import dataclass

from attestd.errors import Refused
from attestd.evidence.boot import boot_facts
from attestd.evidence.quote import AuthenticQuote, Selection, authenticate_quote, check_pcr_values
from attestd.evidence.runtime import runtime_facts
from attestd.evidence.types import (
    AuthenticatedEvidence,
    BootFacts,
    EkIdentity,
    QuoteFacts,
    RuntimeFacts,
    authenticated,
)
from attestd.protocol.messages import PcrValue, RuntimeList, SignedAttest
from attestd.protocol.reasons import Reason
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import parse_event_log
from attestd.tpm.ima import parse_ima
from attestd.tpm.public import Public

RUNTIME_PCR = 10


@dataclass(frozen=True, slots=True)
class Proof:
    """What a device sends to prove one boot, whole."""

    quote: SignedAttest
    pcrs: tuple[PcrValue, ...]
    event_log: bytes
    runtime: RuntimeList | None


@dataclass(frozen=True, slots=True)
class ProvedEvidence:
    """Evidence, the quote that it rests on, and the SHA-256 of the boot log that it names."""

    evidence: AuthenticatedEvidence
    quote: AuthenticQuote
    log_digest: bytes


def prove_evidence(
    identity: EkIdentity, attestation_key: Public, proof: Proof, *, qualifying_data: bytes, selection: Selection
) -> ProvedEvidence:
    """Check a whole proof: quote (steps 1 to 6), registers (7 to 9), boot log and runtime list (11, 12).

    Raises `Refused` (quote-*, pcr-*, log-malformed, runtime-*).
    """
    quote = authenticate_quote(attestation_key, proof.quote, qualifying_data=qualifying_data, selection=selection)
    return gather(
        identity,
        quote,
        attest=proof.quote.attest,
        pcrs=check_pcr_values(quote, proof.pcrs, selection),
        bank=selection.bank,
        event_log=proof.event_log,
        log_digest=hashlib.sha256(proof.event_log).digest(),
        runtime=proof.runtime,
    )


def gather(
    identity: EkIdentity,
    quote: AuthenticQuote,
    *,
    attest: bytes,
    pcrs: tuple[tuple[int, bytes], ...],
    bank: str,
    event_log: bytes | None,
    log_digest: bytes,
    runtime: RuntimeList | None,
    continues: tuple[int, bytes | None] = (0, None),
) -> ProvedEvidence:
    """Replay what came with an authentic quote and return the evidence.

    Assumes that `pcrs` passed `check_pcr_values`, or are those of an earlier proof with the same PCR digest; that
    `log_digest` is the log's; and that `continues` (entries, PCR 10 after them) was proved in the same boot. `event_log` is
    None where the boot's verdict is remembered under this very log and these registers; a whole runtime list wants the log all
    the same, since it begins with what the kernel was handed.
    Raises `Refused` (log-malformed, runtime-malformed, runtime-needed).
    """
    clock = quote.clock
    facts = QuoteFacts(
        clock=clock.clock,
        reset_count=clock.reset_count,
        restart_count=clock.restart_count,
        safe=clock.safe,
        firmware_version=quote.statement.firmware_version,
        bank=bank,
        pcrs=pcrs,
        pcr_digest=quote.pcr_digest,
        attest_digest=hashlib.sha256(attest).digest(),
    )
    registers = dict(pcrs)
    boot = None if event_log is None else _boot(event_log, log_digest, bank, registers)
    handed_over = dict(boot.handed_over) if boot is not None else {}
    seen = None if runtime is None else _runtime(runtime, bank, registers, continues, handed_over)
    return ProvedEvidence(authenticated(identity, facts, boot=boot, runtime=seen), quote, log_digest)


def _boot(event_log: bytes, log_digest: bytes, bank: str, registers: dict[int, bytes]) -> BootFacts:
    try:
        parsed = parse_event_log(event_log)
    except Malformed as error:
        raise Refused(Reason.LOG_MALFORMED, f"{error.code}: {error}") from None
    return boot_facts(parsed, log_digest=log_digest, bank=bank, pcrs=registers)


def _runtime(
    runtime: RuntimeList,
    bank: str,
    registers: dict[int, bytes],
    continues: tuple[int, bytes | None],
    handed_over: dict[int, bytes],
) -> RuntimeFacts:
    count, value = continues
    if runtime.offset not in (0, count) or (runtime.offset and value is None):
        raise Refused(Reason.RUNTIME_NEEDED, f"entries from {runtime.offset}, {count} are known")
    if RUNTIME_PCR not in registers:
        raise Refused(Reason.RUNTIME_UNEXPLAINED, "PCR 10 is not quoted")
    try:
        parsed = parse_ima(runtime.entries)
    except Malformed as error:
        raise Refused(Reason.RUNTIME_MALFORMED, f"{error.code}: {error}") from None
    return runtime_facts(
        parsed,
        bank=bank,
        pcrs=registers,
        offset=runtime.offset,
        start=value if runtime.offset else None,
        handed_over=handed_over,
    )
