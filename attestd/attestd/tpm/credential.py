"""Credential protection: a secret that only one TPM, holding one named object, can open.

`make_credential` is the software side of TPM2_MakeCredential. What it proves is proved later, by the secret coming
back: the endorsement key and the object of that name live in one TPM. Assumes that the caller computed the name from a
public area itself (`Public.name`) and trusts the endorsement key. TPM 2.0 part 1, 24 and 11.4.10; B.10.4, C.6.1.
"""

import hmac
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from attestd.tpm.algorithms import COORDINATE_SIZES, DIGEST_SIZES, HASH_NAMES, HASHLIB_NAMES, hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.public import Attribute, Public, public_key

_HASHES: Final[dict[str, HashAlgorithm]] = {"sha256": SHA256(), "sha384": SHA384(), "sha512": SHA512()}
_AES_BITS: Final = {"aes128cfb": 128, "aes192cfb": 192, "aes256cfb": 256}
_LABEL: Final = b"IDENTITY"


def make_credential(
    ek: Public,
    name: bytes,
    secret: bytes,
    *,
    seed: bytes,
    ephemeral: ec.EllipticCurvePrivateKey | None = None,
) -> tuple[bytes, bytes]:
    """Return (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET) for the object called name in the TPM of ek.

    `secret`: 1 byte up to the digest size of ek's name algorithm. `seed`: fresh random bytes of exactly that size for an
    RSA key; for an ECC key the seed comes out of the key agreement with `ephemeral` (made here where absent) and `seed`
    is checked for its size and not used.
    *Raises* `Malformed` ("credential-key" where ek is not a storage key, or as `public_key` does); ValueError where the
    caller's own arguments have a wrong size.
    """
    size = _digest_size(ek)
    if not 0 < len(secret) <= size:
        raise ValueError(f"a secret of {len(secret)} bytes, 1 to {size} can be protected")
    if len(seed) != size:
        raise ValueError(f"a seed of {len(seed)} bytes, the key wants {size}")
    if len(name) < 2 or len(name) - 2 != DIGEST_SIZES.get(HASH_NAMES.get(int.from_bytes(name[:2], "big"), "")):
        raise ValueError("not the name of an object")
    key = public_key(ek)
    if isinstance(key, RSAPublicKey):
        encrypted = _share_rsa(key, seed, _HASHES[ek.name_algorithm])
    else:
        seed, encrypted = _share_ecc(ek, key, ephemeral)
    return _sized(_protect(ek, name, secret, seed)), _sized(encrypted)


def _digest_size(ek: Public) -> int:
    """Check that ek is a storage key whose algorithms are known here, and return its name algorithm's digest size."""
    wanted = Attribute.RESTRICTED | Attribute.DECRYPT
    if ek.attributes & (wanted | Attribute.SIGN) != wanted:
        raise Malformed("credential-key", "the endorsement key is not a restricted decryption key")
    if ek.symmetric not in _AES_BITS or ek.name_algorithm not in _HASHES:
        raise Malformed("credential-key", f"the endorsement key protects with {ek.symmetric} and {ek.name_algorithm}")
    return DIGEST_SIZES[ek.name_algorithm]


def _share_rsa(key: RSAPublicKey, seed: bytes, digest: HashAlgorithm) -> bytes:
    """Encrypt the seed with OAEP; the label ends in a zero byte (part 1, B.4 and B.10.4)."""
    return key.encrypt(seed, padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=_LABEL + b"\0"))


def _share_ecc(
    ek: Public, key: ec.EllipticCurvePublicKey, ephemeral: ec.EllipticCurvePrivateKey | None
) -> tuple[bytes, bytes]:
    """Agree on a seed by one-pass Diffie-Hellman; return it and the ephemeral point (part 1, C.6.1)."""
    ephemeral = ephemeral or ec.generate_private_key(key.curve)
    if ephemeral.curve.name != key.curve.name:
        raise ValueError("the ephemeral key is on another curve")
    size = COORDINATE_SIZES[ek.curve or ""]
    point = ephemeral.public_key().public_numbers()
    x, y = point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")
    shared = ephemeral.exchange(ec.ECDH(), key)
    seed = kdfe(ek.name_algorithm, shared, _LABEL, party_u=x, party_v=ek.unique[:size])
    return seed, _sized(x) + _sized(y)


def _protect(ek: Public, name: bytes, secret: bytes, seed: bytes) -> bytes:
    """Encrypt the secret and bind it to the name: TPMS_ID_OBJECT (part 1, 24.4 and 24.5)."""
    bits = _AES_BITS[ek.symmetric or ""]
    storage = kdfa(ek.name_algorithm, seed, b"STORAGE", context_u=name, bits=bits)
    # The key serves once, so the standard's initialisation vector is zero.
    encryptor = Cipher(AES(storage), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    integrity = kdfa(ek.name_algorithm, seed, b"INTEGRITY", bits=8 * DIGEST_SIZES[ek.name_algorithm])
    return _sized(hmac.digest(integrity, identity + name, HASHLIB_NAMES[ek.name_algorithm])) + identity


def kdfa(
    hash_name: str, key: bytes, label: bytes, *, context_u: bytes = b"", context_v: bytes = b"", bits: int
) -> bytes:
    """Return bits (a multiple of 8) of key material: SP 800-108 counter mode with HMAC (part 1, 11.4.10.2)."""
    tail = label + b"\0" + context_u + context_v + bits.to_bytes(4, "big")
    blocks = -(-bits // (8 * DIGEST_SIZES[hash_name]))
    stream = b"".join(
        hmac.digest(key, counter.to_bytes(4, "big") + tail, HASHLIB_NAMES[hash_name])
        for counter in range(1, blocks + 1)
    )
    return stream[: bits // 8]


def kdfe(hash_name: str, shared: bytes, label: bytes, *, party_u: bytes, party_v: bytes) -> bytes:
    """Return one digest of key material from a shared x coordinate: SP 800-56A, one block (part 1, 11.4.10.3)."""
    return bytes(hasher(hash_name)((1).to_bytes(4, "big") + shared + label + b"\0" + party_u + party_v).digest())


def _sized(data: bytes) -> bytes:
    """Return data as a TPM2B."""
    return len(data).to_bytes(2, "big") + data
