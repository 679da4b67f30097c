"""Signatures over a payload in CBOR: COSE_Sign1, as CoRIMs, CoSWIDs and web tokens have it, and COSE_Sign with several signers.

Proves, where a verdict is true, that a key signed the payload and the protected header. The unprotected header is believed in
nothing: certificates in it have to lead to an anchor. RFC 9052, 4.2 and 4.4; certificates RFC 9360.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestd.inspection.authority import (
    MOST_EMBEDDED,
    Authorities,
    Brought,
    Unverifiable,
    Verdict,
    certificates_of,
    judge,
)
from attestd.inspection.cborread import Tag, plain_json, read_cbor
from attestd.inspection.refused import InspectionRefused
from attestd_pki.signatures import PublicKey

SIGN1: Final = 18
SIGN: Final = 98
_MOST_SIGNERS: Final = 8
"""Signers of one COSE_Sign; each costs as much as a manifest with one."""
_ALGORITHM, _CRITICAL, _CONTENT_TYPE, _KEY_ID, _BAG, _CHAIN = 1, 2, 3, 4, 32, 33
_KNOWN: Final = frozenset({1, 2, 3, 4, 5, 6, 8, 15, 16, 32, 33, 34, 35})
"""Headers that may be called critical: what they mean is judged here or by whoever reads the payload."""
_HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_ALGORITHMS: Final = {
    -7: ("ecdsa", "256"),
    -35: ("ecdsa", "384"),
    -36: ("ecdsa", "512"),
    -9: ("ecdsa", "256"),
    -51: ("ecdsa", "384"),
    -52: ("ecdsa", "512"),
    -37: ("pss", "256"),
    -38: ("pss", "384"),
    -39: ("pss", "512"),
    -257: ("pkcs1", "256"),
    -258: ("pkcs1", "384"),
    -259: ("pkcs1", "512"),
    -8: ("eddsa", ""),
    -19: ("eddsa", ""),
}
"""IANA's registry of COSE algorithms; RS1 (-65535, over SHA-1) is not among them."""


@dataclass(frozen=True, slots=True)
class Sign1:
    """The parts of one signature, and the protected header once more as a map. `message` is what is signed (RFC 9052, 4.4)."""

    header: Mapping[Any, Any]
    unprotected: Mapping[Any, Any]
    payload: bytes
    signature: bytes
    message: bytes

    @property
    def content_type(self) -> object:
        """Return what the protected header says the payload is, as a media type or a number."""
        return self.header.get(_CONTENT_TYPE)


def read_sign1(item: object, *, code: str) -> Sign1:
    """Return a COSE_Sign1, tagged or not. *Raises* `InspectionRefused` with the code, "cbor-…"."""
    value = item.value if isinstance(item, Tag) and item.number == SIGN1 else item
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(value[part], bytes) for part in (0, 2, 3)):
        detached = isinstance(value, list) and len(value) == 4 and value[2] is None
        raise InspectionRefused(code, "its payload is elsewhere" if detached else "not a COSE_Sign1 with its payload")
    protected, unprotected, payload, signature = value
    message = cbor2.dumps(["Signature1", protected, b"", payload])
    return Sign1(_header(protected, code), _map(unprotected, code), payload, signature, message)


def read_signed(item: object, *, code: str) -> tuple[Sign1, ...]:
    """Return the signatures of a COSE_Sign1, or of a COSE_Sign (98), over one payload.

    *Raises* `InspectionRefused` with the code, "cbor-…".
    """
    if not (isinstance(item, Tag) and item.number == SIGN):
        return (read_sign1(item, code=code),)
    value = item.value
    whole = isinstance(value, list) and len(value) == 4 and isinstance(value[0], bytes) and isinstance(value[2], bytes)
    if not whole or not isinstance(value[3], list) or not 1 <= len(value[3]) <= _MOST_SIGNERS:
        raise InspectionRefused(code, "not a COSE_Sign with its payload and signers")
    body, payload = value[0], value[2]
    found = []
    for one in value[3]:
        if not isinstance(one, list) or len(one) != 3 or not isinstance(one[0], bytes) or not isinstance(one[2], bytes):
            raise InspectionRefused(code, "a signer is not made of two headers and a signature")
        message = cbor2.dumps(["Signature", body, one[0], b"", payload])
        # The content type is the body's; algorithm and key are the signer's own.
        header = {**_header(body, code), **_header(one[0], code)}
        found.append(Sign1(header, _map(one[1], code), payload, one[2], message))
    return tuple(found)


def _header(protected: bytes, code: str) -> Mapping[Any, Any]:
    return _map(read_cbor(protected) if protected else {}, code)


def _map(value: object, code: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise InspectionRefused(code, "a header is not a map")
    return value


def judge_signed(signatures: tuple[Sign1, ...], authorities: Authorities, *, at: int, code: str) -> Verdict:
    """Return the verdict on the first signature that somebody vouches for, else on the first one. Codes as of `judge_sign1`."""
    verdicts = [judge_sign1(one, authorities, at=at, code=code) for one in signatures]
    return next((one for one in verdicts if one.vouched), verdicts[0])


def judge_sign1(signed: Sign1, authorities: Authorities, *, at: int, code: str) -> Verdict:
    """Return who signed, if it holds; reasons are `{code}-algorithm`, `{code}-critical`, `{code}-signature`, `chain-…`."""
    number = signed.header.get(_ALGORITHM)
    if not isinstance(number, int) or number not in _ALGORITHMS:
        unknown = f"signed with an algorithm that is not known ({plain_json(number)})"
        return Verdict(None, None, reasons=((f"{code}-algorithm", unknown),))
    critical = signed.header.get(_CRITICAL, [])
    if not isinstance(critical, list) or not all(isinstance(one, int) and one in _KNOWN for one in critical):
        return Verdict(None, None, reasons=((f"{code}-critical", "it calls critical what is not known here"),))
    scheme = _ALGORITHMS[number]
    return judge(
        lambda key: _holds(key, scheme, signed.signature, signed.message),
        _brought(signed),
        authorities,
        at=at,
        code=code,
    )


def _brought(signed: Sign1) -> Brought:
    """Return the key's identifier and the certificates of either header: who they are is for an anchor to say."""
    headers = {**signed.unprotected, **signed.header}
    identifier = headers.get(_KEY_ID)
    chain = [*_octets(headers.get(_CHAIN)), *_octets(headers.get(_BAG))]
    name = identifier.hex() if isinstance(identifier, bytes) else None
    return Brought(frozenset({name} if name else ()), certificates_of(chain), None, name)


def _octets(value: object) -> list[bytes]:
    """Return COSE_X509: one certificate or several."""
    found = value if isinstance(value, list) else [value]
    return [one for one in found[:MOST_EMBEDDED] if isinstance(one, bytes)]


def _holds(key: PublicKey, scheme: tuple[str, str], octets: bytes, message: bytes) -> bool:
    kind, size = scheme
    try:
        if kind == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            half = (key.key_size + 7) // 8
            if len(octets) != 2 * half:
                return False
            pair = int.from_bytes(octets[:half], "big"), int.from_bytes(octets[half:], "big")
            key.verify(encode_dss_signature(*pair), message, ec.ECDSA(_HASHES[size]))
        elif kind == "pss" and isinstance(key, rsa.RSAPublicKey):
            digest = _HASHES[size]
            key.verify(octets, message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        elif kind == "pkcs1" and isinstance(key, rsa.RSAPublicKey):
            key.verify(octets, message, padding.PKCS1v15(), _HASHES[size])
        elif kind == "eddsa" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(octets, message)
        else:
            return False
    except UnsupportedAlgorithm:
        raise Unverifiable("a key that cannot be used") from None
    except (InvalidSignature, ValueError):
        return False
    return True
