"""CBOR of a manifest or a result (RFC 8949), read within bounds and without interpreting any tag.

Proves that the bytes are one item and nothing behind it, with no key twice, no deeper than the bound and of no more items than the
bound. Why an own reader: the library decodes dates, regular expressions, sets and shared references (which make cycles) of whatever
a stranger wrote, and does not say where the item ended.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from struct import Struct
from struct import error as too_short
from typing import Any, Final

from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import INSPECTED_DOCUMENT, INSPECTED_ITEMS, INSPECTED_NESTING

_ARGUMENTS: Final = {24: Struct(">B"), 25: Struct(">H"), 26: Struct(">I"), 27: Struct(">Q")}
_FLOATS: Final = {25: Struct(">e"), 26: Struct(">f"), 27: Struct(">d")}
_SIMPLE: Final = {20: False, 21: True, 22: None, 23: None}
_INDEFINITE: Final = 31
_BREAK: Final = object()


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged item, as it is: its number and what it is put on."""

    number: int
    value: Any


def read_cbor(data: bytes) -> Any:
    """Return the item that fills `data`: int, float, bool, None, bytes, str, list, dict or `Tag`.

    *Raises* `InspectionRefused` ("cbor-size", "cbor-malformed").
    """
    if len(data) > INSPECTED_DOCUMENT:
        raise InspectionRefused("cbor-size", f"a CBOR document of {len(data)} bytes")
    reader = _Reader(data)
    value = reader.item(0)
    if value is _BREAK or reader.position != len(data):
        raise _malformed(f"{len(data) - reader.position} bytes behind the item")
    return value


def read_cbor_sequence(*parts: bytes) -> list[Any]:
    """Return the items that fill each part one after the other (RFC 8742). *Raises* as `read_cbor`.

    All parts together have the bounds of one document.
    """
    size = sum(map(len, parts))
    if size > INSPECTED_DOCUMENT:
        raise InspectionRefused("cbor-size", f"a CBOR sequence of {size} bytes")
    found: list[Any] = []
    items = 0
    for data in parts:
        reader = _Reader(data)
        reader.items = items
        while reader.position < len(data):
            value = reader.item(0)
            if value is _BREAK:
                raise _malformed("an end where an item should be")
            found.append(value)
        items = reader.items
    return found


def _malformed(message: str) -> InspectionRefused:
    return InspectionRefused("cbor-malformed", f"not CBOR that can be read: {message}")


class _Reader:
    """One pass over the bytes; recursion is no deeper than the bound on nesting."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.items = 0

    def item(self, depth: int) -> Any:
        """Read the item at the position, or return `_BREAK` for the end of an indefinite one."""
        self.items += 1
        if depth > INSPECTED_NESTING or self.items > INSPECTED_ITEMS:
            raise _malformed("nested too deep, or too many items")
        if self.position >= len(self.data):
            raise _malformed("it ends early")
        major, minor = self.data[self.position] >> 5, self.data[self.position] & 0x1F
        self.position += 1
        if major == 7:
            return self._simple(minor)
        if minor == _INDEFINITE and major in (2, 3, 4, 5):
            return self._indefinite(major, depth)
        argument = self._argument(minor)
        if major in (0, 1):
            return argument if major == 0 else -1 - argument
        if major in (2, 3):
            return self._string(major, argument)
        if major == 6:
            return Tag(argument, self._value(depth + 1))
        return self._container(major, argument, depth)

    def _argument(self, minor: int) -> int:
        if minor < 24:
            return minor
        form = _ARGUMENTS.get(minor)
        if form is None:
            raise _malformed("a length that is not defined")
        return int(self._unpack(form))

    def _unpack(self, form: Struct) -> Any:
        try:
            (value,) = form.unpack_from(self.data, self.position)
        except too_short:
            raise _malformed("it ends early") from None
        self.position += form.size
        return value

    def _simple(self, minor: int) -> Any:
        if minor == _INDEFINITE:
            return _BREAK
        if minor in _FLOATS:
            return self._unpack(_FLOATS[minor])
        if minor in _SIMPLE:
            return _SIMPLE[minor]
        raise _malformed("a simple value that is not defined")

    def _string(self, major: int, size: int) -> bytes | str:
        end = self.position + size
        if end > len(self.data):
            raise _malformed(f"a string of {size} bytes")
        octets = self.data[self.position : end]
        self.position = end
        if major == 2:
            return octets
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            raise _malformed("a text that is not UTF-8") from None

    def _value(self, depth: int) -> Any:
        value = self.item(depth)
        if value is _BREAK:
            raise _malformed("an end where an item should be")
        return value

    def _container(self, major: int, count: int, depth: int) -> Any:
        if count > len(self.data) - self.position:
            raise _malformed(f"{count} items in {len(self.data) - self.position} bytes")
        if major == 4:
            return [self._value(depth + 1) for _ in range(count)]
        found: dict[Hashable, Any] = {}
        for _ in range(count):
            self._pair(found, self._value(depth + 1), depth)
        return found

    def _pair(self, found: dict[Hashable, Any], key: Any, depth: int) -> None:
        if isinstance(key, list | dict) or (isinstance(key, Tag) and isinstance(key.value, list | dict | Tag)):
            raise _malformed("a key that is a container")
        if key in found:
            raise _malformed(f"the key {str(key)[:40]!r} is there twice")
        found[key] = self._value(depth + 1)

    def _indefinite(self, major: int, depth: int) -> Any:
        if major == 5:
            found: dict[Hashable, Any] = {}
            while (key := self.item(depth + 1)) is not _BREAK:
                self._pair(found, key, depth)
            return found
        parts = []
        while (part := self.item(depth + 1)) is not _BREAK:
            parts.append(part)
        if major == 4:
            return parts
        kind = bytes if major == 2 else str
        if not all(isinstance(part, kind) for part in parts):
            raise _malformed("a string made of something else")
        return b"".join(parts) if major == 2 else "".join(parts)


def plain_json(value: Any) -> Any:
    """Return an item as JSON can hold it: bytes in hexadecimal, tags as {"tag": …, "value": …}, keys as texts.

    *Assumes* what `read_cbor` returned, whose depth is bounded.
    """
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Tag):
        return {"tag": value.number, "value": plain_json(value.value)}
    if isinstance(value, list):
        return [plain_json(one) for one in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(plain_json(key)): plain_json(one) for key, one in value.items()}
    return str(value) if isinstance(value, float) else value
