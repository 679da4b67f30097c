"""A foreign certificate, read as it came: fields, and the very bytes that were signed.

Proves, of a `Certificate`, that it has the skeleton of RFC 5280, 4.1, that every field lies where that says, and that
the outer and the inner signature algorithm agree. Where a manufacturer's encoding deviates from DER but has one meaning,
it is read and the deviation is recorded by name, so that a person can judge it. Assumes nothing. Does not verify any
signature, date or purpose.

Why an own reader: the strict parser of `cryptography` refuses a third of the manufacturers' certificates; pyOpenSSL and
pyasn1 read them, but neither hands out the original bytes of names, keys and the signed part, and re-encoding them would
verify something that nobody signed. The skeleton is five containers deep, so slicing it is short, and costs 0.1 ms.
"""

import hashlib
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from attestd_pki import bounds, der
from attestd_pki.errors import PkiError
from attestd_pki.times import read_time

RSA_ENCRYPTION: Final = "1.2.840.113549.1.1.1"
RSAES_OAEP: Final = "1.2.840.113549.1.1.7"
RSASSA_PSS: Final = "1.2.840.113549.1.1.10"
EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
EC_DH: Final = "1.3.132.1.12"
ED25519: Final = "1.3.101.112"
ED448: Final = "1.3.101.113"
ML_DSA: Final = {f"2.16.840.1.101.3.4.3.{arc}": parameters for arc, parameters in ((17, 44), (18, 65), (19, 87))}
"""The three parameter sets of FIPS 204, which name themselves by the size of their matrix (RFC 9881, 2)."""
_ECDSA_ARC: Final = "1.2.840.10045.4."

_KEY_TYPES: Final = {
    RSA_ENCRYPTION: "rsa",
    RSAES_OAEP: "rsa",
    RSASSA_PSS: "rsa",
    EC_PUBLIC_KEY: "ec",
    EC_DH: "ec",
    ED25519: "ed25519",
    ED448: "ed448",
    **dict.fromkeys(ML_DSA, "ml-dsa"),
}
_OTHER_BITS: Final = {ED25519: 256, ED448: 456, **ML_DSA}
CURVES: Final = {
    "1.2.840.10045.3.1.1": ("P-192", 192),
    "1.3.132.0.33": ("P-224", 224),
    "1.2.840.10045.3.1.7": ("P-256", 256),
    "1.3.132.0.34": ("P-384", 384),
    "1.3.132.0.35": ("P-521", 521),
    "1.3.132.0.10": ("secp256k1", 256),
    "1.3.36.3.3.2.8.1.1.7": ("brainpoolP256r1", 256),
    "1.3.36.3.3.2.8.1.1.11": ("brainpoolP384r1", 384),
    "1.3.36.3.3.2.8.1.1.13": ("brainpoolP512r1", 512),
}
"""Named curves (SEC 2, RFC 5639) as (name, bits); parameters written out are never compared with them (CVE-2020-0601)."""
_ATTRIBUTES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "2.23.133.2.1": "tpmManufacturer",
    "2.23.133.2.2": "tpmModel",
    "2.23.133.2.3": "tpmVersion",
}
_ENCODINGS: Final = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension: dotted object identifier, criticality, the bytes inside its OCTET STRING."""

    oid: str
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Name:
    """A distinguished name: its own DER bytes, and its relative names as tuples of (attribute, text)."""

    raw: bytes
    rdns: tuple[tuple[tuple[str, str], ...], ...]

    @property
    def text(self) -> str:
        """The name on one line, safe to print: control, format and other invisible characters are written as \\uXXXX."""
        return ", ".join("+".join(f"{kind}={_printable(value)}" for kind, value in rdn) for rdn in self.rdns)[:512]

    @property
    def key(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """What two spellings of one name share: sets without order, case, spaces and compositions folded (RFC 4518, 2).

        Used to find candidates; only a signature makes one an issuer.
        """
        return tuple(frozenset((kind, _folded(value)) for kind, value in rdn) for rdn in self.rdns)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The fields of one certificate. Times are unix seconds; bytes are slices of `der`.

    `key_type` is rsa, ec, ed25519, ed448, ml-dsa or unknown; `key_bits` is 0 where the size is not known, and the parameter
    set of ML-DSA; `key_curve` is a name of `CURVES` or empty. `spki` is as the certificate has it: use
    `signatures.canonical_spki` to compare keys. `deviations` are kebab-case.
    """

    der: bytes = field(repr=False)
    sha256: bytes
    version: int
    serial: int
    signature_oid: str
    signature_parameters: bytes = field(repr=False)
    issuer: Name
    subject: Name
    not_before: int
    not_after: int
    spki: bytes = field(repr=False)
    key_oid: str
    key_type: str
    key_bits: int
    key_curve: str
    extensions: tuple[Extension, ...] = field(repr=False)
    tbs: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    deviations: tuple[str, ...]

    def extension(self, oid: str) -> Extension | None:
        """Return the extension with this identifier, of which there is at most one."""
        return next((extension for extension in self.extensions if extension.oid == oid), None)

    @property
    def self_issued(self) -> bool:
        """Whether issuer and subject are one name."""
        return self.issuer.key == self.subject.key


class _Notes:
    """Deviations noted while reading one certificate, each once, in order."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: dict[str, None] = {}

    def add(self, deviation: str, *, when: bool) -> None:
        if when:
            self.found[deviation] = None


def parse_certificate(data: bytes) -> Certificate:
    """Read the DER certificate that fills `data` (see `unwrap` for what may surround one).

    *Raises* PkiError `certificate-too-large` or `certificate-malformed`.
    """
    if len(data) > bounds.MAX_CERTIFICATE:
        raise PkiError("certificate-too-large", f"a certificate has at most {bounds.MAX_CERTIFICATE} bytes")
    try:
        return _certificate(data)
    except PkiError as error:
        if error.code == "certificate-malformed":
            raise
        raise PkiError("certificate-malformed", error.message) from error


def _certificate(data: bytes) -> Certificate:
    """Read the three parts of a Certificate (RFC 5280, 4.1.1)."""
    notes = _Notes()
    outer = der.only(data, der.SEQUENCE)
    tbs, algorithm, signature = _exactly(outer.content, 3, "Certificate")
    if tbs.tag != der.SEQUENCE or algorithm.tag != der.SEQUENCE:
        raise _malformed("Certificate is not made of SEQUENCEs")
    notes.add("length-not-minimal", when=not (outer.minimal and tbs.minimal))
    fields, version = _fields(tbs)
    inner = _algorithm(fields[1])
    # RFC 5280, 4.1.1.2: both must be the same; a NULL more or less is a spelling.
    if not _same_algorithm(_algorithm(algorithm), inner):
        raise _malformed("the signed and the outer signature algorithm differ")
    notes.add("ecdsa-parameters-null", when=inner[0].startswith(_ECDSA_ARC) and inner[1] == b"\x05\x00")
    serial, issuer, subject = _serial(fields[0], notes), _name(fields[2], notes), _name(fields[4], notes)
    not_before, not_after = _validity(fields[3], notes)
    key_oid, key_type, key_bits, curve = _key(fields[5], notes)
    return Certificate(
        der=data,
        sha256=hashlib.sha256(data).digest(),
        version=version,
        serial=serial,
        signature_oid=inner[0],
        signature_parameters=inner[1],
        issuer=issuer,
        subject=subject,
        not_before=not_before,
        not_after=not_after,
        spki=fields[5].raw,
        key_oid=key_oid,
        key_type=key_type,
        key_bits=key_bits,
        key_curve=curve,
        extensions=_extensions(fields[6:], version, notes),
        tbs=tbs.raw,
        signature=der.bits(signature),
        deviations=tuple(notes.found),
    )


def _malformed(message: str) -> PkiError:
    return PkiError("certificate-malformed", message)


def _exactly(data: bytes, count: int, what: str) -> tuple[der.Element, ...]:
    found = der.elements(data)
    if len(found) != count:
        raise _malformed(f"{what} has {len(found)} parts, not {count}")
    return found


def _fields(tbs: der.Element) -> tuple[tuple[der.Element, ...], int]:
    """Return the fields of a TBSCertificate from the serial number on, and the version (RFC 5280, 4.1.2)."""
    fields = der.elements(tbs.content)
    version = 1
    if fields and fields[0].tag == 0xA0:
        version = der.integer(der.only(fields[0].content, der.INTEGER)) + 1
        fields = fields[1:]
    if len(fields) < 6 or version not in (1, 2, 3):
        raise _malformed("TBSCertificate lacks fields or has an unknown version")
    if any(field.tag != der.SEQUENCE for field in fields[1:6]):
        raise _malformed("a field of TBSCertificate is not a SEQUENCE")
    return fields, version


def _serial(element: der.Element, notes: _Notes) -> int:
    value = der.integer(element)
    content = element.content
    redundant = len(content) > 1 and (content[0] == 0x00) == (content[1] < 0x80) and content[0] in (0x00, 0xFF)
    notes.add("serial-not-minimal", when=redundant)
    notes.add("serial-not-positive", when=value <= 0)
    notes.add("serial-longer-than-20-octets", when=len(content) > 20)
    return value


def _algorithm(element: der.Element) -> tuple[str, bytes]:
    """Return an AlgorithmIdentifier as (dotted identifier, bytes of its parameters or none)."""
    parts = der.elements(element.content)
    if not 1 <= len(parts) <= 2:
        raise _malformed("an AlgorithmIdentifier has one or two parts")
    return der.object_identifier(parts[0]), parts[1].raw if len(parts) == 2 else b""


def _same_algorithm(one: tuple[str, bytes], other: tuple[str, bytes]) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or {one[1], other[1]} == {b"", b"\x05\x00"})


# --- names ----------------------------------------------------------------------------------------------------------


def read_name(element: der.Element) -> Name:
    """Read a distinguished name, which need not be in DER. *Raises* PkiError of `der` or `certificate-malformed`."""
    return _name(element, _Notes())


def _name(element: der.Element, notes: _Notes) -> Name:
    if element.tag != der.SEQUENCE:
        raise _malformed("a name is not a SEQUENCE")
    return Name(element.raw, tuple(_rdn(rdn, notes) for rdn in der.elements(element.content)))


def _rdn(element: der.Element, notes: _Notes) -> tuple[tuple[str, str], ...]:
    parts = der.elements(element.content)
    if element.tag != der.SET or not parts:
        raise _malformed("a relative name is not a SET of attributes")
    # X.690, 11.6: the elements of a SET OF are sorted; every older Nuvoton root has them as they were typed.
    notes.add("name-set-unsorted", when=[part.raw for part in parts] != sorted(part.raw for part in parts))
    return tuple(_attribute(part) for part in parts)


def _attribute(element: der.Element) -> tuple[str, str]:
    oid, value = _exactly(element.content, 2, "an attribute")
    kind = der.object_identifier(oid)
    return _ATTRIBUTES.get(kind, kind), _text(value)


def _text(value: der.Element) -> str:
    """Return a DirectoryString; one whose octets its type cannot hold is read as UTF-8 or Latin-1, whichever fits first."""
    encoding = _ENCODINGS.get(value.tag)
    if encoding is None:
        return f"#{value.raw.hex()}"
    for attempt in (encoding, "utf-8"):
        try:
            return value.content.decode(attempt)
        except UnicodeDecodeError:
            continue
    return value.content.decode("latin-1")


def _folded(text: str) -> str:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


def _printable(text: str) -> str:
    escaped = (character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
    return "".join(escaped).replace(",", "\\,")


# --- validity -------------------------------------------------------------------------------------------------------


def _validity(element: der.Element, notes: _Notes) -> tuple[int, int]:
    begin, end = _exactly(element.content, 2, "Validity")
    return _time(begin, notes), _time(end, notes)


def _time(element: der.Element, notes: _Notes) -> int:
    seconds, odd = read_time(element)
    for deviation in odd:
        notes.add(deviation, when=True)
    return seconds


# --- key and extensions ---------------------------------------------------------------------------------------------


def _key(spki: der.Element, notes: _Notes) -> tuple[str, str, int, str]:
    """Return (object identifier, type, size in bits, curve) of a SubjectPublicKeyInfo."""
    algorithm, key = _exactly(spki.content, 2, "SubjectPublicKeyInfo")
    oid, parameters = _algorithm(algorithm)
    kind = _KEY_TYPES.get(oid, "unknown")
    notes.add("key-named-rsaes-oaep", when=oid == RSAES_OAEP)
    notes.add("key-named-rsassa-pss", when=oid == RSASSA_PSS)
    notes.add("key-parameters", when=oid == RSA_ENCRYPTION and parameters != b"\x05\x00")
    notes.add("key-named-ecdh", when=oid == EC_DH)
    if kind == "rsa":
        return oid, kind, rsa_numbers(key)[0].bit_length(), ""
    if kind == "ec":
        curve = der.elements(parameters)
        named = len(curve) == 1 and curve[0].tag == der.OBJECT_IDENTIFIER
        name, size = CURVES.get(der.object_identifier(curve[0]), ("", 0)) if named else ("", 0)
        return oid, kind, size, name
    return oid, kind, _OTHER_BITS.get(oid, 0), ""


def rsa_numbers(key: der.Element) -> tuple[int, int]:
    """Return (modulus, exponent) of the RSAPublicKey in a BIT STRING (RFC 8017, A.1.1). *Raises* PkiError."""
    modulus, exponent = _exactly(der.only(der.bits(key), der.SEQUENCE).content, 2, "RSAPublicKey")
    numbers = der.integer(modulus), der.integer(exponent)
    if min(numbers) <= 0:
        raise _malformed("an RSA key has positive numbers")
    return numbers


def _extensions(rest: tuple[der.Element, ...], version: int, notes: _Notes) -> tuple[Extension, ...]:
    """Return the extensions; unique identifiers ([1], [2]) are skipped, anything else is refused."""
    wrapped = [element for element in rest if element.tag == 0xA3]
    tags = [element.tag & 0x1F for element in rest]
    if any(element.tag not in (0x81, 0x82, 0xA1, 0xA2, 0xA3) for element in rest) or tags != sorted(set(tags)):
        raise _malformed("unknown fields after the public key")
    if not wrapped:
        return ()
    if version != 3:
        raise _malformed("extensions in a certificate that is not of version 3")
    found = tuple(
        _extension(element, notes) for element in der.elements(der.only(wrapped[0].content, der.SEQUENCE).content)
    )
    if len({extension.oid for extension in found}) != len(found):
        # RFC 5280, 4.2: two readers could honour two different ones.
        raise _malformed("an extension is there twice")
    return found


def _extension(element: der.Element, notes: _Notes) -> Extension:
    parts = der.elements(element.content)
    critical = False
    if element.tag != der.SEQUENCE or not 2 <= len(parts) <= 3 or parts[-1].tag != der.OCTET_STRING:
        raise _malformed("an extension is not made of identifier, criticality and value")
    if len(parts) == 3:
        if parts[1].tag != der.BOOLEAN or len(parts[1].content) != 1:
            raise _malformed("an extension's criticality is not a BOOLEAN")
        # X.690, 8.2.2: any non-zero octet is TRUE; 11.1 and 11.5: DER wants 0xFF, and leaves a default FALSE out.
        critical = parts[1].content != b"\x00"
        notes.add("extension-critical-false", when=not critical)
        notes.add("boolean-not-der", when=critical and parts[1].content != b"\xff")
    return Extension(der.object_identifier(parts[0]), critical, parts[-1].content)
