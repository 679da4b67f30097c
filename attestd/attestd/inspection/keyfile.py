"""Public keys in a file: what somebody hands over to say "this key may sign".

Reads a JWK, a set of them, PEM, DER, COSE_Key and COSE_KeySet. Of a private key only its public half is taken. Proves nothing:
whose the key is, is known to whoever chose the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from attestd.inspection.cborread import read_cbor
from attestd.inspection.refused import InspectionRefused, read_object
from attestd.protocol.limits import INSPECTED_DOCUMENT
from attestd_pki import bounds
from attestd_pki.base64text import decode_base64
from attestd_pki.certificate import parse_certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import PublicKey, public_key
from attestd_pki.unwrap import split_bundle

_CURVES: Final[Mapping[object, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    1: ec.SECP256R1(),
    2: ec.SECP384R1(),
    3: ec.SECP521R1(),
}
"""By their names in JOSE (RFC 7518, 6.2.1.1) and their numbers in COSE (RFC 9053, 7.1)."""
_ED25519: Final = frozenset({"Ed25519", 6})
_MOST_KEYS: Final = 32
"""Keys of one set: each costs a signature per manifest."""


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A public key and what to call it: its identifier, or the beginning of its SHA-256."""

    key: PublicKey
    name: str


def read_keys(data: bytes) -> tuple[NamedKey, ...]:
    """Return the keys in a file, at least one.

    *Raises* `InspectionRefused` ("key-malformed", "json-size", "json-malformed", "cbor-…").
    """
    text = data.strip()
    if text.startswith((b"{", b"[")):
        return _several(_json_keys(text), _from_jwk)
    if b"-----BEGIN " in text:
        return (_from_pem(text),)
    if text.startswith(b"\x30"):
        return (_from_der(data),)
    item = read_cbor(data)
    return _several(item if isinstance(item, list) else [item], _from_cose)


def _malformed(message: str) -> InspectionRefused:
    return InspectionRefused("key-malformed", message)


def _json_keys(text: bytes) -> list[Any]:
    document = read_object(text, most=INSPECTED_DOCUMENT, what="the key")
    keys = document.get("keys", [document])
    return keys if isinstance(keys, list) else []


def _several(found: list[Any], read: Any) -> tuple[NamedKey, ...]:
    if not 1 <= len(found) <= _MOST_KEYS:
        raise _malformed(f"{len(found)} keys in one file")
    return tuple(read(one) for one in found)


def _from_pem(text: bytes) -> NamedKey:
    if b"CERTIFICATE-----" in text:
        try:
            certificate = parse_certificate(split_bundle(text)[0])
            return NamedKey(public_key(certificate), certificate.subject.text)
        except (PkiError, IndexError):
            raise _malformed("a certificate that cannot be read") from None
    try:
        return _named(load_pem_public_key(text), None)
    except (ValueError, UnsupportedAlgorithm):
        raise _malformed("no public key in PEM") from None


def _from_der(data: bytes) -> NamedKey:
    try:
        return _named(load_der_public_key(data), None)
    except (ValueError, UnsupportedAlgorithm):
        raise _malformed("no public key in DER") from None


def _from_jwk(members: object) -> NamedKey:
    """Read a JSON web key (RFC 7517)."""
    if not isinstance(members, dict):
        raise _malformed("a key is not a JSON object")
    values = {name: _base64url(members.get(name)) for name in ("x", "y", "n", "e")}
    kind, curve, name = members.get("kty"), members.get("crv"), members.get("kid")
    key = _key({"EC": 2, "RSA": 3, "OKP": 1}.get(kind) if isinstance(kind, str) else None, curve, values)
    return _named(key, name if isinstance(name, str) else None)


def _from_cose(members: object) -> NamedKey:
    """Read a COSE_Key (RFC 9052, 7; RFC 8230, 4)."""
    if not isinstance(members, dict):
        raise _malformed("neither a JWK, nor PEM, nor a COSE_Key")
    kind, name = members.get(1), members.get(2)
    labels = {"n": -1, "e": -2} if kind == 3 else {"x": -2, "y": -3}
    found = {word: members.get(label) for word, label in labels.items()}
    values = {word: value if isinstance(value, bytes) else None for word, value in found.items()}
    if isinstance(found.get("y"), bool):
        # A compressed point (RFC 9053, 7.1.1): y is the sign of its second coordinate.
        values["y"] = b"\x03" if found["y"] else b"\x02"
    key = _key(kind if isinstance(kind, int) else None, members.get(-1), values)
    return _named(key, name.hex() if isinstance(name, bytes) else None)


def _key(kind: int | None, curve: object, values: Mapping[str, bytes | None]) -> object:
    first, second = (values.get("n"), values.get("e")) if kind == 3 else (values.get("x"), values.get("y"))
    try:
        if kind == 3 and first is not None and second is not None:
            return rsa_key(first, second)
        if kind == 2 and first is not None and second is not None and isinstance(curve, str | int):
            return _point(_CURVES[curve], first, second)
        if kind == 1 and first is not None and isinstance(curve, str | int) and curve in _ED25519:
            return ed25519.Ed25519PublicKey.from_public_bytes(first)
    except (ValueError, KeyError, UnsupportedAlgorithm):
        pass
    raise _malformed("a key of a kind that is not known, or whose members do not make one")


def _point(curve: ec.EllipticCurve, x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    size = (curve.key_size + 7) // 8
    return ec_point(
        curve, y + x.rjust(size, b"\0") if len(y) == 1 else b"\x04" + x.rjust(size, b"\0") + y.rjust(size, b"\0")
    )


def ec_point(curve: ec.EllipticCurve, point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key that an encoded point is (SEC 1, 2.3.3). *Raises* ValueError."""
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)


def rsa_key(modulus: bytes, exponent: bytes) -> rsa.RSAPublicKey:
    """Return the key of two numbers, of a size whose use is bounded. *Raises* ValueError."""
    numbers = int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
    if numbers[1].bit_length() > bounds.MAX_RSA_BITS or numbers[0].bit_length() > bounds.MAX_RSA_EXPONENT_BITS:
        raise ValueError("an RSA key that costs too much to use")
    return rsa.RSAPublicNumbers(*numbers).public_key()


def _named(key: object, name: str | None) -> NamedKey:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise _malformed("a key of a kind that signs no manifest")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size > bounds.MAX_RSA_BITS:
        raise _malformed(f"an RSA key of {key.key_size} bits")
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return NamedKey(key, name or f"key {digest[:16]}")


def _base64url(value: object) -> bytes | None:
    if not isinstance(value, str) or len(value) > INSPECTED_DOCUMENT:
        return None
    try:
        return decode_base64(value)
    except ValueError:
        return None
