"""Run the packaged migrations inside a transaction of the caller.

Proves that after `upgrade` the schema is the one of this code, or nothing changed. Assumes a connection from
`Store.write()`. Does not decide when to migrate: the operator does.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from attestd.store.errors import SchemaMismatch

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x61747464  # "attd": the advisory lock that makes migrating processes wait for each other


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def head() -> str:
    """Return the revision that this code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current(connection: Connection) -> str | None:
    """Return the revision of the database, or None when it has no schema of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection) -> str:
    """Bring the schema to `head()` and return it. *Raises* SchemaMismatch for a revision that this code does not know."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        # Building an index of a large table may take longer than a statement on the service's path is allowed.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    try:
        command.upgrade(_config(connection), "head")
    except CommandError as error:
        raise SchemaMismatch(f"the database is at revision {current(connection)}: {error}") from error
    return head()
