"""Evidence for tests of the appraisal: from the recorded boots of a virtual machine, and made by hand."""

import json
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

from attestd.evidence.boot import boot_facts
from attestd.evidence.runtime import runtime_facts
from attestd.evidence.types import (
    AuthenticatedEvidence,
    BootFacts,
    Component,
    EkIdentity,
    QuoteFacts,
    RuntimeFacts,
    authenticated,
)
from attestd.tpm.attest import parse_attest
from attestd.tpm.eventlog import parse_event_log
from attestd.tpm.ima import parse_ima
from testdata import TESTDATA

VM = TESTDATA / "vm"
SELECTION = tuple(range(15))
NOW_MS = 1_790_000_000_000

EK = EkIdentity(
    device_id="d" * 52, manufacturer="IBM", model="SW   TPM", certificate_sha256=bytes(range(32)), deviations=()
)


def vm_pcrs(case: str) -> dict[int, bytes]:
    """Return the registers of a recorded boot, as many as its quote covers."""
    values = json.loads((VM / case / "pcrs.json").read_text())["sha256"]
    return {index: bytes.fromhex(values[str(index)]) for index in SELECTION}


@cache
def vm_evidence(case: str) -> AuthenticatedEvidence:
    """Return the evidence of a recorded boot. Its signature is checked elsewhere; here the facts matter."""
    folder = VM / case
    attest = (folder / "quote.attest").read_bytes()
    statement: Any = parse_attest(attest)
    pcrs = vm_pcrs(case)
    quote = QuoteFacts(
        clock=statement.clock.clock,
        reset_count=statement.clock.reset_count,
        restart_count=statement.clock.restart_count,
        safe=statement.clock.safe,
        firmware_version=statement.firmware_version,
        bank="sha256",
        pcrs=tuple(sorted(pcrs.items())),
        pcr_digest=sha256(b"".join(pcrs[index] for index in SELECTION)).digest(),
        attest_digest=sha256(attest).digest(),
    )
    log = (folder / "eventlog.bin").read_bytes()
    boot = boot_facts(parse_event_log(log), log_digest=sha256(log).digest(), bank="sha256", pcrs=pcrs)
    runtime = runtime_facts(parse_ima((folder / "ima.bin").read_bytes()), bank="sha256", pcrs=pcrs)
    return authenticated(EK, quote, boot=boot, runtime=runtime)


def component(claim: str, text: str, *, pcr: int = 4, event: int = 0, value: str | None = None) -> Component:
    """Return a component whose digest is that of the text; its value is None unless given."""
    return Component(claim, pcr, event, sha256(text.encode()).digest(), value, text)


def boot(*components: Component, **changes: Any) -> BootFacts:
    """Return sound facts of a boot with these components."""
    facts = BootFacts(
        log_digest=sha256(b"a log").digest(),
        bank="sha256",
        components=components,
        explained=frozenset(SELECTION) - {10},
        unexplained=frozenset(),
        unlogged=frozenset(),
    )
    return replace(facts, **changes)


def quote(**changes: Any) -> QuoteFacts:
    """Return the facts of a quote over untouched registers."""
    facts = QuoteFacts(
        clock=1000,
        reset_count=1,
        restart_count=0,
        safe=True,
        firmware_version=0x2019102300163636,
        bank="sha256",
        pcrs=tuple((index, bytes(32)) for index in SELECTION),
        pcr_digest=sha256(bytes(32 * len(SELECTION))).digest(),
        attest_digest=sha256(b"an attestation").digest(),
    )
    return replace(facts, **changes)


def evidence(
    facts: BootFacts | None,
    *,
    runtime: RuntimeFacts | None = None,
    ek: EkIdentity = EK,
    quoted: QuoteFacts | None = None,
) -> AuthenticatedEvidence:
    """Return evidence made of these facts."""
    return authenticated(ek, quoted or quote(), boot=facts, runtime=runtime)
