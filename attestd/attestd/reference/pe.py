"""Executable images of UEFI: headers and sections, as far as measuring them needs (PE/COFF, Microsoft's specification).

Proves, of an `Image`, that its sections lie inside the file, apart from each other and from the signatures behind them, so
that there is one reading of the file. Assumes nothing of the bytes. Does not check signatures, relocate or run.
"""

from dataclasses import dataclass
from struct import Struct, error, unpack_from
from typing import Final

from attestd.protocol.limits import MAX_BOOT_IMAGE, MAX_IMAGE_SECTIONS, MAX_SECTION_PADDING
from attestd.reference.files import ArtefactRefused

Bytes = bytes | memoryview

_HEADER_AT: Final = 0x3C
_FILE_HEADER: Final = Struct("<4sHHIIIHH")
_SECTION: Final = Struct("<8sIIIIIIHHI")
_RANGE: Final = Struct("<II")
_PLUS: Final = {0x10B: False, 0x20B: True}
_CHECKSUM, _HEADERS_SIZE = 64, 60
_DIRECTORIES: Final = {False: 96, True: 112}
_CERTIFICATES: Final = 4


@dataclass(frozen=True, slots=True)
class Section:
    """One section: `size` bytes in memory, of which the first `stored` lie in the file from `offset` on."""

    name: str
    size: int
    address: int
    stored: int
    offset: int


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `checksum` and `directory` are offsets of what no digest covers; `directory` is None where there is none.

    `headers` are the bytes of all headers, `certificates` the offset and size of the signatures (both 0 without any).
    """

    data: Bytes
    machine: int
    checksum: int
    directory: int | None
    headers: int
    sections: tuple[Section, ...]
    certificates: tuple[int, int]

    def section(self, name: str) -> Section | None:
        """Return the first section of this name, or None."""
        return next((section for section in self.sections if section.name == name), None)

    def content(self, section: Section) -> Bytes:
        """Return a section's bytes as they are in memory.

        *Raises* `ArtefactRefused` ("image-section") where more of them are not in the file than alignment asks for.
        """
        stored = min(section.stored, section.size)
        if section.size - stored > MAX_SECTION_PADDING:
            raise _refused("image-section", f"{section.name} is {section.size} bytes, of which the file has {stored}")
        found = self.data[section.offset : section.offset + stored]
        return found if stored == section.size else bytes(found) + bytes(section.size - stored)


def is_image(data: Bytes) -> bool:
    """Return whether the bytes begin like an executable image."""
    return bytes(data[:2]) == b"MZ"


def parse_image(data: Bytes) -> Image:
    """Read an image's headers.

    *Raises* `ArtefactRefused`: "image-size", "image-header" (no image), "image-section" (a section or the signatures do not lie
    where they can).
    """
    if len(data) > MAX_BOOT_IMAGE:
        raise _refused("image-size", f"{len(data)} bytes, and at most {MAX_BOOT_IMAGE} are read")
    try:
        return _parse(data)
    except error:
        raise _refused("image-header", "not an executable image of UEFI: its headers end early") from None


def _parse(data: Bytes) -> Image:
    if not is_image(data):
        raise _refused("image-header", "not an executable image of UEFI (MZ)")
    start = unpack_from("<I", data, _HEADER_AT)[0]
    signature, machine, count, _, _, _, optional_size, _ = _FILE_HEADER.unpack_from(data, start)
    if signature != b"PE\0\0":
        raise _refused("image-header", "not an executable image of UEFI (PE)")
    optional = start + _FILE_HEADER.size
    plus = _PLUS.get(unpack_from("<H", data, optional)[0])
    if plus is None or count > MAX_IMAGE_SECTIONS:
        raise _refused(
            "image-header", f"an image with {count} sections" if plus is not None else "an unknown optional header"
        )
    table = optional + optional_size
    headers = unpack_from("<I", data, optional + _HEADERS_SIZE)[0]
    directories = optional + _DIRECTORIES[plus]
    directory = None
    certificates = (0, 0)
    # The count of directories stands right before the first of them.
    if unpack_from("<I", data, directories - 4)[0] > _CERTIFICATES:
        directory = directories + _CERTIFICATES * _RANGE.size
        certificates = _RANGE.unpack_from(data, directory)
        if directory + _RANGE.size > table:
            raise _refused("image-header", "the directories do not fit into their header")
    if not table + count * _SECTION.size <= headers <= len(data):
        raise _refused("image-header", f"headers of {headers} bytes in a file of {len(data)}")
    sections = tuple(_section(data, table + index * _SECTION.size) for index in range(count))
    _require_apart(sections, headers, certificates, len(data))
    return Image(data, machine, optional + _CHECKSUM, directory, headers, sections, certificates)


def _section(data: Bytes, position: int) -> Section:
    name, size, address, stored, offset, *_ = _SECTION.unpack_from(data, position)
    return Section(name.rstrip(b"\0").decode("ascii", "backslashreplace"), size, address, stored, offset)


def _require_apart(sections: tuple[Section, ...], headers: int, certificates: tuple[int, int], size: int) -> None:
    """Refuse an image of which two parts are the same bytes of the file: two readers would see two images."""
    offset, length = certificates
    if length and (offset < headers or offset + length > size):
        raise _refused("image-section", "the signatures do not lie behind the image")
    end = offset if length else size
    reached = headers
    for section in sorted((s for s in sections if s.stored), key=lambda s: s.offset):
        if section.offset < reached:
            raise _refused("image-section", f"{section.name} begins inside what lies before it")
        reached = section.offset + section.stored
        if reached > end:
            raise _refused("image-section", f"{section.name} ends behind the file or inside the signatures")


def _refused(code: str, message: str) -> ArtefactRefused:
    return ArtefactRefused(code, message)
