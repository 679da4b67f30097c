"""A prediction becomes a profile in YAML: a new one, or the next version of one that there is.

Proves, of a next version, that it differs from before in its version and in what it accepts of predicted claims, and in nothing
else: the result is read again and compared. Assumes that a person reads it before operators sign it. A value that was accepted
stays accepted, unless the values of the predicted claims are asked to be replaced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Final, NamedTuple

from attestd.appraisal.policy import CLAIMS, NEVER_IGNORED, Check, ClaimPolicy, Profile, Rule, ordered
from attestd.appraisal.profile import ProfileError, parse_profile_yaml
from attestd.appraisal.writing import quoted
from attestd.evidence.boot import PHASES
from attestd.protocol.limits import MAX_FINDING_TEXT, MAX_TEXT
from attestd.reference.boot import FIRMWARE, RETURNING, Style
from attestd.reference.files import ArtefactRefused
from attestd.reference.predict import Foreseen, Prediction
from attestd.reference.yamledit import Edited, Pairs, entry

_STARTING: Final = ("application", "kernel-command-line", "kernel", "initrd", "uki-section")
"""Claims of which the artefacts of a boot decide whether it makes them."""
_NOT_AT_ONCE: Final = "old and new values are not all there at once"
_NOT_IN_EVERY_BOOT: Final = "not every boot makes all of it"
_PHASE: Final = "boot-phase"
_ATTEMPT: Final = "boot-action"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one claim: values that were added and taken away, and a remark (empty where there is none)."""

    claim: str
    added: int
    removed: int
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A profile's text, what it is once read, and what became of each predicted claim."""

    text: str
    profile: Profile
    changes: tuple[Change, ...]


class _Wanted(NamedTuple):
    """What one claim must accept: whether every boot makes it, and whether every boot makes all of it."""

    rules: tuple[Rule, ...]
    sure: bool
    whole: bool


def new_profile(prediction: Prediction, *, name: str, version: int, runtime: Sequence[str] = ()) -> Draft:
    """Return a profile of what was predicted, and of `runtime`, the lines of that key, if there are any."""
    lines = [
        "# Predicted from artefacts, before any machine booted them. Read every line.",
        *(f"# Open: {remark}" for remark in prediction.remarks),
        f"profile: {quoted(name)}",
        f"version: {version}",
        "claims:",
    ]
    wanted = _wanted(prediction)
    for claim, one in wanted.items():
        lines += _claim_lines(claim, one.rules, sure=one.sure)
    if prediction.style is Style.UKI:
        phases = [Rule(text=phase) for phase in PHASES]
        lines += _claim_lines(_PHASE, phases, sure=False)
    lines += _open_lines({*wanted, _PHASE})
    text = "\n".join([*lines, "", *runtime])
    text = text if text.endswith("\n") else text + "\n"
    profile = _read(text)
    return Draft(text, profile, tuple(Change(claim, len(one.rules), 0) for claim, one in wanted.items()))


def _claim_lines(claim: str, rules: Sequence[Rule], *, sure: bool) -> list[str]:
    check = "required" if sure else "optional  # a good boot may do without it"
    lines = [f"  {claim}:  # {CLAIMS[claim]}", f"    check: {check}", "    accept:"]
    for rule in rules:
        first, *rest = _pairs(rule)
        lines.append(f"      - {first[0]}: {first[1]}")
        lines += [f"        {key}: {value}" for key, value in rest]
    if claim == _ATTEMPT:
        lines.append("      # Where a machine tries entries first that lead nowhere (an empty drive):")
        lines.append(f"      # - text: {quoted(RETURNING)}")
    return [*lines, ""]


def _open_lines(known: set[str]) -> list[str]:
    """Return what the profile does not speak of, as comments: what is measured of it is refused until somebody says more."""
    unknown = [claim for claim in CLAIMS if claim not in known and claim not in NEVER_IGNORED]
    return [
        "  # No artefact says what follows, and what is measured of it is refused. Learn it from a machine and predict onto that",
        "  # (attestd profile predict --onto), or take the claims that are not to be judged:",
        *(f"  # {claim}: {{check: ignored}}" for claim in unknown),
    ]


def next_version(
    text: str, prediction: Prediction, *, name: str = "", version: int | None = None, replace: bool = False
) -> Draft:
    """Return the profile in `text`, comments included, with what was predicted, as its next version.

    With `replace`, a predicted claim accepts what was predicted and nothing else, unless more of it is open. *Raises*
    `ProfileError` for a text that is no profile; `ArtefactRefused`: "predict-absent" (it says that a predicted claim must not be
    made), "profile-layout" (a text that cannot be changed in place).
    """
    old = parse_profile_yaml(text)
    number = old.version + 1 if version is None else version
    edited = Edited(text)
    policies = dict(old.by_claim)
    changes = []
    wanted = _wanted(prediction)
    for claim, one in wanted.items():
        swap = replace and claim not in prediction.partial
        policy, change = _merged(old.by_claim.get(claim), claim, one, bank=prediction.bank, replace=swap)
        changes.append(change)
        if policy is not None:
            _write(edited, old.by_claim.get(claim), policy, swap=swap)
            policies[claim] = policy
    changes += _missed(old, prediction, wanted)
    root = edited.root
    edited.write_scalar(entry(root, "version"), str(number))
    if name and name != old.name:
        edited.write_scalar(entry(root, "profile"), quoted(name))
    if not root.flow_style:
        edited.write_above(_summary(old, number, changes, prediction))
    expected = changed(
        old,
        name=name or old.name,
        version=number,
        claims=tuple(sorted((_canonical(one) for one in policies.values()), key=lambda one: one.claim)),
    )
    found = _read(edited.applied())
    if changed(found, document=old.document) != changed(expected, document=old.document):
        raise ArtefactRefused("profile-layout", "the profile is written in a way that cannot be added to in its place")
    return Draft(edited.applied(), found, tuple(changes))


def _wanted(prediction: Prediction) -> dict[str, _Wanted]:
    """Return what every predicted claim must accept, in the order of `CLAIMS`."""
    found: dict[str, dict[tuple[object, object], tuple[Rule, bool]]] = {}
    for one in prediction.claims:
        rule = _rule(one, prediction.bank)
        rules = found.setdefault(one.component.claim, {})
        known, sure = rules.get((rule.digest, rule.text), (rule, False))
        rules[rule.digest, rule.text] = known, sure or one.sure
    return {
        claim: _Wanted(
            tuple(rule for rule, _ in found[claim].values()),
            any(sure for _, sure in found[claim].values()),
            all(sure for _, sure in found[claim].values()),
        )
        for claim in CLAIMS
        if claim in found
    }


def _rule(one: Foreseen, bank: str) -> Rule:
    origin = "" if one.source == FIRMWARE else one.source
    note = (f"{origin}: {one.text}" if one.text else origin)[:MAX_TEXT]
    value = one.component.value
    if value is not None and len(value) <= MAX_FINDING_TEXT:
        return Rule(text=value, note=origin[:MAX_TEXT])
    return Rule(digest=(bank, one.component.digest), note=note)


def _pairs(rule: Rule) -> Pairs:
    note = [("note", quoted(rule.note))] if rule.note else []
    if rule.digest is not None:
        return [("digest", f"{rule.digest[0]}:{rule.digest[1].hex()}"), *note]
    return [("text", quoted(rule.text or "")), *note]


def _missed(old: Profile, prediction: Prediction, wanted: Mapping[str, _Wanted]) -> list[Change]:
    """Return a remark for every claim that the profile requires of a boot and that these artefacts do not lead to."""
    if prediction.style is None:
        return []
    asked = (old.by_claim[claim] for claim in _STARTING if claim in old.by_claim)
    return [
        Change(one.claim, 0, 0, "required, and not predicted: these artefacts fail unless something else makes it")
        for one in asked
        if one.check is Check.REQUIRED and one.claim not in prediction.partial
        if one.claim not in wanted or not wanted[one.claim].sure
    ]


def _merged(
    old: ClaimPolicy | None, claim: str, wanted: _Wanted, *, bank: str, replace: bool
) -> tuple[ClaimPolicy | None, Change]:
    """Return what a claim's policy becomes, None where it stays, and what to say of it. *Raises* `ArtefactRefused`."""
    if old is None:
        check = Check.REQUIRED if wanted.sure else Check.OPTIONAL
        return ClaimPolicy(claim, check, wanted.rules), Change(claim, len(wanted.rules), 0, "new in this profile")
    if old.check is Check.ABSENT and wanted.sure:
        raise ArtefactRefused("predict-absent", f"the profile says that {claim} must be absent, and it will be there")
    if not old.check.judges:
        return None, Change(claim, 0, 0, f"{old.check.value} in this profile: left as it is")
    fresh = [rule for rule in wanted.rules if not _accepts(old, rule, bank)]
    if replace:
        return _replaced(old, wanted, added=len(fresh))
    if not fresh:
        return None, Change(claim, 0, 0)
    remark = f"no longer complete: {_NOT_AT_ONCE} (--replace keeps it)" if old.complete else ""
    return changed(old, accept=(*old.accept, *fresh), complete=False), Change(claim, len(fresh), 0, remark)


def _replaced(old: ClaimPolicy, wanted: _Wanted, *, added: int) -> tuple[ClaimPolicy | None, Change]:
    """Return a policy that accepts what is wanted and nothing else; what stays keeps the note that a person gave it."""
    names = {(rule.digest, rule.text) for rule in wanted.rules}
    gone = [rule for rule in old.accept if (rule.digest, rule.text) not in names]
    if not added and not gone:
        return None, Change(old.claim, 0, 0)
    known = {(rule.digest, rule.text): rule for rule in old.accept}
    kept = tuple(known.get((rule.digest, rule.text), rule) for rule in wanted.rules)
    opened = old.complete and not wanted.whole
    remark = f"no longer complete: {_NOT_IN_EVERY_BOOT}" if opened else ""
    complete = old.complete and wanted.whole
    return changed(old, accept=kept, complete=complete), Change(old.claim, added, len(gone), remark)


def _accepts(old: ClaimPolicy, rule: Rule, bank: str) -> bool:
    if rule.digest is not None:
        return old.accepts(*rule.digest, value=None)
    return old.accepts(bank, b"", value=rule.text)


def _write(edited: Edited, old: ClaimPolicy | None, policy: ClaimPolicy, *, swap: bool) -> None:
    """Put a claim's new policy into the text."""
    claims = entry(edited.root, "claims")
    if claims is None:
        raise ArtefactRefused("profile-layout", "the profile has no `claims:` to add to: write one claim")
    if old is None:
        edited.add(claims, policy.claim, [("check", policy.check.value)], [_pairs(rule) for rule in policy.accept])
        return
    place = entry(claims, policy.claim)
    if swap:
        edited.replace(entry(place, "accept"), [_pairs(rule) for rule in policy.accept])
    else:
        edited.append(entry(place, "accept"), [_pairs(rule) for rule in policy.accept[len(old.accept) :]])
    if old.complete and not policy.complete:
        remark = f"was true: {_NOT_IN_EVERY_BOOT if swap else _NOT_AT_ONCE}"
        edited.write_remarked(entry(place, "complete"), "false", remark)


def _summary(old: Profile, number: int, changes: Sequence[Change], prediction: Prediction) -> list[str]:
    """Return what the new version says of itself: what it accepts that the one before did not, and the other way round."""
    sources = list(dict.fromkeys(one.source for one in prediction.claims if one.source != FIRMWARE))
    before = f"v{old.version} and " if number != old.version else ""
    lines = [f"v{number}: {before}what was predicted from {', '.join(map(quoted, sources))}."]
    for change in changes:
        said = [f"{change.added} added"] if change.added else []
        said += [f"{change.removed} removed"] if change.removed else []
        said += [change.remark] if change.remark else []
        if said:
            lines.append(f"  {change.claim}: {', '.join(said)}")
    return [*lines, *(f"  Open: {remark}" for remark in prediction.remarks)]


def _canonical(policy: ClaimPolicy) -> ClaimPolicy:
    """Return a policy with its rules in the order in which a profile that is read has them."""
    return changed(policy, accept=ordered(policy.accept))


def _read(text: str) -> Profile:
    try:
        return parse_profile_yaml(text)
    except ProfileError as error:
        raise ArtefactRefused("profile-layout", f"what was written is no profile: {error}") from None
