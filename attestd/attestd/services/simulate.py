"""What a change of policy would do to the devices there are, before anybody signs it.

Holds the newest kept proof of every device against the versions that are active and against those that would be, and puts
devices together whose outcome has the same reasons. Assumes nothing of the service but its database: it may run at the same
time. Reads a page at a time in transactions of their own, and writes nothing. Decides nothing: what a device will prove next is
for its next proof to say.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from sqlalchemy import Connection

from attestd.appraisal.policy import Profile, Tier
from attestd.appraisal.result import FindingDetail
from attestd.changes.book import Admission, PolicyBook, fold
from attestd.changes.errors import ChangeRefused
from attestd.changes.statement import Change
from attestd.lifecycle.table import State
from attestd.services import custody
from attestd.services.context import Verifier
from attestd.services.declined import Declined
from attestd.services.kept import Cause, Hindsight, Opinion, Untold
from attestd.store import devices
from attestd.store.devices import DeviceSummary
from attestd.store.kept import KeptProof, kept_proofs

Effect = Literal["unchanged", "refused", "warned", "trusted", "untold"]
EFFECTS: Final[tuple[Effect, ...]] = ("refused", "warned", "untold", "trusted", "unchanged")

OUT_OF_SERVICE: Final = (State.BANNED.value, State.RETIRED.value)
"""States that no profile leads into or out of: such devices are left out and counted."""

PAGE: Final = 500
"""Devices in one reading transaction: some tenths of a second at most, so that SQLite's write-ahead log does not grow for it."""
MAX_GROUPS: Final = 500
"""Groups that are told apart; devices beyond are counted by their effect alone."""
MAX_VARIANTS: Final = 1_000
"""Sets of measured values that are told apart in all groups together: reasons are few, values can be each device's own."""
MAX_BOOTS: Final = 1_000
"""Distinct boots that are counted in one group."""

_EFFECTS: Final[dict[Tier, Effect]] = {
    Tier.AFFIRMING: "trusted",
    Tier.WARNING: "warned",
    Tier.CONTRAINDICATED: "refused",
    Tier.NONE: "refused",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """The question: devices of the profile `name`, judged by `before` and by `after` (both newest first)."""

    name: str
    before: tuple[Profile, ...]
    after: tuple[Profile, ...]


def obstacle(book: PolicyBook, draft: Profile) -> ChangeRefused | None:
    """Return why the draft could not be activated as the next change, or None where it could."""
    change = Change(
        book.sequence + 1, "profile-activate", draft.name, draft.document, book.digest, "nobody", book.changed_at
    )
    try:
        fold(book, change)
    except ChangeRefused as refused:
        return refused
    return None


def trial_of(
    verifier: Verifier, book: PolicyBook, name: str, *, draft: Profile | None, alone: bool, retire: Sequence[int]
) -> Trial:
    """Return the question what becomes of the devices of profile `name` when `draft` is activated and `retire` are retired.

    What is active of the draft's profile stays beside it, unless the draft shall stand `alone`. *Raises* Declined
    (policy-unknown), Refused (policy-missing) for an active version that cannot be read.
    """
    before = verifier.policy.profiles(book, name)
    staying = before if draft is None or draft.name == name else verifier.policy.profiles(book, draft.name)
    unknown = sorted(set(retire) - {one.version for one in staying})
    if unknown:
        whose = name if draft is None else draft.name
        raise Declined("policy-unknown", f"version {unknown[0]} of {whose} is not active: attestd profile list")
    after = () if alone else tuple(one for one in staying if one.version not in retire)
    return Trial(name, before, after if draft is None else (draft, *(one for one in after if one != draft)))


Reason = tuple[str, str, int | None]
"""(code, claim, PCR) of a finding."""
Values = tuple[tuple[str, str], ...]
"""(component, what was measured) of each finding."""
GroupKey = tuple[Effect, Tier | None, Tier | None, tuple[Reason, ...], Cause | None]


@dataclass(slots=True)
class Variant:
    """Devices of a group in which the same was measured."""

    findings: tuple[FindingDetail, ...]
    devices: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """Devices that fare alike for the same reasons. `profile` is the version that says so, `boots` what they booted.

    `variants` are the sets of values that were measured, as far as they are told apart; `others` counts devices with others.
    """

    effect: Effect
    before: Tier | None
    after: Tier | None
    cause: Cause | None
    profile: Profile | None
    devices: int = 0
    others: int = 0
    variants: dict[Values, Variant] = field(default_factory=dict)
    boots: set[tuple[bytes | None, bytes | None]] = field(default_factory=set)

    @property
    def largest(self) -> list[Variant]:
        """Return the variants, that of most devices first."""
        return sorted(self.variants.values(), key=lambda one: -one.devices)


@dataclass(slots=True)
class Report:
    """What the trial came to. `out_of_service` counts devices of the profile that are banned or retired."""

    trial: Trial
    counts: dict[Effect, int] = field(default_factory=lambda: dict.fromkeys(EFFECTS, 0))
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    out_of_service: int = 0
    ungrouped: int = 0
    variants: int = 0

    @property
    def devices(self) -> int:
        """Return how many devices were looked at."""
        return sum(self.counts.values())

    @property
    def harmless(self) -> bool:
        """Return whether no device would be refused or warned about that is not now."""
        return not self.counts["refused"] and not self.counts["warned"]

    def ordered(self) -> list[Group]:
        """Return the groups: the worst effect first, the largest group first."""
        return sorted(self.groups.values(), key=lambda one: (EFFECTS.index(one.effect), -one.devices))


def simulate(
    verifier: Verifier,
    trial: Trial,
    *,
    book: PolicyBook,
    device_id: str | None = None,
    examples: int = 3,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Return what becomes of every device of the trial's profile, or of one. `progress` is told how many were looked at.

    Memory is bounded by MAX_GROUPS and MAX_VARIANTS, not by the fleet.
    """
    report, hindsight = Report(trial), Hindsight(verifier, book)
    for connection, page in _pages(verifier, book, trial.name, device_id):
        serving = [one for one in page if one.state not in OUT_OF_SERVICE]
        report.out_of_service += len(page) - len(serving)
        for row in kept_proofs(connection, [one.device_id for one in serving]):
            _add(report, row, *_outcome(hindsight, connection, row, trial, verifier.now()), examples=examples)
        progress(report.devices)
    return report


def _pages(
    verifier: Verifier, book: PolicyBook, name: str, device_id: str | None
) -> Iterator[tuple[Connection, list[DeviceSummary]]]:
    """Yield the devices that the book holds against this profile, each page in a reading transaction of its own."""
    after: str | None = None
    while True:
        with verifier.store.read() as connection:
            if device_id is not None:
                yield connection, [custody.find(connection, device_id)]
                return
            page = devices.list_devices(connection, after=after, limit=PAGE)
            yield connection, [one for one in page if profile_of(book, one) == name]
        if len(page) < PAGE:
            return
        after = page[-1].device_id


def profile_of(book: PolicyBook, device: DeviceSummary | KeptProof) -> str | None:
    """Return the profile that the device's next proof will be held against; None where nothing admits it."""
    admission = book.admission(device.device_id, manufacturer=device.manufacturer or None, model=device.model)
    return admission.profile if isinstance(admission, Admission) else None


def _outcome(
    hindsight: Hindsight, connection: Connection, row: KeptProof, trial: Trial, now: int
) -> tuple[Tier | None, Opinion | Untold]:
    """Return the tier before and what is told after. Where nothing can be told of before, what the service said then counts."""
    kept = hindsight.prove(row)
    if isinstance(kept, Untold):
        return _recorded(row), kept
    before = hindsight.judge(connection, kept, trial.before, now=now)
    after = hindsight.judge(connection, kept, trial.after, now=now)
    return _recorded(row) if isinstance(before, Untold) else before.tier, after


def _recorded(row: KeptProof) -> Tier | None:
    """Return the tier that the service gave the device's newest proof."""
    return Tier[row.tier.upper()] if row.tier and row.tier.upper() in Tier.__members__ else None


def _add(report: Report, row: KeptProof, before: Tier | None, after: Opinion | Untold, *, examples: int) -> None:
    group = _group(before, after)
    report.counts[group.effect] += 1
    findings = () if isinstance(after, Untold) else after.findings
    key = (group.effect, group.before, group.after, _reasons(findings), group.cause)
    if key not in report.groups and len(report.groups) >= MAX_GROUPS:
        report.ungrouped += 1
        return
    group = report.groups.setdefault(key, group)
    group.devices += 1
    if len(group.boots) < MAX_BOOTS:
        group.boots.add((row.log_digest, row.pcr_digest))
    values = tuple((one.component, one.actual) for one in findings)
    if values not in group.variants:
        # One for each group beyond the bound, so that every group says what it is about.
        if group.variants and report.variants >= MAX_VARIANTS:
            group.others += 1
            return
        report.variants += 1
    variant = group.variants.setdefault(values, Variant(findings))
    variant.devices += 1
    if len(variant.examples) < examples:
        variant.examples.append(row.name or row.device_id[:12])


def _group(before: Tier | None, after: Opinion | Untold) -> Group:
    if isinstance(after, Untold):
        return Group("untold", before, None, after.cause, None)
    effect = "unchanged" if after.tier is before else _EFFECTS[after.tier]
    return Group(effect, before, after.tier, None, after.profile)


def _reasons(findings: Sequence[FindingDetail]) -> tuple[Reason, ...]:
    """Return what makes two devices' reasons the same: codes, claims and registers, not the values, which may be each one's own."""
    return tuple(dict.fromkeys((one.code.value, one.claim, one.pcr) for one in findings))
