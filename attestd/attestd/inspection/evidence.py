"""An evidence directory for a person: the proof, the logs, and the whole appraisal where a profile is given.

Proves what the verifier's own proving function proves, with the files in place of a message. The nonce is the one that lies beside
the quote, so nothing here says that evidence is fresh. Without a profile nothing is held against it, and its tier is "none".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from attestd.appraisal.appraise import appraise
from attestd.appraisal.explain import explain
from attestd.appraisal.policy import Profile
from attestd.appraisal.result import AttestationResult, FindingDetail
from attestd.errors import Refused
from attestd.evidence.ak import check_attestation_key
from attestd.evidence.ek import EkPolicy, identify, pinned_identity, read_endorsement_key
from attestd.evidence.labels import printable
from attestd.evidence.prove import Proof, prove_evidence
from attestd.evidence.quote import Selection
from attestd.evidence.types import (
    AuthenticatedEvidence,
    BootFacts,
    EkIdentity,
    EvidenceFinding,
    QuoteFacts,
    RuntimeFacts,
)
from attestd.inspection.certificates import read_certificates
from attestd.inspection.claimed import FILES as CLAIMED_FILES
from attestd.inspection.claimed import Claimed, claimed_by
from attestd.inspection.parting import parting
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.registers import read_registers
from attestd.inspection.statements import read_statement
from attestd.protocol import limits
from attestd.protocol.messages import PcrValue, RuntimeList, SignedAttest
from attestd.protocol.reasons import PROBLEMS, Reason
from attestd.tpm.attest import QuoteBody
from attestd.tpm.eventlog import parse_event_log
from attestd_pki.chain import TrustStore

NEEDED: Final[Mapping[str, int]] = {
    "quote.attest": limits.MAX_TPM_STRUCTURE,
    "quote.sig": limits.MAX_TPM_STRUCTURE,
    "ak.tpm2b_public": limits.MAX_TPM_STRUCTURE,
    "pcrs.json": limits.MAX_JSON_BODY,
    "eventlog.bin": limits.MAX_EVENT_LOG,
}
"""Files without which there is no evidence, and how many bytes each may have."""
OPTIONAL: Final[Mapping[str, int]] = {
    "ek.tpm2b_public": limits.MAX_TPM_STRUCTURE,
    "nonce.bin": limits.MAX_NONCE,
    "ima.bin": limits.MAX_IMA_LIST,
    "ima.ascii": limits.MAX_IMA_LIST,
    **CLAIMED_FILES,
}
CERTIFICATES: Final = "nv_*.der"
"""What came out of the TPM's NV: the endorsement key's certificates are found among them."""
MOST_CERTIFICATES: Final = limits.MAX_EK_CERTIFICATES
"""Of these files are looked at; TPMs have up to six."""
_FIRMWARE: Final = range(8)
_UNKNOWN: Final = EkIdentity(
    device_id="",
    manufacturer="",
    model="",
    certificate_sha256=None,
    deviations=("no endorsement key: ek.tpm2b_public",),
)


@dataclass(frozen=True, slots=True)
class ReasonReport:
    """One reason against the evidence, in the words of a person and of a program."""

    code: str
    claim: str | None
    component: str | None
    pcr: int | None
    event: int | None
    expected: str | None
    actual: str | None
    text: str

    def document(self) -> dict[str, Any]:
        """Return the reason for programs."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """One evidence directory. `evidence` is None where the proof itself does not hold; `result` where no profile was given."""

    evidence: AuthenticatedEvidence | None
    result: AttestationResult | None
    reasons: tuple[ReasonReport, ...]
    notes: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Return whether the proof holds and nothing speaks against it."""
        return self.evidence is not None and not self.reasons

    @property
    def tier(self) -> str:
        """Return how far the evidence is trusted; "none" where no profile was held against it."""
        return self.result.tier.name.lower() if self.result is not None else "none"

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "outcome": "accepted" if self.accepted else "refused",
            "tier": self.tier,
            "reasons": [reason.document() for reason in self.reasons],
            "claims": _claims(self.evidence, self.result),
            "notes": list(self.notes),
            **_facts(self.evidence),
        }


def refused_evidence(code: str, message: str) -> dict[str, Any]:
    """Return the document of a directory that holds no evidence: the same keys, with nothing in them."""
    return EvidenceReport(None, None, (ReasonReport(code, None, None, None, None, None, None, message),), ()).document()


def inspect_evidence(
    files: Mapping[str, bytes], *, store: TrustStore | None, profile: Profile | None, now_ms: int
) -> EvidenceReport:
    """Return the report on these files (see NEEDED, OPTIONAL and CERTIFICATES) at `now_ms`.

    `store` are the anchors for the endorsement key's certificate; without any it is not judged.
    *Raises* `InspectionRefused` ("evidence-incomplete", and as the readers of its files).
    """
    notes: list[str] = []
    try:
        evidence = prove_files(files, store=store, now_ms=now_ms, notes=notes)
    except Refused as refused:
        return EvidenceReport(None, None, (_refusal(refused),), tuple(notes))
    if profile is None:
        notes.append("no profile was given: nothing was held against reference values")
        return EvidenceReport(evidence, None, tuple(_placed(_own_reasons(evidence), evidence, files)), tuple(notes))
    result = appraise(evidence, profile, now_ms=now_ms)
    told = _proven_texts(evidence, claimed_by(files))
    found = (_reason(finding, profile, told) for finding in result.findings)
    reasons = tuple(_placed(found, evidence, files))
    return EvidenceReport(evidence, result, reasons, tuple(notes))


def _proven_texts(evidence: AuthenticatedEvidence, claimed: Claimed) -> dict[tuple[int, int], str]:
    """Return the texts that no log has and that a file beside it gives, by (register, event)."""
    boot = evidence.boot
    proven = [(one, claimed.proven(one, evidence.quote.bank)) for one in (boot.components if boot is not None else ())]
    return {(new.pcr, new.event): new.value for old, new in proven if old.value is None and new.value is not None}


def _reason(finding: FindingDetail, profile: Profile, told: Mapping[tuple[int, int], str]) -> ReasonReport:
    text = explain(finding, profile=profile)
    actual = finding.actual
    if finding.pcr is not None and finding.event is not None and finding.claim != "runtime":
        actual = told.get((finding.pcr, finding.event), actual)
    if actual != finding.actual:
        text += f" It reads “{printable(actual)}”."
    return ReasonReport(
        code=finding.code.value,
        claim=finding.claim,
        component=finding.component,
        pcr=finding.pcr,
        event=finding.event,
        expected=finding.expected,
        actual=actual,
        text=text,
    )


def _placed(
    reasons: Iterable[ReasonReport], evidence: AuthenticatedEvidence, files: Mapping[str, bytes]
) -> Iterable[ReasonReport]:
    """Add to each register that the log does not explain where the two part, if a single event tells it."""
    log = parse_event_log(files["eventlog.bin"])
    quoted = dict(evidence.quote.pcrs)
    for reason in reasons:
        known = (
            reason.code == Reason.LOG_UNEXPLAINED.value
            and reason.pcr in quoted
            and evidence.quote.bank in log.algorithms
        )
        where = (
            parting(log, evidence.quote.bank, reason.pcr, quoted[reason.pcr])
            if known and reason.pcr is not None
            else None
        )
        if where is None:
            yield reason
        else:
            yield replace(reason, event=where.event, text=f"{reason.text[:-1]}: {where.text}.")


def prove_files(
    files: Mapping[str, bytes], *, store: TrustStore | None, now_ms: int, notes: list[str]
) -> AuthenticatedEvidence:
    """Return the evidence in these files; what could not be judged is added to `notes`.

    The registers are those that the quote covers; `pcrs.json` may hold more.
    *Raises* `InspectionRefused`, `Refused`.
    """
    missing = sorted(set(NEEDED) - set(files))
    if missing:
        raise InspectionRefused("evidence-incomplete", f"there is no {', '.join(missing)}")
    selection, values = _registers(files)
    runtime = files.get("ima.bin") or files.get("ima.ascii")
    proof = Proof(
        SignedAttest(files["quote.attest"], files["quote.sig"]),
        values,
        files["eventlog.bin"],
        RuntimeList(0, runtime) if runtime else None,
    )
    proved = prove_evidence(
        _identity(files, store, now_ms, notes),
        check_attestation_key(files["ak.tpm2b_public"]),
        proof,
        qualifying_data=_nonce(files, notes),
        selection=selection,
    )
    return proved.evidence


def _registers(files: Mapping[str, bytes]) -> tuple[Selection, tuple[PcrValue, ...]]:
    """Return what the quote covers, and the values of exactly these registers."""
    statement, _ = read_statement(files["quote.attest"])
    body = statement.body if statement is not None else None
    if not isinstance(body, QuoteBody) or len(body.selections) != 1:
        # The proving function says what is wrong with it; this selection fits nothing.
        return Selection("sha256", ()), ()
    (quoted,) = body.selections
    values = read_registers(files["pcrs.json"]).get(quoted.algorithm, {})
    picked = tuple(PcrValue(index, values[index]) for index in quoted.pcrs if index in values)
    return Selection(quoted.algorithm, quoted.pcrs), picked


def _nonce(files: Mapping[str, bytes], notes: list[str]) -> bytes:
    if "nonce.bin" in files:
        return files["nonce.bin"]
    notes.append("there is no nonce.bin: what the quote is bound to was not judged")
    statement, _ = read_statement(files["quote.attest"])
    return statement.extra_data if statement is not None else b""


def _identity(files: Mapping[str, bytes], store: TrustStore | None, now_ms: int, notes: list[str]) -> EkIdentity:
    if "ek.tpm2b_public" not in files:
        notes.append("there is no ek.tpm2b_public: which TPM this is was not judged")
        return _UNKNOWN
    key = read_endorsement_key(files["ek.tpm2b_public"])
    if store is None:
        notes.append("no anchors were given: who made the TPM was not judged")
        return pinned_identity(key)
    return identify(key, list(_endorsements(files)), policy=EkPolicy(store), now_s=now_ms // 1000)


def _endorsements(files: Mapping[str, bytes]) -> Iterable[bytes]:
    """Yield the certificates out of NV; platform certificates and whatever else lies there are left out."""
    for name in sorted(files):
        if not name.startswith("nv_"):
            continue
        try:
            leaf, others, _ = read_certificates(files[name])
        except InspectionRefused:
            continue
        yield leaf.der
        yield from (other.der for other in others)


def _refusal(refused: Refused) -> ReasonReport:
    detail = f" ({refused.detail})" if refused.detail else ""
    title = PROBLEMS[refused.reason].title
    return ReasonReport(
        refused.reason.value, None, None, None, None, None, refused.detail or None, printable(f"{title}{detail}.")
    )


def _own_reasons(evidence: AuthenticatedEvidence) -> Iterable[ReasonReport]:
    """Yield what is wrong with evidence whatever a profile would say."""
    boot, runtime = evidence.boot, evidence.runtime
    findings: tuple[EvidenceFinding, ...] = (boot.findings if boot else ()) + (runtime.findings if runtime else ())
    for finding in findings:
        text = f"{PROBLEMS[finding.code].title}: {finding.actual}, where there should be {finding.expected}."
        yield ReasonReport(
            finding.code.value,
            None,
            None,
            finding.pcr,
            finding.event,
            finding.expected,
            finding.actual,
            printable(text),
        )
    for index in sorted(_open_registers(boot)):
        text = f"The boot log does not explain PCR {index}."
        yield ReasonReport(
            Reason.LOG_UNEXPLAINED.value, None, f"PCR {index}", index, None, "a log that leads to it", None, text
        )


def _open_registers(boot: BootFacts | None) -> set[int]:
    """Return the firmware's registers that are not explained, and all others to which the log leads elsewhere.

    PCR 10 is the runtime list's.
    """
    if boot is None:
        return set()
    return ({*_FIRMWARE} - boot.explained) | (boot.unexplained - {10})


def _claims(evidence: AuthenticatedEvidence | None, result: AttestationResult | None) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    boot = evidence.boot if evidence is not None else None
    for one in boot.components if boot is not None else ():
        entry = claims.setdefault(one.claim, {"check": None, "accepted": None, "refused": None, "components": []})
        entry["components"].append(
            {"pcr": one.pcr, "event": one.event, "digest": one.digest.hex(), "value": one.value, "label": one.label}
        )
    for verdict in result.claims if result is not None else ():
        entry = claims.setdefault(verdict.claim, {"components": []})
        entry |= {"check": verdict.check.value, "accepted": verdict.accepted, "refused": verdict.refused}
    return claims


def _facts(evidence: AuthenticatedEvidence | None) -> dict[str, Any]:
    """Return what was proved besides the claims; empty where the proof does not hold."""
    if evidence is None:
        return {"device_id": None, "quote": None, "registers": None, "runtime": None}
    return {
        "device_id": evidence.ek.device_id or None,
        "ek": {
            "manufacturer": evidence.ek.manufacturer or None,
            "model": evidence.ek.model or None,
            "certificate_sha256": evidence.ek.certificate_sha256.hex() if evidence.ek.certificate_sha256 else None,
            "deviations": list(evidence.ek.deviations),
        },
        "quote": _quote_facts(evidence.quote),
        "registers": None if evidence.boot is None else _boot_facts(evidence.boot),
        "runtime": None if evidence.runtime is None else _runtime_facts(evidence.runtime),
    }


def _quote_facts(quote: QuoteFacts) -> dict[str, Any]:
    return {
        "bank": quote.bank,
        "pcrs": {str(index): value.hex() for index, value in quote.pcrs},
        "clock": quote.clock,
        "reset_count": quote.reset_count,
        "restart_count": quote.restart_count,
        "safe": quote.safe,
        "firmware_version": f"0x{quote.firmware_version:x}",
    }


def _boot_facts(boot: BootFacts) -> dict[str, Any]:
    return {
        "explained": sorted(boot.explained),
        "unexplained": sorted(boot.unexplained),
        "not_logged": sorted(boot.unlogged),
    }


def _runtime_facts(runtime: RuntimeFacts) -> dict[str, Any]:
    return {
        "entries": runtime.count,
        "violations": runtime.violations,
        "boot_aggregate": runtime.boot_aggregate,
        "behind_the_quote": runtime.unread,
    }
