"""The policy book: what all approved changes together say.

Proves, of a book out of `verify_chain`, that its content is exactly what the operators approved, in this order, for this
fleet, with nothing left out in between. Two books with the same `digest` are the same. Assumes that whoever keeps the
changes may have altered, dropped or re-ordered them (P02). Does not notice that the latest changes were withheld: a caller
that knows a higher `sequence` must refuse a lower one.

1. the change continues the chain: its sequence is the next, its `previous` the digest of the one before
2. its time is not before the one before: a key that is no longer valid cannot reach back
3. enough operators signed exactly this statement
4. its document has its form, and what it says fits the book
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from attestd.changes import profiles
from attestd.changes.errors import ChangeRefused
from attestd.changes.inventory import InventoryEntry, read_inventory
from attestd.changes.operators import Operators, verify_approvals
from attestd.changes.profiles import ProfileState, ProfileVersion
from attestd.changes.rules import SUBJECT, AdmissionRule, read_rules
from attestd.changes.statement import Change, Kind, digest
from attestd_pki import names


@dataclass(frozen=True, slots=True)
class Admission:
    """A device may come in, under this profile. `how` is `inventory` or `rule:<n>`; name and site are None without an entry."""

    profile: str
    name: str | None
    site: str | None
    how: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The owner has withdrawn the device: no rule lets it in."""

    sequence: int


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """Policy and inventory after the change `sequence`, whose digest is `digest`. A value: folding makes another one."""

    sequence: int
    digest: bytes
    changed_at: int
    profiles: Mapping[str, ProfileState]
    entries: Mapping[str, InventoryEntry]
    withdrawn: Mapping[str, int]
    rules: tuple[AdmissionRule, ...]
    names: Mapping[str, str]

    def entry(self, device_id: str) -> InventoryEntry | None:
        """Return the device's inventory entry, or None."""
        return self.entries.get(device_id)

    def active(self, profile: str) -> tuple[ProfileVersion, ...]:
        """Return the profile's active versions, the latest last; empty for an unknown profile, which appraises to no."""
        state = self.profiles.get(profile)
        return () if state is None else state.active

    def staged(self, profile: str) -> tuple[ProfileVersion, ...]:
        """Return the profile's staged versions by rising number: they are watched, and no device is judged by them."""
        state = self.profiles.get(profile)
        return () if state is None else state.staged

    def admission(self, device_id: str, *, manufacturer: str | None, model: str | None) -> Admission | Withdrawn | None:
        """Return whether the device may come in; None: a person decides.

        The inventory comes before the rules. A device without a manufacturer (no EK certificate) matches no rule:
        `*` means any maker that is known.
        """
        if device_id in self.withdrawn:
            return Withdrawn(self.withdrawn[device_id])
        entry = self.entries.get(device_id)
        if entry is not None:
            return Admission(entry.profile, entry.name, entry.site, "inventory")
        if manufacturer is None:
            return None
        for number, rule in enumerate(self.rules, 1):
            if rule.matches(manufacturer, model or ""):
                return None if rule.profile is None else Admission(rule.profile, None, None, f"rule:{number}")
        return None


def empty_book(fleet: str) -> PolicyBook:
    """Return the book before the first change of the fleet named `fleet` (its trust domain).

    Its digest, which the first change names as `previous`, is that of the fleet's name: changes that the same operators
    approved for another fleet do not fit here. *Raises* PkiError `trust-domain-malformed`.
    """
    origin = hashlib.sha256(b"attestd changes v1\0" + names.parse_trust_domain(fleet).encode("ascii")).digest()
    nothing: Mapping[str, str] = MappingProxyType({})
    return PolicyBook(0, origin, 0, MappingProxyType({}), MappingProxyType({}), MappingProxyType({}), (), nothing)


def verify_chain(
    changes: Iterable[tuple[Change, Sequence[str]]], operators: Operators, *, book: PolicyBook
) -> PolicyBook:
    """Return `book` after the changes, each with its armored signatures: steps 1 to 4 for each.

    *Raises* ChangeRefused; the book that was given stays good.
    """
    for change, signatures in changes:
        _require_next(book, change)
        verify_approvals(change, signatures, operators)
        book = fold(book, change)
    return book


def fold(book: PolicyBook, change: Change) -> PolicyBook:
    """Return `book` after `change`. *Assumes* that its approvals are verified (`verify_chain`), or that they will be:
    a proposal is folded to see whether it could be applied.

    *Raises* ChangeRefused `change-sequence`, `change-chain`, `change-time`, or what the document's kind refuses.
    """
    _require_next(book, change)
    told = _FOLDS[change.kind](book, change)
    return replace(told, sequence=change.sequence, digest=digest(change), changed_at=change.proposed_at)


def _require_next(book: PolicyBook, change: Change) -> None:
    if change.sequence != book.sequence + 1:
        raise ChangeRefused("change-sequence", f"change {change.sequence} does not follow {book.sequence}")
    if change.previous != book.digest:
        raise ChangeRefused("change-chain", f"change {change.sequence} does not continue this book")
    if change.proposed_at < book.changed_at:
        raise ChangeRefused("change-time", f"change {change.sequence} was proposed before the one before it")


# --- What each kind of change does ------------------------------------------------------------------------------------


def _profile(book: PolicyBook, change: Change) -> PolicyBook:
    """Change the standing of a profile's versions (profiles.py)."""
    state = book.profiles.get(change.subject, ProfileState())
    told = _PROFILE_FOLDS[change.kind](state, change)
    return replace(book, profiles=MappingProxyType({**book.profiles, change.subject: told}))


def _inventory(book: PolicyBook, change: Change) -> PolicyBook:
    """Add, replace and withdraw entries. A name belongs to one device of the whole inventory."""
    told = read_inventory(change.body)
    entries, taken = dict(book.entries), dict(book.names)
    withdrawn = {**book.withdrawn, **dict.fromkeys(told.withdraw, change.sequence)}
    for device_id in (*told.withdraw, *(entry.device_id for entry in told.add)):
        replaced = entries.pop(device_id, None)
        if replaced is not None:
            del taken[replaced.name]
    for number, entry in enumerate(told.add, 1):
        if entry.name in taken:
            raise ChangeRefused("inventory-duplicate", f"{entry.name} is another device", row=number, column="name")
        entries[entry.device_id] = entry
        taken[entry.name] = entry.device_id
        withdrawn.pop(entry.device_id, None)
    return replace(
        book,
        entries=MappingProxyType(entries),
        names=MappingProxyType(taken),
        withdrawn=MappingProxyType(withdrawn),
    )


def _rules(book: PolicyBook, change: Change) -> PolicyBook:
    """Replace all rules."""
    if change.subject != SUBJECT:
        raise ChangeRefused("rules-malformed", f"the subject of the rules is {SUBJECT}")
    return replace(book, rules=read_rules(change.body))


_PROFILE_FOLDS: Final[Mapping[Kind, Callable[[ProfileState, Change], ProfileState]]] = {
    "profile-activate": profiles.activate,
    "profile-retire": profiles.retire,
    "profile-stage": profiles.stage,
}
_FOLDS: Final[Mapping[Kind, Callable[[PolicyBook, Change], PolicyBook]]] = {
    "inventory": _inventory,
    **dict.fromkeys(_PROFILE_FOLDS, _profile),
    "rules": _rules,
}
