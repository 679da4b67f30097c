"""Alembic's entry: runs in the transaction that `attestd.store.migrate` opened, or not at all."""

from alembic import context
from sqlalchemy import Connection

from attestd.store import tables


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=tables.Base.metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    # No context.begin_transaction(): the caller's transaction covers all steps, so a failed migration leaves nothing.
    context.run_migrations()


_run(context.config.attributes["connection"])
