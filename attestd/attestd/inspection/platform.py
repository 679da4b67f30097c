"""A platform certificate for a person: the attribute certificate by which a maker says what a machine was built of.

Proves the skeleton of RFC 5755 (4.1), and with anchors that an authority of theirs signed the original bytes. Does not hold the
components against a machine: nothing here has seen one. TCG Platform Certificate Profile 1.1 (3.1 attributes, 3.1.6 components).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from attestd.evidence.ek import BUDGET
from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import INSPECTED_CERTIFICATE
from attestd_pki import bounds, der, extensions
from attestd_pki.certificate import Certificate, Extension, Name, parse_certificate, read_name
from attestd_pki.chain import Exceptions, Expiry, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from attestd_pki.signatures import verify_signature

_PEM = re.compile(rb"-----BEGIN (?:ATTRIBUTE |X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END ")
_TIME = re.compile(rb"(\d{4}|\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(Z|[+-]\d{4})")
_TEXTS: Final = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x1E: "utf-16-be"}
_NAMES: Final = {
    "2.23.133.2.4": "manufacturer",
    "2.23.133.2.5": "model",
    "2.23.133.2.6": "version",
    "2.23.133.2.23": "serial",
    "2.23.133.5.1.1": "manufacturer",
    "2.23.133.5.1.4": "model",
    "2.23.133.5.1.5": "version",
    "2.23.133.5.1.6": "serial",
    "2.23.133.2.1": "tpm_manufacturer",
    "2.23.133.2.2": "tpm_model",
    "2.23.133.2.3": "tpm_firmware_version",
}
ATTRIBUTES: Final = {
    "2.23.133.2.17": "platform specification",
    "2.23.133.2.19": "security assertions of the TBB",
    "2.23.133.2.23": "credential specification",
    "2.23.133.2.25": "credential type",
    "2.23.133.5.1.2": "manufacturer id",
    "2.23.133.5.1.3": "configuration URI",
    "2.23.133.5.1.7.1": "platform configuration",
    "2.23.133.5.1.7.2": "platform configuration",
}
_CONFIGURATIONS: Final = frozenset({"2.23.133.5.1.7.1", "2.23.133.5.1.7.2"})
PLATFORM_PURPOSE: Final = "2.23.133.8.2"
"""tcg-kp-PlatformAttributeCertificate."""
_STATUS: Final = {0: "added", 1: "modified", 2: "removed"}


@dataclass(frozen=True, slots=True)
class Part:
    """One component; empty where the certificate says nothing. `status` is set in a delta certificate."""

    component_class: str
    manufacturer: str
    model: str
    serial: str
    revision: str
    status: str


@dataclass(frozen=True, slots=True)
class PlatformReport:
    """One platform certificate. `outcome` is parsed where no anchors were given, else trusted, untrusted or refused."""

    outcome: str
    reasons: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    certificate: Certificate
    holder: tuple[tuple[str, str], ...]
    platform: tuple[tuple[str, str], ...]
    attributes: tuple[str, ...]
    components: tuple[Part, ...]
    properties: tuple[tuple[str, str], ...]
    chain: tuple[Certificate, ...]

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        platform = dict(self.platform)
        return {
            "outcome": self.outcome,
            "reasons": [code for code, _ in self.reasons],
            "messages": [message for _, message in self.reasons],
            "deviations": list(self.notes),
            "certificate_sha256": self.certificate.sha256.hex(),
            "version": self.certificate.version,
            "serial": f"{self.certificate.serial:x}",
            "issuer": self.certificate.issuer.text,
            "signature_algorithm": self.certificate.signature_oid,
            "not_before": self.certificate.not_before,
            "not_after": self.certificate.not_after,
            "holder": dict(self.holder),
            "manufacturer": platform.get("manufacturer"),
            "model": platform.get("model"),
            "platform": platform,
            "attributes": list(self.attributes),
            "components": [{name: getattr(one, name) for name in one.__slots__} for one in self.components],
            "properties": [{"name": name, "value": value} for name, value in self.properties],
            "chain": [one.sha256.hex() for one in self.chain],
        }


def refused_platform(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that are no platform certificate."""
    return {
        "outcome": "refused",
        "reasons": [code],
        "messages": [message],
        "deviations": [],
        "components": [],
        "chain": [],
    }


def inspect_platform(data: bytes, store: TrustStore | None, *, at: int) -> PlatformReport:
    """Return the report on an attribute certificate in DER, PEM or base64, at `at` (unix seconds).

    *Raises* `InspectionRefused` ("platform-malformed", "platform-size").
    """
    raw = _unwrapped(data)
    notes: list[str] = []
    try:
        parts = _parts(raw, notes)
        platform = _platform_names(parts.certificate, notes)
        found = _components(parts.attributes)
        properties = tuple(_properties(parts.attributes))
    except PkiError as error:
        raise InspectionRefused("platform-malformed", error.message) from None
    outcome, reasons, chain = _judged(parts.certificate, store, at)
    if at > parts.certificate.not_after:
        notes.append("expired")
    return PlatformReport(
        outcome=outcome,
        reasons=reasons,
        notes=tuple(notes),
        certificate=parts.certificate,
        holder=parts.holder,
        platform=tuple(platform.items()),
        attributes=tuple(ATTRIBUTES.get(kind, kind) for kind, _ in parts.attributes),
        components=found,
        properties=properties,
        chain=chain,
    )


def _unwrapped(data: bytes) -> bytes:
    """Return the DER bytes, of which trailing padding of an NV index is dropped."""
    if len(data) > INSPECTED_CERTIFICATE:
        raise InspectionRefused("platform-size", f"a platform certificate of {len(data)} bytes")
    block = _PEM.search(data)
    text = block[1] if block is not None else data.strip()
    if block is not None or (data[:1] != b"\x30" and re.fullmatch(rb"[A-Za-z0-9+/=\s]+", text)):
        try:
            data = base64.b64decode(b"".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise InspectionRefused("platform-malformed", "not base64 that can be read") from None
    try:
        _, _, end = der.measure(data)
    except PkiError as error:
        raise InspectionRefused("platform-malformed", error.message) from None
    if data[:1] != b"\x30" or data[end:].strip(b"\0\xff\r\n") or end > bounds.MAX_CERTIFICATE:
        raise InspectionRefused("platform-malformed", "not one DER SEQUENCE")
    return data[:end]


@dataclass(frozen=True, slots=True)
class _Parts:
    """A platform certificate taken apart, with what path building looks at in the form of a certificate."""

    certificate: Certificate
    holder: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, bytes], ...]


def _parts(raw: bytes, notes: list[str]) -> _Parts:
    """Take apart an attribute certificate, or a certificate of a key that names a platform (software TPMs have such)."""
    try:
        identity = parse_certificate(raw)
    except PkiError:
        return _attribute_certificate(raw, notes)
    if PLATFORM_PURPOSE not in (extensions.extended_key_usage(identity) or ()):
        raise PkiError("certificate-malformed", "a certificate of a key, and not for a platform (attestd inspect cert)")
    notes.append("certificate-of-a-key-instead-of-attributes")
    return _Parts(identity, (), ())


def _attribute_certificate(raw: bytes, notes: list[str]) -> _Parts:
    """Take apart an AttributeCertificate (RFC 5755, 4.1)."""
    info, _, signature = _exactly(der.only(raw, der.SEQUENCE).content, 3)
    fields = der.elements(info.content)
    if len(fields) < 7 or info.tag != der.SEQUENCE:
        raise PkiError("certificate-malformed", "not an attribute certificate")
    version, holder, issuer, algorithm, serial, validity, attributes = fields[:7]
    kind = der.elements(algorithm.content)
    begin, end = _exactly(validity.content, 2)
    if not kind:
        raise PkiError("certificate-malformed", "a signature without an algorithm")
    whose = tuple(_holder(holder))
    listed = tuple(_attribute(one) for one in der.elements(attributes.content))
    certificate = Certificate(
        der=raw,
        sha256=hashlib.sha256(raw).digest(),
        version=der.integer(version) + 1,
        serial=der.integer(serial),
        signature_oid=der.object_identifier(kind[0]),
        signature_parameters=kind[1].raw if len(kind) > 1 else b"",
        issuer=_issuer(issuer),
        subject=Name(b"", ((("platform", ""),),)),
        not_before=_seconds(begin),
        not_after=_seconds(end),
        spki=b"",
        key_oid="",
        key_type="unknown",
        key_bits=0,
        key_curve="",
        extensions=tuple(_extensions(fields[7:])),
        tbs=info.raw,
        signature=der.bits(signature),
        deviations=(),
    )
    if begin.tag != 0x18 or end.tag != 0x18:
        notes.append("time-not-generalized")
    return _Parts(certificate, whose, listed)


def _exactly(data: bytes, count: int) -> tuple[der.Element, ...]:
    found = der.elements(data)
    if len(found) != count:
        raise PkiError("certificate-malformed", f"{len(found)} parts where there are {count}")
    return found


def _issuer(element: der.Element) -> Name:
    """Return the directory name in V2Form ([0], of GeneralNames) or in GeneralNames themselves."""
    names = der.elements(element.content)
    if element.tag == 0xA0 and names and names[0].tag == der.SEQUENCE:
        names = der.elements(names[0].content)
    for name in names:
        if name.tag == 0xA4:
            return read_name(der.only(name.content, der.SEQUENCE))
    raise PkiError("certificate-malformed", "the issuer has no directory name")


def _holder(element: der.Element) -> Iterator[tuple[str, str]]:
    """Yield what says whose machine it is: mostly issuer and serial of the endorsement key's certificate."""
    for one in der.elements(element.content):
        if one.tag == 0xA0:
            parts = der.elements(one.content)
            for name in der.elements(parts[0].content) if parts else ():
                if name.tag == 0xA4:
                    yield "issuer", read_name(der.only(name.content, der.SEQUENCE)).text
            if len(parts) > 1:
                yield "serial", f"{der.integer(parts[1]):x}"
        elif one.tag == 0xA1:
            names = [name for name in der.elements(one.content) if name.tag == 0xA4]
            yield from (("name", read_name(der.only(name.content, der.SEQUENCE)).text) for name in names)
        elif one.tag == 0xA2:
            yield "digest", one.content.hex()


def _attribute(element: der.Element) -> tuple[str, bytes]:
    kind, values = _exactly(element.content, 2)
    return der.object_identifier(kind), values.content


def _seconds(element: der.Element) -> int:
    """Return a time as unix seconds. It ought to be GeneralizedTime in UTC (4.2.6); UTCTime and offsets occur, with one meaning."""
    match = _TIME.fullmatch(element.content)
    if match is None:
        raise PkiError("certificate-malformed", "a time is neither GeneralizedTime nor UTCTime")
    year, *rest = (int(part) for part in match.groups()[:6])
    offset = match[7].decode()
    shift = 0 if offset == "Z" else int(offset[0] + "1") * (int(offset[1:3]) * 3600 + int(offset[3:]) * 60)
    try:
        moment = datetime(year if year > 99 else year + (1900 if year >= 50 else 2000), *rest, tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        raise PkiError("certificate-malformed", "a time is not in the calendar") from None
    return int(moment.timestamp()) - shift


def _extensions(rest: tuple[der.Element, ...]) -> Iterator[Extension]:
    for wrapped in (one for one in rest if one.tag == der.SEQUENCE):
        for one in der.elements(wrapped.content):
            parts = der.elements(one.content)
            if len(parts) < 2 or parts[-1].tag != der.OCTET_STRING:
                raise PkiError("certificate-malformed", "an extension is not made of identifier, criticality and value")
            critical = len(parts) == 3 and parts[1].content != b"\x00"
            yield Extension(der.object_identifier(parts[0]), critical, parts[-1].content)


def _platform_names(certificate: Certificate, notes: list[str]) -> dict[str, str]:
    """Return the names in the alternative name; old certificates have a bare name in place of GeneralNames."""
    extension = certificate.extension(extensions.SUBJECT_ALTERNATIVE_NAME)
    found: dict[str, str] = {}
    if extension is not None:
        whole = der.only(extension.value, der.SEQUENCE)
        if any(one.tag == der.SET for one in der.elements(whole.content)):
            notes.append("alternative-name-is-a-bare-name")
            names: tuple[Name, ...] = (read_name(whole),)
        else:
            names = extensions.alternative_directory_names(certificate)
        for kind, value in (attribute for name in names for rdn in name.rdns for attribute in rdn):
            found.setdefault(_NAMES.get(kind, kind), value[:256])
    if not found.get("manufacturer") or not found.get("model"):
        notes.append("platform-not-named")
    return found


def _components(attributes: tuple[tuple[str, bytes], ...]) -> tuple[Part, ...]:
    """Return componentIdentifiers of every platform configuration ([0] of its SEQUENCE)."""
    found: list[Part] = []
    for kind, value in attributes:
        if kind not in _CONFIGURATIONS:
            continue
        for one in der.elements(der.only(value, der.SEQUENCE).content):
            if one.tag == 0xA0:
                found += [_component(part) for part in der.elements(one.content)]
    return tuple(found)


def _component(element: der.Element) -> Part:
    texts: list[str] = []
    tagged: dict[int, str] = {}
    kind = ""
    for one in der.elements(element.content):
        if one.tag == der.SEQUENCE and not texts:
            kind = "".join(part.content.hex() for part in der.elements(one.content) if part.tag == der.OCTET_STRING)
        elif one.tag in _TEXTS:
            texts.append(_text(one))
        elif one.tag in (0x80, 0x81):
            tagged[one.tag] = one.content.decode("utf-8", "replace")
        elif one.tag == 0x87:
            tagged[one.tag] = _STATUS.get(int.from_bytes(one.content, "big"), "")
    manufacturer, model = (*texts, "", "")[:2]
    return Part(kind, manufacturer, model, tagged.get(0x80, ""), tagged.get(0x81, ""), tagged.get(0x87, ""))


def _properties(attributes: tuple[tuple[str, bytes], ...]) -> Iterator[tuple[str, str]]:
    """Yield the properties of the configuration ([1] of its SEQUENCE, [2] in the first version where it holds pairs)."""
    for kind, value in attributes:
        if kind not in _CONFIGURATIONS:
            continue
        for one in der.elements(der.only(value, der.SEQUENCE).content):
            if one.tag not in (0xA1, 0xA2):
                continue
            for pair in der.elements(one.content):
                texts = [_text(part) for part in der.elements(pair.content)] if pair.tag == der.SEQUENCE else []
                if len(texts) >= 2:
                    yield texts[0], texts[1]


def _text(element: der.Element) -> str:
    encoding = _TEXTS.get(element.tag)
    return element.content.decode(encoding, "replace")[:256] if encoding else element.content.hex()[:256]


def _judged(
    certificate: Certificate, store: TrustStore | None, at: int
) -> tuple[str, tuple[tuple[str, str], ...], tuple[Certificate, ...]]:
    """Find the authority that signed, and its path.

    It may be one that signs no certificates: an attribute authority is no certificate authority (RFC 5755, 4.5).
    """
    if store is None:
        return "parsed", (), ()
    refusal = PkiError("chain-issuer-missing", f"the issuer {certificate.issuer.text} is not in the bundle")
    known = frozenset(one.sha256 for same in store.by_subject.values() for one in same)
    lenient = Exceptions(sha1_issuers=known, expiry=Expiry.RECORD_ALL)
    for issuer in store.by_subject.get(certificate.issuer.key, ())[: BUDGET.signatures]:
        try:
            verify_signature(certificate, issuer)
            chain = build_and_verify_chain(issuer, (), store, at=at, budget=BUDGET, exceptions=lenient)
        except PkiError as error:
            refusal = error
        else:
            return "trusted", (), chain.certificates
    missing = refusal.code in {"chain-issuer-missing", "chain-self-signed", "chain-too-long"}
    return ("untrusted" if missing else "refused"), ((refusal.code, refusal.message),), ()
