"""Marshalled TPM structures for tests, made from real keys: the inverse of what attestd.tpm reads."""

import hashlib
from collections.abc import Iterable
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm

from attestd.tpm.public import Attribute

RSA, ECC = 0x0001, 0x0023
SHA1_ID, SHA256_ID, SHA384_ID, SHA512_ID = 0x0004, 0x000B, 0x000C, 0x000D
NULL = 0x0010
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
CURVE_IDS = {"secp256r1": 3, "secp384r1": 4, "secp521r1": 5}
HASHES: dict[int, HashAlgorithm] = {SHA1_ID: SHA1(), SHA256_ID: SHA256(), SHA384_ID: SHA384(), SHA512_ID: SHA512()}

AK_ATTRIBUTES = int(
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.USER_WITH_AUTH
    | Attribute.RESTRICTED
    | Attribute.SIGN
)
EK_ATTRIBUTES = int(
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.ADMIN_WITH_POLICY
    | Attribute.RESTRICTED
    | Attribute.DECRYPT
)
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def sized(data: bytes) -> bytes:
    return u16(len(data)) + data


@cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the one RSA key of this size; making another costs seconds."""
    return _rsa_key(bits)


def ecc_key(curve: str = "secp256r1") -> ec.EllipticCurvePrivateKey:
    """Return the one key on this curve."""
    return _ecc_key(curve)


@cache
def _ecc_key(curve: str) -> ec.EllipticCurvePrivateKey:
    curves = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "secp521r1": ec.SECP521R1()}
    return ec.generate_private_key(curves[curve])


def rsa_area(
    key: rsa.RSAPrivateKey,
    *,
    attributes: int = AK_ATTRIBUTES,
    scheme: int = RSASSA,
    scheme_hash: int = SHA256_ID,
    symmetric: bytes = u16(NULL),
    policy: bytes = b"",
    name_algorithm: int = SHA256_ID,
    exponent: int = 0,
) -> bytes:
    """Return TPMT_PUBLIC of an RSA key."""
    numbers = key.public_key().public_numbers()
    pinned = u16(scheme) if scheme == NULL else u16(scheme) + u16(scheme_hash)
    return (
        u16(RSA)
        + u16(name_algorithm)
        + u32(attributes)
        + sized(policy)
        + symmetric
        + pinned
        + u16(key.key_size)
        + u32(exponent)
        + sized(numbers.n.to_bytes(key.key_size // 8, "big"))
    )


def ecc_area(
    key: ec.EllipticCurvePrivateKey,
    *,
    attributes: int = AK_ATTRIBUTES,
    scheme: int = ECDSA,
    scheme_hash: int = SHA256_ID,
    symmetric: bytes = u16(NULL),
    policy: bytes = b"",
    name_algorithm: int = SHA256_ID,
) -> bytes:
    """Return TPMT_PUBLIC of an ECC key."""
    numbers = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    pinned = u16(scheme) if scheme == NULL else u16(scheme) + u16(scheme_hash)
    return (
        u16(ECC)
        + u16(name_algorithm)
        + u32(attributes)
        + sized(policy)
        + symmetric
        + pinned
        + u16(CURVE_IDS[key.curve.name])
        + u16(NULL)
        + sized(numbers.x.to_bytes(size, "big"))
        + sized(numbers.y.to_bytes(size, "big"))
    )


def aes_cfb(bits: int) -> bytes:
    """Return TPMT_SYM_DEF_OBJECT of AES in CFB mode."""
    return u16(0x0006) + u16(bits) + u16(0x0043)


def ek_area(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, bits: int = 128, name_algorithm: int = SHA256_ID
) -> bytes:
    """Return TPMT_PUBLIC of an endorsement key in the usual template."""
    policy = bytes({SHA256_ID: 32, SHA384_ID: 48, SHA512_ID: 64}[name_algorithm])
    if isinstance(key, rsa.RSAPrivateKey):
        return rsa_area(
            key,
            attributes=EK_ATTRIBUTES,
            scheme=NULL,
            symmetric=aes_cfb(bits),
            policy=policy,
            name_algorithm=name_algorithm,
        )
    return ecc_area(
        key,
        attributes=EK_ATTRIBUTES,
        scheme=NULL,
        symmetric=aes_cfb(bits),
        policy=policy,
        name_algorithm=name_algorithm,
    )


def selection(banks: Iterable[tuple[int, Iterable[int]]], *, size: int = 3) -> bytes:
    """Return TPML_PCR_SELECTION."""
    entries = [
        u16(bank) + bytes((size,)) + sum(1 << pcr for pcr in pcrs).to_bytes(size, "little") for bank, pcrs in banks
    ]
    return u32(len(entries)) + b"".join(entries)


def attest_head(
    tag: int,
    *,
    magic: int = 0xFF544347,
    signer: bytes = u16(SHA256_ID) + bytes(32),
    nonce: bytes = b"n" * 32,
    clock: int = 1_000,
    resets: int = 5,
    restarts: int = 1,
    safe: int = 1,
    firmware: int = 0x0102030405060708,
) -> bytes:
    """Return TPMS_ATTEST up to its body."""
    return (
        u32(magic)
        + u16(tag)
        + sized(signer)
        + sized(nonce)
        + clock.to_bytes(8, "big")
        + u32(resets)
        + u32(restarts)
        + bytes((safe,))
        + firmware.to_bytes(8, "big")
    )


def quote(
    banks: Iterable[tuple[int, Iterable[int]]] = ((SHA256_ID, range(10)),), *, digest: bytes = bytes(32), **head: object
) -> bytes:
    """Return TPMS_ATTEST of a quote."""
    return attest_head(0x8018, **head) + selection(banks) + sized(digest)  # type: ignore[arg-type]


def rsa_signature(
    key: rsa.RSAPrivateKey, message: bytes, *, scheme: int = RSASSA, digest: int = SHA256_ID, salt: int | None = None
) -> bytes:
    """Return TPMT_SIGNATURE over message."""
    algorithm = HASHES[digest]
    pad: padding.AsymmetricPadding = padding.PKCS1v15()
    if scheme == RSAPSS:
        pad = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.DIGEST_LENGTH if salt is None else salt)
    return u16(scheme) + u16(digest) + sized(key.sign(message, pad, algorithm))


def ecdsa_signature(key: ec.EllipticCurvePrivateKey, message: bytes, *, digest: int = SHA256_ID) -> bytes:
    """Return TPMT_SIGNATURE over message."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(HASHES[digest])))
    return ecdsa_octets(r, s, size=(key.curve.key_size + 7) // 8, digest=digest)


def ecdsa_octets(r: int, s: int, *, size: int = 32, digest: int = SHA256_ID) -> bytes:
    """Return TPMT_SIGNATURE of these numbers."""
    return u16(ECDSA) + u16(digest) + sized(r.to_bytes(size, "big")) + sized(s.to_bytes(size, "big"))


def name_of(area: bytes) -> bytes:
    """Return the name of a public area whose name algorithm is SHA-256."""
    return u16(SHA256_ID) + hashlib.sha256(area).digest()


def spec_id(algorithms: Iterable[tuple[int, int]] = ((SHA1_ID, 20), (SHA256_ID, 32)), *, vendor: bytes = b"") -> bytes:
    """Return TCG_EfiSpecIDEvent."""
    declared = list(algorithms)
    body = b"Spec ID Event03\0" + bytes(4) + bytes((0, 2, 0, 2)) + len(declared).to_bytes(4, "little")
    for number, size in declared:
        body += number.to_bytes(2, "little") + size.to_bytes(2, "little")
    return body + bytes((len(vendor),)) + vendor


def legacy_event(pcr: int, kind: int, data: bytes, *, digest: bytes | None = None, size: int | None = None) -> bytes:
    """Return TCG_PCClientPCREvent; the digest is that of the data where none is given."""
    return (
        pcr.to_bytes(4, "little")
        + kind.to_bytes(4, "little")
        + (hashlib.sha1(data).digest() if digest is None else digest)
        + (len(data) if size is None else size).to_bytes(4, "little")
        + data
    )


def agile_event(
    pcr: int,
    kind: int,
    data: bytes,
    *,
    digests: Iterable[tuple[int, bytes]] | None = None,
    size: int | None = None,
    count: int | None = None,
) -> bytes:
    """Return TCG_PCR_EVENT2; the digests are SHA-1 and SHA-256 of the data where none are given."""
    listed = [(SHA1_ID, hashlib.sha1(data).digest()), (SHA256_ID, hashlib.sha256(data).digest())]
    listed = listed if digests is None else list(digests)
    return (
        pcr.to_bytes(4, "little")
        + kind.to_bytes(4, "little")
        + (len(listed) if count is None else count).to_bytes(4, "little")
        + b"".join(number.to_bytes(2, "little") + digest for number, digest in listed)
        + (len(data) if size is None else size).to_bytes(4, "little")
        + data
    )


def agile_log(*events: bytes, header: bytes | None = None) -> bytes:
    """Return a crypto-agile log of SHA-1 and SHA-256."""
    head = spec_id() if header is None else header
    return legacy_event(0, 3, head, digest=bytes(20)) + b"".join(events)


def ima_entry(
    path: bytes = b"/bin/sh",
    *,
    file_digest: bytes = b"\x11" * 32,
    algorithm: bytes = b"sha256",
    template: bytes = b"ima-ng",
    extra: tuple[bytes, ...] = (),
    pcr: int = 10,
    digest: bytes | None = None,
) -> bytes:
    """Return one binary entry of a runtime list."""
    fields = (algorithm + b":\0" + file_digest, path + b"\0", *extra)
    data = b"".join(len(field).to_bytes(4, "little") + field for field in fields)
    return ima_raw(data, template=template, pcr=pcr, digest=digest)


def ima_raw(data: bytes, *, template: bytes = b"ima-ng", pcr: int = 10, digest: bytes | None = None) -> bytes:
    """Return one binary entry with this template data."""
    return (
        pcr.to_bytes(4, "little")
        + (hashlib.sha1(data).digest() if digest is None else digest)
        + len(template).to_bytes(4, "little")
        + template
        + len(data).to_bytes(4, "little")
        + data
    )
