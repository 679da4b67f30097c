"""Keys and signatures of foreign certificates, over the bytes as they came.

Proves, where `verify_signature` returns, that the issuer's key made the signature over the very bytes of the child's
signed part; it returns the hash, because a weak one (`WEAK`) is somebody else's decision. Assumes certificates from
`parse_certificate`. Does not look at names, dates or purposes.

The primitives are those of `cryptography`. Its certificate verifier is not used (it refuses to load what hardware
carries), and neither is pyOpenSSL's: its context takes one list of trusted certificates and answers with one number, so
it can neither pin an anchor by hash, nor name the issuer that is missing, nor accept SHA-1 from one authority alone.
"""

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestd_pki import bounds, der
from attestd_pki.certificate import ED448, ED25519, ML_DSA, RSASSA_PSS, Certificate, rsa_numbers
from attestd_pki.errors import PkiError

MlDsaKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
EdwardsKey = ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | EdwardsKey | MlDsaKey

SHA1: Final = "sha1"
WEAK: Final = frozenset({"md5", SHA1, "sha224", "sha512-224", "sha3-224"})
"""Hashes under which a signature says little: collisions are practical (MD5, SHA-1), or cost less than 2^128 (224 bits)."""
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "md5": hashes.MD5(),  # noqa: S303 - read, and then refused unless its issuer is named in `chain.Exceptions`
    SHA1: hashes.SHA1(),  # noqa: S303 - as MD5
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha512-224": hashes.SHA512_224(),
    "sha512-256": hashes.SHA512_256(),
    "sha3-224": hashes.SHA3_224(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
}
_RSA: Final = {
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": SHA1,
    "1.3.14.3.2.29": SHA1,
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.15": "sha512-224",
    "1.2.840.113549.1.1.16": "sha512-256",
    "2.16.840.1.101.3.4.3.13": "sha3-224",
    "2.16.840.1.101.3.4.3.14": "sha3-256",
    "2.16.840.1.101.3.4.3.15": "sha3-384",
    "2.16.840.1.101.3.4.3.16": "sha3-512",
}
_ECDSA: Final = {
    "1.2.840.10045.4.1": SHA1,
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    "2.16.840.1.101.3.4.3.9": "sha3-224",
    "2.16.840.1.101.3.4.3.10": "sha3-256",
    "2.16.840.1.101.3.4.3.11": "sha3-384",
    "2.16.840.1.101.3.4.3.12": "sha3-512",
}
_PSS_HASHES: Final = {
    "1.3.14.3.2.26": SHA1,
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.8": "sha3-256",
    "2.16.840.1.101.3.4.2.9": "sha3-384",
    "2.16.840.1.101.3.4.2.10": "sha3-512",
}
_EDWARDS: Final[dict[str, Callable[[bytes], EdwardsKey]]] = {
    ED25519: ed25519.Ed25519PublicKey.from_public_bytes,
    ED448: ed448.Ed448PublicKey.from_public_bytes,
}
_ML_DSA_KEYS: Final[dict[int, Callable[[bytes], MlDsaKey]]] = {
    44: mldsa.MLDSA44PublicKey.from_public_bytes,
    65: mldsa.MLDSA65PublicKey.from_public_bytes,
    87: mldsa.MLDSA87PublicKey.from_public_bytes,
}
_MGF1: Final = "1.2.840.113549.1.1.8"
_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "P-192": ec.SECP192R1(),
    "P-224": ec.SECP224R1(),
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
    "brainpoolP256r1": ec.BrainpoolP256R1(),
    "brainpoolP384r1": ec.BrainpoolP384R1(),
    "brainpoolP512r1": ec.BrainpoolP512R1(),
}


def public_key(certificate: Certificate) -> PublicKey:
    """Return the subject's public key, whatever purpose its algorithm identifier names.

    RSA keys are built from their two numbers and those on curves from their point, so that a key named rsaesOaep (ST,
    Infineon) is the RSA key it is. *Raises* PkiError `key-unsupported` (algorithm, curve, explicit curve parameters) or
    `key-malformed`.
    """
    if certificate.key_bits == 0:
        raise PkiError("key-unsupported", f"no key of algorithm {certificate.key_oid} is known here")
    bits = der.elements(der.only(certificate.spki, der.SEQUENCE).content)[1]
    try:
        if certificate.key_type == "rsa":
            modulus, exponent = rsa_numbers(bits)
            if modulus.bit_length() > bounds.MAX_RSA_BITS or exponent.bit_length() > bounds.MAX_RSA_EXPONENT_BITS:
                raise PkiError("key-unsupported", f"an RSA key of {modulus.bit_length()} bits costs too much to use")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if certificate.key_type == "ec":
            return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[certificate.key_curve], der.bits(bits))
        if certificate.key_type == "ml-dsa":
            return _ML_DSA_KEYS[certificate.key_bits](der.bits(bits))
        return _EDWARDS[certificate.key_oid](der.bits(bits))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError("key-malformed", "the public key cannot be used") from error


def canonical_spki(certificate: Certificate) -> bytes:
    """Return the subject's key in the one DER form of its kind: rsaEncryption with NULL, or an uncompressed point.

    This is the form to compare with a key out of a TPM, and to hash for a device id. *Raises* as `public_key`.
    """
    return public_key(certificate).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verify_signature(child: Certificate, issuer: Certificate) -> str:
    """Return the name of the hash under the signature of `issuer` on `child`; Ed25519, Ed448 and ML-DSA have their own.

    *Raises* PkiError `signature-invalid`, `signature-algorithm` (unknown, or of another kind than the key), or as
    `public_key`.
    """
    if not kinds_fit(child, issuer):
        raise PkiError(
            "signature-algorithm", f"signature algorithm {child.signature_oid} is not one for this issuer's key"
        )
    key = public_key(issuer)
    try:
        return _verify(key, child)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm) as error:
        # ValueError: a salt longer than the key allows, a modulus smaller than the digest.
        raise PkiError("signature-invalid", "the signature does not verify") from error


def kinds_fit(child: Certificate, issuer: Certificate) -> bool:
    """Return whether the signature on `child` is of a kind that is known here and that the issuer's key can make."""
    oid = child.signature_oid
    kinds = {"rsa": oid in _RSA or oid == RSASSA_PSS, "ec": oid in _ECDSA}
    return kinds.get(issuer.key_type, oid == issuer.key_oid and (oid in _EDWARDS or oid in ML_DSA))


def known_algorithm(child: Certificate) -> bool:
    """Return whether the signature on `child` is by an algorithm that is known here."""
    oid = child.signature_oid
    return oid in _RSA or oid in _ECDSA or oid == RSASSA_PSS or oid in _EDWARDS or oid in ML_DSA


def _verify(key: PublicKey, child: Certificate) -> str:
    """Verify with a key of the kind that the algorithm needs. *Assumes* `kinds_fit`."""
    oid = child.signature_oid
    if isinstance(key, rsa.RSAPublicKey):
        if oid != RSASSA_PSS:
            key.verify(child.signature, child.tbs, padding.PKCS1v15(), _HASHES[_RSA[oid]])
            return _RSA[oid]
        name, mask, salt = _pss(child.signature_parameters)
        key.verify(child.signature, child.tbs, padding.PSS(padding.MGF1(_HASHES[mask]), salt), _HASHES[name])
        return mask if mask in WEAK else name
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(child.signature, child.tbs, ec.ECDSA(_HASHES[_ECDSA[oid]]))
        return _ECDSA[oid]
    key.verify(child.signature, child.tbs)
    return "ed25519" if oid == ED25519 else "ed448" if oid == ED448 else f"ml-dsa-{ML_DSA[oid]}"


def weak_hash(certificate: Certificate) -> str | None:
    """Return the name of the weak hash under the signature on `certificate`, or None for any other."""
    oid = certificate.signature_oid
    name = _RSA.get(oid) or _ECDSA.get(oid)
    if oid == RSASSA_PSS:
        try:
            digest, mask, _ = _pss(certificate.signature_parameters)
        except PkiError:
            return None
        name = mask if mask in WEAK else digest
    return name if name in WEAK else None


def _pss(parameters: bytes) -> tuple[str, str, int]:
    """Return (hash, hash of the mask, salt length) of RSASSA-PSS-params (RFC 8017, A.2.3).

    What is left out has its default: SHA-1, MGF1 over SHA-1, 20 octets, and the one trailer there is.
    """
    fields = {element.tag: element.content for element in der.elements(der.only(parameters, der.SEQUENCE).content)}
    if not set(fields) <= {0xA0, 0xA1, 0xA2, 0xA3}:
        raise PkiError("signature-algorithm", "RSASSA-PSS with parameters that are not known")
    name = _PSS_HASHES.get(_identifier(fields[0xA0])) if 0xA0 in fields else SHA1
    masked: str | None = SHA1
    if 0xA1 in fields:
        mask = der.elements(der.only(fields[0xA1], der.SEQUENCE).content)
        known = len(mask) == 2 and der.object_identifier(mask[0]) == _MGF1
        masked = _PSS_HASHES.get(_identifier(mask[1].raw)) if known else None
    trailer = der.integer(der.only(fields[0xA3], der.INTEGER)) if 0xA3 in fields else 1
    salt = der.integer(der.only(fields[0xA2], der.INTEGER)) if 0xA2 in fields else 20
    if name is None or masked is None or trailer != 1:
        raise PkiError("signature-algorithm", "RSASSA-PSS with other parameters than MGF1 over hashes that are known")
    if not 0 <= salt <= bounds.MAX_RSA_BITS // 8:
        raise PkiError("signature-algorithm", f"RSASSA-PSS with a salt of {salt} octets")
    return name, masked, salt


def _identifier(algorithm: bytes) -> str:
    """Return the object identifier of an AlgorithmIdentifier's bytes."""
    parts = der.elements(der.only(algorithm, der.SEQUENCE).content)
    return der.object_identifier(parts[0]) if parts else ""
