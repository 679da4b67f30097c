"""Every unsafe configuration has its code, and the safe one has none."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attestd import clock, config, safety
from attestd.errors import UnsafeConfiguration
from installation import ATTESTD, Edit, attestd

pytest_plugins = ("installation",)


@pytest.fixture
def safe(installation: Path) -> Path:
    """An installation that may serve: one TPM manufacturer is accepted (any certificate will do here)."""
    shutil.copy(installation / "tls/anchor.pem", installation / "anchors/maker.pem")
    return installation


def codes(place: Path) -> list[str]:
    return [finding.code for finding in safety.findings(config.load(place))]


def new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def operator_line(name: str) -> str:
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f'{name} namespaces="attestd-change" {key}\n'


def test_complete_installation_is_safe(safe: Path) -> None:
    assert codes(safe) == []
    safety.check(config.load(safe))


def test_fresh_installation_is_refused_until_a_manufacturer_is_accepted(installation: Path) -> None:
    assert codes(installation) == ["anchors-empty"]
    with pytest.raises(UnsafeConfiguration) as caught:
        safety.check(config.load(installation))
    assert caught.value.code == "anchors-empty"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tls/server.key", "tls-key-readable"),
        ("tls/anchor.key", "tls-anchor-key-readable"),
        ("issuer/development.key", "issuer-key-readable"),
        ("results/key.pem", "result-key-readable"),
        ("operators/development", "operator-key-readable"),
        ("attestd.db", "database-readable"),
    ],
)
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_secret_that_others_can_read_is_found(safe: Path, name: str, code: str, mode: int) -> None:
    (safe / name).chmod(mode)
    assert codes(safe) == [code]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tls/server.key", "tls-missing"),
        ("tls/server.pem", "tls-missing"),
        ("tls/anchor.pem", "anchor-missing"),
        ("issuer/development.key", "issuer-missing"),
        ("issuer/authority.pem", "issuer-missing"),
        ("results/key.pem", "result-key-missing"),
        ("operators/allowed_signers", "operators-missing"),
        ("attestd.db", "schema-old"),
    ],
)
def test_missing_file_is_found(safe: Path, name: str, code: str) -> None:
    (safe / name).unlink()
    assert codes(safe) == [code]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("tls/server.pem", b"not PEM", "tls-malformed"),
        ("issuer/authority.pem", b"not PEM", "issuer-malformed"),
        ("issuer/development.key", new_key(), "issuer-malformed"),
        ("results/key.pem", b"not PEM", "result-key-malformed"),
        ("anchors/other.pem", b"not PEM", "anchors-malformed"),
        ("operators/allowed_signers", b"alice ssh-ed25519 AAAA\n", "operators-malformed"),
        ("operators/allowed_signers", b"# nobody\n", "approvals-unreachable"),
    ],
)
def test_file_with_the_wrong_content_is_found(safe: Path, name: str, content: bytes, code: str) -> None:
    (safe / name).write_bytes(content)
    (safe / name).chmod(0o600)
    assert codes(safe) == [code]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("approvals = 1", "approvals = 2", "approvals-unreachable"),
        ('public_key = ""', 'public_key = "cHVibGlj"', "wireguard-key"),
        ('names = ["localhost", "127.0.0.1"]', "names = []", "names-missing"),
        ('names = ["localhost", "127.0.0.1"]', 'names = ["localhost", "verifier.example"]', "tls-names"),
        ('public_url = "https:', 'public_url = "http:', "url-insecure"),
        ('domain = "fleet.example"', 'domain = "other.example"', "issuer-domain"),
    ],
)
def test_unsafe_setting_is_found(safe: Path, edit: Edit, old: str, new: str, code: str) -> None:
    edit(f"\n{old}", f"\n{new}")
    assert codes(safe) == [code]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "verifier.example"])
def test_development_parts_are_refused_outside_loopback(safe: Path, edit: Edit, host: str) -> None:
    edit('host = "127.0.0.1"', f'host = "{host}"')
    assert codes(safe) == ["development-issuer", "development-operator"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_development_parts_are_accepted_on_loopback(safe: Path, edit: Edit, host: str) -> None:
    edit('\nhost = "127.0.0.1"', f'\nhost = "{host}"')
    assert codes(safe) == []


def test_development_operator_is_found_by_its_key_alone_and_by_its_name_alone(safe: Path, edit: Edit) -> None:
    edit('\nhost = "127.0.0.1"', '\nhost = "192.0.2.1"')
    key, signers = safe / "operators/development", safe / "operators/allowed_signers"
    named = signers.read_text()
    signers.write_text(operator_line("alice"))
    assert codes(safe) == ["development-issuer", "development-operator"]
    key.unlink()
    assert codes(safe) == ["development-issuer"]
    signers.write_text(named)
    assert codes(safe) == ["development-issuer", "development-operator"]


def test_directory_that_others_can_write_into_is_found(safe: Path) -> None:
    safe.chmod(0o770)
    assert codes(safe) == ["directory-writable"]
    safe.chmod(0o755)
    assert codes(safe) == []


def test_list_of_operators_that_others_can_write_is_found(safe: Path) -> None:
    (safe / "operators/allowed_signers").chmod(0o664)
    assert codes(safe) == ["operators-writable"]


def test_one_key_with_two_purposes_is_found(safe: Path) -> None:
    (safe / "results/key.pem").write_bytes((safe / "issuer/development.key").read_bytes())
    assert codes(safe) == ["key-reused"]


def test_server_key_of_another_certificate_is_found(safe: Path) -> None:
    (safe / "tls/server.key").write_bytes((safe / "tls/anchor.key").read_bytes())
    assert codes(safe) == ["tls-mismatch"]


def at(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    now = clock.now_ms()
    monkeypatch.setattr("attestd.clock.now_ms", lambda: now + days * 86_400_000)


@pytest.mark.parametrize(
    ("days", "code"), [(396, []), (398, ["tls-expired"]), (1_831, ["tls-expired", "issuer-expired"])]
)
def test_expired_certificates_are_found(
    safe: Path, monkeypatch: pytest.MonkeyPatch, days: int, code: list[str]
) -> None:
    at(monkeypatch, days)
    assert codes(safe) == code


def test_database_of_another_schema_is_found(safe: Path) -> None:
    (safe / "attestd.db").write_bytes(b"")
    assert codes(safe) == ["schema-old"]
    assert attestd("migrate", "-d", safe).exit_code == 0
    assert codes(safe) == []


def test_unknown_kind_of_database_is_found(safe: Path, edit: Edit) -> None:
    edit('"sqlite:///attestd.db"', '"mysql://localhost/attestd"')
    assert codes(safe) == ["database-unknown"]


def test_inventory_alone_may_vouch_for_tpms(installation: Path, edit: Edit) -> None:
    edit('ek_certificate = "required"', 'ek_certificate = "or-inventory"')
    assert codes(installation) == []


def test_check_shows_all_findings_at_once(installation: Path) -> None:
    (installation / "tls/server.key").chmod(0o644)
    spoken = attestd("check", "-d", installation, "--json")
    assert spoken.exit_code == 1
    assert [finding["code"] for finding in spoken.document["findings"]] == ["tls-key-readable", "anchors-empty"]


@pytest.mark.parametrize("options", [[], ["--host", "0.0.0.0"]])
def test_serve_refuses_an_unsafe_configuration(installation: Path, options: list[str]) -> None:
    command = [ATTESTD, "serve", "-d", str(installation), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert ("[development-issuer]" if options else "[anchors-empty]") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("place", ["anchors", "operators", "attestd.toml", "issuer/authority.pem", "tls/anchor.pem"])
def test_whatever_decides_trust_is_not_writable_by_others(safe: Path, place: str) -> None:
    (safe / place).chmod((safe / place).stat().st_mode | 0o022)
    assert "trust-writable" in codes(safe)


def test_a_shared_challenge_key_is_a_secret(safe: Path) -> None:
    with (safe / "attestd.toml").open("a") as file:
        file.write('\n[replicas]\nchallenge_key = "challenge.key"\n')
    (safe / "challenge.key").write_bytes(bytes(32))
    (safe / "challenge.key").chmod(0o644)
    assert codes(safe) == ["challenge-key-readable"]
