"""Archives as streams of members: ar, tar and cpio, read once from front to back and never unpacked.

Proves that every member's path stays inside the tree and every number inside its bound. Assumes nothing of the bytes: any of
them give members or `ArtefactRefused`. Of tar it reads what dpkg, GNU tar and pax write of plain files (POSIX.1-2017 pax; tar(5)),
of cpio the format "newc" that Linux unpacks, several archives behind one another too
(Documentation/driver-api/early-userspace/buffer-format.rst).
"""

import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from attestd.protocol.limits import KIB, MAX_ARTEFACT_BYTES, MAX_ARTEFACT_FILES, MAX_FILE_PATH
from attestd.reference.files import ArtefactRefused, Kind, Member, Readable, member_path
from attestd.reference.streams import Slice, Source, exactly, inflated, is_compressed

AR: Final = b"!<arch>\n"
CPIO: Final = (b"070701", b"070702")
_BLOCK: Final = 512
_PAX: Final = 64 * KIB
"""Bytes of one pax header: a path, a link and a few attributes."""
_AR_MEMBERS: Final = 64
"""Members of one ar archive; a package has three."""
_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")
_TYPES: Final = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARDLINK, b"2": Kind.SYMLINK, b"5": Kind.DIRECTORY,
    b"3": Kind.OTHER, b"4": Kind.OTHER, b"6": Kind.OTHER,
}  # fmt: skip


def malformed(what: str) -> ArtefactRefused:
    """Return the error of an archive that breaks its own format."""
    return ArtefactRefused("archive-malformed", f"{what}: it is damaged, or not what it seems to be")


def ar_members(stream: Readable) -> Iterator[tuple[bytes, Slice]]:
    """Yield name and content of each member of an ar archive (deb(5)). A content ends where the next member is asked for.

    *Raises* `ArtefactRefused` ("archive-malformed", "archive-short").
    """
    if exactly(stream, len(AR)) != AR:
        raise malformed("no ar archive")
    for _ in range(_AR_MEMBERS):
        first = stream.read(1)
        if not first:
            return
        header = first + exactly(stream, 59)
        digits = header[48:58].rstrip(b" ")
        if header[58:] != b"`\n" or not digits.isdigit():
            raise malformed("a member's header of the ar archive")
        size = int(digits)
        content = Slice(stream, size)
        yield header[:16].rstrip(b" ").removesuffix(b"/"), content
        content.drain()
        if size % 2 and not stream.read(1):
            return
    raise malformed(f"more than {_AR_MEMBERS} members in an ar archive")


@dataclass(frozen=True, slots=True)
class _Said:
    """What headers in front of a member's own say of it."""

    path: bytes | None = None
    target: bytes | None = None
    size: int | None = None


def tar_members(stream: Readable) -> Iterator[tuple[Member, Slice]]:
    """Yield the members of a tar archive with their contents. A content ends where the next member is asked for.

    *Raises* `ArtefactRefused` ("archive-malformed", "archive-short", "archive-sparse", "artefact-path").
    """
    said = _Said()
    while (header := _tar_header(stream)) is not None:
        kind = header[156:157]
        size = _tar_size(header)
        if kind in (b"L", b"K", b"x", b"g"):
            said = _tar_more(stream, kind, size, said)
            continue
        member = _tar_member(header, said)
        if said.size is not None:
            size = said.size
        content = Slice(stream, size if member.kind is Kind.FILE else 0)
        yield member, content
        content.drain()
        if member.kind is Kind.FILE:
            exactly(stream, -size % _BLOCK)
        said = _Said()
    while stream.read(_PAX):
        pass  # a checksum over what was compressed is checked at its end


def _tar_header(stream: Readable) -> bytes | None:
    """Return the next header, or None at the end of the archive."""
    first = stream.read(1)
    if not first:
        return None
    header = first + exactly(stream, _BLOCK - 1)
    if not header.strip(b"\0"):
        return None
    stated = _octal(header[148:156])
    if stated != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise malformed("a checksum of the tar archive")
    return header


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if digits and (not digits.isdigit() or b"8" in digits or b"9" in digits):
        raise malformed("a number of the tar archive")
    return int(digits or b"0", 8)


def _tar_size(header: bytes) -> int:
    field = header[124:136]
    # A first bit says that the rest is the number itself (GNU tar, for files of 8 GiB and more).
    size = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:]) if field[0] & 0x80 else _octal(field)
    if size > MAX_ARTEFACT_BYTES:
        raise malformed("a size of the tar archive")
    return size


def _tar_more(stream: Readable, kind: bytes, size: int, said: _Said) -> _Said:
    """Read a header that speaks of the next one: GNU's long names, pax records."""
    if size > _PAX:
        raise malformed("an extended header of the tar archive")
    data = exactly(stream, size + -size % _BLOCK)[:size]
    if kind == b"L":
        return replace(said, path=data.rstrip(b"\0"))
    if kind == b"K":
        return replace(said, target=data.rstrip(b"\0"))
    # What a global header says of all members (a comment, times) is nothing that names or cuts one.
    return _pax(data, said) if kind == b"x" else said


def _pax(data: bytes, said: _Said) -> _Said:
    """Read records of the form `length key=value\\n`, where the length counts itself."""
    while data:
        digits, _, _ = data[:8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[len(digits) + 1 : length]
        if length > len(data) or not record.endswith(b"\n"):
            raise malformed("an extended header of the tar archive")
        data = data[length:]
        key, _, value = record[:-1].partition(b"=")
        if key.startswith(b"GNU.sparse."):
            raise _sparse()
        if key == b"path":
            said = replace(said, path=value)
        elif key == b"linkpath":
            said = replace(said, target=value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 20 or int(value) > MAX_ARTEFACT_BYTES:
                raise malformed("a size of the tar archive")
            said = replace(said, size=int(value))
    return said


def _sparse() -> ArtefactRefused:
    return ArtefactRefused("archive-sparse", "it has sparse members: write it without --sparse")


def _tar_member(header: bytes, said: _Said) -> Member:
    kind = _TYPES.get(header[156:157])
    if header[156:157] == b"S":
        raise _sparse()
    if kind is None:
        raise malformed(f"a member of type {header[156:157]!r} in the tar archive")
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    if prefix and header[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    if said.path is not None:
        name = said.path
    target = header[157:257].partition(b"\0")[0] if said.target is None else said.target
    if kind is Kind.FILE and name.endswith(b"/"):
        kind = Kind.DIRECTORY
    if kind is Kind.HARDLINK:
        target = member_path(target)
    return Member(member_path(name), kind, _octal(header[100:108]), target)


def initramfs_members(stream: Readable) -> Iterator[tuple[Member, Readable]]:
    """Yield the members of an initramfs: cpio archives behind one another, each compressed or not.

    *Raises* `ArtefactRefused` ("archive-…", "artefact-…", "zstd-missing").
    """
    source = Source(stream)
    while _skip_zeros(source):
        if is_compressed(source):
            inner = inflated(source)
            while _skip_zeros(inner):
                yield from _cpio_archive(inner)
        else:
            yield from _cpio_archive(source)


def _skip_zeros(source: Source) -> bool:
    """Skip the zeros between two archives; return whether there is another one."""
    while piece := source.read(_BLOCK):
        rest = piece.lstrip(b"\0")
        if rest:
            source.push_back(rest)
            return True
    return False


@dataclass(frozen=True, slots=True)
class _CpioHeader:
    inode: tuple[int, int, int]
    mode: int
    links: int
    size: int
    name: bytes


def _cpio_archive(source: Source) -> Iterator[tuple[Member, Readable]]:
    """Yield the members of one archive up to its trailer. Of several names of one file one has the content, mostly the last."""
    waiting: dict[tuple[int, int, int], list[bytes]] = {}
    known: dict[tuple[int, int, int], bytes] = {}
    nothing = Slice(source, 0)
    for _ in range(MAX_ARTEFACT_FILES):
        header = _cpio_header(source)
        if header is None:
            for paths in waiting.values():
                yield from ((Member(path, Kind.FILE, 0), nothing) for path in paths)
            return
        path, kind = member_path(header.name), _cpio_kind(header.mode)
        content = Slice(source, header.size)
        shared = kind is Kind.FILE and header.links > 1
        if kind is Kind.SYMLINK:
            if header.size > MAX_FILE_PATH:
                raise malformed("a symbolic link of the cpio archive")
            yield Member(path, kind, header.mode, exactly(content, header.size)), nothing
        elif shared and not header.size and header.inode in known:
            yield Member(path, Kind.HARDLINK, header.mode, known[header.inode]), nothing
        elif shared and not header.size:
            waiting.setdefault(header.inode, []).append(path)
        else:
            yield Member(path, kind, header.mode), content
            if shared:
                known[header.inode] = path
                for other in waiting.pop(header.inode, ()):
                    yield Member(other, Kind.HARDLINK, header.mode, path), nothing
        content.drain()
        exactly(source, -header.size % 4)
    raise ArtefactRefused("artefact-files", f"it has more than {MAX_ARTEFACT_FILES} members")


def _cpio_kind(mode: int) -> Kind:
    kinds = {stat.S_IFREG: Kind.FILE, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFDIR: Kind.DIRECTORY}
    return kinds.get(stat.S_IFMT(mode), Kind.OTHER)


def _cpio_header(source: Source) -> _CpioHeader | None:
    """Return the next header with its name, or None for the trailer."""
    if source.peek(6) not in CPIO:
        raise malformed("no cpio archive of the format newc where one is expected")
    header = exactly(source, 110)
    if not _HEXADECIMAL.issuperset(header[6:]):
        raise malformed("a number of the cpio archive")
    fields = [int(header[at : at + 8], 16) for at in range(6, 110, 8)]
    inode, mode, _, _, links, _, size, major, minor, _, _, length, _ = fields
    if not 0 < length <= MAX_FILE_PATH:
        raise malformed("a name of the cpio archive")
    name = exactly(source, length + -(110 + length) % 4)[:length]
    if not name.endswith(b"\0"):
        raise malformed("a name of the cpio archive")
    if name == b"TRAILER!!!\0":
        if size > _PAX:
            raise malformed("the end of the cpio archive")
        exactly(source, size + -size % 4)
        return None
    return _CpioHeader((major, minor, inode), mode, links, size, name[:-1])
