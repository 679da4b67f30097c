"""Signatures by a TPM: TPMT_SIGNATURE, and their proof.

`verify` proves that a message was signed by the private part of a key with a scheme that this key may use. It does not
prove that the TPM made the message: that follows from a restricted key and the attestation's magic, checked elsewhere.
TPM 2.0 part 2, 11.3.4.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from attestd.protocol.limits import MAX_TPM_STRUCTURE
from attestd.tpm import algorithms as alg
from attestd.tpm.cursor import Cursor
from attestd.tpm.errors import BadSignature as BadSignature
from attestd.tpm.errors import Malformed
from attestd.tpm.public import Public, public_key

_SCHEMES: Final = {0x0014: "rsassa", 0x0016: "rsapss", 0x0018: "ecdsa"}
"""Schemes that can be verified here; ECDAA, SM2 and Schnorr are known to TPMs and refused."""
_RSA_SIZES: Final = frozenset({128}) | frozenset(bits // 8 for bits in alg.RSA_KEY_BITS)
"""Octets of a signature. One by a key of 1,024 bits is read, and refused with the key: no such key is accepted anywhere."""
_MAX_SCALAR: Final = max(alg.COORDINATE_SIZES.values())
_ECDSA: Final = {name: ec.ECDSA(digest) for name, digest in alg.SIGNING_HASHES.items()}


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: either the RSA octets, or ECDSA's two numbers (not yet known to be in range)."""

    scheme: str
    hash: str
    rsa: bytes | None
    r: int = 0
    s: int = 0


def parse_signature(data: bytes) -> Signature:
    """Read one TPMT_SIGNATURE that fills data exactly.

    *Raises* `Malformed`: a null or unknown scheme, an unknown hash, trailing bytes, numbers of impossible size.
    """
    if len(data) > MAX_TPM_STRUCTURE:
        raise Malformed("structure-size", f"a signature of {len(data)} bytes")
    cursor = Cursor(data)
    number = cursor.u16()
    scheme = _SCHEMES.get(number)
    if scheme is None:
        if number == alg.ALG_NULL:
            raise Malformed("signature-scheme-null", "no signature at all", where=0)
        raise Malformed("scheme-unknown", f"signature scheme 0x{number:04x} is not known", where=0)
    digest = alg.hash_name(cursor.u16(), where=2)
    first = cursor.sized2b()
    if scheme != "ecdsa":
        cursor.expect_end()
        return _rsa_signature(scheme, digest, first)
    second = cursor.sized2b()
    cursor.expect_end()
    if not 0 < len(first) <= _MAX_SCALAR or not 0 < len(second) <= _MAX_SCALAR:
        raise Malformed("signature-size", f"ECDSA numbers of {len(first)} and {len(second)} bytes")
    return Signature(scheme, digest, None, int.from_bytes(first, "big"), int.from_bytes(second, "big"))


def parse_pkcs1(data: bytes, *, digest: str) -> Signature:
    """Take the bare octets of an RSASSA-PKCS1-v1_5 signature, as some clouds hand out quotes, without a TPMT header.

    `digest` names the hash and comes from a profile of that cloud, never from the evidence.
    *Raises* `Malformed` where the length is that of no key, or the hash is unknown.
    """
    if digest not in alg.HASH_IDS:
        raise Malformed("algorithm-unknown", f"hash algorithm {digest!r} is not known")
    return _rsa_signature("rsassa", digest, data)


def _rsa_signature(scheme: str, digest: str, octets: bytes) -> Signature:
    if len(octets) not in _RSA_SIZES:
        raise Malformed("signature-size", f"an RSA signature of {len(octets)} bytes")
    return Signature(scheme, digest, octets)


def verify(public: Public, signature: Signature, message: bytes) -> None:
    """Prove that the holder of public's private part signed message.

    Where the public area pins a scheme and hash, no other is accepted (part 2, 12.2.3.5: a restricted key has exactly
    one). *Raises* `BadSignature`; `Malformed` where the key itself is unusable.
    """
    if public.scheme is not None and (signature.scheme, signature.hash) != (public.scheme, public.scheme_hash):
        raise BadSignature(
            "signature-scheme",
            f"{signature.scheme} with {signature.hash}, the key allows {public.scheme} with {public.scheme_hash}",
        )
    verify_with_key(public_key(public), signature, message)


def verify_with_key(key: RSAPublicKey | ec.EllipticCurvePublicKey, signature: Signature, message: bytes) -> None:
    """Prove that the holder of key signed message, with any scheme of the allow-list.

    For keys that come as a certificate and so pin nothing; whoever has the public area calls `verify`.
    *Raises* `BadSignature`.
    """
    digest = alg.SIGNING_HASHES.get(signature.hash)
    if digest is None:
        raise BadSignature("signature-scheme", f"{signature.hash} is not accepted under a signature")
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(_octets(key, signature), message, _padding(signature, digest), digest)
        else:
            key.verify(_der(key, signature), message, _ECDSA[signature.hash])
    except InvalidSignature:
        raise BadSignature("signature-invalid", "the signature does not fit the key and the message") from None


def _octets(key: RSAPublicKey, signature: Signature) -> bytes:
    """Return RSA octets of exactly the modulus' length (RFC 8017, 8.2.2 step 1)."""
    if signature.rsa is None:
        raise BadSignature("signature-scheme", f"{signature.scheme} cannot be made by an RSA key")
    if len(signature.rsa) * 8 != key.key_size:
        raise BadSignature("signature-invalid", "the signature does not have the length of the modulus")
    return signature.rsa


def _padding(signature: Signature, digest: HashAlgorithm) -> padding.PKCS1v15 | padding.PSS:
    """Return the padding of the scheme.

    TPMs salt PSS with the digest's length or with all the room there is, by vendor and age (part 1, B.7), so any
    length that decodes is accepted: the salt adds nothing to what a verifier relies on.
    """
    if signature.scheme == "rsapss":
        return padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.AUTO)
    return padding.PKCS1v15()


def _der(key: ec.EllipticCurvePublicKey, signature: Signature) -> bytes:
    """Return r and s as DER, after r and s are known to lie in [1, n-1] (FIPS 186-5, 6.4.2 step 1)."""
    if signature.scheme != "ecdsa":
        raise BadSignature("signature-scheme", f"{signature.scheme} cannot be made by an ECC key")
    order = _ORDERS.get(key.curve.name)
    if order is None:
        raise BadSignature("signature-scheme", f"curve {key.curve.name} is not accepted")
    if not 0 < signature.r < order or not 0 < signature.s < order:
        raise BadSignature("signature-invalid", "r or s is out of range")
    return encode_dss_signature(signature.r, signature.s)


_ORDERS: Final = {curve.name: alg.CURVE_ORDERS[name] for name, curve in alg.CURVES.items()}
