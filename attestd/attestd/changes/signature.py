"""SSH signatures (OpenSSH PROTOCOL.sshsig), strictly: parsed in full, one namespace, known keys and hashes only.

Proves, of the key that `verify` returns, that its private half signed exactly this message in this namespace. For a FIDO2
key also that somebody touched it. Assumes nothing about its input. Does not know whose key it is.

Written here although a package `sshsig` exists: that one (0.3.1) knows neither FIDO2 nor ECDSA keys, takes MD5 for the
message when the signature says so, and lets hostile bytes raise AssertionError. It serves as a cross-check in the tests.
"""

import base64
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from attestd.changes import bounds
from attestd.changes.errors import ChangeRefused

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_WIDTH: Final = 70  # as ssh-keygen breaks its lines
_HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_TOUCHED: Final = 0x01  # PROTOCOL.u2f, "user presence"


class _NotASignature(Exception):
    """The bytes are not what they should be, or the mathematics does not hold. Never leaves this file."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A parsed SSHSIG: key and signature still in SSH's encoding."""

    key: bytes
    namespace: bytes
    hash_name: bytes
    signature: bytes


def claimed_key(armored: str) -> bytes:
    """Return the public key (SSH encoding) that a signature names. Nothing is proved yet: `verify` does.

    *Raises* ChangeRefused `approval-invalid`.
    """
    try:
        return _parse(armored).key
    except _NotASignature as error:
        raise ChangeRefused("approval-invalid", f"not a signature: {error}") from error


def verify(armored: str, message: bytes, namespace: str) -> bytes:
    """Return the public key (SSH encoding) whose signature over `message` in `namespace` this is.

    *Raises* ChangeRefused `approval-invalid`, for whatever reason.
    """
    try:
        signed = _parse(armored)
        if signed.namespace != namespace.encode("ascii"):
            raise _NotASignature("made in another namespace")
        _verify_key(signed, _to_be_signed(signed.namespace, signed.hash_name, message))
    except (_NotASignature, InvalidSignature, ValueError) as error:
        why = str(error) or "it does not verify"
        raise ChangeRefused("approval-invalid", f"not a signature of this change: {why}") from error
    return signed.key


def sign(message: bytes, private_key_openssh_pem: bytes, namespace: str) -> str:
    """Return the armored signature of an Ed25519 file key, as `ssh-keygen -Y sign -n namespace` makes it.

    *Raises* ValueError for a key that is encrypted, not Ed25519, or not in OpenSSH's format.
    """
    try:
        key = load_ssh_private_key(private_key_openssh_pem, None)
    except TypeError as error:
        raise ValueError("the key is encrypted: sign with ssh-keygen") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError("only Ed25519 keys sign here: sign with ssh-keygen")
    public = _string(b"ssh-ed25519") + _string(key.public_key().public_bytes_raw())
    name = namespace.encode("ascii")
    signature = _string(b"ssh-ed25519") + _string(key.sign(_to_be_signed(name, b"sha512", message)))
    fields = (public, name, b"", b"sha512", signature)
    return _enarmor(_MAGIC + struct.pack(">I", _VERSION) + b"".join(map(_string, fields)))


def check_key(key: bytes) -> str:
    """Return the type of a public key in SSH's encoding. *Raises* ValueError for one that `verify` could not use."""
    try:
        reader = _Reader(key)
        kind = reader.string()
        if kind not in _KEYS:
            raise ValueError(f"keys of type {kind[:64]!r} are not accepted")
        _KEYS[kind].load(reader)
    except _NotASignature as error:
        raise ValueError(str(error)) from error
    return kind.decode("ascii")


# --- The format -------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads SSH's encoding (RFC 4251, 5) and knows when it has read everything."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise _NotASignature("truncated")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def string(self) -> bytes:
        return self.take(self.number())

    def mpint(self) -> int:
        """Read a positive integer in its shortest form (RFC 4251, 5)."""
        data = self.string()
        value = int.from_bytes(data)
        if not data or data[0] & 0x80 or len(data) != value.bit_length() // 8 + 1:
            raise _NotASignature("an integer is not positive or not in its shortest form")
        return value

    def end(self) -> None:
        if self._position != len(self._data):
            raise _NotASignature("trailing bytes")


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _to_be_signed(namespace: bytes, hash_name: bytes, message: bytes) -> bytes:
    """Return the bytes under the signature. The prefix keeps them from being any other protocol's (PROTOCOL.sshsig, 3)."""
    if hash_name not in _HASHES:
        raise _NotASignature("the message's hash is neither sha256 nor sha512")
    return _MAGIC + b"".join(map(_string, (namespace, b"", hash_name, _HASHES[hash_name](message).digest())))


def _parse(armored: str) -> _Signed:
    reader = _Reader(_dearmor(armored))
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
        raise _NotASignature("not an SSH signature of version 1")
    key, namespace, reserved, hash_name, signature = (reader.string() for _ in range(5))
    reader.end()
    if reserved:
        raise _NotASignature("the reserved field is in use")
    return _Signed(key, namespace, hash_name, signature)


def _dearmor(armored: str) -> bytes:
    if len(armored) > bounds.MAX_SIGNATURE:
        raise _NotASignature("too large")
    lines = armored.strip().splitlines()
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise _NotASignature("not an armored SSH signature")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError as error:  # binascii.Error, and a plain one for text that is not ASCII
        raise _NotASignature("not base64") from error


def _enarmor(blob: bytes) -> str:
    text = base64.b64encode(blob).decode("ascii")
    lines = (text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH))
    return "\n".join((_BEGIN, *lines, _END, ""))


# --- Keys -------------------------------------------------------------------------------------------------------------

_Check = Callable[[bytes], None]
"""Verifies one message; made from a key and a signature that were parsed in full."""


def _verify_key(signed: _Signed, message: bytes) -> None:
    reader = _Reader(signed.key)
    kind = reader.string()
    if kind not in _KEYS:
        raise _NotASignature("unknown type of key")
    key = _KEYS[kind]
    loaded = key.load(reader)
    signature = _Reader(signed.signature)
    if (scheme := signature.string()) not in key.schemes:
        raise _NotASignature("the signature's scheme does not fit its key")
    key.verify(loaded, scheme, signature, message)


def _load_ed25519(reader: _Reader) -> ed25519.Ed25519PublicKey:
    raw = reader.string()
    reader.end()
    return ed25519.Ed25519PublicKey.from_public_bytes(raw)


def _verify_ed25519(key: ed25519.Ed25519PublicKey, _scheme: bytes, reader: _Reader, message: bytes) -> None:
    signature = reader.string()
    reader.end()
    key.verify(signature, message)


def _load_rsa(reader: _Reader) -> rsa.RSAPublicKey:
    exponent, modulus = reader.mpint(), reader.mpint()
    reader.end()
    if modulus.bit_length() < bounds.MIN_RSA_BITS:
        raise _NotASignature("the RSA key is too short")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _verify_rsa(key: rsa.RSAPublicKey, scheme: bytes, reader: _Reader, message: bytes) -> None:
    signature = reader.string()
    reader.end()
    # RFC 8332, 3. "ssh-rsa" (SHA-1) is not among the schemes.
    algorithm = hashes.SHA512() if scheme == b"rsa-sha2-512" else hashes.SHA256()
    key.verify(signature, message, padding.PKCS1v15(), algorithm)


_CURVES: Final[dict[bytes, tuple[ec.EllipticCurve, hashes.HashAlgorithm]]] = {
    b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
    b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
    b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
"""RFC 5656, 6.2.1: the curve decides the hash."""


def _load_ecdsa(curve_name: bytes) -> Callable[[_Reader], ec.EllipticCurvePublicKey]:
    def load(reader: _Reader) -> ec.EllipticCurvePublicKey:
        key = _load_point(curve_name, reader)
        reader.end()
        return key

    return load


def _load_point(curve_name: bytes, reader: _Reader) -> ec.EllipticCurvePublicKey:
    if reader.string() != curve_name:
        raise _NotASignature("the key's curve is not the one of its type")
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve_name][0], reader.string())


def _ecdsa_signature(reader: _Reader) -> bytes:
    """Return r and s (RFC 5656, 3.1.2) in DER."""
    inner = _Reader(reader.string())
    encoded = utils.encode_dss_signature(inner.mpint(), inner.mpint())
    inner.end()
    return encoded


def _verify_ecdsa(key: ec.EllipticCurvePublicKey, scheme: bytes, reader: _Reader, message: bytes) -> None:
    signature = _ecdsa_signature(reader)
    reader.end()
    key.verify(signature, message, ec.ECDSA(_CURVES[scheme.removeprefix(b"ecdsa-sha2-")][1]))


# FIDO2 keys (PROTOCOL.u2f): the authenticator signs its application, its flags and a counter before the message's hash.


def _load_sk_ed25519(reader: _Reader) -> tuple[ed25519.Ed25519PublicKey, bytes]:
    key = ed25519.Ed25519PublicKey.from_public_bytes(reader.string())
    application = reader.string()
    reader.end()
    return key, application


def _load_sk_ecdsa(reader: _Reader) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    key = _load_point(b"nistp256", reader)
    application = reader.string()
    reader.end()
    return key, application


def _authenticated(application: bytes, reader: _Reader, message: bytes) -> bytes:
    """Return what the authenticator signed. An untouched key could be used by any program on the operator's machine."""
    flags, counter = reader.take(1), reader.take(4)
    reader.end()
    if not flags[0] & _TOUCHED:
        raise _NotASignature("nobody touched the security key")
    return hashlib.sha256(application).digest() + flags + counter + hashlib.sha256(message).digest()


def _verify_sk_ed25519(
    key: tuple[ed25519.Ed25519PublicKey, bytes], _scheme: bytes, reader: _Reader, message: bytes
) -> None:
    signature = reader.string()
    key[0].verify(signature, _authenticated(key[1], reader, message))


def _verify_sk_ecdsa(
    key: tuple[ec.EllipticCurvePublicKey, bytes], _scheme: bytes, reader: _Reader, message: bytes
) -> None:
    signature = _ecdsa_signature(reader)
    key[0].verify(signature, _authenticated(key[1], reader, message), ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, slots=True)
class _KeyType:
    """How keys of one type are read and used, and the schemes their signatures may name."""

    load: Callable[[_Reader], object]
    verify: Callable[..., None]
    schemes: frozenset[bytes]


def _same(name: bytes, load: Callable[[_Reader], object], check: Callable[..., None]) -> tuple[bytes, _KeyType]:
    return name, _KeyType(load, check, frozenset({name}))


_KEYS: Final[dict[bytes, _KeyType]] = dict(
    (
        _same(b"ssh-ed25519", _load_ed25519, _verify_ed25519),
        (b"ssh-rsa", _KeyType(_load_rsa, _verify_rsa, frozenset({b"rsa-sha2-256", b"rsa-sha2-512"}))),
        *(_same(b"ecdsa-sha2-" + curve, _load_ecdsa(curve), _verify_ecdsa) for curve in _CURVES),
        _same(b"sk-ssh-ed25519@openssh.com", _load_sk_ed25519, _verify_sk_ed25519),
        _same(b"sk-ecdsa-sha2-nistp256@openssh.com", _load_sk_ecdsa, _verify_sk_ecdsa),
    )
)
