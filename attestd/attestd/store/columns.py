"""The column types: what a value looks like in a row, and what a query hands out.

Proves nothing. Sequences come back as tuples, so that a row that was read is a value and not somebody's list.
"""

import json
from typing import Any, Final

from sqlalchemy import BigInteger, Integer, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

IDENTIFIER: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""A text that is compared byte by byte."""
SERIAL: Final = BigInteger().with_variant(Integer(), "sqlite")
"""A key the database counts up (SQLite does so only for a column whose type is exactly INTEGER)."""

Pairs = tuple[tuple[str, str], ...]
KeyPairs = tuple[tuple[str, bytes], ...]


def encode_document(value: Any) -> str | None:
    """Return `value` as canonical JSON (keys sorted, no spaces, ASCII only), or None. *Raises* ValueError for NaN."""
    if value is None:
        return None
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode_document(value: str | None) -> Any:
    """Return what the JSON says, or None for None."""
    return None if value is None else json.loads(value)


def decode_keys(value: str) -> KeyPairs:
    """Return the (kind, public key) pairs of a column of `Keys`; the routine path reads it without SQLAlchemy's types."""
    return tuple((kind, bytes.fromhex(key)) for kind, key in json.loads(value))


class Document(TypeDecorator[Any]):
    """A JSON value as canonical text. None is SQL's NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Encode on the way in."""
        return encode_document(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Decode on the way out."""
        return decode_document(value)


class Texts(TypeDecorator[tuple[str, ...]]):
    """A tuple of texts as a JSON array."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Encode on the way in."""
        return None if value is None else encode_document(list(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:  # noqa: ARG002
        """Decode on the way out."""
        return None if value is None else tuple(json.loads(value))


class Labels(TypeDecorator[Pairs]):
    """(name, text) pairs as a JSON array of arrays."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Pairs | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Encode on the way in."""
        return None if value is None else encode_document([list(pair) for pair in value])

    def process_result_value(self, value: str | None, dialect: Dialect) -> Pairs | None:  # noqa: ARG002
        """Decode on the way out."""
        return None if value is None else tuple((name, text) for name, text in json.loads(value))


class Keys(TypeDecorator[KeyPairs]):
    """(kind, public key) pairs as a JSON array of arrays, the keys in hexadecimal."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: KeyPairs | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Encode on the way in."""
        return None if value is None else encode_document([[kind, key.hex()] for kind, key in value])

    def process_result_value(self, value: str | None, dialect: Dialect) -> KeyPairs | None:  # noqa: ARG002
        """Decode on the way out."""
        return None if value is None else decode_keys(value)


class Unsigned64(TypeDecorator[int]):
    """An unsigned 64-bit integer that uses all its bits (a firmware version), as 16 hexadecimal digits: order is kept."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Encode on the way in. *Raises* ValueError beyond 64 bits."""
        if value is None:
            return None
        if not 0 <= value < 1 << 64:
            raise ValueError("not an unsigned 64-bit integer")
        return f"{value:016x}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Decode on the way out."""
        return None if value is None else int(value, 16)
