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
from typing import Any, Final

from attestd.evidence.ek import BUDGET
from attestd.inspection.certificates import missing_issuer
from attestd.inspection.platformparts import (
    PLATFORM_TRAITS,
    Part,
    addresses_of,
    parts_of,
    properties_of,
    text_of,
    traits_of,
)
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.report import opening
from attestd.inspection.wrapped import certificates_in, peeled
from attestd.protocol.limits import INSPECTED_CERTIFICATE
from attestd_pki import der, extensions
from attestd_pki.certificate import Certificate, Extension, Name, parse_certificate, read_name
from attestd_pki.chain import Exceptions, Expiry, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from attestd_pki.signatures import kinds_fit, known_algorithm, verify_signature, weak_hash
from attestd_pki.times import read_time

_PEM = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}CERTIFICATE-----([A-Za-z0-9+/=\s]*)(?:-----END |\Z)")
_NAMES: Final = {
    "2.23.133.2.4": "manufacturer",
    "2.23.133.2.5": "model",
    "2.23.133.2.6": "version",
    "2.23.133.2.23": "serial",
    "2.23.133.5.1.1": "manufacturer",
    "2.23.133.5.1.4": "model",
    "2.23.133.5.1.5": "version",
    "2.23.133.5.1.6": "serial",
    "2.23.133.5.1.2": "manufacturer_id",
    "2.23.133.2.1": "tpm_manufacturer",
    "2.23.133.2.2": "tpm_model",
    "2.23.133.2.3": "tpm_firmware_version",
}
ATTRIBUTES: Final = {
    "2.23.133.2.17": "platform specification",
    "2.23.133.2.19": "security assertions of the TBB",
    "2.23.133.2.23": "credential specification",
    "2.23.133.2.25": "credential type",
    "2.23.133.2.26": "previous platform certificates",
    "2.23.133.2.27": "security assertions of the TBB",
    "2.23.133.2.28": "cryptographic anchors",
    "2.23.133.2.29": "platform ownership",
    "2.23.133.2.30": "manufacturing assertions",
    "2.23.133.5.1.2": "manufacturer id",
    "2.23.133.5.1.3": "configuration URI",
    "2.23.133.5.1.7.1": "platform configuration",
    "2.23.133.5.1.7.2": "platform configuration",
    "2.23.133.5.1.7.3": "platform configuration",
    "2.23.133.5.1.7.4": "configuration URI",
}
_CREDENTIAL_TYPE: Final = "2.23.133.2.25"
_CREDENTIAL_SPECIFICATION: Final = "2.23.133.2.23"
_IDENTIFIER: Final = "2.23.133.5.1.8"
_TYPES: Final = {
    "2.23.133.8.2": "base",
    "2.23.133.8.4": "base",
    "2.23.133.8.5": "delta",
    "2.23.133.8.6": "delta",
    "2.23.133.8.7": "rebase",
    "2.23.133.8.8": "rebase",
}
"""tcg-kp-…: for platform, delta and rebase certificates, of attributes and of keys."""
_OF_A_CERTIFICATE: Final = (
    "certificate_sha256",
    "version",
    "serial",
    "issuer",
    "signature_algorithm",
    "not_before",
    "not_after",
    "manufacturer",
    "model",
    "missing",
)
"""Keys of a report that are null where there is no certificate."""
_MOST_BESIDE: Final = 16
_LAYERS: Final = 4
"""Wrappings inside each other: gzip, UTF-16, base64, hexadecimal."""


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
    uris: tuple[str, ...]
    credential: tuple[tuple[str, str], ...]
    chain: tuple[Certificate, ...]

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        platform = dict(self.platform)
        return {
            **opening(self.reasons, outcome=self.outcome, deviations=self.notes),
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
            "uris": list(self.uris),
            "credential": dict(self.credential),
            "missing": missing_issuer((self.certificate,)) if self.outcome == "untrusted" and not self.chain else None,
            "chain": [one.sha256.hex() for one in self.chain],
        }


def refused_platform(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that are no platform certificate."""
    return {
        **opening(((code, message),), deviations=()),
        **dict.fromkeys(_OF_A_CERTIFICATE),
        **{name: {} for name in ("holder", "platform", "credential")},
        **{name: [] for name in ("attributes", "components", "properties", "uris", "chain")},
    }


def inspect_platform(data: bytes, store: TrustStore | None, *, at: int) -> PlatformReport:
    """Return the report on an attribute certificate in DER, PEM or base64, at `at` (unix seconds).

    *Raises* `InspectionRefused` ("platform-malformed", "platform-size").
    """
    notes: list[str] = []
    raw = _unwrapped(data, notes)
    try:
        parts = _parts(raw, notes)
        platform = _platform_names(parts.certificate, notes)
        found = parts_of(parts.attributes)
        properties = tuple(properties_of(parts.attributes))
        uris = tuple(addresses_of(parts.attributes))
        credential = tuple(_credential(parts))
    except PkiError as error:
        raise InspectionRefused("platform-malformed", error.message) from None
    outcome, reasons, chain = _judged(parts.certificate, store, at)
    notes += _odd(parts.certificate, at)
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
        uris=uris,
        credential=credential,
        chain=chain,
    )


def _odd(certificate: Certificate, at: int) -> Iterator[str]:
    if at > certificate.not_after:
        yield "expired"
    if at < certificate.not_before:
        yield "not-yet-valid"
    if (weak := weak_hash(certificate)) is not None:
        yield f"{weak}-signature"


def _credential(parts: "_Parts") -> Iterator[tuple[str, str]]:
    """Yield what the certificate says it is: the version of the profile, base or delta."""
    purposes = extensions.extended_key_usage(parts.certificate) or ()
    told = [_TYPES[purpose] for purpose in purposes if purpose in _TYPES]
    for kind, value in parts.attributes:
        content = der.elements(value)[0].content if value else b""
        if kind == _CREDENTIAL_SPECIFICATION:
            numbers = [one for one in der.elements(content) if one.tag == der.INTEGER and len(one.content) <= 4]
            if numbers:
                yield "profile", ".".join(str(der.integer(one)) for one in numbers)
        elif kind == _CREDENTIAL_TYPE:
            named = [der.object_identifier(one) for one in der.elements(content) if one.tag == der.OBJECT_IDENTIFIER]
            told += [_TYPES.get(one, one) for one in named]
    if told:
        yield "type", told[-1]


def _unwrapped(data: bytes, notes: list[str]) -> bytes:
    """Return the DER bytes of the first certificate in a file of any form; padding of an NV index is dropped."""
    try:
        for _ in range(_LAYERS):
            if len(data) > INSPECTED_CERTIFICATE:
                raise InspectionRefused("platform-size", f"a platform certificate of {len(data)} bytes")
            inner = peeled(data) if data[:1] != b"\x30" and not _PEM.search(data) else None
            if inner is None:
                return _first(data, notes)
            data = inner[0]
    except (binascii.Error, ValueError) as error:
        if isinstance(error, InspectionRefused):
            raise
        raise InspectionRefused("platform-malformed", "not base64 that can be read") from None
    except PkiError as error:
        raise InspectionRefused("platform-malformed", error.message) from None
    raise InspectionRefused("platform-malformed", f"more than {_LAYERS} wrappings")


def _first(data: bytes, notes: list[str]) -> bytes:
    """Return the first certificate of PEM, DER or an index. *Raises* PkiError, ValueError, `InspectionRefused`."""
    blocks = _PEM.findall(data)[:_MOST_BESIDE]
    found: tuple[bytes, ...] = ()
    if blocks:
        data = base64.b64decode(b"".join(blocks[0].split()), validate=True)
    elif data[:1] != b"\x30":
        found, _ = certificates_in(data)
        data = found[0] if found else b""
    _, _, end = der.measure(data)
    rest = data[end:].strip(b"\0\xff\r\n \t")
    if data[:1] != b"\x30" or (rest and rest[:1] != b"\x30"):
        raise InspectionRefused("platform-malformed", "not one DER SEQUENCE")
    if max(len(blocks), len(found)) > 1 or rest:
        notes.append("several-certificates-in-one-place")
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
    if not _TYPES.keys() & set(extensions.extended_key_usage(identity) or ()):
        raise PkiError("certificate-malformed", "a certificate of a key, and not for a platform (attestd inspect cert)")
    notes.append("certificate-of-a-key-instead-of-attributes")
    extension = identity.extension(extensions.SUBJECT_DIRECTORY_ATTRIBUTES)
    listed = der.elements(der.only(extension.value, der.SEQUENCE).content) if extension is not None else ()
    return _Parts(identity, (), tuple(_attribute(one) for one in listed))


def _attribute_certificate(raw: bytes, notes: list[str]) -> _Parts:
    """Take apart an AttributeCertificate (RFC 5755, 4.1)."""
    info, outer, signature = _exactly(der.only(raw, der.SEQUENCE).content, 3)
    fields = der.elements(info.content)
    if len(fields) < 7 or info.tag != der.SEQUENCE:
        raise PkiError("certificate-malformed", "not an attribute certificate")
    version, holder, issuer, algorithm, serial, validity, attributes = fields[:7]
    kind = der.elements(algorithm.content)
    begin, end = _exactly(validity.content, 2)
    if not kind:
        raise PkiError("certificate-malformed", "a signature without an algorithm")
    if outer.content != algorithm.content:
        notes.append("signature-algorithms-differ")
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
        not_before=read_time(begin)[0],
        not_after=read_time(end)[0],
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
            found |= dict(_identifiers(whole))
        for kind, value in (attribute for name in names for rdn in name.rdns for attribute in rdn):
            found.setdefault(_NAMES.get(kind, kind), _enterprise(value) if value.startswith("#") else value[:256])
    if not found.get("manufacturer") or not found.get("model"):
        notes.append("platform-not-named")
    return found


def _identifiers(names: der.Element) -> Iterator[tuple[str, str]]:
    """Yield the traits by which version 2.0 names a platform: otherName [0] of type platformIdentifier."""
    for name in der.elements(names.content):
        parts = der.elements(name.content) if name.tag == 0xA0 else ()
        if len(parts) == 2 and parts[0].tag == der.OBJECT_IDENTIFIER and der.object_identifier(parts[0]) == _IDENTIFIER:
            for category, value in traits_of(der.only(parts[1].content, der.SEQUENCE).content):
                if category in PLATFORM_TRAITS:
                    yield PLATFORM_TRAITS[category], text_of(value)


def _enterprise(written: str) -> str:
    """Return a manufacturer's private enterprise number, which names have as a SEQUENCE of one identifier."""
    try:
        return der.object_identifier(der.elements(der.only(bytes.fromhex(written[1:]), der.SEQUENCE).content)[0])
    except (PkiError, ValueError, IndexError):
        return written[:256]


def _judged(
    certificate: Certificate, store: TrustStore | None, at: int
) -> tuple[str, tuple[tuple[str, str], ...], tuple[Certificate, ...]]:
    """Find the authority that signed, and its path.

    It may be one that signs no certificates: an attribute authority is no certificate authority (RFC 5755, 4.5).
    """
    if store is None:
        return "parsed", (), ()
    missing = missing_issuer((certificate,))
    key = f" with key identifier {missing['key_id']}" if missing.get("key_id") else ""
    absent = PkiError("chain-issuer-missing", f"the issuer {certificate.issuer.text}{key} is not in the bundle")
    refusal = absent
    known = tuple(one for same in store.by_subject.values() for one in same)
    recorded = frozenset(one.sha256 for one in known)
    lenient = Exceptions(sha1_issuers=recorded, expiry=Expiry.RECORD_ALL, recorded=recorded)
    for issuer in _issuers(certificate, store, known)[: BUDGET.signatures]:
        if known_algorithm(certificate) and not kinds_fit(certificate, issuer):
            continue  # a key that cannot have made it is another authority's of the same name
        try:
            verify_signature(certificate, issuer)
            chain = build_and_verify_chain(issuer, (), store, at=at, budget=BUDGET, exceptions=lenient)
        except PkiError as error:
            another = error.code == "signature-invalid" and not _meant(certificate, issuer)
            refusal = refusal if another else error
        else:
            return "trusted", (), chain.certificates
    untrusted = refusal.code in {"chain-issuer-missing", "chain-self-signed", "chain-too-long"}
    return ("untrusted" if untrusted else "refused"), ((refusal.code, refusal.message),), ()


def _issuers(certificate: Certificate, store: TrustStore, known: tuple[Certificate, ...]) -> list[Certificate]:
    """Return the authorities of the issuer's name, and those of the key that the certificate says signed it."""
    same = [*store.by_subject.get(certificate.issuer.key, ())]
    by_key = [one for one in known if one not in same and _meant(certificate, one, surely=True)]
    return sorted((*same, *by_key), key=lambda one: not _meant(certificate, one))


def _meant(certificate: Certificate, issuer: Certificate, *, surely: bool = False) -> bool:
    """Return whether the key identifiers agree; where one is absent, whether they may."""
    try:
        wanted = extensions.authority_key_identifier(certificate)
        offered = extensions.subject_key_identifier(issuer)
    except PkiError:
        return not surely
    return wanted == offered if wanted is not None and offered is not None else not surely
