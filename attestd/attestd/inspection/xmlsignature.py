"""An enveloped XML signature, of the one form that reference manifests have.

Proves, where it says true, that the given key signed the canonical form of the whole document less the signature. One reference to
the whole document, inclusive canonicalisation, SHA-2: anything else is not verified, and says so. XMLDSig 1.1, 3.2.
"""

import base64
import binascii
from hashlib import new
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestd.inspection.xmlread import Element, canonical
from attestd_pki import bounds
from attestd_pki.signatures import PublicKey

DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_INCLUSIVE: Final = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_TRANSFORMS: Final = frozenset({f"{DSIG}enveloped-signature", _INCLUSIVE})
_DIGESTS: Final = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
}
_HASHES: Final = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_METHODS: Final = {
    f"http://www.w3.org/2001/04/xmldsig-more#{kind}-{name}": (kind, name)
    for kind in ("rsa", "ecdsa")
    for name in _HASHES
}


class Unverifiable(ValueError):
    """A signature of a form that is not verified here."""


def signature_in(root: Element) -> Element | None:
    """Return the signature that is a child of the root, or None. *Raises* `Unverifiable` where there are several."""
    found = [one for one in root.elements("Signature") if one.space == DSIG]
    if len(found) > 1:
        raise Unverifiable(f"there are {len(found)} of them")
    return found[0] if found else None


def embedded_key(signature: Element) -> rsa.RSAPublicKey | None:
    """Return the RSA key that lies in the signature itself; it says what was signed, and not by whom."""
    try:
        (value,) = _at(signature, "KeyInfo", "KeyValue", "RSAKeyValue")
        modulus, exponent = (int.from_bytes(_octets(value, name), "big") for name in ("Modulus", "Exponent"))
        if modulus.bit_length() > bounds.MAX_RSA_BITS or exponent.bit_length() > bounds.MAX_RSA_EXPONENT_BITS:
            return None
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        return None


def key_name(signature: Element) -> str | None:
    """Return what the signature calls its key, mostly a certificate's subject key identifier."""
    found = _at(signature, "KeyInfo", "KeyName")
    return found[0].text().strip() if found else None


def embedded_certificates(signature: Element) -> list[bytes]:
    """Return the DER bytes of certificates in the signature; those that are not base64 are left out."""
    found = []
    for one in _at(signature, "KeyInfo", "X509Data", "X509Certificate")[:8]:
        try:
            found.append(_decoded(one.text()))
        except ValueError:
            continue
    return found


def verify(root: Element, signature: Element, key: PublicKey) -> bool:
    """Return whether the document is what was signed, and the key signed it. *Raises* `Unverifiable`."""
    (info,) = signature.elements("SignedInfo") or [signature]
    (reference,) = info.elements("Reference") or [info]
    if len(info.elements("Reference")) != 1 or reference.attribute("URI") != "":
        raise Unverifiable("it covers something else than the whole document")
    if _algorithm(info, "CanonicalizationMethod") != _INCLUSIVE:
        raise Unverifiable("a canonicalisation that is not known")
    transforms = {one.attribute("Algorithm") for one in _at(reference, "Transforms", "Transform")}
    if not transforms <= _TRANSFORMS or f"{DSIG}enveloped-signature" not in transforms:
        raise Unverifiable("a transform that is not known")
    digest, method = (
        _DIGESTS.get(_algorithm(reference, "DigestMethod")),
        _METHODS.get(_algorithm(info, "SignatureMethod")),
    )
    if digest is None or method is None:
        raise Unverifiable("an algorithm that is not accepted (SHA-2 with RSA or ECDSA is)")
    try:
        stated, octets = _octets(reference, "DigestValue"), _octets(signature, "SignatureValue")
    except ValueError:
        return False
    if new(digest, canonical(root, without=signature)).digest() != stated:
        return False
    return _holds(key, method, octets, canonical(info))


def _holds(key: PublicKey, method: tuple[str, str], octets: bytes, message: bytes) -> bool:
    kind, name = method
    try:
        if kind == "rsa" and isinstance(key, rsa.RSAPublicKey):
            key.verify(octets, message, padding.PKCS1v15(), _HASHES[name])
            return True
        if kind == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            half = len(octets) // 2
            pair = int.from_bytes(octets[:half], "big"), int.from_bytes(octets[half:], "big")
            key.verify(encode_dss_signature(*pair), message, ec.ECDSA(_HASHES[name]))
            return True
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return False


def _at(element: Element, *path: str) -> list[Element]:
    found = [element]
    for name in path:
        found = [child for one in found for child in one.elements(name)]
    return found


def _algorithm(element: Element, name: str) -> str:
    found = element.elements(name)
    return (found[0].attribute("Algorithm") or "") if len(found) == 1 else ""


def _octets(element: Element, name: str) -> bytes:
    found = element.elements(name)
    if len(found) != 1:
        raise ValueError(name)
    return _decoded(found[0].text())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
