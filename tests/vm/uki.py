"""A unified kernel image: the stub of systemd with a kernel, its command line and its initial ramdisk as sections.

Assumes a sound stub (it comes out of a package of the distribution). Signs nothing.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

_SECTION: Final = struct.Struct("<8sIIIIIIHHI")
_READABLE_DATA: Final = 0x40000040
"""IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ (PE/COFF, 4.1)."""
_PAGE: Final = 0x1000


class NotAStub(Exception):
    """The stub cannot take the sections; the message says why."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What adding sections needs of a PE32+ header: where its fields are, and how it aligns."""

    count_at: int
    table: int
    sections: int
    size_of_image_at: int
    file_alignment: int
    size_of_headers: int
    end_of_memory: int

    @classmethod
    def of(cls, image: bytes) -> Self:
        """Read it. *Raises* NotAStub."""
        start = int.from_bytes(image[0x3C:0x40], "little")
        if image[:2] != b"MZ" or image[start : start + 4] != b"PE\0\0":
            raise NotAStub("it is not a PE image")
        sections, optional_size = struct.unpack_from("<H12xH", image, start + 6)
        optional = start + 24
        file_alignment, size_of_headers = struct.unpack_from("<I20xI", image, optional + 36)
        table = optional + optional_size
        entries = [_SECTION.unpack_from(image, table + 40 * number) for number in range(sections)]
        end = max(address + max(size, raw) for _, size, address, raw, *_ in entries)
        return cls(start + 6, table, sections, optional + 56, file_alignment, size_of_headers, end)


def unified_image(stub: bytes, sections: tuple[tuple[str, bytes], ...]) -> bytes:
    """Return the stub with these (name, content) sections behind its own. *Raises* NotAStub."""
    header = _Header.of(stub)
    end_of_table = header.table + 40 * (header.sections + len(sections))
    if end_of_table > header.size_of_headers or any(stub[header.table + 40 * header.sections : end_of_table]):
        raise NotAStub(f"its header has no room for {len(sections)} more sections")
    image = bytearray(_padded(stub, header.file_alignment))
    address = _up(header.end_of_memory, _PAGE)
    for number, (name, content) in enumerate(sections, header.sections):
        body = _padded(content, header.file_alignment)
        entry = _SECTION.pack(
            name.encode().ljust(8, b"\0"), len(content), address, len(body), len(image), 0, 0, 0, 0, _READABLE_DATA
        )
        _SECTION.pack_into(image, header.table + 40 * number, *_SECTION.unpack(entry))
        image += body
        address = _up(address + len(content), _PAGE)
    struct.pack_into("<H", image, header.count_at, header.sections + len(sections))
    struct.pack_into("<I", image, header.size_of_image_at, address)
    return bytes(image)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _padded(data: bytes, step: int) -> bytes:
    return data.ljust(_up(len(data), step), b"\0")
