"""A verifier to attack through its interfaces, and the means to say that an attack changed nothing.

A pytest plugin; a test module that wants it says ``pytest_plugins = ("attacks.fixtures_pct",)``.
There are no assertions here, so that the module can be imported before pytest sees it (PYTEST_DONT_REWRITE).
"""

import asyncio
import base64
import hashlib
import io
import json
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from cryptography import x509

from attestd import clock
from attestd.api import application
from attestd.api.application import Application, transport
from attestd.api.http import Receive, Scope, Send
from attestd.changes.operators import parse_operators
from attestd.protocol.codec import PROBLEM_JSON
from attestd.services.policy import PolicySource
from attestd.store import tokens
from attestd.store.tokens import TokenRecord
from attestd_agent.lab.firmware import BootImage
from attestd_pki.crl import verify_crl
from pki_world import CA_KEY, TRUST_DOMAIN
from softchip import SoftChip
from world import Problem, World, golden_profile

EVIL = BootImage().with_command_line("root=/dev/sda1 evil=1")
KEPT = (
    "device",
    "device_state",
    "device_evidence",
    "transition",
    "attestation",
    "change",
    "grant",
    "certificate",
    "vpn_credential",
    "vpn_address",
    "token",
)
"""The tables that hold trust, identity, policy and credentials. A refusal may be recorded, and that is all."""
_MEMBERS = {"type", "title", "status", "code", "advice", "nonce", "findings", "detail"}


def standing(world: World) -> dict[str, list[str]]:
    """Return every row that trust, identity, policy and credentials consist of."""
    with world.verifier.store.read() as connection:
        return {
            name: sorted(repr(tuple(row)) for row in connection.exec_driver_sql(f'SELECT * FROM "{name}"').all())
            for name in KEPT
        }


@contextmanager
def unchanged(world: World) -> Iterator[None]:
    """Fail the test unless all that counts is after the block what it was before."""
    before = standing(world)
    yield
    after = standing(world)
    moved = [name for name in KEPT if before[name] != after[name]]
    if moved:
        pytest.fail(f"changed: {moved}")


@contextmanager
def refused(world: World, code: str) -> Iterator[None]:
    """Fail the test unless the block is refused for this reason, changes nothing, and tells nothing beside the reason."""
    with unchanged(world), turned_away(code):
        yield


@contextmanager
def turned_away(code: str) -> Iterator[None]:
    """Fail the test unless the block is refused for this reason; what a failing proof costs the device is the test's affair."""
    try:
        yield
    except Problem as problem:
        if problem.code != code:
            pytest.fail(f"refused as {problem.code}, not as {code}")
        if not set(problem.document) <= _MEMBERS or ("detail" in problem.document and code != "message-malformed"):
            pytest.fail(f"the problem says more than it may: {sorted(problem.document)}")
    else:
        pytest.fail(f"not refused ({code} was expected)")


def problem_code(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Return (status, reason code) of an answer that must be a problem document, and (status, "") of any other."""
    status, headers, body = answer
    return status, json.loads(body)["code"] if headers.get("content-type") == PROBLEM_JSON else ""


def a_token(world: World, *scopes: str, site: str | None = None, **fields: Any) -> str:
    """Make a bearer token as `attestd token create` does, and return its text."""
    token = "attestd_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    digest = hashlib.sha256(token.encode()).digest()
    with world.verifier.store.write() as connection:
        tokens.insert_token(connection, TokenRecord(digest, "gateway", scopes, site, world.now(), **fields))
    return token


def serial(chain: tuple[bytes, ...]) -> int:
    """Return the serial number of a chain's first certificate."""
    return x509.load_der_x509_certificate(chain[0]).serial_number


def revoked(world: World) -> frozenset[int]:
    """Return the serial numbers on the published revocation list."""
    _, _, der = world.call("GET", "/v1/crl")
    told = verify_crl(der, issuer=world.verifier.issuer.identity, now=world.now_s)
    return frozenset(entry.serial for entry in told.entries)


def state_of(world: World, chip: SoftChip) -> str:
    """Return the device's state as the database has it."""
    with world.verifier.store.read() as connection:
        found = connection.exec_driver_sql(
            f"SELECT state FROM device_state WHERE device_id = '{chip.device_id}'"
        ).scalar_one()
    return str(found)


def sql(world: World, statement: str) -> None:
    """Change the database behind the verifier's back."""
    with world.verifier.store.write() as connection:
        connection.exec_driver_sql(statement)


def profile_with(chip: SoftChip, **changes: Any) -> str:
    """Return the chip's golden profile (YAML) with these members replaced."""
    document = yaml.safe_load(golden_profile(chip))
    return str(yaml.safe_dump({**document, **changes}))


def fresh_policy(world: World, *, threshold: int = 1) -> PolicySource:
    """Return what a verifier that starts now believes: these operators, and nothing yet."""
    operators = parse_operators("\n".join(one.line for one in world.operators), threshold=threshold)
    return PolicySource(operators, fleet=TRUST_DOMAIN, now=clock.now_ms)


@contextmanager
def second_verifier(world: World, **changed: Any) -> Iterator[World]:
    """Serve another verifier of the same fleet on the same database: same operators, issuer and keys, nothing remembered."""
    url = world.verifier.store._writer.url.render_as_string(hide_password=False)
    fields = {
        "policy": fresh_policy(world),
        "challenger": world.verifier.challenger,
        "result_key": world.verifier.result_key,
    }
    other = World(url, **{**fields, **changed})
    other.operators = world.operators
    other.offset_ms = world.offset_ms
    with on_stage(other):
        yield other
    other.verifier.store.close()


# --- Serving ------------------------------------------------------------------------------------------------------------


class Stage:
    """A server that stays while verifiers come and go: starting and ending one for each test takes longer than the test.

    The transport, the application and its life are the real ones; only the listening socket outlives them.
    """

    def __init__(self, world: World) -> None:
        self._application: Application | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        settings = transport(world.verifier)
        settings.app = self
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the verifier whose turn it is."""
        if scope["type"] == "lifespan":
            self._loop = asyncio.get_running_loop()
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
        elif self._application is not None:
            await self._application(scope, receive, send)

    @contextmanager
    def playing(self, world: World) -> Iterator[World]:
        """Serve a verifier, from its application's start-up to its shutdown."""
        if self._loop is None:
            raise RuntimeError("the stage is closed")
        world.port = self._listener.getsockname()[1]
        self._application = Application(world.verifier)
        life = _Life(self._application)
        asyncio.run_coroutine_threadsafe(life.begin(), self._loop).result(30)
        try:
            yield world
        finally:
            asyncio.run_coroutine_threadsafe(life.end(), self._loop).result(30)
            self._application = None

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join(timeout=15)
        self._listener.close()


class _Life:
    """The life of an application, as a server leads it (ASGI, lifespan)."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said: asyncio.Queue[Any] = asyncio.Queue()

    async def begin(self) -> None:
        self._task = asyncio.create_task(self._application({"type": "lifespan"}, self._told.get, self._said.put))
        await self._told.put({"type": "lifespan.startup"})
        await self._said.get()

    async def end(self) -> None:
        await self._told.put({"type": "lifespan.shutdown"})
        await self._task


_stages: list[Stage] = []


@contextmanager
def on_stage(world: World) -> Iterator[World]:
    """Serve a verifier as `world.listening()` does, on a server that the test session keeps."""
    stage = _stages.pop() if _stages else Stage(world)
    with stage.playing(world):
        yield world
    _stages.append(stage)


@pytest.fixture(scope="session", autouse=True)
def stages() -> Iterator[None]:
    """Close the servers at the end of the session."""
    yield
    while _stages:
        _stages.pop().close()


# --- Secrets ------------------------------------------------------------------------------------------------------------


def spellings(secret: bytes | str) -> dict[str, bytes]:
    """Return name → how a secret could stand in a file, a log line or a message."""
    if isinstance(secret, str):
        return {"text": secret.encode()}
    found = {
        "raw": secret,
        "hexadecimal": secret.hex().encode(),
        "HEXADECIMAL": secret.hex().upper().encode(),
        "repr": repr(secret)[2:-1].encode(),
        "escaped": json.dumps(secret.decode("latin-1"))[1:-1].encode(),
        "decimal": str(int.from_bytes(secret)).encode(),
    }
    for shift in range(3):  # a base64 text may hold the secret at any of three places of a group
        encoded = base64.b64encode(bytes(shift) + secret).rstrip(b"=")
        whole = encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (shift + len(secret)) % 3 else 0)]
        found[f"base64+{shift}"] = whole
        found[f"base64url+{shift}"] = whole.replace(b"+", b"-").replace(b"/", b"_")
    return found


def betrayed(content: bytes, secrets: dict[str, bytes | str]) -> list[str]:
    """Return which of the secrets stand in the content, and how; a line break does not hide one."""
    content += b"\0" + content.replace(b"\r", b"").replace(b"\n", b"")
    return [
        f"{name} ({how})"
        for name, secret in secrets.items()
        for how, spelling in spellings(secret).items()
        if spelling in content
    ]


def private_bytes(key: Any) -> bytes:
    """Return a private key's secret itself: a seed, or a scalar of the curve's length."""
    if hasattr(key, "private_numbers"):
        numbers = key.private_numbers()
        if hasattr(numbers, "private_value"):
            return int(numbers.private_value).to_bytes((key.curve.key_size + 7) // 8)
        return int(numbers.d).to_bytes(key.key_size // 8)
    return bytes(key.private_bytes_raw())


def secrets_of(world: World, *chips: SoftChip) -> dict[str, bytes | str]:
    """Return name → every private key and every secret of the verifier and of these devices."""
    held: dict[str, bytes | str] = {
        "issuer key": private_bytes(CA_KEY),
        "result key": private_bytes(world.verifier.result_key.private),
        "challenge key": world.verifier.challenger.key,
    }
    for number, chip in enumerate(chips):
        keys = {"ek": chip.ek, "ak": chip.ak, "device key": chip.device_key, "tunnel key": chip.wireguard}
        held |= {f"{name} of device {number}": private_bytes(key) for name, key in keys.items()}
    return held


# --- Fixtures -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a verifier that is started after this writes to standard error."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a SQLite database of the test's own, with the schema."""
    path = tmp_path / "attestd.db"
    shutil.copyfile(migrated_sqlite, path)
    path.chmod(0o600)
    return f"sqlite:///{path}"


@pytest.fixture
def fleet(sqlite_url: str, journal: io.StringIO) -> Iterator[World]:
    """A verifier on SQLite that listens."""
    with on_stage(World(sqlite_url)) as made:
        yield made
    made.verifier.store.close()


@pytest.fixture
def fleet_on_both(database_url: str, journal: io.StringIO) -> Iterator[World]:
    """A verifier that listens, once on each database."""
    with on_stage(World(database_url)) as made:
        yield made
    made.verifier.store.close()


@pytest.fixture
def no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing expires by itself in a verifier that is started after this."""
    monkeypatch.setattr(application, "SWEEP_SECONDS", 3600.0)


def announced(world: World, name: str = "gate-1", **fields: Any) -> SoftChip:
    """Return a device that is announced and boots what its profile says."""
    made = SoftChip(world.now_s)
    world.announce(made, name, **fields)
    world.golden(made)
    return made


@pytest.fixture
def gate(fleet: World) -> SoftChip:
    """A device of the fleet that the verifier would trust."""
    return announced(fleet)


def credentials_of(world: World, chip: SoftChip) -> int:
    """Return how many grants, certificates, VPN keys and addresses were ever made for the device."""
    tables = ('"grant"', "certificate", "vpn_credential", "vpn_address")
    with world.verifier.store.read() as connection:
        return sum(
            int(
                connection.exec_driver_sql(
                    f"SELECT count(*) FROM {table} WHERE device_id = '{chip.device_id}'"
                ).scalar_one()
            )
            for table in tables
        )


def is_trusted(world: World, chip: SoftChip) -> bool:
    """Ask as a relying party whether the device is trusted."""
    return bool(world.trust(chip.device_id, a_token(world, "trust:read"))["trusted"])
