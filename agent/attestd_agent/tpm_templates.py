"""Public templates of the keys that the agent asks a TPM for, as marshalled bytes.

Pure data: TPMT_PUBLIC structures (TPM 2.0 Library, Part 2, 12.2.4) built with ``struct``, so that what is asked of
the TPM can be read and tested without a TPM and without its library. Nothing here says that a TPM agreed.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

ALG_RSA: Final = 0x0001
ALG_AES: Final = 0x0006
ALG_KEYEDHASH: Final = 0x0008
ALG_SHA256: Final = 0x000B
ALG_SHA384: Final = 0x000C
ALG_NULL: Final = 0x0010
ALG_ECDSA: Final = 0x0018
ALG_ECC: Final = 0x0023
ALG_CFB: Final = 0x0043
CURVE_P256: Final = 0x0003
CURVE_P384: Final = 0x0004

# TPMA_OBJECT, Part 2, 8.3.
FIXED_TPM: Final = 1 << 1
FIXED_PARENT: Final = 1 << 4
SENSITIVE_DATA_ORIGIN: Final = 1 << 5
USER_WITH_AUTH: Final = 1 << 6
ADMIN_WITH_POLICY: Final = 1 << 7
NO_DA: Final = 1 << 10
RESTRICTED: Final = 1 << 16
DECRYPT: Final = 1 << 17
SIGN: Final = 1 << 18

_MADE_HERE: Final = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN
_EK_LOW: Final = _MADE_HERE | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT
_EK_HIGH: Final = _EK_LOW | USER_WITH_AUTH

# TCG EK Credential Profile 2.5, B.6.2 (PolicyA: PolicySecret of the endorsement hierarchy) and B.6.5 (PolicyB).
_POLICY_A: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_POLICY_B_SHA256: Final = bytes.fromhex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")
_POLICY_B_SHA384: Final = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _aes(bits: int) -> bytes:
    return struct.pack(">HHH", ALG_AES, bits, ALG_CFB)


def _rsa(name_alg: int, attributes: int, policy: bytes, *, aes: int, bits: int, unique: bytes) -> bytes:
    """Marshal an RSA storage key's TPMT_PUBLIC; exponent 0 stands for 65537."""
    head = struct.pack(">HHI", ALG_RSA, name_alg, attributes) + _sized(policy)
    return head + _aes(aes) + struct.pack(">HHI", ALG_NULL, bits, 0) + _sized(unique)


def _ecc(
    name_alg: int, attributes: int, policy: bytes, *, symmetric: bytes, scheme: bytes, curve: int, x: bytes, y: bytes
) -> bytes:
    """Marshal an ECC key's TPMT_PUBLIC without a key derivation scheme."""
    head = struct.pack(">HHI", ALG_ECC, name_alg, attributes) + _sized(policy)
    return head + symmetric + scheme + struct.pack(">HH", curve, ALG_NULL) + _sized(x) + _sized(y)


_NULL: Final = struct.pack(">H", ALG_NULL)
_ECDSA_SHA256: Final = struct.pack(">HH", ALG_ECDSA, ALG_SHA256)


@dataclass(frozen=True, slots=True)
class EkTemplate:
    """One row of the EK Credential Profile's table of templates (2.5, B.3.1 and B.4.1)."""

    name: str
    certificate_index: int
    public: bytes
    """TPMT_PUBLIC."""
    nonce_index: int | None
    """Only the low range has one; its contents replace the start of ``unique``."""
    template_index: int
    unique_size: int
    """Bytes of the (first) unique buffer, 0 in the high range."""


def _low(name: str, index: int, public: bytes, size: int) -> EkTemplate:
    return EkTemplate(name, index, public, index + 1, index + 2, size)


def _high(name: str, index: int, public: bytes) -> EkTemplate:
    return EkTemplate(name, index, public, None, index + 1, 0)


def _high_ecc(name_alg: int, policy: bytes, *, aes: int, curve: int) -> bytes:
    return _ecc(name_alg, _EK_HIGH, policy, symmetric=_aes(aes), scheme=_NULL, curve=curve, x=b"", y=b"")


EK_TEMPLATES: Final = (
    _low("L-1", 0x01C00002, _rsa(ALG_SHA256, _EK_LOW, _POLICY_A, aes=128, bits=2048, unique=bytes(256)), 256),
    _low(
        "L-2",
        0x01C0000A,
        _ecc(
            ALG_SHA256,
            _EK_LOW,
            _POLICY_A,
            symmetric=_aes(128),
            scheme=_NULL,
            curve=CURVE_P256,
            x=bytes(32),
            y=bytes(32),
        ),
        32,
    ),
    _high("H-1", 0x01C00012, _rsa(ALG_SHA256, _EK_HIGH, _POLICY_B_SHA256, aes=128, bits=2048, unique=b"")),
    _high("H-2", 0x01C00014, _high_ecc(ALG_SHA256, _POLICY_B_SHA256, aes=128, curve=CURVE_P256)),
    _high("H-3", 0x01C00016, _high_ecc(ALG_SHA384, _POLICY_B_SHA384, aes=256, curve=CURVE_P384)),
    _high("H-6", 0x01C0001C, _rsa(ALG_SHA384, _EK_HIGH, _POLICY_B_SHA384, aes=256, bits=3072, unique=b"")),
)
"""In the order of preference: the first whose certificate is in NV is this machine's endorsement key."""

EK_CHAIN_INDICES: Final = range(0x01C00100, 0x01C00200)
"""Intermediate certificates (EK Credential Profile 2.5, 2.2.1.5.2)."""

ATTESTATION_KEY: Final = _ecc(
    ALG_SHA256,
    _MADE_HERE | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN,
    b"",
    symmetric=_NULL,
    scheme=_ECDSA_SHA256,
    curve=CURVE_P256,
    # A fixed label: a primary key is derived from the hierarchy's seed and this template alone, so the same TPM gives
    # the same AK again after every file on the device was lost.
    x=hashlib.sha256(b"attestd attestation key 1").digest(),
    y=bytes(32),
)

STORAGE_ROOT_KEY: Final = _ecc(
    ALG_SHA256,
    _MADE_HERE | USER_WITH_AUTH | NO_DA | RESTRICTED | DECRYPT,
    b"",
    symmetric=_aes(128),
    scheme=_NULL,
    curve=CURVE_P256,
    x=b"",
    y=b"",
)
"""TCG TPM v2.0 Provisioning Guidance 1.0, 7.5.1: the ECC P-256 storage root key, with the empty unique that the providers for
OpenSSL use for a parent named by its hierarchy, so that they find the parent of the device key."""

# The scheme is left open, so that a TLS or IKE provider can use the key; the agent signs with ECDSA and SHA-256.
DEVICE_KEY: Final = _ecc(
    ALG_SHA256,
    _MADE_HERE | USER_WITH_AUTH | NO_DA | SIGN,
    b"",
    symmetric=_NULL,
    scheme=_NULL,
    curve=CURVE_P256,
    x=b"",
    y=b"",
)

SEALED_DATA: Final = (
    struct.pack(">HHI", ALG_KEYEDHASH, ALG_SHA256, FIXED_TPM | FIXED_PARENT | USER_WITH_AUTH | NO_DA)
    + _sized(b"")
    + _NULL
    + _sized(b"")
)


def ek_template_with_nonce(template: EkTemplate, area: bytes, nonce: bytes) -> bytes:
    """Return the TPMT_PUBLIC ``area`` of a low-range EK with the manufacturer's nonce at the start of its unique field.

    An area that does not end with this template's empty unique field stays as it is: it has a unique value already.
    Source: EK Credential Profile 2.5, 2.2.1.4 (EK nonce). A nonce longer than the field is cut, as the field is.
    """
    size = template.unique_size
    empty = _sized(bytes(size)) if template.name == "L-1" else _sized(bytes(size)) * 2
    if not area.endswith(empty):
        return area
    filled = empty[:2] + nonce[:size].ljust(size, b"\0") + empty[2 + size :]
    return area[: -len(empty)] + filled


def pcr_selection(bank: int, pcrs: tuple[int, ...]) -> bytes:
    """Return the TPML_PCR_SELECTION of ``pcrs`` in one bank, three bytes of bitmap.

    Assumes every index is 0 to 23. Source: Part 2, 10.6.2 (TPMS_PCR_SELECTION).
    """
    bitmap = sum(1 << index for index in pcrs)
    return struct.pack(">IHB", 1, bank, 3) + bitmap.to_bytes(3, "little")


def to_2b(structure: bytes) -> bytes:
    """Return the structure as a TPM2B, with its size prefix."""
    return _sized(structure)
