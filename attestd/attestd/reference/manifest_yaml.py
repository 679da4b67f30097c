"""A profile out of manifests as a text that people read: each value with a comment that says whose word it is.

Proves that the text means what it was made from, and that the next version of a profile differs from before in nothing else: it is
read again and compared. What people wrote into a profile stays where it is, comments above all.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from attestd.appraisal.policy import CLAIMS, ClaimPolicy, Profile, RegisterPolicy, Rule, RuntimePolicy
from attestd.appraisal.profile import ProfileError, parse_profile_yaml
from attestd.appraisal.writing import quoted
from attestd.evidence.labels import printable
from attestd.inspection.measurement import Digest, digest_text
from attestd.reference.manifest import Manifest, ManifestRefused
from attestd.reference.manifest_profile import Draft
from attestd.reference.manifest_values import Values
from attestd.reference.yamledit import EditedLines, LayoutRefused, Lines

_SINGULAR: Final = frozenset({"gpt", "boot-order", "boot-entry"})
"""Claims that name a disk or an installation: a maker's machine and yours differ in them, unless the maker installed both."""
_MOST_TOLD: Final = 32
"""Lines of a comment; the report has all."""


def new_text(made: Draft, values: Values, manifests: Sequence[Manifest], *, name: str, version: int) -> str:
    """Return a profile that says this and nothing else. *Raises* `ManifestRefused` ("profile-layout")."""
    lines = [*_head(made, manifests), f"profile: {quoted(name)}", f"version: {version}"]
    if not made.claims and not made.registers:
        lines.insert(0, "# Files alone: it says nothing of the boot, so nothing passes it yet.")
    if made.claims:
        lines += ["claims:"]
        for policy in made.claims.values():
            lines += [*_claim_lines(policy, values), ""]
    if made.registers:
        lines += ["pcrs:"]
        for register in made.registers.values():
            lines += _register_lines(register, values)
    if values.files:
        lines += _runtime_lines(made.runtime, values)
    text = "\n".join(lines).rstrip("\n") + "\n"
    found = _read(text)
    expected = (tuple(sorted(made.claims)), tuple(made.registers.values()), made.runtime)
    if (tuple(one.claim for one in found.claims), found.registers, found.runtime) != expected or any(
        found.by_claim[claim] != policy for claim, policy in made.claims.items()
    ):
        raise ManifestRefused("profile-layout", "what was written does not mean what the manifests say")
    return text


def next_text(
    text: str, base: Profile, made: Draft, values: Values, manifests: Sequence[Manifest], *, name: str, version: int
) -> str:
    """Return the profile in `text`, comments included, with what was drafted, as this version.

    *Assumes* that `base` is what the text means. *Raises* `ManifestRefused` ("profile-layout").
    """
    head = _head(made, manifests, base=base, version=version)
    try:
        new = _changed(text, base, made, values, head, name=name, version=version)
    except LayoutRefused as error:
        raise ManifestRefused("profile-layout", str(error)) from None
    expected = replace(
        base,
        name=name,
        version=version,
        claims=tuple(sorted({**base.by_claim, **made.claims}.values(), key=lambda one: one.claim)),
        registers=_registers(base, made),
        runtime=made.runtime,
    )
    if replace(_read(new), document=b"") != replace(expected, document=b""):
        raise ManifestRefused("profile-layout", "the profile is written in a way that cannot be added to in its place")
    return new


def _changed(text: str, base: Profile, made: Draft, values: Values, head: Lines, *, name: str, version: int) -> str:
    """Return the text with what was drafted in it, and `head` above it. *Raises* `LayoutRefused`."""
    edited = EditedLines(text)
    edited.scalar("version", str(version))
    if name != base.name:
        edited.scalar("profile", quoted(name))
    claims, registers = edited.section("claims"), edited.section("pcrs")
    for claim, policy in made.claims.items():
        if policy != base.by_claim.get(claim):
            edited.put(claims, claim, _claim_lines(policy, values))
    for index, register in made.registers.items():
        if register not in base.registers:
            edited.put(registers, str(index), _register_lines(register, values))
    if made.runtime != base.runtime:
        _put_runtime(edited, base, made, values)
    edited.above(head)
    return edited.text()


def _registers(base: Profile, made: Draft) -> tuple[RegisterPolicy, ...]:
    found = {**{one.index: one for one in base.registers}, **made.registers}
    return tuple(found[index] for index in sorted(found))


def _read(text: str) -> Profile:
    try:
        return parse_profile_yaml(text)
    except ProfileError as error:
        raise ManifestRefused("profile-layout", f"what was written is no profile: {error}") from None


# --- Lines ----------------------------------------------------------------------------------------------------------


def _head(made: Draft, manifests: Sequence[Manifest], *, base: Profile | None = None, version: int = 0) -> Lines:
    """Return what the profile says of where it comes from, who vouches for it, and what could not be taken."""
    lines = ["Imported from makers' manifests. Read every line."]
    if base is not None:
        lines = [f"v{version}: v{base.version} and what makers' manifests say."]
    for manifest in manifests:
        source = manifest.source
        if source.signer is None:
            lines.append(f"  {source.text}: NOBODY VOUCHES FOR IT. Anybody may have written these values.")
        else:
            lines.append(f"  {source.text}: signed by {source.signer}")
    lines += [f"  {one}" for one in made.told]
    lines += [f"  Left out: {one.text}" for one in made.left_out[:_MOST_TOLD]]
    if len(made.left_out) > _MOST_TOLD:
        lines.append(f"  Left out: {len(made.left_out) - _MOST_TOLD} more")
    return [f"# {printable(line)}" for line in lines]


def _claim_lines(policy: ClaimPolicy, values: Values, *, margin: str = "  ") -> Lines:
    lines = [f"{margin}{policy.claim}:  # {CLAIMS[policy.claim]}"]
    if policy.claim in _SINGULAR and policy.claim in values.claims:
        lines.append(
            f"{margin}  # The maker's own machine had this. Where yours differ in it: check: ignored, and nothing else."
        )
    lines.append(f"{margin}  check: {policy.check.value}")
    lines += [f"{margin}  complete: true  # all of these, not only some"] if policy.complete else []
    lines.append(f"{margin}  accept:")
    said = values.claims.get(policy.claim, {})
    origins = {(rule.digest, rule.text): one.text for rule, one in said.items()}
    for rule in policy.accept:
        remark = origins.get((rule.digest, rule.text)) if rule.glob is None else None
        kind, value = _written(rule)
        lines.append(f"{margin}    - {kind}: {value}{_comment(remark)}")
        lines += [f"{margin}      note: {quoted(rule.note)}"] if rule.note else []
    return lines


def _written(rule: Rule) -> tuple[str, str]:
    if rule.digest is not None:
        return "digest", digest_text(rule.digest)
    if rule.revokes:
        return "revokes", f"[{', '.join(map(quoted, rule.revokes))}]"
    return ("text", quoted(rule.text)) if rule.text is not None else ("glob", quoted(rule.glob or ""))


def _register_lines(register: RegisterPolicy, values: Values, *, margin: str = "  ") -> Lines:
    said = values.registers.get(register.index, {})
    origins = {digest: one.text for digest, one in said.items()}
    lines = [f"{margin}{register.index}:"]
    return lines + [f"{margin}  - {digest_text(one)}{_comment(origins.get(one))}" for one in register.values]


def _runtime_lines(policy: RuntimePolicy, values: Values) -> Lines:
    lines = ["runtime:", f"  check: {policy.check.value}", f"  violations: {policy.violations.value}"]
    lines += [f"  exclude: [{', '.join(map(quoted, policy.exclude))}]"] if policy.exclude else []
    return [
        *lines,
        "  allow:",
        *(line for path, digests in policy.allow for line in _allow_lines(path, digests, values)),
    ]


def _allow_lines(path: str, digests: Sequence[Digest], values: Values, *, margin: str = "    ") -> Lines:
    """Return one path; on one line where all its digests are of one source."""
    origins = {digest: one.text for digest, one in values.files.get(path, {}).items()}
    remarks = {origins.get(digest) for digest in digests}
    if len(remarks) == 1:
        listed = ", ".join(map(digest_text, digests))
        return [f"{margin}{quoted(path)}: [{listed}]{_comment(remarks.pop())}"]
    lines = [f"{margin}{quoted(path)}:"]
    return lines + [f"{margin}  - {digest_text(digest)}{_comment(origins.get(digest))}" for digest in digests]


def _comment(remark: str | None) -> str:
    return f"  # {printable(remark)}" if remark else ""


def _put_runtime(edited: EditedLines, base: Profile, made: Draft, values: Values) -> None:
    runtime = edited.section("runtime")
    allow = None if isinstance(runtime, str) else edited.child(runtime, "allow")
    if allow is None or made.runtime.check is not base.runtime.check:
        edited.put(edited.root, "runtime", _runtime_lines(made.runtime, values))
        return
    before = dict(base.runtime.allow)
    for path, digests in made.runtime.allow:
        if before.get(path) != digests:
            edited.put(allow, path, _allow_lines(path, digests, values))
