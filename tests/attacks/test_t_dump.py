"""Everything that lies on disks and in process lists after a fleet has worked, searched for what could be used."""

import base64
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
    load_ssh_private_key,
)

from attacks.fixtures_pct import EVIL, betrayed, private_bytes, sql
from attestd import clock, config
from attestd.app import build
from attestd.appraisal.profile import parse_profile_yaml
from attestd.changes.inventory import inventory_document, parse_csv
from attestd.evidence.challenge import Challenger
from attestd.protocol.codec import CBOR, decode
from attestd_agent import authoring, wireguard
from attestd_agent.attempt import Agent, Attempt
from attestd_agent.client import Server, read_problem
from attestd_agent.errors import Problem
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.firmware import BootImage
from attestd_agent.lab.manufacturer import Manufacturer
from attestd_agent.lab.swtpm import SoftwareTpm
from attestd_agent.machine import Memory, Outcome, TimerFired
from attestd_agent.proof import Sources
from attestd_agent.record import Record, tunnel_credential
from installation import ATTESTD
from installation import attestd as command
from softchip import PCRS, SoftChip
from swtpm import SWTPM_MARKS
from world import PROFILE, Operator, World, golden_profile

pytest_plugins = ("attacks.fixtures_pct", "installation", "swtpm")
pytestmark = SWTPM_MARKS

M = TypeVar("M")
KEYS = {
    "issuer/development.key": "development issuer",
    "operators/development": "development operator",
    "results/key.pem": "results",
    "tls/anchor.key": "TLS anchor",
    "tls/server.key": "TLS",
}
"""Exactly these files of an installation hold a private key, each with mode 0600."""
CHALLENGE_KEY = bytes(range(100, 132))
GATEWAY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


# --- What is searched, and for what -------------------------------------------------------------------------------------


def pem_keys(content: bytes) -> int:
    """Return how many private keys in PEM the content has. A TSS2 key is wrapped by its TPM and opens in no other."""
    return len(re.findall(rb"-----BEGIN (?!TSS2 )[A-Z0-9 ]*PRIVATE KEY-----", content))


_DER = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02\x01[\x00\x01](?:\x30|\x04|\x02)", re.DOTALL)


def der_keys(content: bytes) -> int:
    """Return how many private keys in DER (PKCS #8, SEC 1, PKCS #1) the content has, wherever they begin."""
    found = 0
    for match in _DER.finditer(content):
        data = content[match.start() : match.start() + 10_000]
        size = data[1] if data[1] < 0x80 else int.from_bytes(data[2 : 2 + (data[1] & 0x7F)])
        head = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
        try:
            load_der_private_key(data[: head + size], None)
        except (ValueError, TypeError):
            continue
        found += 1
    return found


def decoded(content: bytes) -> Iterator[bytes]:
    """Yield the content, and every longer base64 text in it, decoded."""
    yield content
    for match in re.finditer(rb"[A-Za-z0-9+/]{24,}={0,2}", content):
        text = match.group().rstrip(b"=")
        yield base64.b64decode(text[: -1 if len(text) % 4 == 1 else None] + b"==")


def raw_keys(content: bytes, publics: set[bytes]) -> list[bytes]:
    """Return the public keys whose private key stands somewhere in the content as 32 bytes: a seed, a scalar."""
    found = []
    for part in decoded(content):
        for at in range(len(part) - 31):
            window = part[at : at + 32]
            if len(set(window)) < 16:  # not random: 32 random bytes have 30 different ones
                continue
            ours = X25519PrivateKey.from_private_bytes(window).public_key().public_bytes_raw()
            scalar = int.from_bytes(window)
            if ours in publics:
                found.append(ours)
            elif 0 < scalar < 2**256 - 2**224:
                numbers = ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers()
                if numbers.x.to_bytes(32) in publics:
                    found.append(numbers.x.to_bytes(32))
    return found


def files(*places: Path) -> dict[Path, bytes]:
    """Return every file under the places, with its content."""
    return {path: path.read_bytes() for place in places for path in sorted(place.rglob("*")) if path.is_file()}


def test_t09_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    keys: list[Any] = [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    ]
    for key in keys:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        assert pem_keys(b"x" * 100 + pem) == 1
        assert der_keys(os.urandom(1000) + der + os.urandom(1000)) >= 1
    traditional = keys[1].private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert der_keys(b"\0" * 50 + traditional + b"\0" * 50) == 1
    public = keys[1].public_key().public_numbers().x.to_bytes(32)
    tunnel = X25519PrivateKey.generate()
    content = b'{"k": "' + base64.b64encode(b"abc" + tunnel.private_bytes_raw()) + b'"}' + private_bytes(keys[1])
    assert set(raw_keys(content, {public, tunnel.public_key().public_bytes_raw()})) == {
        public,
        tunnel.public_key().public_bytes_raw(),
    }
    assert der_keys(os.urandom(20_000)) == pem_keys(os.urandom(20_000)) == 0


# --- A fleet that has worked --------------------------------------------------------------------------------------------


class Installed(World):
    """The verifier of an installation, whose operator is the one that `attestd init` made."""

    def __init__(self, place: Path) -> None:
        self.offset_ms = 0
        self.verifier = build(config.load(place), challenge_key=CHALLENGE_KEY)
        key = load_ssh_private_key((place / "operators/development").read_bytes(), None)
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        self.operators = [Operator("development-operator", key)]
        self.port = 0


@dataclass
class Life:
    """What has happened, and every secret that there was."""

    place: Path
    state: Path
    fleet: Installed
    secrets: dict[str, bytes | str] = field(default_factory=dict)
    publics: set[bytes] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    journal: io.StringIO = field(default_factory=io.StringIO)


class Loopback:
    """The agent's transport to the verifier of this test."""

    def __init__(self, fleet: World) -> None:
        self._fleet = fleet

    def ask(self, path: str, body: bytes, *, answer: type[M]) -> M | Problem:
        status, headers, content = self._fleet.call("POST", path, body, {"content-type": CBOR})
        if status == 200:
            return decode(answer, content, CBOR)
        return read_problem(status, content, retry_after=headers.get("retry-after"))

    def close(self) -> None:
        pass


def live(life: Life, device: SoftwareDevice) -> None:
    """Let a real agent enrol, prove itself, fail, and come back; note its tunnel's private keys on the way."""
    fleet, tpm = life.fleet, device.open_tpm()
    store = Record(device.state, Server("localhost", 443))
    agent = Agent(
        "localhost",
        tpm,
        store,
        sources=Sources(device.event_log, device.ima_list),
        transport=lambda: Loopback(fleet),
        log=lambda event, /, **fields: life.lines.append(f"{event} {fields}"),
        clock=lambda: fleet.now() / 1000,
    )
    row = authoring.inventory_row(authoring.identity_of(tpm), name="gate-1", site="harbour", profile=PROFILE)
    fleet.change("inventory", "inventory", inventory_document(parse_csv(authoring.inventory_csv(row))))
    registers = dict(device.lab_tpm().read_pcrs("sha256", PCRS))
    shape = SoftChip(fleet.now_s)
    shape.event_log, shape.registers = device.event_log.read_bytes(), registers
    profile = parse_profile_yaml(golden_profile(shape))
    fleet.change("profile-activate", profile.name, profile.document)
    attempt = run(agent, None, Outcome.TRUSTED)
    note_tunnel_key(life, store, tpm, 1)
    attempt = run(agent, attempt, Outcome.TRUSTED)
    device.boot(EVIL)
    attempt = run(agent, attempt, Outcome.REFUSED)
    device.boot(BootImage())
    attempt = run(agent, attempt, Outcome.TRUSTED)
    note_tunnel_key(life, store, tpm, 2)
    run(agent, attempt, Outcome.TRUSTED)


def run(agent: Agent, attempt: Attempt | None, expected: Outcome) -> Attempt:
    made = agent.attempt(Memory(), agent.begin()) if attempt is None else agent.attempt(attempt.memory, TimerFired())
    assert made.report.outcome is expected, made.report
    return made


def note_tunnel_key(life: Life, store: Record, tpm: Any, number: int) -> None:
    enrolment = store.load()
    assert enrolment is not None
    credential = tunnel_credential(enrolment)
    text = wireguard.configuration(tpm, enrolment.device.keys.tunnel, credential)
    private = re.search("PrivateKey = (.*)", text)
    assert private is not None
    life.secrets[f"tunnel key {number}"] = base64.b64decode(private[1])
    life.publics.add(credential.public_key)
    leaf = x509.load_pem_x509_certificate(enrolment.certificate_chain.encode())
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    life.publics.add(key.public_numbers().x.to_bytes(32))


@pytest.fixture(scope="module")
def life(
    installation_template: Path,
    manufacturer: Manufacturer,
    lab_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Life]:
    """An installation and a device after a full life, while the verifier still runs."""
    place = Path(shutil.copytree(installation_template, tmp_path_factory.mktemp("dump") / "attestd"))
    (place / "anchors").mkdir(exist_ok=True)
    (place / "anchors/lab.pem").write_bytes(manufacturer.anchors)
    settings = place / "attestd.toml"
    settings.write_text(settings.read_text().replace('public_key = ""', f'public_key = "{GATEWAY}"'))
    patch = pytest.MonkeyPatch()
    journal = io.StringIO()
    activations: dict[str, bytes] = {}
    make = Challenger.activation_secret

    def known(self: Challenger, nonce: bytes, request_digest: bytes) -> bytes:
        secret = make(self, nonce, request_digest)
        activations[f"activation secret {len(activations)}"] = secret
        return secret

    with ExitStack() as stack:
        stack.callback(patch.undo)
        patch.setattr(sys, "stderr", journal)
        patch.setattr(Challenger, "activation_secret", known)
        fleet = Installed(place)
        stack.callback(fleet.verifier.store.close)
        tpm = SoftwareTpm(lab_directory / "dump", manufacturer).manufacture()
        stack.callback(tpm.close)
        device = SoftwareDevice("gate", tpm)
        device.boot()
        made = Life(place, device.state, fleet, journal=journal)
        with fleet.listening():
            live(made, device)
            token = command("token", "create", "gateway", "--scope", "trust:read", "-d", place, "--json").document[
                "token"
            ]
            (gate,) = device_ids(fleet)
            assert fleet.trust(gate, token)["trusted"] is True
            made.secrets |= {"challenge key": CHALLENGE_KEY, "token": token, **activations}
            made.secrets |= {what: secret_of(place / name) for name, what in KEYS.items()}
            yield made


def device_ids(fleet: World) -> list[str]:
    with fleet.verifier.store.read() as connection:
        return [str(row) for row in connection.exec_driver_sql("SELECT device_id FROM device").scalars()]


def secret_of(path: Path) -> bytes:
    """Return the secret itself of a file that holds one private key."""
    data = path.read_bytes()
    return private_bytes((load_ssh_private_key if b"OPENSSH" in data else load_pem_private_key)(data, None))


@pytest.mark.attack("T09")
def test_t09_the_verifiers_disk_holds_no_secret_but_its_five_keys(life: Life) -> None:
    content = files(life.place)
    assert any(path.name.endswith("-wal") and data for path, data in content.items()), "while it runs"
    assert len(life.secrets) >= 12
    for path, data in content.items():
        name = str(path.relative_to(life.place))
        expected = {KEYS[name]} if name in KEYS else set()
        assert {found.split(" (")[0] for found in betrayed(data, life.secrets)} == expected, name
        assert (pem_keys(data), der_keys(data)) == (1 if name in KEYS else 0, 0), name
    assert {str(path.relative_to(life.place)) for path in content} >= set(KEYS)


@pytest.mark.attack("T09")
def test_t09_what_lies_on_the_verifiers_disk_is_for_its_owner(life: Life) -> None:
    assert stat.S_IMODE(life.place.stat().st_mode) == 0o700
    for name in (*KEYS, *(path.name for path in life.place.glob("attestd.db*"))):
        assert stat.S_IMODE((life.place / name).stat().st_mode) == 0o600, name


@pytest.mark.attack("T09")
def test_t09_the_agents_disk_holds_no_secret_at_all(life: Life) -> None:
    content = files(life.state)
    assert content
    for path, data in content.items():
        assert betrayed(data, life.secrets) == [], path.name
        assert (pem_keys(data), der_keys(data)) == (0, 0), path.name
        assert raw_keys(data, life.publics) == [], path.name
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name
    assert len(life.publics) == 4


@pytest.mark.attack("T09")
def test_t09_the_logs_of_both_sides_hold_no_secret(life: Life) -> None:
    assert "evidence-refused" in life.journal.getvalue()
    assert life.lines
    assert betrayed(life.journal.getvalue().encode(), life.secrets) == []
    assert betrayed("\n".join(life.lines).encode(), life.secrets) == []


@pytest.mark.attack("T09")
def test_t09_no_process_shows_a_secret_in_its_arguments_or_its_environment(life: Life) -> None:
    own = psutil.Process()
    children = own.children(recursive=True)
    assert children, "the software TPM at least"
    for process in children:
        arguments = "\0".join(process.cmdline()) + "\0".join(f"{k}={v}" for k, v in process.environ().items())
        assert betrayed(arguments.encode(), life.secrets) == []


@pytest.mark.attack("T09")
def test_t09_a_running_service_shows_no_secret_in_its_arguments(life: Life, tmp_path: Path) -> None:
    place = life.place
    service = subprocess.Popen(
        [ATTESTD, "serve", "-d", str(place), "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        arguments, until = "", time.monotonic() + 10
        while str(place) not in arguments and time.monotonic() < until:  # it may not have begun yet
            arguments = "\0".join(psutil.Process(service.pid).cmdline())
        environment = "\0".join(psutil.Process(service.pid).environ().values())
        assert str(place) in arguments
        assert betrayed((arguments + environment).encode(), life.secrets) == []
    finally:
        service.terminate()
        service.communicate(timeout=30)


def test_t09_a_token_in_the_database_would_be_found(life: Life) -> None:
    token = str(life.secrets["token"])
    sql(life.fleet, f"UPDATE token SET name = '{token}'")
    try:
        found = [path.name for path, data in files(life.place).items() if betrayed(data, {"token": token})]
    finally:
        sql(life.fleet, "UPDATE token SET name = 'gateway'")
    assert found, "in the write-ahead log or in the database"


def test_t09_a_key_on_the_disk_would_be_found(life: Life) -> None:
    planted = life.place / "backup.bin"
    planted.write_bytes(clock.random_bytes(50) + bytes(life.secrets["results"]) + clock.random_bytes(50))  # type: ignore[arg-type]
    try:
        found = betrayed(planted.read_bytes(), life.secrets)
    finally:
        planted.unlink()
    assert found == ["results (raw)"]
