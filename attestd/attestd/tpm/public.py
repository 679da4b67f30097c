"""A TPM key's public area: TPM2B_PUBLIC and TPMT_PUBLIC.

Proves that the bytes are one public area, that its sizes agree with each other, and computes the key's name from
exactly those bytes, so that a name is never something a client said. Does not judge attributes (evidence does).
TPM 2.0 part 2, 12.2; names: part 1, 16.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from typing import Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from attestd.protocol.limits import MAX_TPM_STRUCTURE
from attestd.tpm import algorithms as alg
from attestd.tpm.cursor import Cursor
from attestd.tpm.errors import Malformed

Kind = Literal["rsa", "ecc", "keyedhash", "symcipher"]


class Attribute(IntFlag):
    """TPMA_OBJECT (TPM 2.0 part 2, 8.3). Bits that are not here are reserved and must be clear."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    FIRMWARE_LIMITED = 1 << 8
    SVN_LIMITED = 1 << 9
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


KNOWN_ATTRIBUTES: Final = int(
    sum(Attribute)
)  # not ~Attribute(0), which in some releases of Python has the reserved bits too


@dataclass(frozen=True, slots=True)
class Public:
    """One public area.

    `area` is the exact TPMT_PUBLIC and `name` is nameAlg (2 bytes) and its digest of `area`. `unique` is the modulus,
    the point as x then y (each padded to the curve's size), or the digest of a symmetric object. `key_bits` is the
    modulus or field size, 0 for the others. `symmetric` reads like "aes128cfb"; `scheme` and `scheme_hash` are None
    where the key does not pin one.
    """

    kind: Kind
    name_algorithm: str
    attributes: int
    auth_policy: bytes
    symmetric: str | None
    scheme: str | None
    scheme_hash: str | None
    key_bits: int
    curve: str | None
    exponent: int
    unique: bytes
    area: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What the four kinds of parameters and their unique have in common."""

    unique: bytes
    symmetric: str | None = None
    scheme: str | None = None
    scheme_hash: str | None = None
    key_bits: int = 0
    curve: str | None = None
    exponent: int = 0


def parse_public(data: bytes) -> Public:
    """Read one TPM2B_PUBLIC that fills data exactly.

    *Raises* `Malformed`.
    """
    if len(data) > MAX_TPM_STRUCTURE:
        raise Malformed("structure-size", f"a public area of {len(data)} bytes")
    cursor = Cursor(data)
    area = cursor.sized2b()
    cursor.expect_end()
    return parse_public_area(area)


def parse_public_area(area: bytes) -> Public:
    """Read one TPMT_PUBLIC that fills area exactly, and compute its name.

    *Raises* `Malformed`.
    """
    if len(area) > MAX_TPM_STRUCTURE:
        raise Malformed("structure-size", f"a public area of {len(area)} bytes")
    cursor = Cursor(area)
    number = cursor.u16()
    reader = _READERS.get(number)
    if reader is None:
        raise Malformed("public-kind", f"object type 0x{number:04x} is not known", where=0)
    kind, read = reader
    name_number = cursor.u16()
    name_algorithm = alg.hash_name(name_number, where=2)
    attributes = cursor.u32()
    if attributes & ~KNOWN_ATTRIBUTES:
        raise Malformed("public-attributes", f"reserved attribute bits in 0x{attributes:08x}", where=4)
    auth_policy = cursor.sized2b()
    # Part 2, 12.2.4: the policy is empty or a digest of the name algorithm.
    if len(auth_policy) not in (0, alg.DIGEST_SIZES[name_algorithm]):
        raise Malformed("public-policy-size", f"a policy digest of {len(auth_policy)} bytes", where=8)
    parameters = read(cursor, name_algorithm)
    cursor.expect_end()
    return Public(
        kind=kind,
        name_algorithm=name_algorithm,
        attributes=attributes,
        auth_policy=auth_policy,
        symmetric=parameters.symmetric,
        scheme=parameters.scheme,
        scheme_hash=parameters.scheme_hash,
        key_bits=parameters.key_bits,
        curve=parameters.curve,
        exponent=parameters.exponent,
        unique=parameters.unique,
        area=area,
        name=name_number.to_bytes(2, "big") + alg.hasher(name_algorithm)(area).digest(),
    )


def _symmetric(cursor: Cursor) -> str | None:
    """Read TPMT_SYM_DEF_OBJECT (part 2, 11.1.7)."""
    where = cursor.position
    number = cursor.u16()
    if number == alg.ALG_NULL:
        return None
    name = alg.SYMMETRIC_NAMES.get(number)
    bits = cursor.u16()
    mode = alg.MODE_NAMES.get(cursor.u16())
    if name is None or mode is None or bits not in alg.SYMMETRIC_KEY_BITS:
        raise Malformed("algorithm-unknown", f"symmetric algorithm 0x{number:04x} of {bits} bits", where=where)
    return f"{name}{bits}{mode}"


def _rsa(cursor: Cursor, _name_algorithm: str) -> _Parameters:
    """Read TPMS_RSA_PARMS and the modulus (part 2, 12.2.3.5 and 11.2.4.5)."""
    symmetric = _symmetric(cursor)
    where = cursor.position
    number = cursor.u16()
    scheme = scheme_hash = None
    if number != alg.ALG_NULL:
        scheme = alg.RSA_SCHEMES.get(number)
        if scheme is None:
            raise Malformed("scheme-unknown", f"RSA scheme 0x{number:04x} is not known", where=where)
        if scheme != "rsaes":
            scheme_hash = alg.hash_name(cursor.u16(), where=where)
    key_bits = cursor.u16()
    exponent = cursor.u32() or alg.DEFAULT_EXPONENT
    modulus = cursor.sized2b()
    if key_bits not in alg.RSA_KEY_BITS:
        raise Malformed("public-key-size", f"an RSA key of {key_bits} bits")
    if exponent < 3 or not exponent & 1:
        raise Malformed("public-exponent", f"RSA exponent {exponent}")
    # A modulus that is shorter, even or without its top bit is no product of two primes of half the size.
    if len(modulus) * 8 != key_bits or not modulus[0] & 0x80 or not modulus[-1] & 1:
        raise Malformed("public-unique", "the modulus does not have the size of the key")
    return _Parameters(modulus, symmetric, scheme, scheme_hash, key_bits, None, exponent)


def _ecc(cursor: Cursor, _name_algorithm: str) -> _Parameters:
    """Read TPMS_ECC_PARMS and the point (part 2, 12.2.3.6 and 11.2.5.2)."""
    symmetric = _symmetric(cursor)
    where = cursor.position
    number = cursor.u16()
    scheme = scheme_hash = None
    if number != alg.ALG_NULL:
        scheme = alg.ECC_SCHEMES.get(number)
        if scheme is None:
            raise Malformed("scheme-unknown", f"ECC scheme 0x{number:04x} is not known", where=where)
        scheme_hash = alg.hash_name(cursor.u16(), where=where)
        if scheme == "ecdaa":
            cursor.u16()  # count, of no use to a verifier
    where = cursor.position
    curve_number = cursor.u16()
    curve = alg.CURVE_NAMES.get(curve_number)
    if curve is None:
        raise Malformed("curve-unknown", f"curve 0x{curve_number:04x} is not known", where=where)
    kdf = cursor.u16()
    if kdf != alg.ALG_NULL:
        if kdf not in alg.KDF_NAMES:
            raise Malformed("scheme-unknown", f"key derivation 0x{kdf:04x} is not known", where=where)
        alg.hash_name(cursor.u16(), where=where)
    size = alg.COORDINATE_SIZES[curve]
    x, y = cursor.sized2b(), cursor.sized2b()
    # Some chips drop leading zeros of a coordinate; none sends more than the field's size.
    if not 0 < len(x) <= size or not 0 < len(y) <= size:
        raise Malformed("public-unique", f"coordinates of {len(x)} and {len(y)} bytes on {curve}")
    key_bits = alg.CURVES[curve].key_size
    return _Parameters(x.rjust(size, b"\0") + y.rjust(size, b"\0"), symmetric, scheme, scheme_hash, key_bits, curve)


def _keyed_hash(cursor: Cursor, name_algorithm: str) -> _Parameters:
    """Read TPMS_KEYEDHASH_PARMS and the object's digest (part 2, 12.2.3.3)."""
    where = cursor.position
    number = cursor.u16()
    scheme = scheme_hash = None
    if number == 0x0005:
        scheme, scheme_hash = "hmac", alg.hash_name(cursor.u16(), where=where)
    elif number == 0x000A:
        scheme, scheme_hash = "xor", alg.hash_name(cursor.u16(), where=where)
        kdf = cursor.u16()
        if kdf not in alg.KDF_NAMES:
            raise Malformed("scheme-unknown", f"key derivation 0x{kdf:04x} is not known", where=where)
    elif number != alg.ALG_NULL:
        raise Malformed("scheme-unknown", f"keyed hash scheme 0x{number:04x} is not known", where=where)
    return _Parameters(_object_digest(cursor, name_algorithm), None, scheme, scheme_hash)


def _symmetric_cipher(cursor: Cursor, name_algorithm: str) -> _Parameters:
    """Read TPMS_SYMCIPHER_PARMS and the object's digest (part 2, 12.2.3.4)."""
    symmetric = _symmetric(cursor)
    return _Parameters(_object_digest(cursor, name_algorithm), symmetric)


def _object_digest(cursor: Cursor, name_algorithm: str) -> bytes:
    """Read the unique of an object without a public key: a digest of the name algorithm."""
    digest = cursor.sized2b()
    if len(digest) != alg.DIGEST_SIZES[name_algorithm]:
        raise Malformed("public-unique", f"an object digest of {len(digest)} bytes")
    return digest


_READERS: Final[dict[int, tuple[Kind, Callable[[Cursor, str], _Parameters]]]] = {
    0x0001: ("rsa", _rsa),
    0x0008: ("keyedhash", _keyed_hash),
    0x0023: ("ecc", _ecc),
    0x0025: ("symcipher", _symmetric_cipher),
}


_KEYS_REMEMBERED: Final = 16_384
"""Keys that are ready for use, one to two KiB each. The memo is of pure functions: it can be slow or fast, never wrong."""


@lru_cache(maxsize=_KEYS_REMEMBERED)
def _rsa_key(exponent: int, modulus: bytes) -> RSAPublicKey:
    return RSAPublicNumbers(exponent, int.from_bytes(modulus, "big")).public_key()


@lru_cache(maxsize=_KEYS_REMEMBERED)
def _ecc_key(curve: str, point: bytes) -> EllipticCurvePublicKey:
    size = alg.COORDINATE_SIZES[curve]
    x, y = int.from_bytes(point[:size], "big"), int.from_bytes(point[size:], "big")
    return EllipticCurvePublicNumbers(x, y, alg.CURVES[curve]).public_key()


def public_key(public: Public) -> RSAPublicKey | EllipticCurvePublicKey:
    """Return the key for signatures and encryption; a point is checked to be on its curve.

    *Raises* `Malformed` ("public-kind" where the object has no public key, "public-point", "public-unique").
    """
    try:
        if public.kind == "rsa":
            return _rsa_key(public.exponent, public.unique)
        if public.curve is not None:
            return _ecc_key(public.curve, public.unique)
    except ValueError as error:
        code: Literal["public-unique", "public-point"] = "public-unique" if public.kind == "rsa" else "public-point"
        raise Malformed(code, "the public area does not hold a usable key") from error
    raise Malformed("public-kind", f"a {public.kind} object has no public key")


def spki(public: Public) -> bytes:
    """Return the key as DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).

    *Raises* `Malformed` as `public_key` does.
    """
    return public_key(public).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
