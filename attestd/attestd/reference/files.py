"""An allow-list out of file trees: which path may have which content, as the kernel's measurement will name it.

Proves, of an `AllowList`, that every digest is that of bytes which a place has at that path, after the symbolic links of its own
directories were followed: IMA names a file by the path that d_absolute_path gives (security/integrity/ima/ima_api.c). Assumes that
whoever names a place believes in it. Does not know what a device will really open: a file that no place has is refused there.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from attestd.appraisal.pattern import glob_matches
from attestd.protocol.limits import MAX_ARTEFACT_FILES, MAX_ARTEFACT_FINDINGS, MAX_FILE_PATH

_PIECE: Final = 1 << 20
_HEAD: Final = 4
_MAX_HOPS: Final = 40
"""Symbolic links on one path, as many as Linux follows (MAXSYMLINKS)."""
_MAX_STEPS: Final = 1024
"""Names on one path, those of its links among them; forty links of 4,096 bytes each would cost a fifth of a second a file."""

Digest = tuple[str, bytes]


class ArtefactRefused(ValueError):
    """An artefact that is not what it was given as, or too much of one. `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code beside the sentence."""
        super().__init__(message)
        self.code = code
        self.message = message


class Readable(Protocol):
    """Bytes, from the beginning to the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...  # pragma: no cover


class Kind(Enum):
    """What a member of an artefact is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an artefact: `path` begins with a slash, `target` is where a link leads, `mode` has the permissions."""

    path: bytes
    kind: Kind
    mode: int = 0
    target: bytes = b""


Members = Iterable[tuple[Member, Readable]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which files are wanted, and by which digests. Patterns are those of a profile: a star stands for anything."""

    everything: bool = False
    firmware: bool = False
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ("sha256",)

    def names(self, path: bytes) -> bool:
        """Return whether a file at this path is wanted as far as patterns decide."""
        text = path.decode("utf-8", "surrogateescape")
        if self.only and not any(glob_matches(pattern, text) for pattern in self.only):
            return False
        return not any(glob_matches(pattern, text) for pattern in self.exclude)

    def takes(self, path: bytes, mode: int, head: bytes) -> bool:
        """Return whether a kernel that measures code measures such a file: what runs, what is mapped, what it loads itself."""
        if self.everything or mode & 0o111 or head.startswith((b"\x7fELF", b"#!")):
            return True
        name = path.rpartition(b"/")[2]
        if name.endswith(_CODE) or b".so." in name:
            return True
        return self.firmware and path.startswith(_FIRMWARE)


_CODE: Final = (b".so", b".ko", b".ko.xz", b".ko.zst", b".ko.gz")
_FIRMWARE: Final = (b"/lib/firmware/", b"/usr/lib/firmware/")


@dataclass(frozen=True, slots=True)
class FileFinding:
    """Something about a place that its list does not show. `path` is text for people."""

    code: str
    place: str
    path: str
    message: str


@dataclass(slots=True)
class PlaceFiles:
    """What was found in one place; `files` counts all regular files, `size` the bytes of those that were wanted.

    `conffiles` are paths of which a package says that administrators may change them.
    """

    name: str
    kind: str
    files: int = 0
    size: int = 0
    digests: dict[bytes, tuple[Digest, ...]] = field(default_factory=dict)
    conffiles: set[bytes] = field(default_factory=set)
    findings: list[FileFinding] = field(default_factory=list)

    def remark(self, code: str, path: bytes, message: str) -> None:
        """Keep a finding; those beyond the bound are like those before."""
        if len(self.findings) < MAX_ARTEFACT_FINDINGS:
            text = path.decode("utf-8", "backslashreplace")
            self.findings.append(FileFinding(code, self.name, text, message))


@dataclass(frozen=True, slots=True)
class AllowedPath:
    """A path, the digests it may have, and the places (by number) that have it."""

    path: str
    digests: tuple[Digest, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AllowList:
    """The paths in order, the places in the order they were given, and what is to be said of them."""

    paths: tuple[AllowedPath, ...]
    places: tuple[PlaceFiles, ...]
    findings: tuple[FileFinding, ...]


Spelling = Callable[[bytes], Sequence[bytes]]
Tick = Callable[[PlaceFiles], None]


def _same(path: bytes) -> Sequence[bytes]:
    return (path,)


def _silent(_: PlaceFiles) -> None:
    """Tell nobody."""


def collect(
    members: Members, place: PlaceFiles, *, wish: Wish, spellings: Spelling = _same, tick: Tick = _silent
) -> PlaceFiles:
    """Fill `place` with the digests of the wanted files among the members, and return it.

    A later member replaces an earlier one of the same path, as unpacking does. `spellings` are the paths under which the kernel may
    name what an artefact has at one. *Raises* `ArtefactRefused`.
    """
    tree = _Tree(place, wish, spellings)
    for member, content in members:
        tree.add(member, content)
        tick(place)
    return place


class _Tree:
    """A tree that grows as if its members were unpacked one after the other."""

    def __init__(self, place: PlaceFiles, wish: Wish, spellings: Spelling) -> None:
        self._place, self._wish, self._spellings = place, wish, spellings
        self._links: dict[bytes, bytes] = {}
        self._parents: dict[bytes, bytes | None] = {}
        self._inodes: dict[bytes, tuple[Digest, ...]] = {}
        self._unread: set[bytes] = set()

    def add(self, member: Member, content: Readable) -> None:
        """Take one member. *Raises* `ArtefactRefused`."""
        path = self._real(member.path)
        if path is None:
            self._place.remark("path-loop", member.path, "its symbolic links lead nowhere")
            return
        if path.endswith(b"/") and member.kind is not Kind.DIRECTORY:
            raise ArtefactRefused("artefact-path", f"{self._place.name} has a file without a name")
        if member.kind is not Kind.DIRECTORY and self._links.pop(path, None) is not None:
            self._parents.clear()
        if member.kind is Kind.SYMLINK:
            self._forget(path)
            self._links[path] = member.target
            self._parents.clear()
            if len(self._links) > MAX_ARTEFACT_FILES:
                raise ArtefactRefused("artefact-files", f"{self._place.name} has more than {MAX_ARTEFACT_FILES} links")
        elif member.kind is Kind.HARDLINK:
            self._link(path, member)
        elif member.kind is Kind.FILE:
            self._file(path, member, content)

    def _file(self, path: bytes, member: Member, content: Readable) -> None:
        place = self._place
        place.files += 1
        if place.files > MAX_ARTEFACT_FILES:
            raise ArtefactRefused("artefact-files", f"{place.name} has more than {MAX_ARTEFACT_FILES} files")
        self._forget(path)
        spelt = self._wanted(path)
        if not spelt:
            self._unread.add(path)
            return
        head = content.read(_HEAD)
        if self._wish.takes(path, member.mode, head):
            digests, size = digest(head, content, self._wish.hashes)
            place.size += size
            self._inodes[path] = digests
            self._keep(spelt, digests)

    def _link(self, path: bytes, member: Member) -> None:
        target = self._real(member.target)
        digests = self._inodes.get(target) if target is not None else None
        self._forget(path)
        if digests is not None:
            self._inodes[path] = digests
            self._keep(self._wanted(path), digests)
        elif target in self._unread and self._wanted(path):
            self._place.remark(
                "link-unread", path, "its content is that of a path which was not wanted: name that one, too"
            )

    def _wanted(self, path: bytes) -> list[bytes]:
        return [one for one in self._spellings(path) if self._wish.names(one)]

    def _keep(self, paths: Iterable[bytes], digests: tuple[Digest, ...]) -> None:
        for path in paths:
            if _is_text(path):
                self._place.digests[path] = digests
            else:
                self._place.remark(
                    "path-not-utf8", path, "no profile can list it; a pattern under exclude can match it"
                )

    def _forget(self, path: bytes) -> None:
        if self._inodes.pop(path, None) is not None:
            for one in self._spellings(path):
                self._place.digests.pop(one, None)

    def _real(self, path: bytes) -> bytes | None:
        """Return the path with the links of its directories followed, or None where they lead nowhere. The last name stays."""
        if len(path) > MAX_FILE_PATH:
            raise ArtefactRefused("artefact-path", f"{self._place.name} has a path of {len(path)} bytes")
        parent, _, name = path.rpartition(b"/")
        if parent not in self._parents:
            self._parents[parent] = follow(parent, self._links)
        real = self._parents[parent]
        return None if real is None else real + b"/" + name


def follow(path: bytes, links: Mapping[bytes, bytes]) -> bytes | None:
    """Return an absolute path (empty for the root) after all symbolic links in it, or None where there are too many of them.

    Nothing leads out of the tree: as under chroot, the parent of the root is the root.
    """
    real: list[bytes] = []
    rest = [part for part in reversed(path.split(b"/")) if part]
    hops = steps = 0
    while rest:
        part = rest.pop()
        steps += 1
        if steps > _MAX_STEPS:
            return None
        if part == b"..":
            real = real[:-1]
            continue
        target = links.get(b"/" + b"/".join([*real, part])) if links else None
        if target is None:
            real.append(part)
            continue
        hops += 1
        if hops > _MAX_HOPS or len(target) > MAX_FILE_PATH:
            return None
        if target.startswith(b"/"):
            real = []
        rest += [one for one in reversed(target.split(b"/")) if one not in (b"", b".")]
    return b"".join(b"/" + part for part in real)


def digest(head: bytes, content: Readable, hashes: Sequence[str]) -> tuple[tuple[Digest, ...], int]:
    """Return the digests of `head` and all that follows it, in the order of `hashes`, and the number of bytes."""
    states = [hashlib.new(name, head) for name in hashes]
    size = len(head)
    while piece := content.read(_PIECE):
        size += len(piece)
        for state in states:
            state.update(piece)
    return tuple((name, state.digest()) for name, state in zip(hashes, states, strict=True)), size


def _is_text(path: bytes) -> bool:
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def member_path(name: bytes) -> bytes:
    """Return the absolute path of a member's name (`./usr/bin/x`, `usr/bin/x`, `/init`).

    *Raises* `ArtefactRefused` ("artefact-path") for one that leads out of its tree, or that no file can have.
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or b"\0" in name or len(name) > MAX_FILE_PATH:
        shown = name[:80].decode("utf-8", "backslashreplace")
        raise ArtefactRefused("artefact-path", f"a member is called {shown!r}, which no honest artefact does")
    return b"/" + b"/".join(parts)


def combine(places: Sequence[PlaceFiles]) -> AllowList:
    """Return what all places together allow: a path that several have may have any of their contents."""
    digests: dict[bytes, dict[Digest, None]] = {}
    owners: dict[bytes, list[int]] = {}
    for number, place in enumerate(places):
        for path, found in place.digests.items():
            digests.setdefault(path, {}).update(dict.fromkeys(found))
            owners.setdefault(path, []).append(number)
    paths = tuple(
        AllowedPath(path.decode("utf-8"), tuple(sorted(digests[path])), tuple(owners[path])) for path in sorted(digests)
    )
    return AllowList(paths, tuple(places), tuple(finding for place in places for finding in place.findings))
