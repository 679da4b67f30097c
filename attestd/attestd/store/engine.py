"""Connections and transactions on SQLite and PostgreSQL, behind one small interface.

A `write()` transaction is durable when its block ends: SQLite in WAL mode with synchronous=FULL, PostgreSQL with its own
fsync. On SQLite writers are one at a time (BEGIN IMMEDIATE; inside one process they queue for one connection instead of
polling for the lock). A `read()` transaction sees one snapshot and cannot write on either database. Assumes a local file
system for SQLite. Does not retry: a caller that may is told so by StoreUnavailable.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from attestd.store import bounds, migrate
from attestd.store.errors import SchemaMismatch, StoreConflict, StoreUnavailable


class Store:
    """One database. Thread-safe; a connection that it hands out belongs to one thread and one `with` block."""

    def __init__(self, reader: Engine, writer: Engine) -> None:
        """Take two engines over one database; `open` makes them."""
        self._reader = reader
        self._writer = writer

    @classmethod
    def open(cls, url: str, *, pool_size: int = bounds.POOL_SIZE) -> Self:
        """Return the store at `url`: `sqlite:///path` or `postgresql://…`. Nothing is connected yet.

        A SQLite file that does not exist is created for its owner alone (mode 0600; its WAL inherits that).
        *Raises* ValueError for another kind of database, or SQLite in memory (each connection would see its own), and
        StoreUnavailable for a file that cannot be made.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return cls(*_sqlite(parsed, pool_size))
        if parsed.get_backend_name() == "postgresql":
            return cls(*_postgresql(parsed.set(drivername="postgresql+psycopg"), pool_size))
        raise ValueError("a store is sqlite:///path or postgresql://host/name")

    @property
    def dialect(self) -> str:
        """Return `sqlite` or `postgresql`."""
        return self._writer.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one transaction that sees one snapshot and cannot write. *Raises* StoreUnavailable."""
        with self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open one transaction: all of it is durable after the block, or nothing of it happened.

        *Assumes* that the thread has no other write open (on SQLite it would wait for itself).
        *Raises* StoreUnavailable, StoreConflict.
        """
        with self._translated(), self._writer.begin() as connection:
            yield connection

    def migrate(self) -> str:
        """Bring the schema to this code's revision and return it. Several processes may do so at once: one works.

        *Raises* SchemaMismatch when the database is at a revision that this code does not know (a newer one).
        """
        with self.write() as connection:
            return migrate.upgrade(connection)

    def schema_version(self) -> str | None:
        """Return the revision of the database's schema, or None for an empty database."""
        with self.read() as connection:
            return migrate.current(connection)

    def require_schema(self) -> None:
        """Refuse to work on another schema than this code's. *Raises* SchemaMismatch with what to do."""
        found, wanted = self.schema_version(), migrate.head()
        if found != wanted:
            raise SchemaMismatch(f"the database is at revision {found}, this version needs {wanted}: run the migration")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what a driver raises into the store's own errors; anything else is a defect and passes."""
        dbapi = self._writer.dialect.loaded_dbapi
        try:
            yield
        except (IntegrityError, dbapi.IntegrityError) as error:
            raise StoreConflict(type(error).__name__) from error
        # The routine path uses the driver itself, so its errors come as they are.
        except (OperationalError, InterfaceError, PoolTimeout, dbapi.OperationalError, dbapi.InterfaceError) as error:
            raise StoreUnavailable(type(error).__name__) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise StoreUnavailable(type(error).__name__) from error
            raise

    def close(self) -> None:
        """Close all idle connections."""
        self._reader.dispose()
        self._writer.dispose()


def driver(connection: Connection) -> Any:
    """Return a cursor of the driver itself, in the connection's transaction: for the routine path, where SQLAlchemy's own
    work for a statement costs more than the statement."""
    return connection.connection.cursor()


# --- SQLite -----------------------------------------------------------------------------------------------------------


def _sqlite(url: URL, pool_size: int) -> tuple[Engine, Engine]:
    path = url.database
    if not path or path == ":memory:" or path.startswith("file:"):
        raise ValueError("a SQLite store is a file: sqlite:///path")
    if not Path(path).exists():
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StoreUnavailable(f"the database file cannot be made: {error.strerror}") from error
    reader = create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=bounds.POOL_SECONDS)
    writer = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=bounds.POOL_SECONDS)
    for engine, begin, query_only in ((reader, "BEGIN", "ON"), (writer, "BEGIN IMMEDIATE", "OFF")):
        event.listen(engine, "connect", _sqlite_connect(query_only))
        event.listen(engine, "begin", _sqlite_begin(begin))
    return reader, writer


def _sqlite_connect(query_only: str) -> Any:
    def connect(connection: Any, _record: object) -> None:
        # The driver's own idea of when a transaction starts is switched off: `_sqlite_begin` says so explicitly.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={bounds.BUSY_MILLISECONDS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            f"wal_autocheckpoint={bounds.WAL_PAGES}",
            f"cache_size=-{bounds.CACHE_KIBIBYTES}",
            f"query_only={query_only}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return connect


def _sqlite_begin(statement: str) -> Any:
    def begin(connection: Connection) -> None:
        driver(connection).execute(statement)

    return begin


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _postgresql(url: URL, pool_size: int) -> tuple[Engine, Engine]:
    size = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": bounds.POOL_SECONDS}
    # Reading sees one snapshot (as on SQLite); writing re-reads a row that it had to wait for, which the guards rely on.
    reader = create_engine(url, isolation_level="REPEATABLE READ", **size)
    writer = create_engine(url, isolation_level="READ COMMITTED", **size)
    event.listen(reader, "connect", _postgresql_connect(read_only=True))
    event.listen(writer, "connect", _postgresql_connect(read_only=False))
    return reader, writer


def _postgresql_connect(*, read_only: bool) -> Any:
    settings = (
        f"SET lock_timeout = {bounds.BUSY_MILLISECONDS}",
        f"SET statement_timeout = {bounds.STATEMENT_MILLISECONDS}",
        f"SET idle_in_transaction_session_timeout = {bounds.IDLE_MILLISECONDS}",
        # An answer follows the commit, so a commit must be on disk whatever the server's default is.
        "SET synchronous_commit = on",
    )

    def connect(connection: Any, _record: object) -> None:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for setting in settings:
                cursor.execute(setting)
        connection.autocommit = False
        connection.read_only = read_only

    return connect
