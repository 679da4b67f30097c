"""What changed between two boots, in the words of a person: components and files, not register values.

Compares what two logs say. Nothing here is proved: without a quote a log is what somebody wrote. Components are compared by their
digests, in whatever order firmware measured them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from attestd.appraisal.explain import difference
from attestd.appraisal.revocation import revoked_digests
from attestd.evidence.components import components
from attestd.evidence.labels import printable
from attestd.evidence.types import Component
from attestd.inspection.canonical import Content, content_matches
from attestd.inspection.claimed import NOTHING, Claimed, claimed_by
from attestd.inspection.eventlog import read_any_log
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.registers import Values, read_registers
from attestd.protocol.limits import PCR_COUNT
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import EventLog, replay
from attestd.tpm.ima import RuntimeList, parse_ima

_BANKS: Final = ("sha512", "sha384", "sha256", "sha1")
_ALL: Final = frozenset(range(PCR_COUNT))
_RUNTIME: Final = 10
_MOST: Final = 500
"""Changes told one by one; two machines of different kinds differ in everything."""
_SHOWN: Final = 300
_MODULES: Final = "windows-module"
_WINDOWS: Final = "windows-"
_AGGREGATE: Final = b"boot_aggregate"


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `kind` is added, removed or changed; `pcrs` are where it was measured; texts are None where no log has them."""

    subject: str
    kind: str
    text: str
    pcrs: tuple[int, ...]
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class DifferenceReport:
    """All changes between two boots, and the registers that differ."""

    changes: tuple[Change, ...]
    pcrs: tuple[int, ...]
    bank: str

    @property
    def same(self) -> bool:
        """Return whether nothing changed."""
        return not self.changes and not self.pcrs

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "outcome": "same" if self.same else "different",
            "bank": self.bank,
            "pcrs": list(self.pcrs),
            "changes": [
                {
                    "subject": one.subject,
                    "kind": one.kind,
                    "text": one.text,
                    "pcrs": list(one.pcrs),
                    "before": one.before,
                    "after": one.after,
                }
                for one in self.changes
            ],
        }


def refused_difference(code: str, message: str) -> dict[str, Any]:
    """Return the document where one of the two cannot be read."""
    return {"outcome": "refused", "reason": code, "message": message, "bank": None, "pcrs": [], "changes": []}


@dataclass(frozen=True, slots=True)
class Boot:
    """One side: its log, its runtime list and register values where it has them."""

    log: EventLog
    contents: Mapping[int, Content]
    runtime: RuntimeList | None = None
    values: Values | None = None
    claimed: Claimed = NOTHING


def read_boot(files: Mapping[str, bytes]) -> Boot:
    """Return one side from an evidence directory's files, or from a log alone (under "eventlog.bin").

    *Raises* `InspectionRefused`.
    """
    if "eventlog.bin" not in files:
        raise InspectionRefused("evidence-incomplete", "there is no eventlog.bin")
    listed = files.get("ima.bin") or files.get("ima.ascii")
    try:
        log, contents, fault = read_any_log(files["eventlog.bin"])
        if fault is not None:
            raise fault
        runtime = parse_ima(listed) if listed else None
    except Malformed as error:
        raise InspectionRefused(error.code, str(error)) from None
    values = read_registers(files["pcrs.json"]) if "pcrs.json" in files else None
    return Boot(log, contents, runtime, values, claimed_by(files))


def inspect_difference(before: Boot, after: Boot) -> DifferenceReport:
    """Return what changed. *Raises* `InspectionRefused` ("bank-different") where the logs share no bank."""
    bank = next((one for one in _BANKS if one in before.log.algorithms and one in after.log.algorithms), None)
    if bank is None:
        raise InspectionRefused("bank-different", "the two logs have no hash algorithm in common")
    changes = [*_components(before, after, bank), *_files(before.runtime, after.runtime)]
    pcrs = _registers(before, after, bank)
    explained = {pcr for change in changes for pcr in change.pcrs}
    changes += [_order(pcr, before, after, bank) for pcr in pcrs if pcr not in explained]
    return DifferenceReport(tuple(changes[:_MOST]), pcrs, bank)


def _registers(before: Boot, after: Boot, bank: str) -> tuple[int, ...]:
    """Return the registers that differ: by their values where both sides have them, else by replay."""
    first, second = (boot.values.get(bank) if boot.values else None for boot in (before, after))
    if not first or not second:
        first, second = (dict(_replayed(boot.log, bank)) for boot in (before, after))
    return tuple(sorted(index for index in first.keys() | second.keys() if first.get(index) != second.get(index)))


def _replayed(log: EventLog, bank: str) -> Mapping[int, bytes]:
    try:
        return replay(log, bank).pcrs
    except Malformed:
        return {}


def _components(before: Boot, after: Boot, bank: str) -> Iterator[Change]:
    first, second = (_by_claim(boot, bank) for boot in (before, after))
    for claim in dict.fromkeys((*first, *second)):
        yield from _merged(_claim(claim, first.get(claim, []), second.get(claim, [])))


def _by_claim(boot: Boot, bank: str) -> dict[str, list[Component]]:
    found: dict[str, list[Component]] = {}
    for component, _ in components(boot.log.events, bank, registers=_ALL):
        told = _said(boot, component) or boot.claimed.proven(component, bank)
        found.setdefault(told.claim, []).append(told)
    if _MODULES in found:
        found[_MODULES] = _named(found[_MODULES])
    return found


def _named(modules: Sequence[Component]) -> list[Component]:
    """Return Windows' images by their names where one register has names and another digests alone: both tell the same."""
    names = {word: one.label for one in modules if " " in one.label for word in one.label.split(" ") if ":" in word}
    return [
        one._replace(value=names[one.label], label=names[one.label]) if one.label in names else one for one in modules
    ]


def _said(boot: Boot, component: Component) -> Component | None:
    """Return what a record of another kind than firmware's says, in a canonical log; None in others."""
    content = boot.contents.get(component.event)
    if content is None or content.kind == "pcclient_std":
        return None
    proven = content_matches(boot.log.events[component.event], content)
    text = printable(content.text[:_SHOWN])
    return component._replace(claim=f"{content.kind} record", value=text if proven else None, label=text)


def _claim(claim: str, before: Sequence[Component], after: Sequence[Component]) -> Iterator[Change]:
    """Yield the changes of one claim: what both have is left out, what remains is paired within a register."""
    old, new = _surplus(before, after), _surplus(after, before)
    subject = claim.replace("-", " ")
    for one in old:
        other = _partner(one, new)
        if other is None:
            yield Change(subject, "removed", f"{subject} removed: {_told(one)}", (one.pcr,), one.value, None)
            continue
        new.remove(other)
        text = f"{subject} changed: {_words(one, other)}"
        yield Change(subject, "changed", text, (one.pcr,), one.value, other.value)
    for one in new:
        yield Change(subject, "added", f"{subject} added: {_told(one)}", (one.pcr,), None, one.value)


def _surplus(these: Sequence[Component], those: Sequence[Component]) -> list[Component]:
    left = Counter(_identity(one) for one in those)
    found = []
    for one in these:
        if left[_identity(one)] > 0:
            left[_identity(one)] -= 1
        else:
            found.append(one)
    return found


def _identity(one: Component) -> tuple[int, object]:
    """Return what makes a component the same on both sides: its digest, or its text where an event holds many (Windows')."""
    return one.pcr, one.value if one.claim.startswith(_WINDOWS) else one.digest


def _partner(one: Component, others: Sequence[Component]) -> Component | None:
    """Return what took the place of a component: the same label in its register first, then the next one there."""
    near = [other for other in others if other.pcr == one.pcr]
    if one.claim.startswith(_WINDOWS):
        return next((other for other in near if _subject(other) == _subject(one)), None)
    return next((other for other in near if other.label == one.label), near[0] if near else None)


def _subject(one: Component) -> str:
    """Return which setting or image a component of Windows is about: the words in front of its value, or its path."""
    return one.label.partition(": ")[0] if ": " in one.label else one.label.partition(" \\")[2].lower() or one.label[:4]


def _told(one: Component) -> str:
    return _short(one.value if one.value is not None and not one.value.startswith("hex ") else one.label)


def _words(before: Component, after: Component) -> str:
    if before.data is not None and after.data is not None:
        old, new = revoked_digests(before.data), revoked_digests(after.data)
        return f"{len(new - old)} entries added, {len(old - new)} removed, {len(new)} now"
    if before.value is None or after.value is None or before.value.startswith("hex "):
        same = before.label == after.label
        label = before.label if same else f"{before.label} is now {after.label}"
        return f"{_short(label)}, {before.digest.hex()[:12]}… is now {after.digest.hex()[:12]}…"
    added, removed = difference(before.value, after.value)
    parts = [f"{_listed(added)} added"] if added else []
    parts += [f"{_listed(removed)} removed"] if removed else []
    return ", ".join(parts) or f"{_short(before.value)} is now {_short(after.value)}"


def _listed(words: Iterable[str]) -> str:
    return _short(", ".join(f"`{printable(word)}`" for word in words))


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


def _merged(changes: Iterable[Change]) -> Iterator[Change]:
    """Join changes that read the same in several registers (a command line is measured up to three times)."""
    joined: dict[str, Change] = {}
    for one in changes:
        known = joined.get(one.text)
        pcrs = tuple(sorted({*one.pcrs, *(known.pcrs if known else ())}))
        joined[one.text] = Change(one.subject, one.kind, one.text, pcrs, one.before, one.after)
    yield from joined.values()


def _files(before: RuntimeList | None, after: RuntimeList | None) -> Iterator[Change]:
    """Yield the files that the kernel measured on one side alone, or with another content."""
    if before is None or after is None:
        return
    first, second = _contents(before), _contents(after)
    for path in sorted(first.keys() | second.keys()):
        old, new = first.get(path, frozenset()), second.get(path, frozenset())
        if old == new:
            continue
        name = _short(path.decode("utf-8", "backslashreplace"))
        before_text, after_text = (", ".join(sorted(digests)) or None for digests in (old, new))
        kind = "changed" if old and new else "added" if new else "removed"
        word = {"changed": "has another content", "added": "is measured now", "removed": "is no longer measured"}[kind]
        yield Change("file", kind, f"the file {name} {word}", (_RUNTIME,), before_text, after_text)


def _contents(runtime: RuntimeList) -> dict[bytes, frozenset[str]]:
    found: dict[bytes, set[str]] = {}
    for entry in runtime.entries:
        if entry.path is None or entry.path == _AGGREGATE:
            continue
        algorithm, digest = entry.file_digest or ("template", entry.template_digest)
        found.setdefault(entry.path, set()).add("violation" if entry.violation else f"{algorithm}:{digest.hex()}")
    return {path: frozenset(digests) for path, digests in found.items()}


def _aggregate(runtime: RuntimeList | None) -> object:
    """Return what the first entry of a list says, which is a digest over the boot's registers."""
    first = runtime.entries[0] if runtime is not None and runtime.entries else None
    return (first.path, first.file_digest) if first is not None else None


def _order(pcr: int, before: Boot, after: Boot, bank: str) -> Change:
    """Say of a register that differs without a changed component what can be said."""
    first, second = (
        sorted(
            digest for event in boot.log.events if event.pcr == pcr for name, digest in event.digests if name == bank
        )
        for boot in (before, after)
    )
    if pcr == _RUNTIME:
        text = "the runtime list starts from another boot aggregate, which follows from the boot's registers"
        if _aggregate(before.runtime) == _aggregate(after.runtime):
            text = "the runtime list went another way: the same files in another order"
    elif first and first == second:
        text = f"the same was measured into PCR {pcr}, in another order or from another start"
    else:
        text = f"PCR {pcr} differs, and no log says why"
    return Change("register", "changed", text, (pcr,), None, None)
