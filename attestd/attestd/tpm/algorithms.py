"""The algorithms this verifier knows, and nothing else.

Identifiers are those of the TCG Algorithm Registry (rev. 1.34, tables 3 and 4). A number that is not in a table here is
refused by whoever reads it; there is no "other".
"""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from attestd.tpm.errors import Malformed

ALG_NULL: Final = 0x0010

HASH_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512", 0x0012: "sm3_256"}
)
HASH_IDS: Final[Mapping[str, int]] = MappingProxyType({name: number for number, name in HASH_NAMES.items()})
DIGEST_SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, "sm3_256": 32}
)
"""Bytes of a digest, by name."""
HASHLIB_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512", "sm3_256": "sm3"}
)
SIGNING_HASHES: Final[Mapping[str, HashAlgorithm]] = MappingProxyType(
    {"sha256": SHA256(), "sha384": SHA384(), "sha512": SHA512()}
)
"""Hashes under a signature. SHA-1 is absent: collisions are practical (SP 800-131A rev. 2, table 8)."""

SYMMETRIC_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {0x0003: "tdes", 0x0006: "aes", 0x0013: "sm4", 0x0026: "camellia"}
)
MODE_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {0x0010: "", 0x0040: "ctr", 0x0041: "ofb", 0x0042: "cbc", 0x0043: "cfb", 0x0044: "ecb"}
)
SYMMETRIC_KEY_BITS: Final = frozenset({128, 192, 256})

RSA_SCHEMES: Final[Mapping[int, str]] = MappingProxyType(
    {0x0014: "rsassa", 0x0015: "rsaes", 0x0016: "rsapss", 0x0017: "oaep"}
)
ECC_SCHEMES: Final[Mapping[int, str]] = MappingProxyType(
    {0x0018: "ecdsa", 0x0019: "ecdh", 0x001A: "ecdaa", 0x001B: "sm2", 0x001C: "ecschnorr", 0x001D: "ecmqv"}
)
KDF_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {0x0007: "mgf1", 0x0020: "kdf1_sp800_56a", 0x0021: "kdf2", 0x0022: "kdf1_sp800_108"}
)

RSA_KEY_BITS: Final = frozenset({2048, 3072, 4096})
"""Moduli a TPM makes and a verifier may trust: 1024 is refused (SP 800-131A rev. 2, table 2)."""
DEFAULT_EXPONENT: Final = 65537
"""What an exponent of zero stands for (TPM 2.0 part 2, 12.2.3.5)."""

CURVE_NAMES: Final[Mapping[int, str]] = MappingProxyType({0x0003: "P-256", 0x0004: "P-384", 0x0005: "P-521"})
CURVES: Final[Mapping[str, ec.EllipticCurve]] = MappingProxyType(
    {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
)
COORDINATE_SIZES: Final[Mapping[str, int]] = MappingProxyType({"P-256": 32, "P-384": 48, "P-521": 66})
CURVE_ORDERS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        "P-384": 2**384 - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
        "P-521": 2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
    }
)
"""n of each curve (SP 800-186, 3.2.1)."""

Hasher = Callable[[bytes], Any]
_HASHERS: Final[dict[str, Hasher]] = {
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}
if "sm3" in hashlib.algorithms_available:
    _HASHERS["sm3_256"] = lambda data: hashlib.new("sm3", data)


def hash_name(number: int, *, where: int | None = None) -> str:
    """Return the name of a hash algorithm from its TPM_ALG_ID.

    *Raises* `Malformed` ("algorithm-unknown").
    """
    name = HASH_NAMES.get(number)
    if name is None:
        raise Malformed("algorithm-unknown", f"hash algorithm 0x{number:04x} is not known", where=where)
    return name


def hasher(name: str) -> Hasher:
    """Return a constructor that takes bytes and has `.digest()`.

    SHA-1 is served: banks and runtime lists are replayed in it, signatures are not.
    *Raises* `Malformed` ("algorithm-unknown"), also where the platform's OpenSSL has no SM3.
    """
    found = _HASHERS.get(name)
    if found is None:
        raise Malformed("algorithm-unknown", f"hash algorithm {name!r} cannot be computed here")
    return found
