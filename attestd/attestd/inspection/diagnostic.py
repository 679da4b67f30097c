"""CBOR as documents write it: diagnostic notation (RFC 8949, 8; RFC 8610, G), read into the items that `cborread` returns.

Proves that the text is one item, no deeper and of no more items than the bounds, with no key twice. Reads numbers, texts, byte
strings in every base, arrays, maps, tags, comments, embedded CBOR; encoding indicators (`_1`) are read over: nothing is encoded.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, Final

import cbor2

from attestd.inspection.cborread import Tag
from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import INSPECTED_DOCUMENT, INSPECTED_ITEMS, INSPECTED_NESTING
from attestd_pki.base64text import decode_base64

_SPACE: Final = re.compile(r"(?:\s|/(?![/*])[^/]*/|//[^\n]*|/\*.*?\*/|#[^\n]*)*", re.DOTALL)
_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BYTES: Final = re.compile(r"(h|b64|b32|h32)?'((?:[^'\\]|\\.)*)'", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?(?:0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?:_\d)?")
_WORDS: Final = {"true": True, "false": False, "null": None, "undefined": None}
_WORD: Final = re.compile(r"[A-Za-z]+")
_BASES: Final = {"0x": 16, "0o": 8, "0b": 2}
_MOST_DIGITS: Final = 80
"""Digits of a number: 2^256 has 78."""


_DECODERS: Final[dict[str, Callable[[str], bytes]]] = {
    "h": bytes.fromhex,
    "b64": decode_base64,
    "b32": base64.b32decode,
    "h32": base64.b32hexdecode,
}


def read_diagnostic(text: str) -> Any:
    """Return the item that fills `text`. *Raises* `InspectionRefused` ("cbor-size", "cbor-malformed")."""
    if len(text) > INSPECTED_DOCUMENT:
        raise InspectionRefused("cbor-size", f"a text of {len(text)} characters")
    reader = _Reader(text)
    value = reader.item(0)
    reader.space()
    if reader.position != len(text):
        raise _malformed(f"{len(text) - reader.position} characters behind the item")
    return value


def _malformed(message: str) -> InspectionRefused:
    return InspectionRefused("cbor-malformed", f"not diagnostic notation that can be read: {message}")


class _Reader:
    """One pass over the text; recursion is no deeper than the bound on nesting."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.items = 0

    def space(self) -> None:
        """Skip white space and comments."""
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match is not None else self.position

    def item(self, depth: int) -> Any:
        """Read the item at the position."""
        self.items += 1
        if depth > INSPECTED_NESTING or self.items > INSPECTED_ITEMS:
            raise _malformed("nested too deep, or too many items")
        self.space()
        if self.taken("["):
            return self.listed("]", depth)
        if self.taken("{"):
            return self.mapped(depth)
        if self.taken("<<"):
            return b"".join(_encoded(one) for one in self.listed(">>", depth))
        if self.taken("(_"):
            parts = self.listed(")", depth)
            if not all(isinstance(one, bytes) for one in parts):
                raise _malformed("a string made of something else")
            return b"".join(parts)
        return self.simple(depth)

    def taken(self, token: str) -> bool:
        """Skip white space, then `token` where it is next."""
        self.space()
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def match(self, form: re.Pattern[str]) -> re.Match[str] | None:
        found = form.match(self.text, self.position)
        if found is not None:
            self.position = found.end()
        return found

    def listed(self, end: str, depth: int) -> list[Any]:
        """Read items up to `end`; a comma between them may be left out (RFC 8610, G.5), and one may stand behind the last."""
        found: list[Any] = []
        self.indefinite()
        while not self.taken(end):
            if self.position >= len(self.text):
                raise _malformed("it ends early")
            found.append(self.item(depth + 1))
            self.taken(",")
        return found

    def indefinite(self) -> None:
        """Skip the mark of an indefinite length or of an encoding."""
        if self.text.startswith("_", self.position):
            self.position += 1
            while self.position < len(self.text) and self.text[self.position].isdigit():
                self.position += 1

    def mapped(self, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        self.indefinite()
        while not self.taken("}"):
            key = self.item(depth + 1)
            if isinstance(key, list | dict | Tag):
                raise _malformed("a key that is a container")
            if key in found:
                raise _malformed(f"the key {str(key)[:40]!r} is there twice")
            if not self.taken(":"):
                raise _malformed("a key without a value")
            found[key] = self.item(depth + 1)
            self.taken(",")
        return found

    def simple(self, depth: int) -> Any:
        if (text := self.match(_TEXT)) is not None:
            return _text(text[0])
        if (octets := self.match(_BYTES)) is not None:
            return _octets(octets[1], octets[2])
        if (number := self.match(_NUMBER)) is not None:
            return self.number(number[0].split("_")[0], depth)
        word = self.match(_WORD)
        if word is not None and word[0] in _WORDS:
            return _WORDS[word[0]]
        raise _malformed(f"at character {self.position}")

    def number(self, written: str, depth: int) -> Any:
        """Return a number, or the tagged item whose tag it is."""
        if len(written) > _MOST_DIGITS:
            raise _malformed("a number of too many digits")
        sign, digits = (-1 if written[0] == "-" else 1), written.lstrip("+-")
        base = _BASES.get(digits[:2].lower())
        if base is None and not digits.isdigit():
            return float(written)
        value = sign * int(digits if base is None else digits[2:], base or 10)
        if self.text.startswith("(", self.position) and value >= 0:
            self.position += 1
            inner = self.item(depth + 1)
            if not self.taken(")"):
                raise _malformed("a tag that does not end")
            return Tag(value, inner)
        return value


def _text(written: str) -> str:
    try:
        text = str(json.loads(written.replace("\n", "\\n").replace("\t", "\\t")))
        text.encode()  # half of a surrogate pair has no UTF-8, and so is no text of CBOR
        return text
    except ValueError:
        raise _malformed("a text that cannot be read") from None


def _octets(base: str | None, written: str) -> bytes:
    """Return a byte string in hexadecimal, base64 or its own characters; white space and comments in it are nothing."""
    plain = "".join(re.sub(r"/[^/]*/|#[^\n]*", "", written).split()) if base != "b64" else "".join(written.split())
    try:
        return written.replace("\\'", "'").encode() if base is None else _DECODERS[base](plain)
    except (ValueError, binascii.Error):
        raise _malformed(f"a byte string that is not {base or 'text'}") from None


def _encoded(item: Any) -> bytes:
    try:
        return cbor2.dumps(_for_library(item))
    except (cbor2.CBOREncodeError, ValueError, OverflowError, RecursionError):
        raise _malformed("an embedded item that cannot be encoded") from None


def _for_library(item: Any) -> Any:
    if isinstance(item, Tag):
        return cbor2.CBORTag(item.number, _for_library(item.value))
    if isinstance(item, list):
        return [_for_library(one) for one in item]
    return {key: _for_library(one) for key, one in item.items()} if isinstance(item, dict) else item
