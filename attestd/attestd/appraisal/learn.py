"""A first profile out of machines that a person holds to be good.

Yields a YAML document with comments that say what was generalised and why, for a person to read, change and have approved. It
proves nothing of those machines: what was wrong on all of them is in the profile. Assumes evidence of one kind of machine.
Whatever differs between them is either listed, or turned into a pattern, or, for claims that describe a single machine and no
code, not judged; each such choice is a comment.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from attestd.appraisal.pattern import arguments_match
from attestd.appraisal.policy import ARGUMENT_CLAIMS, CLAIM_REGISTERS, CLAIMS, NEVER_IGNORED
from attestd.appraisal.steps import RUNTIME_REGISTER
from attestd.appraisal.writing import allow_line, quoted
from attestd.evidence.runtime import OPAQUE
from attestd.evidence.types import AuthenticatedEvidence, BootFacts, Component, RuntimeFacts
from attestd.protocol.limits import MAX_FINDING_TEXT, MAX_PATTERN

_SINGULAR: Final = frozenset({"gpt", "boot-order", "boot-entry", "platform-config", "option-rom-config", "management"})
"""Claims that describe one machine (disk identifiers, serial numbers, boot entries) and carry no code."""
_EVERY_BOOT: Final = frozenset({"windows-state"})
"""Claims that differ with every boot of one machine."""
_PARTIAL: Final = frozenset({"boot-phase", "boot-entry", "separator"})
"""Claims of which a good machine may well show less than was seen."""
_SIMILAR: Final = 0.5
"""Two texts become a pattern when they share at least this part of the longer one, at beginning and end."""

_SEARCH: Final = ("search ", "search.")
"""GRUB's commands that find a file system by its identifier, which stands there without a key."""
_IDENTIFYING: Final = 4
"""Characters below which a value is a switch or a level, and not what identifies a machine."""


class CannotLearn(ValueError):
    """Evidence that no profile should be learnt from; the text says why."""


class _Rule(NamedTuple):
    kind: str
    text: str
    note: str


def learn(evidences: Sequence[AuthenticatedEvidence], *, name: str, version: int) -> str:
    """Return a profile in YAML that accepts all of these machines.

    *Raises* `CannotLearn` where one has no boot log, or one that is itself at fault.
    """
    boots = tuple(_sound(evidence) for evidence in evidences)
    if not boots:
        raise CannotLearn("no machine to learn from")
    lines = [
        f"# Learnt from {_machines(len(boots))}. Read every line: what was wrong there is accepted here.",
        f"profile: {quoted(name)}",
        f"version: {version}",
        "claims:",
    ]
    for claim in CLAIMS:
        lines += _claim_lines(
            claim, [[c for c in boot.components if c.claim == claim] for boot in boots], boots[0].bank
        )
    lines += _register_lines(evidences, boots)
    lines += _runtime_lines([evidence.runtime for evidence in evidences])
    lines += _tpm_lines(evidences)
    return "\n".join(lines) + "\n"


def _sound(evidence: AuthenticatedEvidence) -> BootFacts:
    boot = evidence.boot
    if boot is None:
        raise CannotLearn(f"{evidence.ek.device_id}: no boot log")
    if evidence.runtime is not None and evidence.runtime.offset:
        raise CannotLearn(f"{evidence.ek.device_id}: the runtime list is only the part since the last proof")
    findings = boot.findings + (evidence.runtime.findings if evidence.runtime is not None else ())
    if findings or not set(range(8)) <= boot.explained:
        reason = f"{findings[0].code}: {findings[0].actual}" if findings else "PCR 0 to 7 are not all explained"
        raise CannotLearn(f"{evidence.ek.device_id}: {reason}")
    return boot


def _claim_lines(claim: str, seen: list[list[Component]], bank: str) -> list[str]:
    if not any(seen):
        return []
    sets = [frozenset(component.digest for component in components) for components in seen]
    same = len(set(sets)) == 1
    lines = [f"  {claim}:  # {CLAIMS[claim]}"]
    if claim in _EVERY_BOOT:
        return [*lines, "    check: ignored  # differs with every boot", ""]
    if not same and claim in _SINGULAR and claim not in NEVER_IGNORED:
        return [*lines, "    check: ignored  # differs between good machines, and is no code", ""]
    if all(seen):
        lines.append("    check: required")
    else:
        lines.append(f"    check: optional  # on {sum(map(bool, seen))} of {_machines(len(seen))}")
    rules, remarks = _rules(claim, seen, bank)
    if same and len(rules) > 1 and claim not in _PARTIAL:
        lines.append("    complete: true  # all of these, not only some")
    if claim == "secure-boot-dbx":
        remarks.append("this very list: with `revokes` in place of a digest, later lists are accepted too")
    lines += [f"    # {remark}" for remark in remarks]
    lines.append("    accept:")
    for rule in rules:
        lines.append(f"      - {rule.kind}: {rule.text}")
        lines += [f"        note: {quoted(rule.note)}"] if rule.note else []
    return [*lines, ""]


def _rules(claim: str, seen: list[list[Component]], bank: str) -> tuple[list[_Rule], list[str]]:
    """Return the rules that accept every component, and what was generalised to get there."""
    rules: dict[tuple[str, str], _Rule] = {}
    remarks: list[str] = []
    aligned = len({len(components) for components in seen}) == 1
    for column in zip(*seen, strict=True) if aligned else ([item] for items in seen for item in items):
        pattern = (_arguments_pattern if claim in ARGUMENT_CLAIMS else _pattern)([item.value for item in column])
        if pattern is not None:
            rules.setdefault(("glob", pattern), _Rule("glob", quoted(pattern), ""))
            remarks.append("where good machines differ in a part of the text, a pattern stands for it")
            continue
        for component in column:
            rule = _exact(component, bank)
            rules.setdefault((rule.kind, rule.text), rule)
    if len({frozenset(component.digest for component in components) for components in seen}) > 1:
        remarks.append("good machines differ here: what any of them had is accepted")
    return list(rules.values()), list(dict.fromkeys(remarks))


def _exact(component: Component, bank: str) -> _Rule:
    if component.value is not None and len(component.value) <= MAX_FINDING_TEXT:
        return _Rule("text", quoted(component.value), "")
    return _Rule("digest", f"{bank}:{component.digest.hex()}", component.label)


def _pattern(values: Sequence[str | None]) -> str | None:
    """Return a pattern for texts that differ in one part only, or None where listing them is better."""
    texts = _different(values)
    if not texts:
        return None
    head = _common_start(texts)
    shortest = min(len(text) for text in texts)
    tail = _common_start([text[len(head) :][::-1] for text in texts])[::-1]
    pattern = f"{head}*{tail}"
    shared = len(head) + len(tail)
    if shared < _SIMILAR * max(map(len, texts)) or shared > shortest or len(pattern) > MAX_PATTERN:
        return None
    return pattern


def _different(values: Sequence[str | None]) -> list[str]:
    """Return the texts for which a pattern may stand: all are known, there are several, and none has a star in it."""
    texts = sorted({value for value in values if value is not None})
    unfit = len(texts) < 2 or len(texts) != len(set(values)) or any("*" in text for text in texts)
    return [] if unfit else texts


def _arguments_pattern(values: Sequence[str | None]) -> str | None:
    """Return a pattern for lines that have the same arguments but for what identifies a machine in some of them, or None."""
    texts = _different(values)
    if len({text.count(" ") for text in texts}) != 1:
        return None
    bare = all(text.startswith(_SEARCH) for text in texts)
    arguments = [_argument(column, bare=bare) for column in zip(*(text.split(" ") for text in texts), strict=True)]
    if any(argument is None for argument in arguments):
        return None
    pattern = " ".join(argument for argument in arguments if argument is not None)
    fits = len(pattern) <= MAX_PATTERN and all(arguments_match(pattern, text) for text in texts)
    return pattern if fits else None


def _argument(words: Sequence[str], *, bare: bool) -> str | None:
    """Return the argument, or a pattern for what it was on several machines; None where no pattern would be safe.

    A star stands for what identifies a machine or a version (a digit is in it, and it is no switch like 0 and 1), and only
    behind the key of the argument or in a path, unless a `bare` argument cannot mean anything else.
    """
    if len(set(words)) == 1:
        return words[0]
    head = _common_start(words)
    tail = _common_start([word[len(head) :][::-1] for word in words])[::-1]
    values = [word[head.rfind("=") + 1 :] for word in words]
    if any(len(value) < _IDENTIFYING or not any(map(str.isdigit, value)) for value in values):
        return None
    return f"{head}*{tail}" if bare or "=" in head or head.startswith("/") else None


def _common_start(texts: Sequence[str]) -> str:
    """Return what all of the texts begin with."""
    low, high = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length]


def _register_lines(evidences: Sequence[AuthenticatedEvidence], boots: Sequence[BootFacts]) -> list[str]:
    open_registers: set[int] = set()
    for boot in boots:
        open_registers |= boot.unexplained | boot.unlogged
    open_registers -= {RUNTIME_REGISTER}
    claims = {component.claim for boot in boots for component in boot.components}
    unquoted = {index for claim in claims for index in CLAIM_REGISTERS.get(claim, ())}
    unquoted = unquoted.difference(*(dict(evidence.quote.pcrs) for evidence in evidences))
    lines = []
    for index in sorted(open_registers):
        values = {dict(evidence.quote.pcrs)[index] for evidence in evidences if index in dict(evidence.quote.pcrs)}
        if len(values) == 1 and len(evidences) > 1:
            lines.append(f"  {index}: [{boots[0].bank}:{values.pop().hex()}]  # no log explains it")
        else:
            lines.append(f"  {index}: ignored  # no log explains it")
    lines += [f"  {index}: ignored  # not quoted: nothing is known of it" for index in sorted(unquoted)]
    return ["pcrs:  # on good machines, too", *lines, ""] if lines else []


def _runtime_lines(facts: Sequence[RuntimeFacts | None]) -> list[str]:
    lists = [item for item in facts if item is not None]
    if not lists:
        return []
    allowed: dict[bytes, set[str]] = {}
    for item in lists:
        for entry in item.entries:
            if entry.algorithm != OPAQUE:
                allowed.setdefault(entry.path, set()).add(f"{entry.algorithm}:{entry.digest.hex()}")
    if not allowed:
        return []
    check = "required" if len(lists) == len(facts) else "optional"
    seen = sum(item.violations for item in lists)
    violations = "allow  # they happen on these good machines" if seen else "refuse"
    lines = ["runtime:", f"  check: {check}", f"  violations: {violations}", "  allow:"]
    return [*lines, *_allow_lines(allowed), ""]


def _allow_lines(allowed: dict[bytes, set[str]]) -> Iterator[str]:
    for path, digests in sorted(allowed.items()):
        try:
            text = path.decode("utf-8")
        except UnicodeDecodeError:
            yield f"    # {quoted(path.decode('utf-8', 'backslashreplace'))} is not UTF-8: only a pattern can exclude it"
            continue
        yield allow_line(text, digests, remark=f"{len(digests)} contents on good machines" if len(digests) > 1 else "")


def _tpm_lines(evidences: Iterable[AuthenticatedEvidence]) -> list[str]:
    makers = sorted({evidence.ek.manufacturer for evidence in evidences if evidence.ek.manufacturer})
    versions = sorted({f"{evidence.quote.firmware_version:#018x}" for evidence in evidences})
    return [
        "# To accept these chips and this firmware of theirs only:",
        "# tpm:",
        f"#   manufacturers: [{', '.join(map(quoted, makers))}]",
        f"#   firmware-versions: [{', '.join(map(quoted, versions))}]",
    ]


def _machines(count: int) -> str:
    return "1 machine" if count == 1 else f"{count} machines"
