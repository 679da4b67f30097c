"""A reader that moves forward through bytes and never past their end.

Proves that what was read was there. Does not interpret: bounds other than the end of the buffer are the caller's.
"""

from struct import Struct
from typing import Final, Literal

from attestd.tpm.errors import Malformed

_STRUCTS: Final = {order: tuple(Struct(order + code) for code in "HI") for order in "<>"}


class Cursor:
    """A position in bytes.

    `order` is the byte order of integers: ">" for structures a TPM marshals, "<" for what firmware and kernels write.
    Every read raises `Malformed` ("structure-truncated") instead of returning less than was asked for.
    """

    __slots__ = ("_u16", "_u32", "data", "end", "position")

    def __init__(self, data: bytes, *, order: Literal[">", "<"] = ">") -> None:
        """Stand before the first byte of data."""
        self.data = data
        self.position = 0
        self.end = len(data)
        self._u16, self._u32 = _STRUCTS[order]

    @property
    def remaining(self) -> int:
        """Return how many bytes are left."""
        return self.end - self.position

    def _advance(self, size: int) -> int:
        start = self.position
        if size > self.end - start:
            raise Malformed("structure-truncated", f"{size} bytes expected, {self.end - start} left", where=start)
        self.position = start + size
        return start

    def u8(self) -> int:
        """Read one byte as an integer."""
        return self.data[self._advance(1)]

    def u16(self) -> int:
        """Read an unsigned 16-bit integer."""
        value: int = self._u16.unpack_from(self.data, self._advance(2))[0]
        return value

    def u32(self) -> int:
        """Read an unsigned 32-bit integer."""
        value: int = self._u32.unpack_from(self.data, self._advance(4))[0]
        return value

    def take(self, size: int) -> bytes:
        """Read exactly size bytes (size is not negative: it came from an unsigned field)."""
        start = self._advance(size)
        return self.data[start : start + size]

    def sized2b(self) -> bytes:
        """Read a TPM2B: a 16-bit size and that many bytes (TPM 2.0 part 2, 10.4)."""
        return self.take(self.u16())

    def expect_end(self) -> None:
        """Refuse bytes after the structure: what was not parsed must not be covered by a signature unseen."""
        if self.position != self.end:
            raise Malformed(
                "structure-trailing", f"{self.end - self.position} bytes after the structure", where=self.position
            )
