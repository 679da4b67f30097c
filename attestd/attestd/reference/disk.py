"""Disk images: which partition has the root file system.

Proves that a partition lies where its table says (gpt.py checks the table's checksums; a table of the older kind, MBR, has none).
Does not guess: where several partitions could be meant, it names them.
"""

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from attestd.protocol.limits import MIB
from attestd.reference.ext4 import MAGIC, Positioned
from attestd.reference.files import ArtefactRefused
from attestd.reference.gpt import partition_table

_TABLE: Final = 4 * MIB
_SECTORS: Final = (512, 4096)
_PROTECTIVE: Final = 0xEE
_ROOTS: Final = frozenset(
    map(
        UUID,
        (
            "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",  # x86-64
            "44479540-f297-41b2-9af7-d131d5f0458a",  # x86
            "b921b045-1df0-41c3-af44-4c6f280d3fae",  # arm64
            "69dad710-2ce4-4e3c-b16c-21a1d49abed3",  # arm
            "72ec70a6-cf74-40e6-bd49-4bda08e8f224",  # riscv64
        ),
    )
)
"""Types of root file systems (UAPI Discoverable Partitions Specification)."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition with a file system of the ext family; `start` and `size` in bytes."""

    number: int
    start: int
    size: int
    is_root: bool


def root_partition(disk: Positioned, number: int | None = None) -> Partition:
    """Return the partition of the root file system, or that with the number.

    *Raises* `ArtefactRefused` ("disk-partition" with the choice there is, "gpt-…").
    """
    found = [one for one in _partitions(disk) if _is_ext(disk, one)]
    if number is not None:
        chosen = [one for one in found if one.number == number]
    else:
        chosen = [one for one in found if one.is_root] or found
    if len(chosen) == 1:
        return chosen[0]
    there = ", ".join(f"{one.number} ({one.size // MIB} MiB)" for one in found)
    advice = f"choose with --partition: {there}" if there else "it has none of ext2, ext3 or ext4"
    raise ArtefactRefused("disk-partition", f"which of the disk's partitions has the root file system? {advice}")


def _partitions(disk: Positioned) -> list[Partition]:
    head = disk.read_at(0, _TABLE)
    for sector in _SECTORS:
        if head[sector : sector + 8] == b"EFI PART":
            return _of_gpt(head, sector)
    return _of_mbr(head)


def _of_gpt(head: bytes, sector: int) -> list[Partition]:
    partition_table(head)  # refuses a damaged one
    start, count, size = struct.unpack_from("<QII", head, sector + 72)
    found = []
    for index in range(count):
        at = start * sector + index * size
        first, last = struct.unpack_from("<QQ", head, at + 32)
        kind = UUID(bytes_le=head[at : at + 16])
        if kind.int and first <= last:
            found.append(Partition(index + 1, first * sector, (last - first + 1) * sector, kind in _ROOTS))
    return found


def _of_mbr(head: bytes) -> list[Partition]:
    """Return the four primary partitions; a chain of logical ones is not followed."""
    found = []
    for index in range(4):
        kind, start, count = struct.unpack_from("<4xB3xII", head.ljust(512, b"\0"), 446 + 16 * index)
        if kind not in (0, _PROTECTIVE) and count:
            found.append(Partition(index + 1, start * 512, count * 512, False))
    return found


def _is_ext(disk: Positioned, partition: Partition) -> bool:
    return disk.read_at(partition.start + 1080, 2) == MAGIC.to_bytes(2, "little")
