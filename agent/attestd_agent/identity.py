"""What a device and its keys are called, derived from public areas of its own TPM.

Proves nothing to anyone: the verifier derives the same names from the same bytes and believes only its own. Assumes a
TPM2B_PUBLIC that a TPM made; what does not parse is refused all the same. Does not judge attributes or policies.
"""

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestd_agent.errors import StateDamaged
from attestd_pki import names

_RSA: Final = 0x0001
_ECC: Final = 0x0023
_SHA256: Final = 0x000B
_NULL: Final = 0x0010
_CURVES: Final[dict[int, type[ec.EllipticCurve]]] = {0x0003: ec.SECP256R1, 0x0004: ec.SECP384R1, 0x0005: ec.SECP521R1}
_DEFAULT_EXPONENT: Final = 65537  # TPM 2.0 Part 2, 12.2.3.5: an exponent of zero stands for 2^16 + 1


class Reader:
    """Read big-endian fields off one structure. *Raises* StateDamaged where it ends early."""

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte of `data`."""
        self.rest = data

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if len(self.rest) < size:
            raise StateDamaged("a TPM structure ends early")
        head, self.rest = self.rest[:size], self.rest[size:]
        return head

    def number(self, size: int) -> int:
        """Return the next `size` bytes as a number."""
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """Return the next buffer, which has its size in two bytes before it."""
        return self.take(self.number(2))


def public_area(tpm2b_public: bytes) -> bytes:
    """Return the TPMT_PUBLIC inside a TPM2B_PUBLIC that it fills exactly. *Raises* StateDamaged."""
    reader = Reader(tpm2b_public)
    area = reader.sized()
    if reader.rest or not area:
        raise StateDamaged("a public area and its size differ")
    return area


def name_of(tpm2b_public: bytes) -> bytes:
    """Return the 34-byte TPM name of a key whose name algorithm is SHA-256 (TPM 2.0 Part 1, 16). *Raises* StateDamaged."""
    area = public_area(tpm2b_public)
    if area[2:4] != _SHA256.to_bytes(2, "big"):
        raise StateDamaged("this key's name is not made with SHA-256")
    return area[2:4] + hashlib.sha256(area).digest()


def spki(tpm2b_public: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) of an RSA or elliptic curve key.

    Source: TPM 2.0 Part 2, 12.2.4 (TPMT_PUBLIC). *Raises* StateDamaged for another kind, curve or form.
    """
    reader = Reader(public_area(tpm2b_public))
    kind = reader.number(2)
    reader.take(6)  # nameAlg and objectAttributes
    reader.sized()  # authPolicy
    if reader.number(2) != _NULL:
        reader.take(4)  # key bits and mode of the symmetric cipher of a storage key
    key = _rsa(reader) if kind == _RSA else _ecc(reader) if kind == _ECC else None
    if key is None or reader.rest:
        raise StateDamaged(f"not a public area of a key that the agent knows (type 0x{kind:04x})")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def device_id(ek_public: bytes) -> str:
    """Return the id of the device with this endorsement key (TPM2B_PUBLIC)."""
    return names.device_id(spki(ek_public))


def ek_digest(ek_public: bytes) -> bytes:
    """Return the SHA-256 of the endorsement key's SubjectPublicKeyInfo, as an inventory lists it."""
    return hashlib.sha256(spki(ek_public)).digest()


def reset_count(attest: bytes) -> int:
    """Return the TPM's resetCount in a TPMS_ATTEST: another value than before means that the machine booted.

    Source: TPM 2.0 Part 2, 10.12.12 (magic, type, qualifiedSigner, extraData, clockInfo: clock, resetCount, …).
    *Raises* StateDamaged.
    """
    reader = Reader(attest)
    reader.take(6)
    reader.sized()
    reader.sized()
    reader.take(8)
    return reader.number(4)


def _skip_scheme(reader: Reader) -> None:
    if reader.number(2) != _NULL:
        reader.take(2)  # the scheme's hash


def _rsa(reader: Reader) -> rsa.RSAPublicKey:
    _skip_scheme(reader)
    reader.take(2)  # key bits
    exponent = reader.number(4) or _DEFAULT_EXPONENT
    modulus = int.from_bytes(reader.sized(), "big")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise StateDamaged("not an RSA public key") from None


def _ecc(reader: Reader) -> ec.EllipticCurvePublicKey:
    _skip_scheme(reader)
    curve = _CURVES.get(reader.number(2))
    _skip_scheme(reader)  # the key derivation scheme has the same form
    x, y = (int.from_bytes(reader.sized(), "big") for _ in range(2))
    if curve is None:
        raise StateDamaged("a curve that the agent does not know")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError:
        raise StateDamaged("not a point on its curve") from None
