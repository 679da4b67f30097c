"""Forge for manifests of made-up makers: SWID tags and RIMs, CoSWIDs, CoRIMs, their signatures, and their faults."""

import base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestd.inspection.xmlcanonical import FORMS, canonical
from attestd.inspection.xmlread import read_xml
from attestd_pki.certificate import Certificate
from attestd_pki.chain import TrustStore
from cert_forge import CA, Plan, ec_key, make, usage

AT = 1_795_350_000
DSIG = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
RIM = 'xmlns:rim="urn:tcg:rim" rim:bindingSpec="PC Client RIM" rim:platformManufacturerStr="ACME"'

ROOT = Plan("ACME Root", ec_key(41), CA, identifiers=True)
SIGNER = Plan("ACME RIM signer", ec_key(42), ((usage("digital_signature"), True),), identifiers=True)
EXPIRED = Plan("ACME old signer", ec_key(43), not_after=AT - 1, not_before=AT - 10**7, identifiers=True)
STRANGER = Plan("Nobody", ec_key(44), CA, identifiers=True)


def store(plan: Plan = ROOT) -> TrustStore:
    """Return the authorities of a bundle with this self-signed certificate."""
    return TrustStore.of([make(plan)])


def certificate(plan: Plan = SIGNER, issuer: Plan = ROOT) -> Certificate:
    """Return a signer's certificate, issued by ACME's root."""
    return make(plan, issuer)


def raw_ecdsa(key: ec.EllipticCurvePrivateKey, message: bytes, digest: Any = None) -> bytes:
    """Return r and s side by side, as XML and COSE have them."""
    size = (key.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest or hashes.SHA256())))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def tag(
    payload: str = "",
    *,
    meta: str = "",
    links: str = "",
    name: str = "Box",
    identity: str = "box-1",
    attributes: str = "",
) -> str:
    """Return a SWID tag with room for a signature."""
    return (
        f'<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:S="{SHA256}" '
        f'name="{name}" tagId="{identity}" version="2.0"{attributes}><Entity name="ACME" role="softwareCreator tagCreator"/>'
        f"{links}<Meta {meta}/><Payload>{payload}</Payload>{{signature}}</SoftwareIdentity>"
    )


def listed(name: str, content: bytes, *, directory: str = "rim") -> str:
    """Return a payload with one file, by its hash."""
    digest = sha256(content).hexdigest()
    return f'<Directory name="{directory}"><File name="{name}" size="{len(content)}" S:hash="{digest}"/></Directory>'


def signed_tag(
    text: str,
    key: Any,
    *,
    certificates: Sequence[Certificate] = (),
    form: str = INCLUSIVE,
    method: str = "",
    digest: str = SHA256,
    uri: str = "",
    key_info: str = "",
    objects: str = "",
    references: str = "",
) -> bytes:
    """Return a tag with an enveloped signature by this key."""
    chosen = method or f"{MORE}{'rsa' if isinstance(key, rsa.RSAPrivateKey) else 'ecdsa'}-sha256"
    whole = read_xml(text.format(signature="").encode())
    stated = base64.b64encode(sha256(canonical(whole, FORMS[form])).digest()).decode()
    info = (
        f'<SignedInfo><CanonicalizationMethod Algorithm="{form}"/><SignatureMethod Algorithm="{chosen}"/>'
        f'<Reference URI="{uri}"><Transforms><Transform Algorithm="{DSIG}enveloped-signature"/>'
        f'<Transform Algorithm="{form}"/></Transforms><DigestMethod Algorithm="{digest}"/>'
        f"<DigestValue>{stated}</DigestValue></Reference>{references}</SignedInfo>"
    )
    carried = "".join(
        f"<X509Data><X509Certificate>{base64.b64encode(one.der).decode()}</X509Certificate></X509Data>"
        for one in certificates
    )
    known = f"<KeyInfo>{key_info}{carried}</KeyInfo>"
    block = f'<Signature xmlns="{DSIG}">{info}<SignatureValue>{{}}</SignatureValue>{known}{objects}</Signature>'
    unsigned = read_xml(text.format(signature=block.format("")).encode())
    message = canonical(unsigned.elements("Signature")[0].elements("SignedInfo")[0], FORMS[form])
    under = hashes.SHA1() if chosen.endswith("sha1") else hashes.SHA256()
    octets = (
        key.sign(message, padding.PKCS1v15(), under)
        if isinstance(key, rsa.RSAPrivateKey)
        else raw_ecdsa(key, message, under)
    )
    return text.format(signature=block.format(base64.b64encode(octets).decode())).encode()


def cose(
    payload: bytes,
    key: Any,
    *,
    algorithm: int = -7,
    certificates: Sequence[Certificate] = (),
    header: dict[Any, Any] | None = None,
    unprotected: dict[Any, Any] | None = None,
) -> bytes:
    """Return a COSE_Sign1 over a payload, with x5chain where there are certificates."""
    protected: dict[Any, Any] = {1: algorithm, 3: "application/rim+cbor", **(header or {})}
    if certificates:
        protected[33] = [one.der for one in certificates]
    encoded = cbor2.dumps(protected)
    message = cbor2.dumps(["Signature1", encoded, b"", payload])
    return cbor2.dumps(cbor2.CBORTag(18, [encoded, unprotected or {}, payload, raw_ecdsa(key, message)]))


def comid(*measurements: tuple[Any, dict[int, Any]], vendor: str = "ACME", model: str = "Box") -> dict[Any, Any]:
    """Return a CoMID whose reference values are (key, values) of one environment."""
    triple = [
        {0: {1: vendor, 2: model}},
        [{**({} if key is None else {0: key}), 1: values} for key, values in measurements],
    ]
    return {1: {0: "a tag", 1: 3}, 4: {0: [triple]}}


def corim(*tags: tuple[int, Any], **fields: Any) -> bytes:
    """Return an unsigned CoRIM of tags (506: CoMID, 505: CoSWID, 508: CoTL) and further fields (`f4={…}` for key 4)."""
    inner = [cbor2.CBORTag(number, cbor2.dumps(value)) for number, value in tags]
    named = {int(name.removeprefix("f")): value for name, value in fields.items()}
    return cbor2.dumps(cbor2.CBORTag(501, {0: "acme-box", 1: inner, 5: [{0: "ACME", 2: [1]}], **named}))


def coswid(*files: tuple[str, bytes], root: str = "/usr/bin") -> dict[int, Any]:
    """Return a CoSWID whose payload has these files by their SHA-256, below one directory."""
    entries = [{24: name, 7: [1, sha256(content).digest()]} for name, content in files]
    entity = {31: "ACME", 33: [1, 2]}
    return {
        0: "acme-tools",
        12: 0,
        1: "tools",
        13: "1.4",
        2: entity,
        6: {16: {23: root.rpartition("/")[0], 24: root.rpartition("/")[2], 26: {17: entries}}},
    }
