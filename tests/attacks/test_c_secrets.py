"""Secrets: in no answer, no log line and no error; and none that two installations share."""

import ast
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

import attestd
import attestd_agent
import attestd_pki
from attacks.fixtures_pct import (
    EVIL,
    a_token,
    announced,
    betrayed,
    on_stage,
    private_bytes,
    secrets_of,
    spellings,
    turned_away,
    unchanged,
)
from attestd import config
from attestd.app import build
from attestd.evidence.challenge import Challenger
from attestd.protocol import codec
from attestd.protocol.messages import PATH_ATTEST, PATH_ENROL, PATH_ENROL_PROOF, EnrolChallenge, Enrolled
from attestd.services import enrol, publish, records, relying
from attestd_agent.lab.firmware import BootImage
from attestd_pki.development import DevelopmentBackend
from installation import attestd as command
from softchip import SoftChip
from world import Problem, World

pytest_plugins = ("attacks.fixtures_pct", "installation")

MARKERS = (b"PRIVATE KEY", b"PrivateKey", b"PresharedKey", b'"psk"')


class Overheard(World):
    """A verifier all of whose answers are kept, and all of whose activation secrets are known."""

    heard: bytes = b""
    activations: tuple[bytes, ...] = ()

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        answer = super().call(method, path, body, headers)
        self.heard += b"%d %s\n" % (answer[0], repr(answer[1]).encode()) + answer[2] + b"\n"
        return answer


@pytest.fixture
def overheard(sqlite_url: str, journal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[Overheard]:
    make = Challenger.activation_secret

    made = Overheard(sqlite_url)
    with on_stage(made):

        def known(self: Challenger, nonce: bytes, request_digest: bytes) -> bytes:
            secret = make(self, nonce, request_digest)
            made.activations += (secret,)
            return secret

        monkeypatch.setattr(Challenger, "activation_secret", known)
        yield made
    made.verifier.store.close()


def all_secrets(fleet: Overheard, *chips: SoftChip, tokens: tuple[str, ...] = ()) -> dict[str, bytes | str]:
    return {
        **secrets_of(fleet, *chips),
        **{f"activation secret {number}": secret for number, secret in enumerate(fleet.activations)},
        **{f"token {number}": token for number, token in enumerate(tokens)},
    }


# --- C06 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", spellings(b"0123456789abcdef0123456789abcdef"))
def test_c06_a_secret_is_recognised_however_it_is_written(how: str) -> None:
    secret = bytes(range(64, 96))
    assert betrayed(b"\x00before" + spellings(secret)[how] + b"after", {"it": secret})
    assert not betrayed(b"before after", {"it": secret})


@pytest.mark.attack("C06")
def test_c06_no_answer_and_no_log_line_of_a_devices_life_holds_a_secret(
    overheard: Overheard, journal: io.StringIO
) -> None:
    fleet, gate = overheard, announced(overheard)
    token = a_token(fleet, "trust:read", "devices:read")
    reader = {"authorization": f"Bearer {token}"}
    body = codec.encode(gate.request(), codec.JSON)
    challenge = fleet.post(PATH_ENROL, body, EnrolChallenge, media_type=codec.JSON)
    nonce = fleet.post(PATH_ENROL_PROOF, gate.proof(body, challenge), Enrolled, media_type=codec.JSON).next.nonce
    nonce = fleet.attest(gate.attest_request(nonce)).next.nonce
    for path in (
        f"/v1/devices/{gate.device_id}/trust",
        "/v1/devices",
        "/v1/keys",
        "/v1/health",
        "/v1/crl",
        "/v1/openapi.json",
    ):
        assert fleet.call("GET", path, headers=reader)[0] == 200
    for path in ("/metrics", "/debug", "/v1/nothing", "/v1/trust-anchor"):
        fleet.call("GET", path, headers=reader)
    for path in (PATH_ENROL, PATH_ENROL_PROOF, PATH_ATTEST):
        fleet.call("POST", path, token.encode(), {"content-type": codec.CBOR, **reader})
    gate.boot(EVIL)
    with turned_away("evidence-refused"):
        fleet.attest(gate.whole_attest_request(nonce))
    gate.boot(BootImage())
    gate.renew_keys()
    fleet.enrol(gate)
    held = all_secrets(fleet, gate, tokens=(token,))
    assert len(fleet.activations) >= 4
    assert betrayed(fleet.heard, held) == []
    assert betrayed(journal.getvalue().encode(), held) == []
    assert not [marker for marker in MARKERS if marker in fleet.heard]
    assert "evidence-refused" in journal.getvalue()
    assert betrayed(fleet.heard + private_bytes(gate.wireguard).hex().encode(), held) == [
        "tunnel key of device 0 (hexadecimal)"
    ]


def forced(*_: Any, **__: Any) -> Any:
    raise RuntimeError("forced")


class BrokenHmac:
    compare_digest = staticmethod(forced)
    digest = staticmethod(forced)


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "comparing the activation secret": lambda patch: patch.setattr(enrol, "hmac", BrokenHmac),
    "signing a certificate": lambda patch: patch.setattr(DevelopmentBackend, "sign", forced),
    "signing a result": lambda patch: patch.setattr(records, "sign_ear", forced),
    "making the next nonce": lambda patch: patch.setattr(Challenger, "attest_nonce", forced),
}


@pytest.mark.attack("C06", reason="internal")
@pytest.mark.parametrize("break_", BREAKS.values(), ids=BREAKS)
def test_c06_an_error_in_the_middle_of_secrets_shows_none_of_them(
    overheard: Overheard,
    journal: io.StringIO,
    break_: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = announced(overheard)
    with pytest.MonkeyPatch.context() as patch:
        break_(patch)
        with unchanged(overheard), pytest.raises(Problem) as problem:
            overheard.enrol(gate)
    assert (problem.value.status, problem.value.code) == (500, "internal")
    assert set(problem.value.document) == {"type", "title", "status", "code", "advice"}
    assert "RuntimeError" in journal.getvalue(), "the log knows what happened"
    held = all_secrets(overheard, gate)
    assert betrayed(journal.getvalue().encode(), held) == []
    assert betrayed(overheard.heard, held) == []
    assert overheard.enrol(gate).state == "trusted", "and nothing is broken for good"


@pytest.mark.attack("C06", reason="internal")
@pytest.mark.parametrize("place", ["authenticate", "trust", "list_devices"])
def test_c06_an_error_while_a_token_is_looked_at_shows_no_token(
    overheard: Overheard, journal: io.StringIO, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    gate = announced(overheard)
    token = a_token(overheard, "trust:read", "devices:read")
    reader = {"authorization": f"Bearer {token}"}
    monkeypatch.setattr(relying, place, forced)
    path = "/v1/devices" if place == "list_devices" else f"/v1/devices/{gate.device_id}/trust"
    status, _, body = overheard.call("GET", path, headers=reader)
    assert (status, json.loads(body)["code"]) == (500, "internal")
    assert all(json.loads(line) for line in journal.getvalue().splitlines()), "one JSON object a line"
    assert "RuntimeError" in journal.getvalue()
    held = all_secrets(overheard, gate, tokens=(token,))
    assert betrayed(journal.getvalue().encode() + overheard.heard, held) == []


def test_c06_a_log_with_local_variables_would_show_them(overheard: Overheard, journal: io.StringIO) -> None:
    gate = announced(overheard)
    processors = structlog.get_config()["processors"]
    telling = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=True))
    kind = structlog.processors.ExceptionRenderer
    structlog.configure(processors=[telling if isinstance(one, kind) else one for one in processors])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enrol, "hmac", BrokenHmac)
        with pytest.raises(Problem):
            overheard.enrol(gate)
    assert "'expected'" in journal.getvalue() or '"expected"' in journal.getvalue()
    assert len(journal.getvalue()) > 2000


@pytest.mark.attack("C06")
def test_c06_what_a_verifier_is_made_of_does_not_show_its_secrets(overheard: Overheard) -> None:
    gate = announced(overheard)
    overheard.enrol(gate)
    shown = repr(overheard.verifier) + str(overheard.verifier.result_key) + repr(overheard.verifier.issuer)
    assert betrayed(shown.encode(), all_secrets(overheard, gate)) == []


@pytest.mark.attack("C06")
def test_c06_a_token_is_shown_once_and_by_no_other_command(installation: Path) -> None:
    made = command("token", "create", "gateway", "--scope", "trust:read", "-d", installation, "--json")
    token = made.document["token"]
    again = [
        command("token", "list", "-d", installation),
        command("token", "list", "-d", installation, "--json"),
        command("check", "-d", installation, "--json"),
        command("token", "create", "gateway", "--scope", token, "-d", installation),
        command("token", "revoke", "gateway", "-d", installation),
        command("token", "revoke", "gateway", "-d", installation),
    ]
    assert token in made.stdout
    told = "".join(one.stdout + one.stderr for one in again[:3] + again[4:])
    assert token not in told


# --- C07 ----------------------------------------------------------------------------------------------------------------

PACKAGES = tuple(Path(str(package.__file__)).parent for package in (attestd, attestd_agent, attestd_pki))
SECRET_NAMES = re.compile(r"(?i)(passw(or)?d|passphrase|secret|token|api_?key|private_?key|psk|credential)s?")
PUBLISHED: dict[str | bytes, str] = {
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa": "PolicyA (TCG EK Credential Profile, B.6.2)",
    "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0": "PolicyB, SHA-256 (the same, B.6.5)",
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12": "PolicyB, SHA-384",
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+": "an alphabet",
}
"""Long constants that are no secrets, and why."""


def constants(source: str) -> Iterator[tuple[int, str | bytes]]:
    """Yield (line, value) of every text and byte string of a source file that is not a docstring."""
    tree = ast.parse(source)
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in documented:
            yield node.lineno, node.value


def entropy(value: bytes) -> float:
    """Return the bits that a byte of the value holds, judged by how often each occurs."""
    counts = Counter(value)
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())


def key_like(value: str | bytes) -> bool:
    """Return whether a constant could be a key: 16 bytes or more that look random, as they are, in hexadecimal or base64."""
    if isinstance(value, bytes):
        printable = all(32 <= byte < 127 or byte in b"\r\n\t\0" for byte in value)
        return len(value) >= 16 and not printable and entropy(value) > 3.5
    if "PRIVATE KEY-----" in value and re.search(r"[A-Za-z0-9+/]{40}", value):
        return True
    words = re.findall(r"[A-Za-z0-9+/_-]{22,}={0,2}", value)
    for word in words:
        if re.fullmatch(r"(?=.*[a-fA-F])[0-9a-fA-F]{32,}", word) and entropy(word.lower().encode()) > 3:
            return True
        classes = [any(map(kind, word)) for kind in (str.isupper, str.islower, str.isdigit)]
        if all(classes) and entropy(word.encode()) > 4.2:
            return True
    return False


def hard_coded(source: str) -> list[str]:
    """Return what in a source file looks like a key, or gives a secret a value."""
    found = [f"{line}: a key" for line, value in constants(source) if key_like(value) and value not in PUBLISHED]
    for node in ast.walk(ast.parse(source)):
        targets: list[Any] = []
        value: Any = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign):
            targets, value = [node.target], node.value
        elif isinstance(node, ast.keyword):
            targets, value = [ast.Name(node.arg or "")], node.value
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str | bytes) and value.value):
            continue
        found += [f"{value.lineno}: {name} = {value.value!r}" for name in names if SECRET_NAMES.fullmatch(name)]
    return found


SAMPLES = {
    "password": 'PASSWORD = "changeme"',
    "keyword": 'connect(password="attestd")',
    "raw": "KEY = bytes.fromhex('9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08')",
    "bytes": "KEY = b'\\x9f\\x86\\xd0\\x81\\x88\\x4c\\x7d\\x65\\x9a\\x2f\\xea\\xa0\\xc5\\x5a\\xd0\\x15'",
    "base64": 'PSK_ = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="',
    "pem": 'X = "-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIJ+G0IGITH1lmi/qoMVa0BWjv08bKwuCLNFdbBWw8AoI"',
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_c07_a_planted_secret_is_found(sample: str) -> None:
    assert hard_coded(sample)


@pytest.mark.attack("C07")
def test_c07_no_source_of_the_product_holds_a_key_or_a_password() -> None:
    files = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
    guilty = {str(path): found for path in files if (found := hard_coded(path.read_text(encoding="utf-8")))}
    assert len(files) > 100
    assert guilty == {}


@pytest.mark.attack("C07")
def test_c07_nothing_that_is_installed_beside_the_sources_is_a_key() -> None:
    others = [
        path
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi")
    ]
    assert [path for path in others if b"PRIVATE KEY" in path.read_bytes()] == []
    assert {path.suffix for path in others} <= {"", ".mako", ".typed", ".service", ".md", ".toml", ".yaml"}


def keys_of(place: Path) -> dict[str, bytes]:
    """Return name → the secret itself of every private key of an installation."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if b"BEGIN OPENSSH PRIVATE KEY" in data:
            found[str(path.relative_to(place))] = private_bytes(load_ssh_private_key(data, None))
        elif b"PRIVATE KEY" in data:
            found[str(path.relative_to(place))] = private_bytes(load_pem_private_key(data, None))
    return found


@pytest.mark.attack("C07")
def test_c07_two_installations_have_no_key_in_common_anywhere(installation_template: Path, tmp_path: Path) -> None:
    assert command("init", "-d", tmp_path / "second", "--json").exit_code == 0
    first, second = keys_of(installation_template), keys_of(tmp_path / "second")
    assert sorted(first) == [
        "issuer/development.key",
        "operators/development",
        "results/key.pem",
        "tls/anchor.key",
        "tls/server.key",
    ]
    assert sorted(first) == sorted(second)
    assert len({*first.values(), *second.values()}) == 10
    files = [path.read_bytes() for path in (tmp_path / "second").rglob("*") if path.is_file()]
    assert betrayed(b"\n".join(files), dict(first)) == []
    seen = {found.split(" (")[0] for found in betrayed(b"\n".join(files), dict(second))}
    assert seen == set(second), "the scan does see the keys that are there"


@pytest.mark.attack("C07")
def test_c07_a_new_installation_has_no_token_and_no_operator_but_its_own(installation: Path) -> None:
    assert command("token", "list", "-d", installation, "--json").document == {"tokens": []}
    listed = (installation / "operators/allowed_signers").read_text().splitlines()
    assert [line.split()[0] for line in listed if not line.startswith("#")] == ["development-operator"]


@pytest.mark.attack("C07")
def test_c07_every_start_of_a_verifier_draws_its_own_challenge_key(installation: Path) -> None:
    configuration = config.load(installation)
    first, second = build(configuration), build(configuration)
    assert first.challenger.key != second.challenger.key
    assert len(first.challenger.key) == 32
    for verifier in (first, second):
        verifier.store.close()
    files = b"\n".join(path.read_bytes() for path in installation.rglob("*") if path.is_file())
    assert betrayed(files, {"challenge key": first.challenger.key}) == []


@pytest.mark.attack("C07")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "verifier.example"])
def test_c07_development_keys_do_not_serve_outside_loopback(installation: Path, host: str) -> None:
    spoken = command("serve", "-d", installation, "--host", host)
    assert (spoken.exit_code != 0, spoken.error) == (True, "development-issuer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "refresh_crl", forced)
        local = command("serve", "-d", installation, "--host", "127.0.0.1")
    assert local.error == "anchors-empty", "on loopback it is another matter that stops a new installation"
