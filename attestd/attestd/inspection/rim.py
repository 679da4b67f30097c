"""A reference manifest for a person: a signed SWID tag (TCG PC Client RIM), a CoSWID, or a uSWID blob out of a firmware image.

Proves the form; of a signature, that nothing was changed since the key signed it, and with anchors or keys that the signer is one
of theirs. The files it lists (support logs) are named by their hashes and are not here.
"""

import lzma
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from attestd.inspection.authority import (
    Authorities,
    Unverifiable,
    Verdict,
    judge,
    reporting,
    signature_document,
    unverifiable,
)
from attestd.inspection.cborread import Tag, read_cbor, read_cbor_sequence
from attestd.inspection.cose import SIGN, SIGN1, judge_signed, read_signed
from attestd.inspection.keyfile import read_keys
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.report import Reasons, opening
from attestd.inspection.swid import CoswidReport, read_coswid, software_meta
from attestd.inspection.swidxml import read_swid
from attestd.inspection.xmlread import Element, read_xml, read_xml_unindented
from attestd.inspection.xmlsignature import XmlSignature, brought, read_signature, signature_in
from attestd.protocol.limits import INSPECTED_DOCUMENT
from attestd_pki.chain import TrustStore

_USWID: Final = b"SBOM" + bytes.fromhex("d6ba2eaca3e67a52aaee3baf")
_MOST_EMBEDDED: Final = 16
"""uSWIDs of one image: a maker's firmware has one, and one for each blob of others in it."""
_COMPRESSED: Final = 0x01
_LZMA: Final = 2
_LZMA_MEMORY: Final = 64 << 20
"""Bytes that unpacking may take: xz sets aside 64 MiB for its highest setting."""
_TOKEN, _COSWID = 61, 1398229316


@dataclass(frozen=True, slots=True)
class RimReport:
    """One manifest. `kind` is swid, coswid, signed-coswid or uswid; `fields` are what it says of platform and firmware.

    `verdict` is who signed it; None where nobody did.
    """

    kind: str
    reasons: Reasons
    notes: tuple[str, ...]
    verdict: Verdict | None
    tags: tuple[CoswidReport, ...]
    fields: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    @property
    def accepted(self) -> bool:
        """Return whether nothing speaks against it."""
        return not self.reasons

    @property
    def signature_valid(self) -> bool | None:
        """Return whether the signature holds; None where there is none, or no key for it."""
        return None if self.verdict is None else self.verdict.valid

    @property
    def signer(self) -> str | None:
        """Return who signed, or is said to have."""
        return None if self.verdict is None else self.verdict.signer

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            **opening(self.reasons, notes=self.notes),
            **signature_document(self.verdict, self.signer),
            "format": self.kind,
            "tags": [one.document() for one in self.tags],
            "meta": dict(self.fields),
            "links": [{"rel": rel, "href": href} for rel, href in self.links],
        }


def refused_rim(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that are no manifest."""
    return RimReport("unknown", ((code, message),), (), None, ()).document()


def inspect_rim(data: bytes, store: TrustStore | None, key: bytes | None = None, *, at: int) -> RimReport:
    """Return the report on a manifest at `at` (unix seconds); `store` has the authorities that may sign one, `key` is a file of
    keys.

    *Raises* `InspectionRefused` ("rim-size", "rim-malformed", "coswid-malformed", "key-malformed", "xml-…", "cbor-…").
    """
    return read_rim(data, reporting(read_keys(key) if key is not None else (), store), at=at)


def read_rim(data: bytes, authorities: Authorities, *, at: int) -> RimReport:
    """Return the report on a manifest, whose signer has to be one of the authorities where any are given.

    *Raises* as `inspect_rim`.
    """
    if len(data) > INSPECTED_DOCUMENT:
        raise InspectionRefused("rim-size", f"a manifest of {len(data)} bytes")
    if _USWID in data:
        return RimReport("uswid", (), (_UNSIGNED,), None, tuple(_several(read_cbor_sequence(*_embedded(data)))))
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _swid(data, authorities, at=at)
    items = read_cbor_sequence(data) or [read_cbor(data)]
    if len(items) == 1:
        return coswid_report(items[0], authorities, at=at)
    return RimReport("coswid", (), (_UNSIGNED,), None, tuple(_several(items)))


def _several(items: Iterable[Any]) -> Iterator[CoswidReport]:
    """Yield tags that lie behind each other; a signature around one of them is not judged, as the others have none."""
    for item in items:
        signed = isinstance(item, Tag) and item.number in (SIGN1, SIGN)
        payload = read_signed(item, code="coswid-malformed")[0].payload if signed else None
        yield read_coswid(_bare(item if payload is None else read_cbor(payload)))


_UNSIGNED: Final = "it is not signed: anybody may have written it"


def coswid_report(item: object, authorities: Authorities, *, at: int) -> RimReport:
    """Return the report on a CoSWID, bare or as the payload of a COSE_Sign1 (RFC 9393, 7). *Raises* as `inspect_rim`."""
    while isinstance(item, Tag) and item.number == _TOKEN:
        item = item.value
    if (isinstance(item, Tag) and item.number in (SIGN1, SIGN)) or (isinstance(item, list) and len(item) == 4):
        signed = read_signed(item, code="coswid-malformed")
        verdict = judge_signed(signed, authorities, at=at, code="coswid")
        inner = _bare(read_cbor(signed[0].payload))
        return RimReport(
            "signed-coswid", verdict.reasons, verdict.notes, verdict, (read_coswid(inner),), software_meta(inner)
        )
    bare = _bare(item)
    return RimReport("coswid", (), (_UNSIGNED,), None, (read_coswid(bare),), software_meta(bare))


def _bare(item: Any) -> Any:
    """Return what a CoSWID's tag (1398229316) is put on."""
    return item.value if isinstance(item, Tag) else item


def _embedded(data: bytes) -> Iterator[bytes]:
    """Yield the CBOR of all uSWIDs in a firmware image, or in a part of one."""
    start = data.find(_USWID)
    for _ in range(_MOST_EMBEDDED):
        if start < 0:
            return
        yield _uswid(data[start:])
        start = data.find(_USWID, start + len(_USWID))


def _uswid(data: bytes) -> bytes:
    """Read the header (magic, version, size of header and payload, flags from version 2 on) and return the CBOR behind it."""
    version, header = data[16] if len(data) > 23 else 0, int.from_bytes(data[17:19], "little")
    size = int.from_bytes(data[19:23], "little")
    if not 1 <= version <= 4 or header < 23 or len(data) < header + size:
        raise InspectionRefused("rim-malformed", "a uSWID whose header does not fit its payload")
    payload = data[header : header + size]
    if version >= 2 and header > 23 and data[23] & _COMPRESSED:
        payload = _unpacked(payload, lzma_=version >= 3 and header > 24 and data[24] == _LZMA)
    return payload


def _unpacked(payload: bytes, *, lzma_: bool) -> bytes:
    """Return what was compressed with zlib or LZMA, no more than a manifest may have."""
    try:
        if lzma_:
            unpacked = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(payload, INSPECTED_DOCUMENT + 1)
        else:
            unpacked = zlib.decompressobj().decompress(payload, INSPECTED_DOCUMENT + 1)
    except (zlib.error, lzma.LZMAError):
        raise InspectionRefused("rim-malformed", "a uSWID whose payload is not compressed as it says") from None
    if len(unpacked) > INSPECTED_DOCUMENT:
        raise InspectionRefused("rim-size", "a uSWID that grows beyond all bounds when it is unpacked")
    return unpacked


_INDENTED: Final = "indented-since: the signature is over the document without its indentation"
_WEAK: Final = "sha1-signature: signed over SHA-1, for which another document can be made"


def _swid(data: bytes, authorities: Authorities, *, at: int) -> RimReport:
    """Read a SWID tag (ISO 19770-2:2015) with the attributes of the PC Client RIM, and who signed it."""
    root, signature, odd = _signed_tree(data)
    verdict = None if signature is None else _verdict(signature, authorities, at=at)
    if verdict is not None:
        verdict = replace(verdict, deviations=(*odd, *verdict.deviations))
    tag, fields, links = read_swid(root)
    notes = [f"it has no {name}" for name, value in (("name", tag.name), ("tagId", tag.identity)) if not value]
    notes += [_UNSIGNED] if verdict is None else verdict.notes
    reasons = () if verdict is None else verdict.reasons
    return RimReport("swid", reasons, tuple(notes), verdict, (tag,), fields, links)


def _signed_tree(data: bytes) -> tuple[Element, XmlSignature | Verdict | None, tuple[str, ...]]:
    """Return the document as its signature is over it: as it is, or as it was before somebody indented it."""
    root = read_xml(data)
    found = _signature(root)
    if not isinstance(found, XmlSignature) or found.unchanged:
        return root, found, ()
    bare = read_xml_unindented(data)
    other = _signature(bare)
    if isinstance(other, XmlSignature) and other.unchanged:
        return bare, other, (_INDENTED,)
    return root, found, ()


def _signature(root: Element) -> XmlSignature | Verdict | None:
    """Return the signature; a verdict on one that cannot be verified; None where nobody signed."""
    shown = None
    try:
        signature = signature_in(root)
        if signature is None:
            return None
        signer = brought(signature)
        shown = signer.shown
        return read_signature(root, signature, signer)
    except Unverifiable as error:
        return Verdict(None, shown, reasons=(unverifiable(error, "rim"),))


def _verdict(found: XmlSignature | Verdict, authorities: Authorities, *, at: int) -> Verdict:
    if isinstance(found, Verdict):
        return found
    if not found.unchanged:
        message = "the document was changed since it was signed"
        return Verdict(False, found.signer.shown, reasons=(("rim-signature", message),))
    verdict = judge(found.holds, found.signer, authorities, at=at, code="rim")
    return replace(verdict, vouched=False, deviations=(_WEAK, *verdict.deviations)) if found.weak else verdict
