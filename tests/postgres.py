"""Stores for the tests, on both databases: the fixtures `store`, `database_url` and `empty_database_url` run each test twice.

PostgreSQL is a real server: one for the session, in a directory of its own, ended with it. Set ATTESTD_TEST_POSTGRESQL to
the URL of a server (and a role that may create databases) to use that one instead.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from attestd.store import Store

INSTALL = "no PostgreSQL server on this machine: apt-get install --no-install-recommends postgresql"
OTHER_SERVER = "ATTESTD_TEST_POSTGRESQL"


def binaries() -> Path | None:
    """Return the directory with initdb and pg_ctl of the newest installed server, or None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def available() -> bool:
    """Say whether tests on PostgreSQL can run here."""
    return OTHER_SERVER in os.environ or binaries() is not None


class Server:
    """A running server; `url` is that of its maintenance database."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._admin = create_engine(self.url, isolation_level="AUTOCOMMIT")

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Make a database as a copy of another one (by default an empty one), yield its URL, and drop it."""
        name = f"attestd_{uuid.uuid4().hex}"
        with self._admin.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        try:
            yield self.url.set(database=name).render_as_string(hide_password=False)
        finally:
            with self._admin.connect() as connection:
                connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))

    def close(self) -> None:
        """Close the maintenance connection."""
        self._admin.dispose()


@contextmanager
def server() -> Iterator[Server]:
    """Start a server (or take the one that the environment names) and end it."""
    other = os.environ.get(OTHER_SERVER)
    if other is not None:
        running = Server(make_url(other).set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
        try:
            yield running
        finally:
            running.close()
        return
    directory = Path(tempfile.mkdtemp(prefix="attestd-postgresql-"))
    try:
        with _started(directory) as url:
            running = Server(url)
            try:
                yield running
            finally:
                running.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _started(directory: Path) -> Iterator[str]:
    programs = binaries()
    assert programs is not None
    # initdb and the server refuse to run as root; the package brings a user for them.
    become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if become:
        shutil.chown(directory, "postgres")
    data, port = directory / "data", _free_port()
    _run(
        *become,
        str(programs / "initdb"),
        f"--pgdata={data}",
        "--username=attestd",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=on"
    control = [*become, str(programs / "pg_ctl"), f"--pgdata={data}", "--wait"]
    _run(*control, f"--log={directory / 'log'}", f"--options={options}", "start")
    try:
        yield f"postgresql+psycopg://attestd@127.0.0.1:{port}/postgres"
    finally:
        _run(*control, "--mode=immediate", "stop")


def _run(*command: str) -> None:
    # pg_ctl's child keeps inherited pipes open, so output goes to a file of its own and not to one of ours.
    subprocess.run(command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- Fixtures ---------------------------------------------------------------------------------------------------------

_POSTGRESQL = pytest.param(
    "postgresql", marks=[pytest.mark.postgresql, pytest.mark.skipif(not available(), reason=INSTALL)]
)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """One PostgreSQL server for the session."""
    if not available():
        pytest.skip(INSTALL)
    with server() as running:
        yield running


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_server: Server) -> Iterator[str]:
    """The name of a database with the schema, to copy from."""
    with postgresql_server.database() as url:
        _migrate(url)
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema, to copy from."""
    path = tmp_path_factory.mktemp("schema") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


def _migrate(url: str) -> None:
    store = Store.open(url)
    store.migrate()
    store.close()


@pytest.fixture(params=["sqlite", _POSTGRESQL])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'attestd.db'}"
        return
    with request.getfixturevalue("postgresql_server").database() as url:
        yield url


@pytest.fixture(params=["sqlite", _POSTGRESQL])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of its own, with the schema."""
    if request.param == "sqlite":
        path = tmp_path / "attestd.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    template = request.getfixturevalue("migrated_postgresql")
    with request.getfixturevalue("postgresql_server").database(template) as url:
        yield url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store with the schema and nothing in it."""
    opened = Store.open(database_url)
    yield opened
    opened.close()
