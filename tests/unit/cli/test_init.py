"""A new installation: what is made, with which modes, and what is refused."""

import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from attestd import config
from attestd.cli.setup import files
from installation import ATTESTD, attestd

pytest_plugins = ("installation",)

GATEWAY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
SECRETS = (
    "attestd.db",
    "attestd.toml",
    "issuer/development.key",
    "operators/development",
    "results/key.pem",
    "tls/anchor.key",
    "tls/server.key",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_that_init_makes_is_private_to_its_owner(installation_template: Path) -> None:
    place = installation_template
    assert mode(place) == 0o700
    assert {name: mode(place / name) for name in SECRETS} == dict.fromkeys(SECRETS, 0o600)
    assert all(mode(path) == 0o700 for path in place.rglob("*") if path.is_dir())


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    place = tmp_path / "attestd"
    subprocess.run(
        ["sh", "-c", 'umask 000; exec "$0" init -d "$1" --json', ATTESTD, str(place)], check=True, capture_output=True
    )
    assert {name: mode(place / name) for name in SECRETS} == dict.fromkeys(SECRETS, 0o600)


def test_configuration_reads_back(installation_template: Path) -> None:
    configuration = config.load(installation_template)
    assert configuration.listen.public_url == "https://localhost:8443"
    assert configuration.trust.approvals == 1
    assert configuration.wireguard.public_key == ""


def test_options_reach_the_configuration(tmp_path: Path) -> None:
    place = tmp_path / "attestd"
    options = [
        "--name",
        "verifier.example",
        "--name",
        "2001:db8::1",
        "--port",
        "9443",
        "--trust-domain",
        "site.example",
    ]
    spoken = attestd("init", "-d", place, *options, "--wireguard-public-key", GATEWAY, "--json")
    configuration = config.load(place)
    assert spoken.exit_code == 0
    assert configuration.listen.names == ("verifier.example", "2001:db8::1")
    assert configuration.issuance.crl_url == "https://verifier.example:9443/v1/crl"
    assert configuration.trust.dns_suffix == "devices.site.example"
    assert configuration.wireguard.public_key == GATEWAY


def test_server_certificate_is_for_the_names_and_verifies_under_the_anchor(tmp_path: Path) -> None:
    place = tmp_path / "attestd"
    attestd("init", "-d", place, "--name", "verifier.example", "--name", "10.0.0.1")
    for options in (["-verify_hostname", "verifier.example"], ["-verify_ip", "10.0.0.1"]):
        verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *options]
        command = [*verify, "-CAfile", str(place / "tls/anchor.pem"), str(place / "tls/server.pem")]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    ssl.create_default_context(cafile=str(place / "tls/anchor.pem")).load_cert_chain(
        place / "tls/server.pem", place / "tls/server.key"
    )


def test_c07_two_installations_share_no_secret(installation_template: Path, tmp_path: Path) -> None:
    place = tmp_path / "second"
    attestd("init", "-d", place)
    for name in SECRETS[2:]:
        assert (place / name).read_bytes() != (installation_template / name).read_bytes()
    prefixes = {config.load(path).wireguard.ipv6_prefix for path in (place, installation_template)}
    assert len(prefixes) == 2


def test_each_key_has_one_purpose(installation_template: Path) -> None:
    names = ("issuer/development.key", "results/key.pem", "tls/anchor.key", "tls/server.key")
    keys = [load_pem_private_key((installation_template / name).read_bytes(), None).public_key() for name in names]
    keys.append(load_ssh_private_key((installation_template / "operators/development").read_bytes(), None).public_key())
    assert all(one != other for index, one in enumerate(keys) for other in keys[:index])


def test_development_authority_says_so(installation_template: Path) -> None:
    authority = x509.load_pem_x509_certificate((installation_template / "issuer/authority.pem").read_bytes())
    assert "DEVELOPMENT - NOT FOR PRODUCTION" in authority.subject.rfc4514_string()
    assert "DEVELOPMENT - NOT FOR PRODUCTION" in (installation_template / "operators/allowed_signers").read_text()


def test_ssh_keygen_accepts_the_operator_key_and_the_list(installation_template: Path, tmp_path: Path) -> None:
    operators = installation_template / "operators"
    (tmp_path / "text").write_text("text")
    sign = [
        "ssh-keygen",
        "-Y",
        "sign",
        "-n",
        "attestd-change",
        "-f",
        str(operators / "development"),
        str(tmp_path / "text"),
    ]
    subprocess.run(sign, check=True, capture_output=True)
    verify = ["ssh-keygen", "-Y", "verify", "-f", str(operators / "allowed_signers"), "-I", "development-operator"]
    verify += ["-n", "attestd-change", "-s", str(tmp_path / "text.sig")]
    assert subprocess.run(verify, input=b"text", capture_output=True, check=False).returncode == 0


def test_no_anchor_is_accepted_by_default(installation_template: Path) -> None:
    assert list((installation_template / "anchors").iterdir()) == []


def test_second_init_overwrites_nothing(installation: Path) -> None:
    before = {path: path.read_bytes() for path in installation.rglob("*") if path.is_file()}
    spoken = attestd("init", "-d", installation)
    assert (spoken.exit_code, spoken.error) == (2, "install-exists")
    assert {path: path.read_bytes() for path in installation.rglob("*") if path.is_file()} == before


def test_init_overwrites_no_key_where_the_configuration_is_missing(installation: Path) -> None:
    (installation / "attestd.toml").unlink()
    before = (installation / "issuer/development.key").read_bytes()
    assert attestd("init", "-d", installation).error == "install-exists"
    assert (installation / "issuer/development.key").read_bytes() == before


def test_password_on_the_command_line_is_refused(tmp_path: Path) -> None:
    spoken = attestd("init", "-d", tmp_path / "attestd", "--database", "postgresql://attestd:secret@db/attestd")
    assert (spoken.exit_code, spoken.error) == (2, "install-database")
    assert "secret" not in spoken.stderr
    assert not (tmp_path / "attestd").exists()


@pytest.mark.parametrize("name", ["Verifier.Example", " verifier.example", "", "vérifier.example"])
def test_name_that_no_certificate_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    spoken = attestd("init", "-d", tmp_path / "attestd", "--name", name)
    assert (spoken.exit_code, spoken.error) == (2, "install-names")


@pytest.mark.parametrize("key", ["cHVibGlj", GATEWAY[:-1], f"{GATEWAY}\n", "/etc/wireguard/gateway.pub"])
def test_gateway_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    spoken = attestd("init", "-d", tmp_path / "attestd", "--wireguard-public-key", key)
    assert (spoken.exit_code, spoken.error) == (2, "wireguard-key")
    assert not (tmp_path / "attestd").exists()


def test_trust_domain_that_is_no_name_is_refused(tmp_path: Path) -> None:
    spoken = attestd("init", "-d", tmp_path / "attestd", "--trust-domain", "Fleet Example")
    assert spoken.error == "trust-domain-malformed"
    assert not (tmp_path / "attestd").exists()


def test_interrupted_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def power_cut(_descriptor: int) -> None:
        raise OSError("power cut")

    monkeypatch.setattr("os.fsync", power_cut)
    with pytest.raises(OSError, match="power cut"):
        files.create(tmp_path / "key", b"secret")
    assert list(tmp_path.iterdir()) == []


def test_renewed_server_certificate_verifies_under_the_anchor_that_devices_have(installation: Path) -> None:
    before = (installation / "tls/server.pem").read_bytes()
    spoken = attestd("tls", "renew", "-d", installation, "--json")
    assert spoken.exit_code == 0
    assert (installation / "tls/server.pem").read_bytes() != before
    assert mode(installation / "tls/server.key") == 0o600
    context = ssl.create_default_context(cafile=str(installation / "tls/anchor.pem"))
    context.load_cert_chain(installation / "tls/server.pem", installation / "tls/server.key")


def test_renewal_with_the_key_of_another_anchor_is_refused(installation: Path) -> None:
    before = (installation / "tls/server.pem").read_bytes()
    spoken = attestd("tls", "renew", "-d", installation, "--anchor-key", installation / "tls/server.key")
    assert (spoken.exit_code, spoken.error) == (2, "anchor-key")
    assert (installation / "tls/server.pem").read_bytes() == before
