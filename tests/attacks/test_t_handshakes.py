"""Strangers who connect and never greet us: nobody knows whose a connection is before its handshake has ended."""

import contextlib
import datetime
import http.client
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attestd import journal
from attestd.api import listening
from attestd.cli.setup import transport
from attestd.protocol import limits
from world import World

PATIENCE = 15.0


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    """A server certificate for localhost, and its key."""
    now, secret = datetime.datetime.now(datetime.UTC), ec.generate_private_key(ec.SECP256R1())
    anchor = transport.anchor(secret, now=now)
    made = transport.server(secret.public_key(), ["localhost"], issuer=anchor, issuer_key=secret, now=now)
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


@pytest.fixture
def served(tmp_path: Path, tls: tuple[Path, Path]) -> Iterator[World]:
    """A verifier over TLS."""
    with World(f"sqlite:///{tmp_path}/attestd.db").listening(tls=tls) as made:
        yield made
        made.verifier.store.close()


def answers(port: int) -> bool:
    """Return whether an honest caller gets an answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    caller = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    try:
        caller.request("GET", "/v1/trust-anchor")
        return caller.getresponse().status == 200
    except OSError:
        return False
    finally:
        caller.close()


def silent_callers(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(count)]


def ends(caller: socket.socket, seconds: float) -> bool:
    """Return whether the verifier ends this connection in time."""
    caller.settimeout(seconds)
    try:
        return caller.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.attack("T03")
def test_t03_the_oldest_handshake_ends_for_the_newest(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_HANDSHAKES", 10)
    silent = silent_callers(served.port, 30)
    assert answers(served.port)
    assert all(ends(caller, PATIENCE) for caller in silent[:20])
    assert not ends(silent[-1], 0.2)
    for caller in silent:
        caller.close()


@pytest.mark.attack("T03")
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["nothing", "the beginning of a greeting"])
def test_t03_a_handshake_that_does_not_end_is_given_up(
    served: World, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(limits, "MAX_HANDSHAKE_SECONDS", 0.5)
    (caller,) = silent_callers(served.port, 1)
    caller.sendall(said)
    began = time.monotonic()
    assert ends(caller, PATIENCE)
    assert time.monotonic() - began > 0.3
    assert answers(served.port)
    caller.close()


@pytest.mark.attack("T03")
def test_t03_what_is_not_tls_ends_a_connection_and_nothing_else(served: World) -> None:
    (caller,) = silent_callers(served.port, 1)
    caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(OSError):
        caller.recv(100)  # an alert, perhaps
    assert ends(caller, PATIENCE)
    assert answers(served.port)
    caller.close()


SERVE = """
import pathlib, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
from world import World
place = pathlib.Path(sys.argv[1])
with World(f"sqlite:///{place}/attestd.db").listening(tls=(place / "server.pem", place / "server.key")) as world:
    print(world.port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.attack("T03")
def test_t03_silent_connections_do_not_take_the_last_descriptor(tmp_path: Path, tls: tuple[Path, Path]) -> None:
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        env=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert answers(port)
        silent = silent_callers(port, 500)
        assert answers(port)
        for caller in silent:
            caller.close()
        _, said = process.communicate("")
    assert "not accepting" not in said


def test_a_process_takes_all_the_descriptors_that_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 524_288))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: told.append(wanted))
    listening.raise_descriptors()
    assert told == [(524_288, 524_288)]


def test_a_process_that_may_have_too_few_descriptors_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    journal.configure()
    listening.raise_descriptors()
    assert "few descriptors" in "".join(capsys.readouterr())
