"""Who signed a statement, and whether the mathematics holds, whatever a policy thinks of the scheme.

Proves, where `holds` is true, that the key signed exactly these bytes. A verifier asks for more (its scheme, its attributes): SHA-1
holds here and is a reason against the statement all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestd.inspection.refused import InspectionRefused, hexadecimal
from attestd.protocol.limits import MAX_CERTIFICATE, MAX_TPM_STRUCTURE
from attestd.tpm.algorithms import CURVE_ORDERS, CURVES
from attestd.tpm.errors import BadSignature, Malformed
from attestd.tpm.public import Public, parse_public, parse_public_area, public_key
from attestd.tpm.signature import Signature, parse_pkcs1, parse_signature, verify_with_key
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import public_key as certified_key

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_ORDERS = {curve.name: CURVE_ORDERS[name] for name, curve in CURVES.items()}


@dataclass(frozen=True, slots=True)
class Signer:
    """The key of a tuple: its public area where that came along, the bare key, the certificate; any of them may be absent."""

    public: Public | None
    key: Key | None
    certificate: Certificate | None
    fault: str | None


def signer_of(document: Mapping[str, Any]) -> Signer:
    """Return the key in `ak_tpmt_public` (bare or sized), `ak_spki_der` or `x5c`, the first of them that is there.

    *Raises* `InspectionRefused` for what is not hexadecimal.
    """
    certificate = _certificate(document)
    try:
        if document.get("ak_tpmt_public"):
            public = _public(hexadecimal(document["ak_tpmt_public"], what="ak_tpmt_public"))
            return Signer(public, public_key(public), certificate, None)
        if document.get("ak_spki_der"):
            loaded = load_der_public_key(hexadecimal(document["ak_spki_der"], what="ak_spki_der"))
            return Signer(None, _usable(loaded), certificate, None)
        if certificate is not None:
            return Signer(None, _usable(certified_key(certificate)), certificate, None)
    except (Malformed, PkiError) as error:
        return Signer(None, None, certificate, str(error))
    except (InspectionRefused, UnsupportedAlgorithm):
        raise InspectionRefused("ak-malformed", "the attestation key cannot be read") from None
    except ValueError:
        return Signer(None, None, certificate, "the attestation key cannot be read")
    return Signer(None, None, certificate, None)


def _public(data: bytes) -> Public:
    sized = len(data) > 2 and int.from_bytes(data[:2], "big") == len(data) - 2
    return parse_public(data) if sized else parse_public_area(data)


def _usable(key: object) -> Key:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise Malformed("public-kind", "a key of a kind that no TPM signs with")
    return key


def _certificate(document: Mapping[str, Any]) -> Certificate | None:
    path = document.get("x5c")
    if not isinstance(path, list) or not path:
        return None
    data = hexadecimal(path[0], what="x5c")
    try:
        return parse_certificate(data) if len(data) <= MAX_CERTIFICATE else None
    except PkiError:
        return None


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature as it came: None where there is none that can be read, with the fault and its code."""

    signature: Signature | None
    code: str | None = None
    fault: str | None = None


def signature_of(document: Mapping[str, Any]) -> Signed:
    """Return the signature in `signature_tpmt`, or the bare RSA octets in `signature_raw` with the hash of `signature`.

    One with bytes behind it is read and has a fault. *Raises* `InspectionRefused` for what is not hexadecimal.
    """
    if document.get("signature_raw"):
        hint = document.get("signature")
        digest = hint.get("hash") if isinstance(hint, dict) else None
        octets = hexadecimal(document["signature_raw"], what="signature_raw")
        return _read(lambda data: parse_pkcs1(data, digest=str(digest or "sha256")), octets)
    if not document.get("signature_tpmt"):
        return Signed(None, "signature-missing", "there is no signature")
    return _read(parse_signature, hexadecimal(document["signature_tpmt"], what="signature_tpmt"))


def _read(parse: Any, data: bytes) -> Signed:
    try:
        return Signed(parse(data))
    except Malformed as error:
        fault = error
    if fault.code == "structure-trailing" and fault.where is not None and len(data) <= MAX_TPM_STRUCTURE:
        try:
            return Signed(parse(data[: fault.where]), fault.code, str(fault))
        except Malformed:
            pass
    return Signed(None, fault.code, str(fault))


def holds(key: Key, signature: Signature, message: bytes) -> bool:
    """Return whether the signature is the key's over `message`, also over SHA-1."""
    try:
        if signature.hash == "sha1":
            return _sha1_holds(key, signature, message)
        verify_with_key(key, signature, message)
    except BadSignature:
        return False
    return True


def _sha1_holds(key: Key, signature: Signature, message: bytes) -> bool:
    digest = hashes.SHA1()  # noqa: S303 - told as a reason against the statement by whoever calls
    try:
        if isinstance(key, rsa.RSAPublicKey) and signature.rsa is not None:
            pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.AUTO)
            key.verify(signature.rsa, message, pss if signature.scheme == "rsapss" else padding.PKCS1v15(), digest)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and signature.rsa is None:
            order = _ORDERS.get(key.curve.name, 0)
            if 0 < signature.r < order and 0 < signature.s < order:
                key.verify(encode_dss_signature(signature.r, signature.s), message, ec.ECDSA(digest))
                return True
    except InvalidSignature:
        return False
    return False
