"""Bytes ↔ message dataclasses, for both sides and both encodings.

A message is a CBOR map with text keys (application/cbor, what devices send) or the same map as JSON with byte strings in
base64url without padding (application/json, for people). Proves only form: every key known and present once, every value of
its type and within its bound. Unknown keys are refused: an ignored field is a place to hide a promise that nobody keeps.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NoReturn, TypeVar, cast

import cbor2

from attestd.protocol import limits

CBOR: Final = "application/cbor"
JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"

M = TypeVar("M")


class MessageMalformed(ValueError):
    """The bytes are not the expected message. `where` is the path of the offending field, in dots."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.what = what
        self.where = where


# --- Field kinds: each takes (raw value, from_json, path) and returns the value or raises --------------------------------

Kind = Callable[[Any, bool, str], Any]


def octets(least: int, most: int) -> Kind:
    """Return the kind of a byte string of `least` to `most` bytes."""

    def check(raw: Any, from_json: bool, where: str) -> bytes:
        value = _from_base64url(raw, where) if from_json else raw
        if type(value) is not bytes:
            raise MessageMalformed("not a byte string", where)
        if not least <= len(value) <= most:
            raise MessageMalformed(f"{len(value)} bytes, not {least} to {most}", where)
        return value

    return check


def text(most: int, least: int = 1) -> Kind:
    """Return the kind of a printable text of `least` to `most` characters."""

    def check(raw: Any, _from_json: bool, where: str) -> str:
        if type(raw) is not str:
            raise MessageMalformed("not a text", where)
        if not least <= len(raw) <= most or not raw.isprintable():
            raise MessageMalformed(f"not {least} to {most} printable characters", where)
        return raw

    return check


def document(most: int) -> Kind:
    """Return the kind of a text of several lines and at most `most` characters."""

    def check(raw: Any, _from_json: bool, where: str) -> str:
        if type(raw) is not str or len(raw) > most:
            raise MessageMalformed("not a text", where)
        try:
            raw.encode()
        except UnicodeEncodeError:  # JSON can say half of a character ("\\ud800"), and nothing can encode it
            raise MessageMalformed("not a text", where) from None
        return raw

    return check


def integer(least: int = 0, most: int = limits.MAX_JSON_INTEGER) -> Kind:
    """Return the kind of an integer from `least` to `most`."""

    def check(raw: Any, _from_json: bool, where: str) -> int:
        if type(raw) is not int or not least <= raw <= most:
            raise MessageMalformed(f"not an integer from {least} to {most}", where)
        return raw

    return check


def boolean(raw: Any, _from_json: bool, where: str) -> bool:
    """Check a truth value."""
    if type(raw) is not bool:
        raise MessageMalformed("not true or false", where)
    return raw


def array(kind: Kind, most: int, least: int = 0) -> Kind:
    """Return the kind of an array of `least` to `most` values of one kind, as a tuple."""

    def check(raw: Any, from_json: bool, where: str) -> tuple[Any, ...]:
        if type(raw) is not list or not least <= len(raw) <= most:
            raise MessageMalformed(f"not an array of {least} to {most}", where)
        return tuple(kind(item, from_json, f"{where}[{index}]") for index, item in enumerate(raw))

    return check


_MAPPINGS: Final[set[int]] = set()
"""The identities of the kinds that `mapping` made: an empty tuple of pairs looks like an empty array."""


def mapping(kind: Kind, most: int, key: Kind) -> Kind:
    """Return the kind of a map from text to one kind, as a tuple of pairs sorted by key."""

    def check(raw: Any, from_json: bool, where: str) -> tuple[tuple[Any, Any], ...]:
        if type(raw) is not dict or len(raw) > most:
            raise MessageMalformed(f"not a map of at most {most}", where)
        pairs = [
            (key(name, from_json, where), kind(value, from_json, f"{where}.{name}")) for name, value in raw.items()
        ]
        return tuple(sorted(pairs))

    _MAPPINGS.add(id(check))
    return check


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of one message: its dataclass, and a kind for each field, in `optional` those that may be absent.

    `items` is how many items, of whatever kind and at whatever depth, its encoding may have.
    """

    message: type
    required: Mapping[str, Kind]
    optional: Mapping[str, Kind]
    items: int

    def kind(self, name: str) -> Kind:
        """Return the kind of a field."""
        return self.required.get(name) or self.optional[name]

    def __call__(self, raw: Any, from_json: bool, where: str) -> Any:
        """Check a raw map and return the dataclass. A missing optional field takes the dataclass's default."""
        if type(raw) is not dict:
            raise MessageMalformed("not a map", where)
        prefix = f"{where}." if where else ""
        values = {}
        required, optional = self.required, self.optional
        for name, value in raw.items():
            kind = required.get(name) or optional.get(name)
            if kind is None:
                raise MessageMalformed("unknown field", f"{prefix}{str(name)[:64]!r}")
            values[name] = kind(value, from_json, prefix + name)
        if len(values) < len(required) + len(optional):
            for name in required:
                if name not in values:
                    raise MessageMalformed("missing", prefix + name)
        return self.message(**values)


SHAPES: dict[type, Shape] = {}
"""Every message class and its shape; filled by protocol/messages.py and by nothing else."""


def shape(
    message: type,
    required: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
    *,
    items: int = limits.MAX_ITEMS,
) -> Shape:
    """Register and return the shape of a message class; its fields must be exactly those named."""
    made = Shape(message, required, optional or {}, items)
    if {field.name for field in fields(message)} != {*made.required, *made.optional}:
        raise TypeError(f"{message.__name__}: fields and shape differ")
    SHAPES[message] = made
    return made


def decode(message: type[M], body: bytes, media_type: str) -> M:
    """Return the message that `body` encodes.

    Raises `MessageMalformed` and nothing else. The body's size is bounded by the caller, the number of its items here before
    any of them is made: what a stranger's bytes cost is copying them, never millions of objects (T04).
    """
    form = SHAPES[message]
    if media_type == CBOR:
        _check_items(body, form.items)
        return cast(M, form(_load_cbor(body), False, ""))
    if media_type == JSON:
        return cast(M, form(_load_json(body, form.items), True, ""))
    raise MessageMalformed(f"media type is neither {CBOR} nor {JSON}")


def encode(message: Any, media_type: str) -> bytes:
    """Return the bytes of a message; absent (`None`) and empty optional fields are left out."""
    if media_type == CBOR:
        return cbor2.dumps(_plain(message, from_bytes=bytes))
    return json.dumps(_plain(message, from_bytes=to_base64url), separators=(",", ":"), ensure_ascii=False).encode()


def to_base64url(value: bytes) -> str:
    """Encode bytes as base64url without padding (RFC 4648, 5)."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _from_base64url(raw: Any, where: str) -> bytes:
    if type(raw) is not str or len(raw) > 2 * limits.MAX_BODY:
        raise MessageMalformed("not base64url", where)
    try:
        value = base64.b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MessageMalformed("not base64url", where) from None
    if to_base64url(value) != raw:
        raise MessageMalformed("not canonical base64url without padding", where)
    return value


_AS_THEY_ARE: Final = frozenset({str, int, bool, type(None)})


def _plain(message: Any, *, from_bytes: Callable[[bytes], Any]) -> Any:
    kind = type(message)
    if kind in _AS_THEY_ARE:
        return message
    if kind is bytes:
        return from_bytes(message)
    made = SHAPES.get(kind)
    if made is not None:
        values = {name: getattr(message, name) for name in made.required}
        values |= {
            name: value for name in made.optional if (value := getattr(message, name)) is not None and value != ()
        }
        return {
            name: _plain(dict(value) if id(made.kind(name)) in _MAPPINGS else value, from_bytes=from_bytes)
            for name, value in values.items()
        }
    if kind is dict:
        return {name: _plain(value, from_bytes=from_bytes) for name, value in message.items()}
    return [_plain(item, from_bytes=from_bytes) for item in message]


def _step(head: int) -> int:
    """Return by how many bytes an item's head, with the content of a short string, brings us further (RFC 8949, 3).

    Negative: so many bytes of length follow, and then the string. 0: an item that no message has: a tag, a fraction, an
    indefinite length, a simple value other than false, true and null.
    """
    major, short = head >> 5, head & 31
    if short > 27 or major == 6 or (major == 7 and head not in (0xF4, 0xF5, 0xF6)):
        return 0
    width = 0 if short < 24 else 1 << short - 24
    if major in (2, 3):
        return -width if width else 1 + short
    return 1 + width


_STEPS: Final = tuple(_step(head) for head in range(256))


def _check_items(body: bytes, most: int) -> None:
    """Refuse more than `most` items, and tags: the decoder would compute what they stand for, some in quadratic time.

    The heads of a CBOR document follow one another whatever contains what, so that counting them needs no structure.
    """
    at, end = 0, len(body)
    for _ in range(most):
        if at >= end:  # what ends too early or has too much, the decoder refuses
            return
        step = _STEPS[body[at]]
        if step < 0:
            step = 1 - step + int.from_bytes(body[at + 1 : at + 1 - step])
        elif not step:
            raise MessageMalformed("CBOR of a kind that has no place in a message")
        at += step
    if at < end:
        raise MessageMalformed(f"more than {most} items")


def _load_cbor(body: bytes) -> Any:
    try:
        value = cbor2.loads(
            body,
            max_depth=limits.MAX_NESTING,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            tag_hook=_refuse_tag,
            semantic_decoders={},
        )
    except MessageMalformed:
        raise
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise MessageMalformed(f"not CBOR: {type(error).__name__}") from None
    return value


def _refuse_tag(*_: Any) -> NoReturn:
    raise MessageMalformed("CBOR tags have no place in a message")


def _load_json(body: bytes, most: int) -> Any:
    if len(body) > limits.MAX_JSON_BODY:
        raise MessageMalformed(f"JSON of more than {limits.MAX_JSON_BODY} bytes: send {CBOR}")
    # Every item follows a comma or opens something; those inside a text count too, which no honest text has many of.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > most:
        raise MessageMalformed(f"more than {most} items")
    try:
        return json.loads(
            body,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_refuse_float,
            parse_int=_small_integer,
        )
    except MessageMalformed:
        raise
    except (ValueError, RecursionError):  # the scanner counts its own depth; what it lets through the shapes refuse
        raise MessageMalformed("not JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise MessageMalformed("a key stands twice")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise MessageMalformed(f"{name} is not JSON")


def _refuse_float(_: str) -> NoReturn:
    raise MessageMalformed("no field of the protocol is a fraction")


def _small_integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > limits.MAX_JSON_INTEGER:
        raise MessageMalformed("an integer beyond 64 bits")
    return int(digits)
