"""Places with files become an allow-list: directories, archives, packages and images, opened here and read by `attestd.reference`.

Nothing is written anywhere, nothing is unpacked, nothing is run, and no right is needed but that to read.
"""

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from attestd import clock
from attestd.cli.failures import CommandFailed
from attestd.cli.text import plain

if TYPE_CHECKING:
    from attestd.reference.debian import Layout
    from attestd.reference.files import AllowList, Member, Members, PlaceFiles, Readable, Wish

_QUIET: Final = 1.0
"""Seconds after which whoever sits at a terminal is told how far it is."""
_EVERY: Final = 0.25
_OF_ROOTS: Final = ("usr", "etc", "bin", "sbin", "lib", "init", "opt")
"""What stands at the top of every root file system, or of what is laid over one."""


def collect_files(
    places: Sequence[Path],
    *,
    root: Path | None = None,
    partition: int | None = None,
    wish: "Wish | None" = None,
    layout: "Layout | None" = None,
    tell: "Callable[[PlaceFiles], None] | None" = None,
) -> "AllowList":
    """Return what the files of all places allow.

    A directory is the root of a tree, or lies in the tree `root`; `partition` is one of disk images that have several; `layout` is
    for packages (default: either). `wish` is which files and digests are wanted (default: code, by SHA-256). `tell` is called with
    a place as it grows (default: a line on standard error, where that is a terminal).
    *Raises* CommandFailed, OSError.
    """
    from attestd.reference.debian import Layout
    from attestd.reference.files import ArtefactRefused, Wish, combine

    progress = Progress()
    found = []
    try:
        for path in places:
            try:
                if path.is_dir():
                    found.append(_directory(path, root, wish or Wish(), tell or progress.tell))
                else:
                    found.append(_file(path, partition, wish or Wish(), layout or Layout.EITHER, tell or progress.tell))
            except ArtefactRefused as error:
                raise CommandFailed(error.code, f"{path}: {error.message}") from None
    finally:
        progress.end()
    return combine(found)


def _directory(path: Path, root: Path | None, wish: "Wish", tell: "Callable[[PlaceFiles], None]") -> "PlaceFiles":
    from attestd.reference.files import PlaceFiles, collect

    place = PlaceFiles(str(path), "directory")
    within = b""
    if root is not None:
        try:
            inner = path.resolve().relative_to(root.resolve())
        except ValueError:
            raise CommandFailed("artefact-root", f"{path} is not inside of {root}") from None
        within = b"".join(b"/" + os.fsencode(part) for part in inner.parts)
    elif not any((path / name).exists() for name in _OF_ROOTS):
        place.remark("no-root", b"/", "it does not look like a root file system: with --root, name the tree it lies in")
    return collect(_walk(path, within, place), place, wish=wish, tick=tell)


def _file(
    path: Path, partition: int | None, wish: "Wish", layout: "Layout", tell: "Callable[[PlaceFiles], None]"
) -> "PlaceFiles":
    from attestd.protocol.limits import MAX_BOOT_IMAGE
    from attestd.reference.archive import initramfs_members, tar_members
    from attestd.reference.debian import package_members
    from attestd.reference.disk import root_partition
    from attestd.reference.ext4 import image_members
    from attestd.reference.files import PlaceFiles, collect
    from attestd.reference.places import kind_of, ramdisk
    from attestd.reference.streams import Source, inflated

    if not (path.is_file() or path.is_block_device()):
        raise CommandFailed("artefact-unknown", f"{path} is neither a file, nor a directory, nor a disk")
    with path.open("rb", buffering=1 << 20) as file:
        kind = kind_of(file)
        file.seek(0)
        place = PlaceFiles(str(path), kind)
        if kind == "package":
            members: Members = package_members(file, place)
            return collect(members, place, wish=wish, spellings=layout.spellings, tick=tell)
        if kind in ("ext4", "disk"):
            image = Image(file)
            if kind == "disk":
                chosen = root_partition(image, partition)
                image = Image(file, chosen.start, chosen.size)
            return collect(image_members(image, place), place, wish=wish, tick=tell)
        if kind == "uki":
            inner = io.BytesIO(ramdisk(file.read(MAX_BOOT_IMAGE + 1)))
            return collect(initramfs_members(inner), place, wish=wish, tick=tell)
        if kind == "initramfs":
            return collect(initramfs_members(file), place, wish=wish, tick=tell)
        return collect(tar_members(inflated(Source(file))), place, wish=wish, tick=tell)


def _walk(root: Path, within: bytes, place: "PlaceFiles") -> "Iterator[tuple[Member, Readable]]":
    """Yield the regular files below a directory that devices know as `within`. What cannot be read is a finding.

    Other file systems are not entered: of a running system they are /proc and /sys, where a file has no end.
    """
    top = os.fsencode(root)
    device = os.lstat(top + b"/.").st_dev
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(top + folder + b"/"), key=lambda entry: entry.name)
        except OSError as error:
            place.remark("directory-unreadable", within + folder, error.strerror or "unreadable")
            continue
        for entry in entries:
            path = folder + b"/" + entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.stat(follow_symlinks=False).st_dev == device:
                    waiting.append(path)
                else:
                    place.remark("other-file-system", within + path, "another file system is mounted there: not read")
            elif entry.is_file(follow_symlinks=False):
                yield from _regular(top + path, within + path, place)


def _regular(real: bytes, path: bytes, place: "PlaceFiles") -> "Iterator[tuple[Member, Readable]]":
    from attestd.reference.files import Kind, Member

    try:
        # What was a file a moment ago may be a link or a pipe now: neither is followed, and nobody is waited for.
        number = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        place.remark("file-unreadable", path, error.strerror or "unreadable")
        return
    with open(number, "rb", buffering=0) as file:
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode):
            yield Member(path, Kind.FILE, found.st_mode), file


class Image:
    """A file, or the part of it from `start` on, to be read at any place."""

    def __init__(self, file: BinaryIO, start: int = 0, size: int | None = None) -> None:
        self._file, self._start = file, start
        self._size = size

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `offset`, fewer only behind the end."""
        if self._size is not None:
            size = max(0, min(size, self._size - offset))
        if self._start + offset > sys.maxsize - size:  # a damaged image names such places, and no file has them
            return b""
        return os.pread(self._file.fileno(), size, self._start + offset)


class Progress:
    """One line on standard error that says how far it is, where people look at it and it takes longer than a moment."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._next = clock.monotonic() + _QUIET
        self._written = False

    def tell(self, place: "PlaceFiles") -> None:
        """Show the place's counts, a few times a second."""
        if not self._shown or clock.monotonic() < self._next:
            return
        self._next = clock.monotonic() + _EVERY
        text = f"{plain(place.name, longest=60)}: {place.files} files, {place.size >> 20} MiB"
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()
        self._written = True

    def end(self) -> None:
        """Take the line away."""
        if self._written:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
