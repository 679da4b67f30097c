"""Keys and signatures of foreign certificates, over the bytes as they came.

Proves, where `verify_signature` returns, that the issuer's key made the signature over the very bytes of the child's
signed part; it returns the hash, because a weak one is somebody else's decision. Assumes certificates from
`parse_certificate`. Does not look at names, dates or purposes.

The primitives are those of `cryptography`. Its certificate verifier is not used (it refuses to load what hardware
carries), and neither is pyOpenSSL's: its context takes one list of trusted certificates and answers with one number, so
it can neither pin an anchor by hash, nor name the issuer that is missing, nor accept SHA-1 from one authority alone.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from attestd_pki import bounds, der
from attestd_pki.certificate import RSASSA_PSS, Certificate, rsa_numbers
from attestd_pki.errors import PkiError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

SHA1: Final = "sha1"
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    SHA1: hashes.SHA1(),  # noqa: S303 - read, and then refused unless its issuer is named in `chain.Exceptions`
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_RSA: Final = {
    "1.2.840.113549.1.1.5": SHA1,
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
}
_ECDSA: Final = {
    "1.2.840.10045.4.1": SHA1,
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}
_PSS_HASHES: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_MGF1: Final = "1.2.840.113549.1.1.8"
_ED25519: Final = "1.3.101.112"


def public_key(certificate: Certificate) -> PublicKey:
    """Return the subject's public key, whatever purpose its algorithm identifier names.

    RSA keys are built from their two numbers, so that a key named rsaesOaep (ST, Infineon) is the RSA key it is.
    *Raises* PkiError `key-unsupported` (algorithm, curve, explicit curve parameters) or `key-malformed`.
    """
    try:
        if certificate.key_type == "rsa":
            modulus, exponent = rsa_numbers(der.elements(der.only(certificate.spki, der.SEQUENCE).content)[1])
            if modulus.bit_length() > bounds.MAX_RSA_BITS or exponent.bit_length() > bounds.MAX_RSA_EXPONENT_BITS:
                raise PkiError("key-unsupported", f"an RSA key of {modulus.bit_length()} bits costs too much to use")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if certificate.key_bits == 0:
            raise PkiError("key-unsupported", f"no key of algorithm {certificate.key_oid} is known here")
        key = load_der_public_key(certificate.spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError("key-malformed", "the public key cannot be used") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise PkiError("key-unsupported", f"no key of algorithm {certificate.key_oid} is known here")
    return key


def canonical_spki(certificate: Certificate) -> bytes:
    """Return the subject's key in the one DER form of its kind: rsaEncryption with NULL, or an uncompressed point.

    This is the form to compare with a key out of a TPM, and to hash for a device id. *Raises* as `public_key`.
    """
    return public_key(certificate).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verify_signature(child: Certificate, issuer: Certificate) -> str:
    """Return the name of the hash under the signature of `issuer` on `child`; `ed25519` has its own.

    *Raises* PkiError `signature-invalid`, `signature-algorithm` (unknown, or of another kind than the key), or as
    `public_key`.
    """
    key = public_key(issuer)
    oid = child.signature_oid
    try:
        if isinstance(key, rsa.RSAPublicKey) and oid in _RSA:
            key.verify(child.signature, child.tbs, padding.PKCS1v15(), _HASHES[_RSA[oid]])
            return _RSA[oid]
        if isinstance(key, rsa.RSAPublicKey) and oid == RSASSA_PSS:
            name, salt = _pss(child.signature_parameters)
            scheme = padding.PSS(padding.MGF1(_HASHES[name]), salt)
            key.verify(child.signature, child.tbs, scheme, _HASHES[name])
            return name
        if isinstance(key, ec.EllipticCurvePublicKey) and oid in _ECDSA:
            key.verify(child.signature, child.tbs, ec.ECDSA(_HASHES[_ECDSA[oid]]))
            return _ECDSA[oid]
        if isinstance(key, ed25519.Ed25519PublicKey) and oid == _ED25519:
            key.verify(child.signature, child.tbs)
            return "ed25519"
    except (InvalidSignature, ValueError, UnsupportedAlgorithm) as error:
        # ValueError: a salt longer than the key allows.
        raise PkiError("signature-invalid", "the signature does not verify") from error
    raise PkiError("signature-algorithm", f"signature algorithm {oid} is not one for this issuer's key")


def uses_sha1(certificate: Certificate) -> bool:
    """Return whether the signature on `certificate` is over a SHA-1 digest."""
    return SHA1 in (_RSA.get(certificate.signature_oid), _ECDSA.get(certificate.signature_oid))


def _pss(parameters: bytes) -> tuple[str, int]:
    """Return (hash, salt length) of RSASSA-PSS-params (RFC 8017, A.2.3) with one SHA-2 hash for both purposes.

    The defaults are SHA-1, so leaving a field out is refused, except for the trailer, of which there is only one.
    """
    fields = {element.tag: element.content for element in der.elements(der.only(parameters, der.SEQUENCE).content)}
    if not {0xA0, 0xA1, 0xA2} <= set(fields) <= {0xA0, 0xA1, 0xA2, 0xA3}:
        raise PkiError("signature-algorithm", "RSASSA-PSS without explicit hash, mask and salt")
    name = _PSS_HASHES.get(_identifier(fields[0xA0]))
    mask = der.elements(der.only(fields[0xA1], der.SEQUENCE).content)
    trailer = der.integer(der.only(fields[0xA3], der.INTEGER)) if 0xA3 in fields else 1
    salt = der.integer(der.only(fields[0xA2], der.INTEGER))
    one_hash = len(mask) == 2 and der.object_identifier(mask[0]) == _MGF1
    if name is None or not one_hash or _PSS_HASHES.get(_identifier(mask[1].raw)) != name or trailer != 1:
        raise PkiError("signature-algorithm", "RSASSA-PSS with other parameters than MGF1 over one SHA-2 hash")
    if not 0 <= salt <= 64:
        raise PkiError("signature-algorithm", "RSASSA-PSS with a salt of more than 64 octets")
    return name, salt


def _identifier(algorithm: bytes) -> str:
    """Return the object identifier of an AlgorithmIdentifier's bytes."""
    parts = der.elements(der.only(algorithm, der.SEQUENCE).content)
    return der.object_identifier(parts[0]) if parts else ""
