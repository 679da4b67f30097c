"""Where a file's blocks lie in an ext image: extent trees, and the older maps of indirect blocks.

Yields runs in the order of the file. Proves that a tree is as deep as it says and that every step in it leads on in the file;
assumes that the caller refuses blocks outside the image. Linux Documentation/filesystems/ext4/ifork.rst.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final

from attestd.reference.files import ArtefactRefused

FileMap = Iterator[tuple[int, int | None, int]]
"""Runs: the first block in the file, the first block in the image (None: zeros), the number of blocks."""
_MAGIC: Final = 0xF30A
_MAX_DEPTH: Final = 5
_UNWRITTEN: Final = 32768
_DIRECT: Final = 12


def _malformed() -> ArtefactRefused:
    return ArtefactRefused("image-malformed", "the map of a file's blocks is damaged: e2fsck -fn says more")


def tree_map(root: bytes, block: Callable[[int], bytes]) -> FileMap:
    """Yield the runs of an extent tree whose root is in the inode. *Raises* `ArtefactRefused`."""
    behind = 0
    for first, physical, count in _node(root, block, None):
        if first < behind or not count:
            raise _malformed()
        behind = first + count
        yield first, physical, count


def _node(data: bytes, block: Callable[[int], bytes], expected: int | None) -> FileMap:
    magic, entries, _, depth = struct.unpack_from("<HHHH", data)
    if magic != _MAGIC or 12 + 12 * entries > len(data) or depth > _MAX_DEPTH or expected not in (None, depth):
        raise _malformed()
    if expected is not None and not entries:
        # Only a root may be empty: a tree of empty nodes could be walked for ever.
        raise _malformed()
    for at in range(12, 12 + 12 * entries, 12):
        if depth:
            _, low, high, _ = struct.unpack_from("<IIHH", data, at)
            yield from _node(block(high << 32 | low), block, depth - 1)
        else:
            first, count, high, low = struct.unpack_from("<IHHI", data, at)
            unwritten = count > _UNWRITTEN
            yield first, None if unwritten else high << 32 | low, count - _UNWRITTEN if unwritten else count


def indirect_map(data: bytes, block: Callable[[int], bytes], size: int, *, length: int) -> FileMap:
    """Yield the runs of a map with direct and indirect blocks; `size` is that of a block. *Raises* `ArtefactRefused`.

    No more of the map is walked than a file of `length` bytes has: three levels of blocks that name one another have no end.
    """
    run: tuple[int, int, int] | None = None
    for first, number in _blocks(data, block, size // 4, behind=-(-length // size)):
        if run is not None and (run[0] + run[2], run[1] + run[2]) == (first, number):
            run = (run[0], run[1], run[2] + 1)
            continue
        if run is not None:
            yield run
        run = (first, number, 1)
    if run is not None:
        yield run


def _blocks(data: bytes, block: Callable[[int], bytes], per_block: int, *, behind: int) -> Iterator[tuple[int, int]]:
    """Yield the blocks that there are in front of the number `behind`: their number in the file, and in the image."""
    numbers = struct.unpack_from("<15I", data)
    yield from ((index, number) for index, number in enumerate(numbers[:_DIRECT]) if number)
    first = _DIRECT
    for level, number in enumerate(numbers[_DIRECT:], 1):
        yield from _indirect(number, level, first, block, per_block, behind=behind)
        first += per_block**level


def _indirect(
    number: int, level: int, first: int, block: Callable[[int], bytes], per_block: int, *, behind: int
) -> Iterator[tuple[int, int]]:
    """Yield the blocks under an indirect block; none where there is no such block, or only such as the file does not have."""
    if not number or first >= behind:
        return
    if not level:
        yield first, number
        return
    step = per_block ** (level - 1)
    for index, inner in enumerate(struct.unpack(f"<{per_block}I", block(number))):
        yield from _indirect(inner, level - 1, first + index * step, block, per_block, behind=behind)
