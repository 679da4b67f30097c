"""Hold evidence against every active version of a profile, remembering what one boot said under one profile."""

from collections.abc import Sequence
from dataclasses import dataclass

from attestd.appraisal.appraise import BootVerdict, appraise_boot, assemble, without_profile
from attestd.appraisal.policy import Profile
from attestd.appraisal.result import AttestationResult
from attestd.evidence.types import AuthenticatedEvidence
from attestd.services.memory import BootMemory


@dataclass(frozen=True, slots=True)
class Judgement:
    """A result, and the profile version that it is about (None where no profile is active)."""

    result: AttestationResult
    profile: Profile | None


def judge(
    evidence: AuthenticatedEvidence, profiles: Sequence[Profile], *, log_digest: bytes, boots: BootMemory, now: int
) -> Judgement:
    """Return the first affirming result among the active versions, or else the best.

    A boot that was appraised before under the same profile, log and registers is not appraised again. Where `evidence.boot`
    is None, such a verdict must be remembered (`missing_boots` says whether it is).
    """
    best: Judgement | None = None
    for profile in profiles:
        verdict = _verdict(evidence, profile, log_digest, boots)
        result = assemble(evidence, verdict, profile=profile, now_ms=now, log_digest=log_digest)
        if result.affirming:
            return Judgement(result, profile)
        if best is None or result.rank < best.result.rank:
            best = Judgement(result, profile)
    return best or Judgement(without_profile(evidence, now_ms=now), None)


def remembered_pcrs(
    profiles: Sequence[Profile], *, log_digest: bytes, pcr_digest: bytes, boots: BootMemory
) -> tuple[tuple[int, bytes], ...] | None:
    """Return the register values of a boot that every one of `profiles` has judged, or None."""
    found: tuple[tuple[int, bytes], ...] | None = None
    for profile in profiles:
        remembered = boots.get((profile.digest, log_digest, pcr_digest))
        if remembered is None:
            return None
        found = remembered[1]
    return found


def _verdict(evidence: AuthenticatedEvidence, profile: Profile, log_digest: bytes, boots: BootMemory) -> BootVerdict:
    key = (profile.digest, log_digest, evidence.quote.pcr_digest)
    remembered = boots.get(key)
    if remembered is not None:
        return remembered[0]
    verdict = appraise_boot(evidence.boot, evidence.quote, profile=profile)
    if evidence.boot is not None and not verdict.failed:  # a step that broke off once must not stay broken
        boots.put(key, (verdict, evidence.quote.pcrs))
    return verdict
