"""The appraisal: a pure function of (evidence, profile, now).

Proves that every step of steps.py ran and that a result is affirming only if none of them found anything, and only with a
boot that the steps have seen. Assumes evidence that is proved, and profiles that are active and approved: a retired
profile must not be given (E10).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeVar

from attestd.appraisal.policy import Profile, Tier
from attestd.appraisal.result import (
    CATEGORIES,
    RESULT_MAKER,
    AttestationResult,
    Category,
    ClaimVerdict,
    FindingDetail,
)
from attestd.appraisal.steps import BOOT_STEPS, DEVICE_STEPS, RUNTIME_REGISTER, BootCase, DeviceCase, Outcome
from attestd.evidence.types import AuthenticatedEvidence, BootFacts, QuoteFacts
from attestd.protocol.limits import MAX_FINDINGS
from attestd.protocol.reasons import Reason

BootKey = tuple[bytes, bytes, str, bytes]
"""(profile digest, log digest, bank, digest over the selection and the quoted registers without PCR 10)."""

_NO_DIGEST: Final = bytes(32)
_APPROVED, _APPROVED_BOOT, _MALFUNCTION = 2, 3, -1
"""Claim values of draft-ietf-rats-ar4si, 2.3.4: approved; executables approved at boot time only; the verifier failed."""

Case = TypeVar("Case")


@dataclass(frozen=True, slots=True)
class BootVerdict:
    """What steps 1 to 5 found; valid for every proof with the same `key`, and for no other."""

    key: BootKey
    findings: tuple[FindingDetail, ...]
    claims: tuple[ClaimVerdict, ...]
    judged: frozenset[Category]
    failed: frozenset[Category] = field(default=frozenset())


def boot_key(profile: Profile, quote: QuoteFacts, *, log_digest: bytes) -> BootKey:
    """Return what a boot verdict depends on. PCR 10 is left out: it grows with every file that is opened."""
    selection = bytes([index for index, _ in quote.pcrs])
    values = b"".join([value for index, value in quote.pcrs if index != RUNTIME_REGISTER])
    return profile.digest, log_digest, quote.bank, sha256(bytes((len(selection),)) + selection + values).digest()


def appraise_boot(boot: BootFacts | None, quote: QuoteFacts, *, profile: Profile) -> BootVerdict:
    """Run steps 1 to 5. The verdict may be remembered under its key.

    *Assumes* that `boot` was replayed against `quote.pcrs`.
    """
    pcrs = {index: value for index, value in quote.pcrs if index != RUNTIME_REGISTER}
    case = BootCase(boot, quote.bank, pcrs, profile)
    guarded = [_guarded(step.run, case, step.number, step.category) for step in BOOT_STEPS]
    return BootVerdict(
        boot_key(profile, quote, log_digest=boot.log_digest if boot is not None else _NO_DIGEST),
        tuple(finding for outcome in guarded for finding in outcome.findings),
        tuple(claim for outcome in guarded for claim in outcome.claims),
        frozenset(category for outcome in guarded for category in outcome.judged),
        _failed(guarded),
    )


def appraise(evidence: AuthenticatedEvidence, profile: Profile, *, now_ms: int) -> AttestationResult:
    """Run all steps and return the result. An error inside a step is a finding of the result (Q15)."""
    verdict = appraise_boot(evidence.boot, evidence.quote, profile=profile)
    return assemble(evidence, verdict, profile=profile, now_ms=now_ms)


def assemble(
    evidence: AuthenticatedEvidence,
    verdict: BootVerdict,
    *,
    profile: Profile,
    now_ms: int,
    log_digest: bytes | None = None,
) -> AttestationResult:
    """Run steps 6 and 7, take steps 1 to 5 from the verdict, and return the result (step 8).

    `log_digest` names the remembered boot log where the evidence comes without one. A verdict whose key is not that of this
    evidence and profile is not used: the result then says that the policy changed or that the log is needed.
    """
    if evidence.boot is not None:
        log_digest = evidence.boot.log_digest
    expected = boot_key(profile, evidence.quote, log_digest=log_digest or _NO_DIGEST)
    findings: tuple[FindingDetail, ...] = verdict.findings
    if verdict.key != expected or log_digest is None:
        findings += (_unusable(verdict, profile),)
    case = DeviceCase(evidence, profile)
    guarded = [_guarded(step.run, case, step.number, step.category) for step in DEVICE_STEPS]
    findings += tuple(finding for outcome in guarded for finding in outcome.findings)
    judged = verdict.judged.union(*(outcome.judged for outcome in guarded))
    return AttestationResult(
        device_id=evidence.ek.device_id,
        tier=max((finding.tier for finding in findings), default=Tier.AFFIRMING),
        vector=_vector(findings, judged, verdict.failed | _failed(guarded)),
        findings=findings[:MAX_FINDINGS],
        claims=verdict.claims + tuple(claim for outcome in guarded for claim in outcome.claims),
        profile=profile.name,
        profile_version=profile.version,
        profile_digest=profile.digest,
        evidence_digest=_evidence_digest(evidence, log_digest),
        appraised_at=now_ms,
        maker=RESULT_MAKER,
    )


def without_profile(evidence: AuthenticatedEvidence, *, now_ms: int) -> AttestationResult:
    """Return the refusal of a device for which no profile is active."""
    finding = FindingDetail(
        Reason.POLICY_MISSING,
        "registers",
        "the profile",
        "an active profile",
        "none",
        Tier.CONTRAINDICATED,
        "executables",
    )
    return AttestationResult(
        device_id=evidence.ek.device_id,
        tier=Tier.CONTRAINDICATED,
        vector=_vector((finding,), frozenset(), frozenset()),
        findings=(finding,),
        claims=(),
        profile="",
        profile_version=0,
        profile_digest=_NO_DIGEST,
        evidence_digest=_evidence_digest(evidence, None),
        appraised_at=now_ms,
        maker=RESULT_MAKER,
    )


def _guarded(run: Callable[[Case], Outcome], case: Case, number: int, category: Category) -> Outcome:
    """Run one step; whatever goes wrong in it becomes a finding, and the result is contraindicated.

    The one place of the project that catches every exception: a step that could not be completed must end as "not
    trusted", and the other steps must still say what they see (Q15).
    """
    try:
        return run(case)
    except Exception as error:  # noqa: BLE001
        return Outcome((_malfunction(f"step {number}", type(error).__name__, category),))


def _malfunction(component: str, actual: str, category: Category) -> FindingDetail:
    return FindingDetail(
        Reason.APPRAISAL_ERROR,
        "registers",
        component,
        "a step that can be completed",
        actual,
        Tier.CONTRAINDICATED,
        category,
    )


def _failed(outcomes: Sequence[Outcome]) -> frozenset[Category]:
    return frozenset(
        finding.category
        for outcome in outcomes
        for finding in outcome.findings
        if finding.code is Reason.APPRAISAL_ERROR
    )


def _unusable(verdict: BootVerdict, profile: Profile) -> FindingDetail:
    same_profile = verdict.key[0] == profile.digest
    return FindingDetail(
        Reason.LOG_NEEDED if same_profile else Reason.POLICY_CHANGED,
        "registers",
        "the boot",
        "a boot verdict for this evidence and this profile",
        "one for other evidence" if same_profile else "one for another profile",
        Tier.CONTRAINDICATED,
        "executables",
    )


def _vector(
    findings: tuple[FindingDetail, ...], judged: frozenset[Category], failed: frozenset[Category]
) -> tuple[int, int, int, int, int, int, int, int]:
    """Return the eight claims: what was judged and not spoilt is approved, what was not judged makes no claim (0)."""
    values = dict.fromkeys(CATEGORIES, 0)
    for category in judged:
        values[category] = _APPROVED
    for finding in findings:
        values[finding.category] = max(values[finding.category], int(finding.tier))
    if values["executables"] == _APPROVED and values["file-system"] != _APPROVED:
        # What ran after the boot was not judged, or not approved.
        values["executables"] = _APPROVED_BOOT
    for category in failed:
        values[category] = _MALFUNCTION
    one, two, three, four, five, six, seven, eight = (values[category] for category in CATEGORIES)
    return one, two, three, four, five, six, seven, eight


def _evidence_digest(evidence: AuthenticatedEvidence, log_digest: bytes | None) -> bytes:
    runtime = evidence.runtime.value if evidence.runtime is not None else b""
    return evidence_digest(evidence.quote.attest_digest, log_digest=log_digest, runtime_value=runtime)


def evidence_digest(attest_digest: bytes, *, log_digest: bytes | None, runtime_value: bytes) -> bytes:
    """Return the 32 bytes that name one evidence: over the digests of its quote and its boot log, and its PCR 10."""
    return sha256(attest_digest + (log_digest or _NO_DIGEST) + sha256(runtime_value).digest()).digest()
