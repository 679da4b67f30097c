"""SSH signatures against the real ssh-keygen, and everything around them that must not pass."""

import base64
import hashlib
import os
import struct
import subprocess
from pathlib import Path

import pytest
import sshsig
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from attestd.changes import bounds, signature
from attestd.changes.errors import ChangeRefused
from attestd.changes.statement import NAMESPACE

MESSAGE = b"attestd change v1\nsequence: 1\n"
FILE_KEYS = ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-3072"]


def make_key(directory: Path, kind: str) -> Path:
    """Make a key with ssh-keygen and return the path of its private half."""
    path = directory / kind
    name, _, bits = kind.partition("-")
    size = ["-b", bits] if bits else []
    subprocess.run(["ssh-keygen", "-q", "-t", name, *size, "-N", "", "-C", "a comment", "-f", str(path)], check=True)
    return path


def ssh_sign(path: Path, message: bytes, namespace: str = NAMESPACE, *options: str) -> str:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(path), "-n", namespace, *options]
    return subprocess.run(command, input=message, capture_output=True, check=True).stdout.decode()


def ssh_verifies(directory: Path, public: str, armored: str, message: bytes) -> bool:
    (directory / "allowed").write_text(f"alice {public}\n")
    (directory / "signature").write_text(armored)
    command = ["ssh-keygen", "-Y", "verify", "-f", str(directory / "allowed"), "-I", "alice", "-n", NAMESPACE]
    done = subprocess.run([*command, "-s", str(directory / "signature")], input=message, capture_output=True)
    return done.returncode == 0


def public_blob(path: Path) -> bytes:
    return base64.b64decode(path.with_suffix(".pub").read_text().split()[1])


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def armor(
    key: bytes,
    inner: bytes,
    *,
    namespace: bytes = NAMESPACE.encode(),
    hash_name: bytes = b"sha512",
    reserved: bytes = b"",
    version: int = 1,
    tail: bytes = b"",
) -> str:
    fields = (key, namespace, reserved, hash_name, inner)
    blob = b"SSHSIG" + struct.pack(">I", version) + b"".join(map(string, fields)) + tail
    text = base64.b64encode(blob).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n"


def signed_data(message: bytes = MESSAGE, namespace: bytes = NAMESPACE.encode(), reserved: bytes = b"") -> bytes:
    return b"SSHSIG" + b"".join(map(string, (namespace, reserved, b"sha512", hashlib.sha512(message).digest())))


@pytest.fixture
def key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def ed25519_blob(key: ed25519.Ed25519PrivateKey) -> bytes:
    return string(b"ssh-ed25519") + string(key.public_key().public_bytes_raw())


def ed25519_inner(key: ed25519.Ed25519PrivateKey, data: bytes) -> bytes:
    return string(b"ssh-ed25519") + string(key.sign(data))


# --- With ssh-keygen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILE_KEYS)
def test_a_signature_of_ssh_keygen_verifies_and_names_its_key(kind: str, tmp_path: Path) -> None:
    path = make_key(tmp_path, kind)
    assert signature.verify(ssh_sign(path, MESSAGE), MESSAGE, NAMESPACE) == public_blob(path)


def test_a_signature_of_ssh_keygen_over_sha256_verifies(tmp_path: Path) -> None:
    path = make_key(tmp_path, "ed25519")
    assert signature.verify(ssh_sign(path, MESSAGE, NAMESPACE, "-O", "hashalg=sha256"), MESSAGE, NAMESPACE)


def test_ssh_keygen_verifies_what_is_signed_here(tmp_path: Path) -> None:
    path = make_key(tmp_path, "ed25519")
    armored = signature.sign(MESSAGE, path.read_bytes(), NAMESPACE)
    assert ssh_verifies(tmp_path, path.with_suffix(".pub").read_text(), armored, MESSAGE)
    assert not ssh_verifies(tmp_path, path.with_suffix(".pub").read_text(), armored, MESSAGE + b"!")


def test_a_signature_made_here_is_byte_for_byte_that_of_ssh_keygen(tmp_path: Path) -> None:
    path = make_key(tmp_path, "ed25519")
    assert signature.sign(MESSAGE, path.read_bytes(), NAMESPACE) == ssh_sign(path, MESSAGE)


@pytest.mark.parametrize("kind", ["ed25519", "rsa-3072"])
def test_the_package_sshsig_agrees(kind: str, tmp_path: Path) -> None:
    path = make_key(tmp_path, kind)
    armored = ssh_sign(path, MESSAGE)
    assert sshsig.check_signature(MESSAGE, armored, NAMESPACE).openssh_str().split()[1] == base64.b64encode(
        signature.verify(armored, MESSAGE, NAMESPACE)
    ).decode("ascii")


# --- FIDO2: a software authenticator signs, ssh-keygen is the judge of the format --------------------------------------------

APPLICATION = b"ssh:"


def sk_ed25519(key: ed25519.Ed25519PrivateKey, flags: int = 1) -> tuple[bytes, bytes]:
    """Return public key and inner signature as an authenticator would have made them."""
    kind = b"sk-ssh-ed25519@openssh.com"
    blob = string(kind) + string(key.public_key().public_bytes_raw()) + string(APPLICATION)
    after = bytes([flags]) + struct.pack(">I", 7)
    told = hashlib.sha256(APPLICATION).digest() + after + hashlib.sha256(signed_data()).digest()
    return blob, string(kind) + string(key.sign(told)) + after


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1))


def sk_ecdsa() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    kind = b"sk-ecdsa-sha2-nistp256@openssh.com"
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    blob = string(kind) + string(b"nistp256") + string(point) + string(APPLICATION)
    after = b"\x05" + struct.pack(">I", 9)
    told = hashlib.sha256(APPLICATION).digest() + after + hashlib.sha256(signed_data()).digest()
    r, s = utils.decode_dss_signature(key.sign(told, ec.ECDSA(hashes.SHA256())))
    return blob, string(kind) + string(mpint(r) + mpint(s)) + after


def test_a_fido2_ed25519_key_verifies_here_and_with_ssh_keygen(key: ed25519.Ed25519PrivateKey, tmp_path: Path) -> None:
    blob, inner = sk_ed25519(key)
    armored = armor(blob, inner)
    public = f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()}"
    assert ssh_verifies(tmp_path, public, armored, MESSAGE)
    assert signature.verify(armored, MESSAGE, NAMESPACE) == blob


def test_a_fido2_ecdsa_key_verifies_here_and_with_ssh_keygen(tmp_path: Path) -> None:
    blob, inner = sk_ecdsa()
    armored = armor(blob, inner)
    public = f"sk-ecdsa-sha2-nistp256@openssh.com {base64.b64encode(blob).decode()}"
    assert ssh_verifies(tmp_path, public, armored, MESSAGE)
    assert signature.verify(armored, MESSAGE, NAMESPACE) == blob


def test_a_fido2_signature_without_a_touch_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    refused(armor(*sk_ed25519(key, flags=0)), "touched")


def test_a_fido2_signature_over_other_flags_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    blob, inner = sk_ed25519(key, flags=0)
    refused(armor(blob, inner[:-5] + b"\x01" + inner[-4:]), "does not verify")


# --- What must not pass -------------------------------------------------------------------------------------------------------


def refused(armored: str, match: str | None = None, message: bytes = MESSAGE) -> None:
    with pytest.raises(ChangeRefused, match=match) as caught:
        signature.verify(armored, message, NAMESPACE)
    assert caught.value.code == "approval-invalid"


def good(key: ed25519.Ed25519PrivateKey) -> str:
    return armor(ed25519_blob(key), ed25519_inner(key, signed_data()))


def test_the_signatures_these_tests_build_are_good(key: ed25519.Ed25519PrivateKey) -> None:
    assert signature.verify(good(key), MESSAGE, NAMESPACE) == ed25519_blob(key)


def test_p02_a_signature_over_other_bytes_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    refused(good(key), "does not verify", MESSAGE + b" ")


def test_p02_a_signature_of_another_namespace_is_refused(key: ed25519.Ed25519PrivateKey, tmp_path: Path) -> None:
    path = make_key(tmp_path, "ed25519")
    refused(ssh_sign(path, MESSAGE, "git"), "another namespace")


def test_a_namespace_swapped_in_afterwards_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    refused(armor(ed25519_blob(key), ed25519_inner(key, signed_data(namespace=b"git"))), "does not verify")


def test_a_key_swapped_in_afterwards_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    refused(armor(ed25519_blob(other), ed25519_inner(key, signed_data())), "does not verify")


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"tail": b"\0"}, {"reserved": b"x"}, {"hash_name": b"md5"}], ids=str
)
def test_another_form_of_a_good_signature_is_refused(key: ed25519.Ed25519PrivateKey, change: dict[str, object]) -> None:
    reserved = b"x" if "reserved" in change else b""
    inner = ed25519_inner(key, signed_data(reserved=reserved))
    refused(armor(ed25519_blob(key), inner, **change))  # type: ignore[arg-type]


def test_a_weak_hash_is_refused_although_the_package_sshsig_takes_it(key: ed25519.Ed25519PrivateKey) -> None:
    digest = hashlib.md5(MESSAGE).digest()
    data = b"SSHSIG" + b"".join(map(string, (NAMESPACE.encode(), b"", b"md5", digest)))
    armored = armor(ed25519_blob(key), ed25519_inner(key, data), hash_name=b"md5")
    assert sshsig.check_signature(MESSAGE, armored, NAMESPACE)
    refused(armored, "neither sha256 nor sha512")


def test_trailing_bytes_in_key_or_signature_are_refused(key: ed25519.Ed25519PrivateKey) -> None:
    refused(armor(ed25519_blob(key) + b"\0", ed25519_inner(key, signed_data())), "trailing")
    refused(armor(ed25519_blob(key), ed25519_inner(key, signed_data()) + b"\0"), "trailing")


def test_a_scheme_of_another_key_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    inner = string(b"ssh-rsa") + string(key.sign(signed_data()))
    refused(armor(ed25519_blob(key), inner), "scheme")


def test_sha1_with_rsa_is_refused(tmp_path: Path) -> None:
    path = make_key(tmp_path, "rsa-3072")
    private = serialization.load_ssh_private_key(path.read_bytes(), None)
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    assert isinstance(private, rsa.RSAPrivateKey)
    made = private.sign(signed_data(), padding.PKCS1v15(), hashes.SHA1())
    refused(armor(public_blob(path), string(b"ssh-rsa") + string(made)), "scheme")


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    refused(ssh_sign(make_key(tmp_path, "rsa-1024"), MESSAGE), "too short")


@pytest.mark.parametrize("kind", [b"ssh-dss", b"ssh-ed25519-cert-v01@openssh.com", b"", b"\xff"])
def test_an_unknown_type_of_key_is_refused(key: ed25519.Ed25519PrivateKey, kind: bytes) -> None:
    blob = string(kind) + string(key.public_key().public_bytes_raw())
    refused(armor(blob, ed25519_inner(key, signed_data())), "unknown type")


def test_every_flipped_bit_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    blob = base64.b64decode("".join(good(key).splitlines()[1:-1]))
    for position in range(len(blob)):
        changed = bytearray(blob)
        changed[position] ^= 1 << (position % 8)
        text = base64.b64encode(bytes(changed)).decode()
        refused(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")


def test_every_truncation_is_refused(key: ed25519.Ed25519PrivateKey) -> None:
    blob = base64.b64decode("".join(good(key).splitlines()[1:-1]))
    for end in range(len(blob)):
        text = base64.b64encode(blob[:end]).decode()
        refused(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")


@pytest.mark.parametrize(
    "armored",
    [
        "",
        "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\n!!!!\n-----END SSH SIGNATURE-----",
        "-----BEGIN PGP SIGNATURE-----\nAAAA\n-----END PGP SIGNATURE-----",
        "\N{SNOWMAN}",
        "A" * (bounds.MAX_SIGNATURE + 1),
    ],
)
def test_what_is_not_an_armored_signature_is_refused(armored: str) -> None:
    refused(armored)


def test_random_bytes_are_refused() -> None:
    for _ in range(200):
        text = base64.b64encode(b"SSHSIG\0\0\0\1" + os.urandom(80)).decode()
        refused(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")


def test_only_plain_ed25519_keys_sign_here(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only Ed25519"):
        signature.sign(MESSAGE, make_key(tmp_path, "ecdsa-256").read_bytes(), NAMESPACE)
    path = tmp_path / "encrypted"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(path)], check=True)
    with pytest.raises(ValueError, match="encrypted"):
        signature.sign(MESSAGE, path.read_bytes(), NAMESPACE)
