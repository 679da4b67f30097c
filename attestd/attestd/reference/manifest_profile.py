"""What manifests say, as a profile: a new one, or the next version of one that there is. Values, not text (manifest_yaml.py).

Proves that nothing that a profile asks for is asked less: a claim that it ignores or forbids stays so, and is told; what it accepts
stays accepted, unless it is to be replaced. The one thing that gives way is `complete`, where old and new values stand side by
side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from attestd.appraisal.policy import (
    CLAIMS,
    NO_RUNTIME,
    Check,
    ClaimPolicy,
    Profile,
    RegisterPolicy,
    Rule,
    RuntimePolicy,
    Violations,
    ordered,
)
from attestd.inspection.measurement import Digest
from attestd.reference.manifest_values import LeftOut, Values

_PARTIAL: Final = frozenset({"boot-phase", "boot-entry", "separator"})
"""Claims of which a good machine may well show less than a log has (as where profiles are learnt)."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The parts of a profile that manifests speak of, as they are to be; `told` is what a person has to know of the change."""

    claims: Mapping[str, ClaimPolicy]
    registers: Mapping[int, RegisterPolicy]
    runtime: RuntimePolicy
    told: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def draft(values: Values, base: Profile | None, *, replaced: bool = False) -> Draft:
    """Return what a profile says with these values: alone, or added to `base`, or in the place of what `base` says of the same."""
    told: list[str] = []
    left_out = list(values.left_out)
    claims = {}
    for claim in CLAIMS:
        rules = tuple(values.claims.get(claim, ()))
        old = None if base is None else base.by_claim.get(claim)
        if rules and old is not None and not old.check.judges:
            left_out.append(
                _kept(values.claims[claim].values(), claim, f"the profile says {old.check.value}, and stays so")
            )
        elif rules:
            claims[claim] = _claim(claim, rules, old, told, replaced=replaced)
    registers = {}
    known = {} if base is None else {one.index: one for one in base.registers}
    for index in sorted(values.registers):
        old_register = known.get(index)
        if old_register is not None and not old_register.values:
            left_out.append(
                _kept(values.registers[index].values(), f"PCR {index}", "the profile ignores this register")
            )
            continue
        before = () if old_register is None or replaced else old_register.values
        registers[index] = RegisterPolicy(index, tuple(sorted({*before, *values.registers[index]})))
        if old_register is not None and set(before) - set(values.registers[index]):
            told.append(f"PCR {index}: the values it might have before stay accepted (--replace takes them away)")
    runtime = _runtime(values, base, replaced=replaced)
    if base is not None and values.files and base.runtime.check is Check.ABSENT:
        said = (one for digests in values.files.values() for one in digests.values())
        left_out.append(_kept(said, "files", "the profile says that the runtime list is absent, and stays so"))
    elif base is not None and runtime.check is not base.runtime.check:
        told.append(f"runtime: it was {base.runtime.check.value}, and is {runtime.check.value} now")
    return Draft(claims, registers, runtime, tuple(told), tuple(left_out))


def _kept(said: Iterable[object], what: str, why: str) -> LeftOut:
    file = next((getattr(getattr(one, "source", None), "file", "") for one in said), "")
    return LeftOut(file, what, why)


def _claim(
    claim: str, rules: tuple[Rule, ...], old: ClaimPolicy | None, told: list[str], *, replaced: bool
) -> ClaimPolicy:
    complete = len(rules) > 1 and claim not in _PARTIAL
    if old is None:
        return ClaimPolicy(claim, Check.REQUIRED, ordered(rules), complete)
    meanings = {_meaning(rule) for rule in rules}
    other = tuple(rule for rule in old.accept if _meaning(rule) not in meanings)
    if replaced:
        if other:
            told.append(f"{claim}: {len(other)} values that were accepted are not any longer")
        return replace(old, accept=ordered(rules), complete=old.complete or complete)
    known = {_meaning(rule) for rule in old.accept}
    fresh = tuple(rule for rule in rules if _meaning(rule) not in known)
    if not fresh:
        return old
    if other and old.complete:
        told.append(
            f"{claim}: no longer complete, since old and new values are never there at once (--replace keeps it)"
        )
    if other:
        told.append(f"{claim}: {len(other)} values that were accepted before stay accepted (--replace takes them away)")
    return replace(old, accept=ordered((*old.accept, *fresh)), complete=old.complete and not other)


def _meaning(rule: Rule) -> Rule:
    return replace(rule, note="")


def _runtime(values: Values, base: Profile | None, *, replaced: bool) -> RuntimePolicy:
    old = NO_RUNTIME if base is None else base.runtime
    if not values.files or old.check is Check.ABSENT:
        return old
    allow: dict[str, set[Digest]] = {path: set(digests) for path, digests in old.allow}
    for path, digests in values.files.items():
        allow[path] = set(digests) | (set() if replaced else allow.get(path, set()))
    listed = tuple((path, tuple(sorted(digests))) for path, digests in sorted(allow.items()))
    check = old.check if old.check.judges else Check.REQUIRED
    return RuntimePolicy(check, listed, old.exclude, Violations(old.violations))
