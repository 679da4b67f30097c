"""Partition tables become what firmware measures of them: UEFI_GPT_DATA (firmware profile 1.06, 10.2.4).

Proves that a table's checksums hold and that its entries lie where its header says. Assumes a disk image, or a backup that sgdisk
wrote, whose disk will be booted from with this very table.
"""

from struct import Struct, pack
from typing import Final
from zlib import crc32

from attestd.protocol.limits import MAX_PARTITIONS
from attestd.reference.files import ArtefactRefused
from attestd.reference.pe import Bytes

_HEADER: Final = Struct("<8sIIIIQQQQ16sQIII")
_SIGNATURE: Final = b"EFI PART"
_SECTORS: Final = (512, 4096)
_LEAST_ENTRY, _MOST_ENTRY = 128, 4096
_BACKUP_HEADER, _BACKUP_ENTRIES = 1024, 1536
_CHECKSUM: Final = slice(16, 20)


def partition_table(data: Bytes) -> bytes:
    """Return UEFI_GPT_DATA of the disk whose image, or whose table's backup, this is.

    It has the header as it stands, and the used entries. *Raises* `ArtefactRefused`: "gpt-absent", "gpt-header", "gpt-entries".
    """
    for sector in _SECTORS:
        if bytes(data[sector : sector + len(_SIGNATURE)]) == _SIGNATURE:
            return _table(data, sector)
    raise ArtefactRefused("gpt-absent", "no GUID partition table at 512 or 4096 bytes: give the image of a whole disk")


def _table(data: Bytes, sector: int) -> bytes:
    header = bytes(data[sector : sector + _HEADER.size])
    if len(header) < _HEADER.size:
        raise ArtefactRefused("gpt-header", "the partition table's header ends early")
    _, _, size, checksum, _, own, _, _, _, _, start, count, entry_size, entries_checksum = _HEADER.unpack(header)
    whole = bytearray(data[sector : sector + min(size, sector)])
    whole[_CHECKSUM] = bytes(4)
    if not _HEADER.size <= size <= sector or own != 1 or crc32(whole) != checksum:
        raise ArtefactRefused("gpt-header", "the partition table's header is damaged: its checksum differs")
    if count > MAX_PARTITIONS or not _LEAST_ENTRY <= entry_size <= _MOST_ENTRY:
        raise ArtefactRefused("gpt-entries", f"{count} partition entries of {entry_size} bytes")
    backup = bytes(data[_BACKUP_HEADER : _BACKUP_HEADER + len(_SIGNATURE)]) == _SIGNATURE and sector == _SECTORS[0]
    position = _BACKUP_ENTRIES if backup else start * sector
    entries = bytes(data[position : position + count * entry_size])
    if crc32(entries) != entries_checksum or len(entries) < count * entry_size:
        raise ArtefactRefused("gpt-entries", "the partition table's entries are damaged: their checksum differs")
    used = [entries[i : i + entry_size] for i in range(0, len(entries), entry_size) if any(entries[i : i + 16])]
    return header + pack("<Q", len(used)) + b"".join(used)
