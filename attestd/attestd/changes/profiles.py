"""The life of a profile's versions: staged, active, retired, as one table.

Proves, of a state that these functions return, that a version number means one document for ever, that what was retired or
withdrawn never comes back, and that nothing below a version that was ever active becomes active (E10). Assumes changes whose
place and approvals are verified, or will be. Does not know what a profile means.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from attestd.changes import bounds, canonical
from attestd.changes.errors import ChangeRefused
from attestd.changes.statement import Change, Kind
from attestd.protocol import limits
from attestd_pki import names
from attestd_pki.errors import PkiError


class Standing(StrEnum):
    """Where one version of a profile stands."""

    DRAFT = "draft"
    STAGED = "staged"
    ACTIVE = "active"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"


MEANINGS: Final[Mapping[Standing, str]] = MappingProxyType(
    {
        Standing.DRAFT: "a file: nobody signed it, and no verifier knows it",
        Standing.STAGED: "signed, and held against the fleet's evidence in shadow: what comes of it is shown and decides nothing",
        Standing.ACTIVE: "signed: a device may look like it; several versions can be active at once",
        Standing.RETIRED: "was active, and never counts again",
        Standing.WITHDRAWN: "was staged, and never counted: withdrawn, or overtaken by a later version that became active",
    }
)

MOVES: Final[Mapping[tuple[Standing, Kind], Standing]] = MappingProxyType(
    {
        (Standing.DRAFT, "profile-stage"): Standing.STAGED,
        (Standing.DRAFT, "profile-activate"): Standing.ACTIVE,
        (Standing.STAGED, "profile-activate"): Standing.ACTIVE,
        (Standing.STAGED, "profile-retire"): Standing.WITHDRAWN,
        (Standing.ACTIVE, "profile-retire"): Standing.RETIRED,
    }
)
"""What each kind of change makes of a version. What is not here is refused."""


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    """One version of a profile: its canonical document, opaque here, and SHA-256 of that."""

    version: int
    document: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class ProfileState:
    """The versions of one profile, each group by rising number. A retired or withdrawn one never comes back (E10)."""

    active: tuple[ProfileVersion, ...] = ()
    retired: tuple[ProfileVersion, ...] = ()
    staged: tuple[ProfileVersion, ...] = ()
    withdrawn: tuple[ProfileVersion, ...] = ()

    @property
    def highest(self) -> int:
        """Return the highest version that was ever active, 0 where none was."""
        return max((entry.version for entry in (*self.active, *self.retired)), default=0)

    def standing(self, version: int) -> Standing:
        """Return where a version stands; a number that no change has named is a draft's."""
        return next((standing for standing, entry in self.versions() if entry.version == version), Standing.DRAFT)

    def versions(self) -> tuple[tuple[Standing, ProfileVersion], ...]:
        """Return every version that a change has named, with where it stands, by rising number."""
        groups = (
            (Standing.ACTIVE, self.active),
            (Standing.RETIRED, self.retired),
            (Standing.STAGED, self.staged),
            (Standing.WITHDRAWN, self.withdrawn),
        )
        found = [(standing, entry) for standing, entries in groups for entry in entries]
        return tuple(sorted(found, key=lambda one: one[1].version))


def stage(state: ProfileState, change: Change) -> ProfileState:
    """Return the state with the document of `change` among the staged versions.

    *Raises* ChangeRefused (profile-malformed, policy-rollback, policy-staged).
    """
    added = _named(change)
    _require(state, added.version, change.kind)
    if len(state.staged) >= bounds.MAX_STAGED:
        raise ChangeRefused("profile-malformed", f"at most {bounds.MAX_STAGED} versions are staged: withdraw one first")
    return _with(state, staged=_sorted(*state.staged, added))


def activate(state: ProfileState, change: Change) -> ProfileState:
    """Return the state with the document of `change` among the active versions. Older ones stay until they are retired.

    A version that is staged becomes active with the document that was staged, or not at all: what was watched in shadow is what
    counts. Staged versions below it could never become active any more and are withdrawn.
    *Raises* ChangeRefused (profile-malformed, policy-rollback, policy-staged).
    """
    added = _named(change)
    _require(state, added.version, change.kind)
    if any(entry.version == added.version and entry.digest != added.digest for entry in state.staged):
        raise ChangeRefused("policy-staged", f"version {added.version} is staged with another document")
    if len(state.active) >= bounds.MAX_ACTIVE:
        raise ChangeRefused("profile-malformed", f"at most {bounds.MAX_ACTIVE} versions are active: retire one first")
    overtaken = (entry for entry in state.staged if entry.version < added.version)
    return _with(
        state,
        active=(*state.active, added),
        staged=tuple(entry for entry in state.staged if entry.version > added.version),
        withdrawn=_sorted(*state.withdrawn, *overtaken),
    )


def retire(state: ProfileState, change: Change) -> ProfileState:
    """Return the state after versions left it for good; the document is {"profile": name, "versions": [rising numbers]}.

    *Raises* ChangeRefused (profile-malformed, policy-unknown).
    """
    document = canonical.read(change.body)
    _require_profile(change, document)
    versions = document.get("versions")
    if set(document) != {"profile", "versions"} or type(versions) is not list or not versions:
        raise ChangeRefused("profile-malformed", "the document is not a profile and a list of versions")
    if any(type(version) is not int for version in versions) or versions != sorted(set(versions)):
        raise ChangeRefused("profile-malformed", "the versions are not rising integers")
    for version in versions:
        _require(state, version, change.kind)
    goes = frozenset(versions)
    return _with(
        state,
        active=tuple(entry for entry in state.active if entry.version not in goes),
        retired=_sorted(*state.retired, *(entry for entry in state.active if entry.version in goes)),
        staged=tuple(entry for entry in state.staged if entry.version not in goes),
        withdrawn=_sorted(*state.withdrawn, *(entry for entry in state.staged if entry.version in goes)),
    )


def _require(state: ProfileState, version: int, kind: Kind) -> None:
    """Refuse a move that the table does not have, and one that leads below what was ever active."""
    standing = state.standing(version)
    if (standing, kind) not in MOVES:
        raise _refusal(standing, version, kind)
    if kind != "profile-retire" and version <= state.highest:
        raise ChangeRefused("policy-rollback", f"version {version} is not above {state.highest}")


def _refusal(standing: Standing, version: int, kind: Kind) -> ChangeRefused:
    """Return why a version of this standing cannot make this move, and what can be done."""
    this, next_one = f"version {version} of this profile", "give the document the next number"
    if kind == "profile-retire":
        if standing is Standing.DRAFT:
            return ChangeRefused("policy-unknown", f"{this} is neither active nor staged: attestd profile list")
        return ChangeRefused("policy-unknown", f"{this} is {standing.value} already")
    if standing is Standing.STAGED:
        return ChangeRefused("policy-staged", f"{this} is staged already: activate it, or {next_one}")
    if standing is Standing.ACTIVE:
        return ChangeRefused("policy-rollback", f"{this} is active already: another document needs the next number")
    return ChangeRefused("policy-rollback", f"{this} is {standing.value} and never comes back: {next_one}")


def _named(change: Change) -> ProfileVersion:
    """Return the version that the change's document is."""
    document = canonical.read(change.body)
    version = document.get("version")
    _require_profile(change, document)
    if type(version) is not int or not 1 <= version <= 2**31 - 1:
        raise ChangeRefused("profile-malformed", "a profile has an integer version from 1")
    if len(change.body) > limits.MAX_PROFILE_DOCUMENT:
        raise ChangeRefused("profile-malformed", f"a profile has at most {limits.MAX_PROFILE_DOCUMENT} bytes")
    return ProfileVersion(version, change.body, hashlib.sha256(change.body).digest())


def _require_profile(change: Change, document: Mapping[str, Any]) -> None:
    if document.get("profile") != change.subject:
        raise ChangeRefused("profile-malformed", "the document is of another profile than the change")
    try:
        names.parse_label(change.subject)
    except PkiError as error:
        raise ChangeRefused("profile-malformed", error.message) from error


def _sorted(*entries: ProfileVersion) -> tuple[ProfileVersion, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.version))


def _with(state: ProfileState, **groups: tuple[ProfileVersion, ...]) -> ProfileState:
    kept = {name: getattr(state, name) for name in ("active", "retired", "staged", "withdrawn")}
    return ProfileState(**{**kept, **groups})
