"""Images of ext2, ext3 and ext4: their regular files, read in place.

Proves that what it gives of a file are the bytes a kernel would read of it, on an image that needs no recovery; nothing outside the
image is ever touched. Assumes nothing of the bytes: a directory in itself, a block outside the image, a file of petabytes end in
`ArtefactRefused`. Does not check metadata checksums: whoever names the image believes in all of it.
Linux Documentation/filesystems/ext4.
"""

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from attestd.protocol.limits import KIB, MAX_ARTEFACT_BYTES, MAX_ARTEFACT_FILES, MAX_FILE_PATH
from attestd.reference.extents import FileMap, indirect_map, tree_map
from attestd.reference.files import ArtefactRefused, Kind, Member, PlaceFiles, Readable
from attestd.reference.streams import limited

MAGIC: Final = 0xEF53
_SUPERBLOCK: Final = 1024
_ROOT: Final = 2
_FILETYPE, _RECOVER, _META_BG, _WIDE, _INLINE = 0x2, 0x4, 0x10, 0x80, 0x8000
_KNOWN: Final = (
    _FILETYPE | _META_BG | 0x40 | _WIDE | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | _INLINE | 0x10000 | 0x20000
)
"""Incompatible features that are read, or change nothing of what is: file types, meta block groups, extents, 64 bits, multiple
mount protection, flexible groups, attributes in inodes, checksum seeds, large directories, inline data, encryption (of single
directories and files) and case folding."""
_ENCRYPTED, _IN_EXTENTS, _IN_INODE = 0x800, 0x80000, 0x10000000
_MAX_DIRECTORY: Final = 64 * 1024 * KIB
"""Bytes of one directory: half a million names."""
_ATTRIBUTES: Final = 0xEA020000


class Positioned(Protocol):
    """Bytes that can be read at any place."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `offset`, fewer only behind the end."""
        ...  # pragma: no cover


def malformed(what: str) -> ArtefactRefused:
    """Return the error of an image that breaks its own format."""
    return ArtefactRefused("image-malformed", f"{what} of the file system is damaged: e2fsck -fn says more")


def _cut() -> ArtefactRefused:
    return ArtefactRefused("image-short", "the image is shorter than its file system: was it copied completely?")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the superblock says; sizes in bytes."""

    block: int
    blocks: int
    per_group: int
    inodes: int
    inodes_per_group: int
    inode: int
    descriptor: int
    first_block: int
    first_meta: int | None
    sparse: bool
    backups: tuple[int, ...] | None
    typed: bool


@dataclass(frozen=True, slots=True)
class _Inode:
    number: int
    mode: int
    size: int
    flags: int
    data: bytes
    body: bytes


def image_members(image: Positioned, place: PlaceFiles) -> Iterator[tuple[Member, Readable]]:
    """Yield the regular files of the file system. An encrypted one is a finding.

    *Raises* `ArtefactRefused` ("image-malformed", "image-short", "image-features", "image-journal", "artefact-size").
    """
    shape = _shape(image.read_at(_SUPERBLOCK, 1024))
    if not image.read_at(shape.blocks * shape.block - 1, 1):
        raise _cut()
    system = _System(image, shape)
    seen = {_ROOT}
    waiting = [(b"", system.inode(_ROOT))]
    while waiting:
        folder, inode = waiting.pop()
        if inode.flags & _ENCRYPTED:
            place.remark("file-encrypted", folder, "it is encrypted: what is in it is not known")
            continue
        for name, number in sorted(system.entries(inode)):
            path, found = folder + b"/" + name, system.inode(number)
            if stat.S_ISDIR(found.mode):
                if number in seen or len(seen) > MAX_ARTEFACT_FILES or len(path) > MAX_FILE_PATH:
                    raise malformed("a directory")
                seen.add(number)
                waiting.append((path, found))
            elif stat.S_ISREG(found.mode) and found.flags & _ENCRYPTED:
                place.remark("file-encrypted", path, "it is encrypted: what is in it is not known")
            elif stat.S_ISREG(found.mode):
                yield Member(path, Kind.FILE, found.mode), system.content(found)


def _shape(data: bytes) -> _Shape:
    """Read the superblock. *Raises* `ArtefactRefused`."""
    if len(data) < 1024 or _short(data, 0x38) != MAGIC:
        raise ArtefactRefused("image-malformed", "it has no file system of the ext family")
    compatible, incompatible, read_only = struct.unpack_from("<III", data, 0x5C)
    _require_known(incompatible)
    wide = bool(incompatible & _WIDE)
    exponent = _long(data, 0x18)
    shape = _Shape(
        block=1024 << exponent if exponent <= 6 else 0,
        blocks=_long(data, 0x04) | (_long(data, 0x150) << 32 if wide else 0),
        per_group=_long(data, 0x20),
        inodes=_long(data, 0x00),
        inodes_per_group=_long(data, 0x28),
        inode=_short(data, 0x58) if _long(data, 0x4C) else 128,
        descriptor=_short(data, 0xFE) if wide else 32,
        first_block=_long(data, 0x14),
        first_meta=_long(data, 0x104) if incompatible & _META_BG else None,
        sparse=bool(read_only & 1),
        backups=struct.unpack_from("<II", data, 0x24C) if compatible & 0x200 else None,
        typed=bool(incompatible & _FILETYPE),
    )
    counted = shape.block and shape.blocks and shape.per_group and shape.inodes_per_group
    if not counted or not 128 <= shape.inode <= shape.block or not 32 <= shape.descriptor <= 1024:
        raise malformed("the superblock")
    return shape


def _require_known(features: int) -> None:
    """Refuse a file system that cannot be read without knowing more than is known here, or that is not at rest."""
    if features & _RECOVER:
        raise ArtefactRefused(
            "image-journal", "its journal was not replayed: unmount it cleanly, or e2fsck -p a copy of it"
        )
    if features & ~_KNOWN:
        raise ArtefactRefused("image-features", f"it has features that are not known: {features & ~_KNOWN:#x}")


def _short(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


def _long(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


class _System:
    """A file system that is read block by block."""

    def __init__(self, image: Positioned, shape: _Shape) -> None:
        self._image, self.shape = image, shape
        self._tables: dict[int, int] = {}
        self._left = MAX_ARTEFACT_BYTES

    def block(self, number: int, count: int = 1) -> bytes:
        """Return whole blocks. *Raises* `ArtefactRefused` for one that the image does not have."""
        size = count * self.shape.block
        if number + count > self.shape.blocks:
            raise malformed("a block's number")
        data = self._image.read_at(number * self.shape.block, size)
        if len(data) < size:
            raise ArtefactRefused(
                "image-malformed", "the image is shorter than its file system: was it copied completely?"
            )
        return data

    def inode(self, number: int) -> _Inode:
        """Return an inode. *Raises* `ArtefactRefused`."""
        shape = self.shape
        if not 0 < number <= shape.inodes:
            raise malformed("an inode's number")
        group, index = divmod(number - 1, shape.inodes_per_group)
        if group not in self._tables:
            self._tables[group] = self._table(group)
        offset = self._tables[group] * shape.block + index * shape.inode
        body = self._image.read_at(offset, shape.inode)
        if len(body) < shape.inode:
            raise malformed("an inode's place")
        size = _long(body, 0x04)
        if not stat.S_ISLNK(_short(body, 0)):
            size |= _long(body, 0x6C) << 32
        return _Inode(number, _short(body, 0), size, _long(body, 0x20), body[0x28:0x64], body)

    def _table(self, group: int) -> int:
        """Return the first block of a group's inode table."""
        shape = self.shape
        block, index = divmod(group, shape.block // shape.descriptor)
        found = self.block(self._descriptors(block))[index * shape.descriptor :][: shape.descriptor]
        return _long(found, 0x08) | (_long(found, 0x28) << 32 if shape.descriptor >= 64 else 0)

    def _descriptors(self, number: int) -> int:
        """Return which block has the descriptors' block `number` (ext4: descriptor_loc)."""
        shape = self.shape
        if shape.first_meta is None or number < shape.first_meta:
            return _SUPERBLOCK // shape.block + 1 + number
        group = number * (shape.block // shape.descriptor)
        extra = 1 if shape.block == _SUPERBLOCK and group == 0 and shape.first_block == 0 else 0
        return group * shape.per_group + shape.first_block + int(_has_super(shape, group)) + extra

    def entries(self, inode: _Inode) -> list[tuple[bytes, int]]:
        """Return the names of a directory and their inodes, without itself and its parent."""
        if inode.size > _MAX_DIRECTORY:
            raise malformed("a directory's size")
        if inode.flags & _IN_INODE:
            first, second = self._inline(inode)
            # The first four bytes are the parent; both parts have entries of their own (ext4: inline.c).
            parts = [first[4:60], second]
        else:
            content, size = self.content(inode), self.shape.block
            parts = [limited(content, size) for _ in range(inode.size // size)]
        return [entry for part in parts for entry in self._entries(part)]

    def _entries(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        at = 0
        while at + 8 <= len(data):
            number, length, size, kind = struct.unpack_from("<IHBB", data, at)
            if self.shape.block > 0x8000 and length in (0, 0xFFFF):
                length = len(data)
            if not self.shape.typed:
                size |= kind << 8
            name = data[at + 8 : at + 8 + size]
            if length < 8 or at + length > len(data) or (number and size + 8 > length):
                raise malformed("a directory's entry")
            if number and name not in (b".", b".."):
                if not name or b"/" in name or b"\0" in name:
                    raise malformed("a file's name")
                yield name, number
            at += length

    def content(self, inode: _Inode) -> Readable:
        """Return a file's bytes. *Raises* `ArtefactRefused` ("artefact-size") where all files together have too many."""
        self._left -= inode.size
        if self._left < 0:
            raise ArtefactRefused("artefact-size", f"its files have more than {MAX_ARTEFACT_BYTES} bytes")
        if inode.flags & _IN_INODE:
            return _Memory(b"".join(self._inline(inode))[: inode.size])
        if inode.flags & _IN_EXTENTS:
            mapped: FileMap = tree_map(inode.data, self.block)
        else:
            mapped = indirect_map(inode.data, self.block, self.shape.block, length=inode.size)
        return _Content(self, mapped, inode.size)

    def _inline(self, inode: _Inode) -> tuple[bytes, bytes]:
        """Return data inside of an inode: the first 60 bytes, and the value of its attribute `system.data`."""
        body, start = inode.body, 128 + _short(inode.body, 0x80) + 4
        if len(body) < 132 or start > len(body) or _long(body, start - 4) != _ATTRIBUTES:
            return inode.data, b""
        at = start
        while at + 16 <= len(body) and body[at : at + 4] != bytes(4):
            length, index, offset, _, size = struct.unpack_from("<BBHII", body, at)
            if index == 7 and body[at + 16 : at + 16 + length] == b"data":
                return inode.data, body[start + offset : start + offset + size]
            at += 16 + length + -length % 4
        return inode.data, b""


def _has_super(shape: _Shape, group: int) -> bool:
    if shape.backups is not None:
        return group == 0 or group in shape.backups
    if not shape.sparse or group <= 1:
        return True
    return any(group == base**power for base in (3, 5, 7) for power in range(1, 21))


class _Memory:
    """Bytes that are there already, as a stream."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data


class _Content:
    """A file's bytes in order: runs of blocks, and zeros between them."""

    def __init__(self, system: _System, runs: FileMap, size: int) -> None:
        self._system, self._runs, self._size = system, iter(runs), size
        self._at = 0
        self._run: tuple[int, int | None, int] | None = None

    def read(self, size: int, /) -> bytes:
        block = self._system.shape.block
        wanted = min(size, self._size - self._at)
        if wanted <= 0:
            return b""
        logical, inner = divmod(self._at, block)
        while self._run is None or self._run[0] + self._run[2] <= logical:
            self._run = next(self._runs, (logical, None, -(-self._size // block) - logical))
        first, physical, count = self._run
        if first > logical:
            physical, available = None, first - logical
        else:
            available = first + count - logical
            physical = None if physical is None else physical + logical - first
        blocks = min(available, -(-(inner + wanted) // block))
        data = bytes(blocks * block) if physical is None else self._system.block(physical, blocks)
        data = data[inner : inner + wanted]
        self._at += len(data)
        return data
