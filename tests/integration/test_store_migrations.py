import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from attestd.store import SchemaMismatch, Store, StoreError, devices, migrate, shadow, tables
from attestd.store.shadow import ShadowRecord
from postgres import Server
from store_records import enrol


def test_the_migrations_make_exactly_the_tables_of_the_code(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.Base.metadata) == []


def test_constraints_have_the_names_the_code_gives_them(store: Store) -> None:
    with store.read() as connection:
        inspector = inspect(connection)
        for table in tables.Base.metadata.sorted_tables:
            assert inspector.get_pk_constraint(table.name)["name"] in {f"pk_{table.name}", None}
            found = {key["name"] for key in inspector.get_foreign_keys(table.name)}
            assert found == {str(key.name) for key in table.foreign_key_constraints}


def test_the_hot_tables_have_no_secondary_index(store: Store) -> None:
    with store.read() as connection:
        inspector = inspect(connection)
        assert inspector.get_indexes("device_state") == []
        assert inspector.get_indexes("attestation") == []


@pytest.mark.postgresql
def test_pages_of_the_state_table_leave_room_for_updates(postgresql_server: Server, migrated_postgresql: str) -> None:
    with postgresql_server.database(migrated_postgresql) as url:
        store = Store.open(url)
        with store.read() as connection:
            query = text("SELECT reloptions FROM pg_class WHERE relname = 'device_state'")
            assert connection.execute(query).scalar_one() == ["fillfactor=60"]
        store.close()


def test_an_empty_database_has_no_schema_and_is_refused(empty_database_url: str) -> None:
    store = Store.open(empty_database_url)
    assert store.schema_version() is None
    with pytest.raises(SchemaMismatch, match="run the migration"):
        store.require_schema()
    store.close()


def test_migrating_twice_changes_nothing(empty_database_url: str) -> None:
    store = Store.open(empty_database_url)
    assert store.migrate() == store.migrate() == store.schema_version() == migrate.head()
    store.require_schema()
    store.close()


def test_processes_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    stores = [Store.open(empty_database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(Store.migrate, stores)) == [migrate.head()] * 4
    for store in stores:
        store.close()


def test_a_migration_that_fails_leaves_nothing(empty_database_url: str) -> None:
    store = Store.open(empty_database_url)
    with store.write() as connection:
        connection.execute(text("CREATE TABLE vpn_credential (x integer)"))
    with pytest.raises((DBAPIError, StoreError)):
        store.migrate()
    with store.read() as connection:
        assert inspect(connection).get_table_names() == ["vpn_credential"]
    store.close()


def test_a_newer_schema_is_refused(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch):
        store.require_schema()
    with pytest.raises(SchemaMismatch):
        store.migrate()


def test_all_migrations_can_be_undone(store: Store) -> None:
    from alembic import command

    with store.write() as connection:
        command.downgrade(migrate._config(connection), "base")
    with store.read() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_t09_a_database_file_is_its_owners_alone(tmp_path: object) -> None:
    path = f"{tmp_path}/attestd.db"
    store = Store.open(f"sqlite:///{path}")
    store.migrate()
    with store.write():
        for name in (path, f"{path}-wal", f"{path}-shm"):
            assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    store.close()


def test_sqlite_is_durable_and_keeps_references(tmp_path: object) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/attestd.db")
    for transaction in (store.read, store.write):
        with transaction() as connection:
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
            assert found == ["wal", 2]
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()


@pytest.mark.postgresql
def test_postgresql_is_durable_whatever_the_servers_default(postgresql_server: Server) -> None:
    with postgresql_server.database() as url:
        store = Store.open(url)
        with store.write() as connection:
            connection.execute(text(f'ALTER DATABASE "{make_url(url).database}" SET synchronous_commit = off'))
        store.close()
        with store.write() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
        store.close()


def upgraded_to(store: Store, revision: str) -> None:
    """Bring a database to one revision, as the version of that day did."""
    from alembic import command

    with store.write() as connection:
        command.upgrade(migrate._config(connection), revision)


def test_a_database_of_the_first_version_is_brought_up_with_all_it_holds(empty_database_url: str) -> None:
    store = Store.open(empty_database_url)
    upgraded_to(store, "0001")
    with pytest.raises(SchemaMismatch, match="run the migration"):
        store.require_schema()
    ids = enrol(store, 1, 2)
    assert store.migrate() == migrate.head()
    store.require_schema()
    with store.write() as connection:
        assert [one.device_id for one in devices.list_devices(connection)] == sorted(ids)
        verdict = ShadowRecord(ids[0], bytes(32), "edge", 2, 1, bytes(32), bytes(32), "fail", 1, [{"code": "x"}])
        shadow.store_shadow(connection, [verdict])
        assert shadow.list_shadow(connection) == (verdict,)
    store.close()


def test_the_second_migration_can_be_undone_and_done_again(store: Store) -> None:
    from alembic import command

    with store.write() as connection:
        command.downgrade(migrate._config(connection), "0001")
    assert store.schema_version() == "0001"
    with store.read() as connection:
        assert "shadow_verdict" not in inspect(connection).get_table_names()
    assert store.migrate() == migrate.head()
