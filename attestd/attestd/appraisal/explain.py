"""Findings in words, one sentence each, and what exactly changed in a text.

For operators only: a difference shows accepted values, which no device and no stranger may learn. All text that a device chose
is escaped and shortened here.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from attestd.appraisal.policy import ClaimPolicy, Profile
from attestd.appraisal.result import FindingDetail
from attestd.evidence.labels import printable
from attestd.protocol.reasons import Reason

_LONGEST: Final = 400
"""Characters of one list of changes; a dbx update has hundreds."""

_SENTENCES: Final = {
    Reason.CLAIM_MISMATCH: "{subject} changed: {component}{place} is not {expected}",
    Reason.CLAIM_MISSING: "{subject} is missing: {actual}, where the profile requires it",
    Reason.CLAIM_UNEXPECTED: "{subject} is there and must not be: {component}{place}",
    Reason.LOG_NEEDED: "there is no boot log: {actual}",
    Reason.LOG_UNEXPLAINED: "the boot log does not explain {component}: {actual}",
    Reason.LOG_EVENT_ALTERED: "the boot log was altered: what it says in {component} ({actual}) is not what was measured",
    Reason.LOG_ORDER: "the boot log is out of order{place}: {actual}, where there should be {expected}",
    Reason.PCR_BANK_INACTIVE: "the firmware does not use this bank of registers: {actual}",
    Reason.RUNTIME_NEEDED: "there is no runtime list: {actual}, where there should be {expected}",
    Reason.RUNTIME_UNEXPLAINED: "the runtime list does not hold{place}: {actual}, where there should be {expected}",
    Reason.POLICY_MISSING: "no profile is active for this device",
    Reason.POLICY_EMPTY: "the profile requires nothing, so nothing can satisfy it",
    Reason.POLICY_CHANGED: "the policy changed while the evidence was in flight",
    Reason.APPRAISAL_ERROR: "{component} of the appraisal could not be completed ({actual})",
}
_OTHERWISE: Final = "{subject}: {actual}, where there should be {expected}"
_SUBJECTS: Final = {"runtime": "a file", "registers": "a register", "tpm": "the TPM's {component}"}


def explain(finding: FindingDetail, *, profile: Profile | None = None) -> str:
    """Return one sentence about a finding; with the profile also what was added and removed, where both texts are known."""
    subject = _SUBJECTS.get(finding.claim, finding.claim.replace("-", " "))
    component = _shortened(printable(finding.component))
    sentence = _SENTENCES.get(finding.code, _OTHERWISE).format(
        subject=subject.format(component=component),
        component=component,
        place=_place(finding),
        expected=finding.expected,
        actual=_shortened(printable(finding.actual)),
    )
    return sentence + _difference(finding, profile) + "."


def difference(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words (of lines: the lines) that were added and those that were removed, in the order of their texts."""
    separator = "\n" if "\n" in before or "\n" in after else " "
    old, new = before.split(separator), after.split(separator)
    return _surplus(new, Counter(old)), _surplus(old, Counter(new))


def _surplus(words: Iterable[str], others: Counter[str]) -> tuple[str, ...]:
    found = []
    for word in words:
        if others[word] > 0:
            others[word] -= 1
        elif word:
            found.append(word)
    return tuple(found)


def _difference(finding: FindingDetail, profile: Profile | None) -> str:
    policy = profile.by_claim.get(finding.claim) if profile is not None else None
    if policy is None or finding.code is not Reason.CLAIM_MISMATCH:
        return ""
    nearest = _nearest(policy, finding.actual)
    if nearest is None:
        return ""
    added, removed = difference(nearest, finding.actual)
    parts = [f"{word} {_listed(items)}" for word, items in (("added", added), ("removed", removed)) if items]
    return f" ({'; '.join(parts)})" if parts else ""


def _nearest(policy: ClaimPolicy, actual: str) -> str | None:
    """Return the accepted text that shares most with what was measured, or None where nothing is shared."""
    best, most = None, 0
    words = Counter(actual.split())
    for rule in policy.accept:
        text = rule.text if rule.text is not None else rule.glob
        shared = (words & Counter(text.split())).total() if text is not None else 0
        if shared > most:
            best, most = text, shared
    return best


def _listed(items: tuple[str, ...]) -> str:
    return _shortened(", ".join(f"“{printable(item)}”" for item in items))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _place(finding: FindingDetail) -> str:
    if finding.event is not None and finding.pcr is not None:
        return f" (event {finding.event} in PCR {finding.pcr})"
    return f" (PCR {finding.pcr})" if finding.pcr is not None else ""
