"""What this package writes, read by OpenSSL: another implementation is the judge."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestd_pki.crl import build_crl
from pki_world import DEVICE_KEY, NOW, OTHER_CA_KEY, SERIAL, a_grant, an_authority, an_issuer, issue, spki


def _openssl(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=False, timeout=20)


def _pem(kind: str, data: bytes) -> bytes:
    command = ("x509", "-inform", "DER") if kind == "certificate" else ("crl", "-inform", "DER")
    return _openssl(*command, stdin=data).stdout


def _verify(folder: Path, certificate: bytes, *, revoked: tuple[tuple[int, int, str], ...] = (), at: int = NOW) -> str:
    issuer = an_issuer()
    crl = build_crl(issuer, revoked, number=1, this_update=NOW, next_update=NOW + 3600)
    (folder / "ca.pem").write_bytes(_pem("certificate", an_authority()))
    (folder / "crl.pem").write_bytes(_pem("crl", crl))
    (folder / "device.pem").write_bytes(_pem("certificate", certificate))
    files = ("-CAfile", str(folder / "ca.pem"), "-CRLfile", str(folder / "crl.pem"), str(folder / "device.pem"))
    options = ("-x509_strict", "-crl_check", "-purpose", "sslclient", "-attime", str(at))
    done = _openssl("verify", *options, *files)
    return (done.stdout + done.stderr).decode() if done.returncode else "OK"


KEYS = {
    "p256": DEVICE_KEY,
    "p384": ec.derive_private_key(99, ec.SECP384R1()),
    "rsa2048": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ed25519": Ed25519PrivateKey.from_private_bytes(b"\x07" * 32),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_openssl_verifies_a_device_certificate_and_its_revocation_list(tmp_path: Path, key: object) -> None:
    certificate = issue(a_grant(subject_public_key=spki(key))).der
    assert _verify(tmp_path, certificate) == "OK"


def test_openssl_refuses_a_revoked_device_certificate(tmp_path: Path) -> None:
    refusal = _verify(tmp_path, issue(a_grant()).der, revoked=((SERIAL, NOW, "keyCompromise"),))
    assert "certificate revoked" in refusal


def test_openssl_refuses_a_device_certificate_after_its_day(tmp_path: Path) -> None:
    assert "certificate has expired" in _verify(tmp_path, issue(a_grant()).der, at=NOW + 3601)


def test_openssl_refuses_another_authoritys_certificate_under_the_same_name(tmp_path: Path) -> None:
    refusal = _verify(tmp_path, issue(a_grant(), an_issuer(OTHER_CA_KEY)).der)
    assert "error" in refusal
    assert "OK" not in refusal.split()


def test_openssl_refuses_a_device_certificate_as_a_tls_server(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(_pem("certificate", an_authority()))
    (tmp_path / "device.pem").write_bytes(_pem("certificate", issue(a_grant()).der))
    done = _openssl(
        "verify",
        "-purpose",
        "sslserver",
        "-attime",
        str(NOW),
        "-CAfile",
        str(tmp_path / "ca.pem"),
        str(tmp_path / "device.pem"),
    )
    assert b"unsupported certificate purpose" in done.stderr + done.stdout or b"unsuitable" in done.stderr + done.stdout
    assert done.returncode != 0
