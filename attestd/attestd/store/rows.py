"""Between a row and the frozen dataclass that stands for it: fields and columns have the same names.

Proves nothing. Assumes that a record's fields are columns of the table it is used with (a missing one is a KeyError in the
first test that touches it).
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Column, Row, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from attestd.store import bounds

R = TypeVar("R")


def columns(table: Table, record: type) -> list[Column[Any]]:
    """Return the columns of `table` that `record` has fields for, in the order of the fields."""
    return [table.c[field.name] for field in fields(record)]


def values(record: Any) -> dict[str, Any]:
    """Return the record as column name → value."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def records(record: Callable[..., R], rows: Sequence[Row[Any]]) -> tuple[R, ...]:
    """Return rows that were selected with `columns` as records."""
    return tuple(record(*row) for row in rows)


def record(kind: Callable[..., R], row: Row[Any] | None) -> R | None:
    """Return a row that was selected with `columns` as a record, or None."""
    return None if row is None else kind(*row)


def insert(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return the dialect's INSERT, which knows ON CONFLICT (both databases spell it alike)."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def page(limit: int) -> int:
    """Return `limit` within the bound of one listing. *Raises* ValueError below 1."""
    if limit < 1:
        raise ValueError("a page has at least one row")
    return min(limit, bounds.MAX_PAGE)
