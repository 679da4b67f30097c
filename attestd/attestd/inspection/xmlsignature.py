"""An XML signature inside of what it signs, as reference manifests have it.

Proves, where it says true, that the given key signed the canonical form of the whole document less the signature. One reference has
to be to the whole document (by "", or by the root's identifier); further ones may be to what lies in the signature itself, such as
a time. What selects parts of a document (XPath, XSLT) is not verified, and says so. XMLDSig 1.1, 3.2; RFC 9231.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import new
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestd.inspection.authority import MOST_EMBEDDED, Brought, Unverifiable, certificates_of
from attestd.inspection.keyfile import ec_point, rsa_key
from attestd.inspection.xmlcanonical import EXCLUSIVE, FORMS, INCLUSIVE, Form, based, canonical
from attestd.inspection.xmlread import Element
from attestd_pki.signatures import PublicKey

DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE_2007: Final = "http://www.w3.org/2007/05/xmldsig-more#"
_ENVELOPED: Final = f"{DSIG}enveloped-signature"
SHA1: Final = "sha1"
_DIGESTS: Final = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    f"{_MORE}sha384": "sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
    f"{DSIG}sha1": SHA1,
}
_HASHES: Final = {
    SHA1: hashes.SHA1(),  # noqa: S303 - named as a deviation, and refused where a manifest is used
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_SHA2: Final = ("sha256", "sha384", "sha512")
_METHODS: Final = {
    **{f"{_MORE}{kind}-{name}": (kind, name) for kind in ("rsa", "ecdsa") for name in _SHA2},
    **{f"{_MORE_2007}{name}-rsa-MGF1": ("pss", name) for name in _SHA2},
    "http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519": ("eddsa", ""),
    f"{DSIG}rsa-sha1": ("rsa", SHA1),
    f"{_MORE}ecdsa-sha1": ("ecdsa", SHA1),
}
_CURVES: Final = {
    "urn:oid:1.2.840.10045.3.1.7": ec.SECP256R1(),
    "urn:oid:1.3.132.0.34": ec.SECP384R1(),
    "urn:oid:1.3.132.0.35": ec.SECP521R1(),
}
_MOST_REFERENCES: Final = 4
"""References of one signature: the document, and what else a maker signs with it (a time)."""


@dataclass(frozen=True, slots=True)
class _Reference:
    """One digest of the signature: of the whole document (`element` is the root), or of something inside the signature."""

    element: Element
    forms: tuple[Form, ...]
    digest: str
    stated: bytes


@dataclass(frozen=True, slots=True)
class XmlSignature:
    """A signature that can be held against a key. `unchanged`: what is signed has its digests; `weak`: SHA-1 is among them."""

    signer: Brought
    unchanged: bool
    weak: bool
    info: bytes
    method: tuple[str, str]
    octets: bytes

    def holds(self, key: PublicKey) -> bool:
        """Return whether the document is what was signed, and the key signed it."""
        return self.unchanged and _holds(key, self.method, self.octets, self.info)


def signature_in(root: Element) -> Element | None:
    """Return the signature that is a child of the root, or None. *Raises* `Unverifiable` where there are several."""
    found = [one for one in root.elements("Signature") if one.space == DSIG]
    if len(found) > 1:
        raise Unverifiable(f"there are {len(found)} of them")
    return found[0] if found else None


def read_signature(root: Element, signature: Element, signer: Brought) -> XmlSignature:
    """Return the signature, of a form that can be verified. *Raises* `Unverifiable`."""
    info = _one(signature, "SignedInfo")
    form = _form(_one(info, "CanonicalizationMethod"), info)
    name = _one(info, "SignatureMethod").attribute("Algorithm") or ""
    method = _METHODS.get(name)
    if method is None:
        raise Unverifiable(f"signed with an algorithm that is not accepted ({name[:100]})")
    found = info.elements("Reference")[: _MOST_REFERENCES + 1]
    if not 1 <= len(found) <= _MOST_REFERENCES:
        raise Unverifiable("it has no reference, or too many")
    references = tuple(_reference(one, root, signature) for one in found)
    if sum(one.element is root for one in references) != 1:
        raise Unverifiable("it covers something else than the whole document")
    try:
        octets = _decoded(_one(signature, "SignatureValue").text())
    except ValueError:
        raise Unverifiable("its value is not base64") from None
    return XmlSignature(
        signer=signer,
        unchanged=all(_unchanged(one, None if one.element is not root else signature) for one in references),
        weak=SHA1 in (method[1], *(one.digest for one in references)),
        info=canonical(info, form),
        method=method,
        octets=octets,
    )


def _unchanged(one: _Reference, without: Element | None) -> bool:
    digests = (new(one.digest, canonical(one.element, form, without=without)).digest() for form in one.forms)
    return one.stated in digests


def _reference(reference: Element, root: Element, signature: Element) -> _Reference:
    element = _referred(reference.attribute("URI"), root, signature)
    digest = _DIGESTS.get(_one(reference, "DigestMethod").attribute("Algorithm") or "")
    if digest is None:
        raise Unverifiable("a digest that is not accepted")
    try:
        stated = _decoded(_one(reference, "DigestValue").text())
    except ValueError:
        raise Unverifiable("a digest that is not base64") from None
    return _Reference(element, _transforms(reference, whole=element is root), digest, stated)


def _referred(uri: str | None, root: Element, signature: Element) -> Element:
    """Return what a reference is to: the document, or an object of the signature. Two elements of one name are none."""
    if uri == "":
        return root
    if uri is None or not uri.startswith("#") or len(uri) < 2:
        raise Unverifiable("it covers something outside the document")
    found = [one for one in _every(root) if uri[1:] in one.identifiers]
    if len(found) != 1:
        raise Unverifiable("it refers to what is not there, or there twice")
    inside = any(found[0] is one for thing in signature.elements("Object") for one in _every(thing))
    if found[0] is not root and not inside:
        raise Unverifiable("it covers something else than the whole document")
    return found[0]


def _every(root: Element) -> Iterator[Element]:
    waiting = [root]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += one.elements()


def _transforms(reference: Element, *, whole: bool) -> tuple[Form, ...]:
    """Return the form that is hashed, and its variant with comments.

    A reference by "" or by a name has no comments (4.4.3.3), and some libraries keep them all the same; both are tried, since
    nothing is read out of a comment.
    """
    listed = [one for place in reference.elements("Transforms") for one in place.elements("Transform")]
    names = [one.attribute("Algorithm") or "" for one in listed]
    if (_ENVELOPED in names) != whole:
        raise Unverifiable(
            "the signature is not left out of what it signs" if whole else "a transform in the wrong place"
        )
    forms = [_form(one, one) for one, name in zip(listed, names, strict=True) if name != _ENVELOPED]
    if len(forms) > 1 or names.count(_ENVELOPED) > 1:
        raise Unverifiable("several transforms of one kind")
    form = forms[0] if forms else INCLUSIVE
    return (replace(form, comments=False), form) if form.comments else (form,)


def _form(method: Element, element: Element) -> Form:
    name = method.attribute("Algorithm") or ""
    form = FORMS.get(name)
    if form is None:
        raise Unverifiable(f"a canonicalisation or transform that is not known ({name[:100]})")
    if form.fixes_base and based(element):
        raise Unverifiable("version 1.1 of the canonical form with xml:base around the signature")
    listed = [one for one in method.elements("InclusiveNamespaces") if one.space == EXCLUSIVE]
    words = (listed[0].attribute("PrefixList") or "").split() if listed else []
    return replace(form, prefixes=frozenset("" if word == "#default" else word for word in words))


def brought(signature: Element) -> Brought:
    """Return what KeyInfo says of the signer: names, certificates, a bare key (4.5)."""
    names: set[str] = set()
    shown = None
    for one in _at(signature, "KeyInfo", "KeyName")[:MOST_EMBEDDED]:
        shown = shown or one.text().strip()
        names |= {one.text().strip(), one.text().strip().lower().removeprefix("#")}
    for data in _at(signature, "KeyInfo", "X509Data")[:MOST_EMBEDDED]:
        names |= set(_described(data))
    octets = []
    for one in _at(signature, "KeyInfo", "X509Data", "X509Certificate")[:MOST_EMBEDDED]:
        try:
            octets.append(_decoded(one.text()))
        except ValueError:
            continue
    return Brought(frozenset(names), certificates_of(octets), _embedded_key(signature), shown)


def _described(data: Element) -> Iterator[str]:
    for one in data.elements("X509SKI")[:1]:
        try:
            yield _decoded(one.text()).hex()
        except ValueError:
            continue
    for one in data.elements("X509SubjectName")[:1]:
        # RFC 4514 begins with what is last in the certificate; `Certificate.subject.text` is in the certificate's order.
        yield ", ".join(reversed([part.strip() for part in one.text().split(",")]))
        yield one.text().strip()


def _embedded_key(signature: Element) -> PublicKey | None:
    """Return the key that lies in the signature itself; it says what was signed, and not by whom."""
    try:
        for value in _at(signature, "KeyInfo", "KeyValue", "RSAKeyValue")[:1]:
            modulus, exponent = (_decoded(_one(value, name).text()) for name in ("Modulus", "Exponent"))
            return rsa_key(modulus, exponent)
        for value in _at(signature, "KeyInfo", "KeyValue", "ECKeyValue")[:1]:
            curve = _CURVES.get(_one(value, "NamedCurve").attribute("URI") or "")
            return ec_point(curve, _decoded(_one(value, "PublicKey").text())) if curve is not None else None
    except ValueError:
        return None
    return None


def _holds(key: PublicKey, method: tuple[str, str], octets: bytes, message: bytes) -> bool:
    kind, name = method
    try:
        if kind == "rsa" and isinstance(key, rsa.RSAPublicKey):
            key.verify(octets, message, padding.PKCS1v15(), _HASHES[name])
        elif kind == "pss" and isinstance(key, rsa.RSAPublicKey):
            digest = _HASHES[name]
            key.verify(octets, message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        elif kind == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            half = len(octets) // 2
            pair = int.from_bytes(octets[:half], "big"), int.from_bytes(octets[half:], "big")
            key.verify(encode_dss_signature(*pair), message, ec.ECDSA(_HASHES[name]))
        elif kind == "eddsa" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(octets, message)
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _at(element: Element, *path: str) -> list[Element]:
    found = [element]
    for name in path:
        found = [child for one in found for child in one.elements(name)]
    return found


def _one(element: Element, name: str) -> Element:
    found = element.elements(name)
    if len(found) != 1:
        raise Unverifiable(f"{len(found)} elements {name} where one belongs")
    return found[0]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
