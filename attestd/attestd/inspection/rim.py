"""A reference manifest for a person: a signed SWID tag (TCG PC Client RIM), a CoSWID, or a uSWID blob out of a firmware image.

Proves the form; of a SWID tag's signature, that the document was not changed since the key signed it, and with anchors that the key
is one of theirs. The files it lists (support logs) are named by their hashes and are not here.
"""

import zlib
from dataclasses import dataclass
from typing import Any, Final

from attestd.evidence.ek import BUDGET
from attestd.inspection.cborread import Tag, read_cbor, read_cbor_sequence
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.swid import CoswidReport, File, read_coswid
from attestd.inspection.xmlread import Element, read_xml
from attestd.inspection.xmlsignature import (
    Unverifiable,
    embedded_certificates,
    embedded_key,
    key_name,
    signature_in,
    verify,
)
from attestd.protocol.limits import INSPECTED_DOCUMENT
from attestd_pki import extensions
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import Exceptions, Expiry, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from attestd_pki.signatures import public_key

_USWID: Final = b"SBOM" + bytes.fromhex("d6ba2eaca3e67a52aaee3baf")
_COMPRESSED: Final = 0x01
_HASHES: Final = {32: "sha256", 48: "sha384", 64: "sha512"}


@dataclass(frozen=True, slots=True)
class RimReport:
    """One manifest. `kind` is swid, coswid or uswid; `fields` are what it says of platform and firmware."""

    kind: str
    reasons: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    signature_valid: bool | None
    signer: str | None
    tags: tuple[CoswidReport, ...]
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def accepted(self) -> bool:
        """Return whether nothing speaks against it."""
        return not self.reasons

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "outcome": "accepted" if self.accepted else "refused",
            "reasons": [code for code, _ in self.reasons],
            "messages": [message for _, message in self.reasons],
            "notes": list(self.notes),
            "format": self.kind,
            "signature_valid": self.signature_valid,
            "signer": self.signer,
            "tags": [one.document() for one in self.tags],
            "meta": dict(self.fields),
        }


def refused_rim(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that are no manifest."""
    return RimReport("unknown", ((code, message),), (), None, None, ()).document()


def inspect_rim(data: bytes, store: TrustStore | None, *, at: int) -> RimReport:
    """Return the report on a manifest at `at` (unix seconds); `store` has the authorities that may sign one.

    *Raises* `InspectionRefused` ("rim-size", "rim-malformed", "coswid-malformed", "xml-…", "cbor-…").
    """
    if len(data) > INSPECTED_DOCUMENT:
        raise InspectionRefused("rim-size", f"a manifest of {len(data)} bytes")
    if data.startswith(_USWID):
        return RimReport("uswid", (), (), None, None, tuple(read_coswid(_bare(one)) for one in _uswid(data)))
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _swid(read_xml(data), store, at=at)
    return RimReport("coswid", (), ("CoSWIDs are not signed here",), None, None, (read_coswid(_bare(read_cbor(data))),))


def _bare(item: Any) -> Any:
    """Return what a CoSWID's tag (1398229316) is put on."""
    return item.value if isinstance(item, Tag) else item


def _uswid(data: bytes) -> list[Any]:
    """Read the header (magic, version, size of header and payload, flags from version 2 on) and the CBOR behind it."""
    version, header = data[16] if len(data) > 23 else 0, int.from_bytes(data[17:19], "little")
    size = int.from_bytes(data[19:23], "little")
    if not 1 <= version <= 4 or header < 23 or len(data) < header + size:
        raise InspectionRefused("rim-malformed", "a uSWID whose header does not fit its payload")
    payload = data[header : header + size]
    if version >= 2 and header > 23 and data[23] & _COMPRESSED:
        unpacker = zlib.decompressobj()
        try:
            payload = unpacker.decompress(payload, INSPECTED_DOCUMENT)
        except zlib.error:
            raise InspectionRefused("rim-malformed", "a uSWID whose payload is not compressed as it says") from None
        if unpacker.unconsumed_tail:
            raise InspectionRefused("rim-size", "a uSWID that grows beyond all bounds when it is unpacked")
    return read_cbor_sequence(payload)


def _swid(root: Element, store: TrustStore | None, *, at: int) -> RimReport:
    """Read a SWID tag (ISO 19770-2:2015) with the attributes of the PC Client RIM."""
    if root.local != "SoftwareIdentity":
        raise InspectionRefused("rim-malformed", f"the root is {root.local[:40]}, not SoftwareIdentity")
    notes = [f"it has no {name}" for name in ("name", "tagId") if not root.attribute(name)]
    entities = tuple(
        f"{one.attribute('name') or '?'} ({one.attribute('role') or 'no role'})" for one in root.elements("Entity")
    )
    files = tuple(file for payload in root.elements("Payload") for file in _files(payload))
    tag = CoswidReport(
        root.attribute("tagId") or "", root.attribute("name") or "", root.attribute("version"), entities, files
    )
    fields = tuple((name.rpartition(":")[2], value) for one in root.elements("Meta") for name, value in one.attributes)
    reasons, valid, signer = _signature(root, store, at, notes)
    return RimReport("swid", tuple(reasons), tuple(notes), valid, signer, (tag,), fields)


def _files(payload: Element) -> list[File]:
    found: list[File] = []
    waiting = [(payload, "")]
    while waiting:
        place, path = waiting.pop()
        for one in place.elements("File"):
            size = one.attribute("size") or ""
            hashes = tuple(_hash(name, value) for name, value in one.attributes if _is_hash(one, name))
            number = int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None
            found.append(File(path + (one.attribute("name") or ""), number, hashes))
        waiting += [(one, f"{path}{one.attribute('name') or ''}/") for one in place.elements("Directory")]
    return found


def _is_hash(element: Element, name: str) -> bool:
    return name.rpartition(":")[2] == "hash" or "SHA" in name.upper() or "#sha" in element.space_of(name)


def _hash(name: str, value: str) -> str:
    prefix = name.rpartition(":")[0] or name
    try:
        return f"{_HASHES.get(len(bytes.fromhex(value)), prefix.lower())}:{value.lower()}"
    except ValueError:
        return f"{name}:{value[:128]}"


def _signature(
    root: Element, store: TrustStore | None, at: int, notes: list[str]
) -> tuple[list[tuple[str, str]], bool | None, str | None]:
    try:
        signature = signature_in(root)
    except Unverifiable as error:
        return [("rim-signature-form", f"the signature cannot be verified: {error}")], None, None
    if signature is None:
        notes.append("it is not signed: anybody may have written it")
        return [], None, None
    name = key_name(signature)
    if store is not None:
        return _by_authority(root, signature, store, at, name)
    key = embedded_key(signature)
    if key is None:
        notes.append("the key that signed is not in the document, and no anchors were given")
        return [], None, name
    notes.append("signed by the key that lies in the document itself: nothing says whose it is (--anchors)")
    try:
        valid = verify(root, signature, key)
    except Unverifiable as error:
        return [("rim-signature-form", f"the signature cannot be verified: {error}")], None, name
    return ([] if valid else [("rim-signature", "the document was changed since it was signed")]), valid, name


def _by_authority(
    root: Element, signature: Element, store: TrustStore, at: int, name: str | None
) -> tuple[list[tuple[str, str]], bool | None, str | None]:
    """Verify with the certificates of the bundle, and with those in the document that lead to one of its anchors."""
    known = tuple(one for same in store.by_subject.values() for one in same)
    candidates = [*(one for one in known if _is_called(one, name)), *_embedded(signature)]
    lenient = Exceptions(sha1_issuers=frozenset(one.sha256 for one in known), expiry=Expiry.RECORD_ALL)
    reason = ("chain-issuer-missing", f"no certificate of the bundle has the key {name or 'that signed'}")
    for one in (candidates or list(known))[: BUDGET.signatures]:
        called = _is_called(one, name)
        try:
            if verify(root, signature, public_key(one)):
                build_and_verify_chain(one, (), store, at=at, budget=BUDGET, exceptions=lenient)
                return [], True, one.subject.text
        except Unverifiable as error:
            return [("rim-signature-form", f"the signature cannot be verified: {error}")], None, name
        except PkiError as error:
            # A key of another kind says nothing of this signature; one by this name, or one that signed, does.
            reason = (error.code, error.message) if called or error.code.startswith("chain-") else reason
            continue
        if called:
            return [("rim-signature", "the document was changed since it was signed, or by another key")], False, name
    return [reason], None, name


def _is_called(certificate: Certificate, name: str | None) -> bool:
    try:
        identifier = extensions.subject_key_identifier(certificate)
    except PkiError:
        return False
    return name is not None and identifier is not None and identifier.hex() == name.lower()


def _embedded(signature: Element) -> list[Certificate]:
    found = []
    for der in embedded_certificates(signature):
        try:
            found.append(parse_certificate(der))
        except PkiError:
            continue
    return found
