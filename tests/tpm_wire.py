"""Reads the few TPM structures that tests look into, independently of the verifier's own parser."""

import hashlib
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

_CURVES = {3: ec.SECP256R1(), 4: ec.SECP384R1()}


@dataclass(frozen=True, slots=True)
class Attest:
    """TPMS_ATTEST, Part 2, 10.12.12."""

    magic: bytes
    kind: int
    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    rest: bytes


def parse_attest(data: bytes) -> Attest:
    magic, kind = data[:4], int.from_bytes(data[4:6], "big")
    signer, data = sized(data[6:])
    extra, data = sized(data)
    clock, reset, restart, safe = struct.unpack(">QIIB", data[:17])
    return Attest(magic, kind, signer, extra, clock, reset, restart, bool(safe), data[25:])


def sized(data: bytes) -> tuple[bytes, bytes]:
    """Return the contents of the TPM2B at the start, and what follows."""
    size = int.from_bytes(data[:2], "big")
    return data[2 : 2 + size], data[2 + size :]


def name_of(public: bytes) -> bytes:
    """Return the name of the object with this TPM2B_PUBLIC, Part 1, 16."""
    area, _ = sized(public)
    return area[2:4] + hashlib.new({11: "sha256", 12: "sha384"}[int.from_bytes(area[2:4], "big")], area).digest()


def attributes_of(public: bytes) -> int:
    """Return objectAttributes."""
    return int.from_bytes(public[6:10], "big")


def ecc_key(public: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key in the TPM2B_PUBLIC of a signing ECC key without a policy."""
    area, _ = sized(public)
    assert area[:2] == b"\x00\x23"
    _policy, rest = sized(area[8:])
    assert rest[:2] == b"\x00\x10"  # no symmetric algorithm
    rest = rest[2:]
    rest = rest[4:] if rest[:2] != b"\x00\x10" else rest[2:]
    curve = int.from_bytes(rest[:2], "big")
    x, rest = sized(rest[4:])
    y, rest = sized(rest)
    assert not rest
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), _CURVES[curve]
    ).public_key()


def ecdsa_der(signature: bytes) -> bytes:
    """Return the DER of a TPMT_SIGNATURE that is ECDSA with SHA-256 and nothing else."""
    assert signature[:4] == b"\x00\x18\x00\x0b"
    r, rest = sized(signature[4:])
    s, rest = sized(rest)
    assert not rest
    return utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Raise InvalidSignature unless the key signed the message."""
    ecc_key(public).verify(ecdsa_der(signature), message, ec.ECDSA(hashes.SHA256()))
