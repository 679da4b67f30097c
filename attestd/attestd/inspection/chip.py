"""Which chip a certificate names, whatever its purpose: attestation keys' certificates carry the same name as endorsement keys'.

Proves nothing of the chip. `attestd_pki.ekcert` reads the same attributes for enrolment, and only after it has checked the purpose.
Looks where the profile says and where certificates have them nonetheless: in the alternative name with or without its GeneralNames,
in one relative name or in three, in the subject. TCG EK Credential Profile 2.5, 3.2.9 and 3.2.10.
"""

import re
from collections.abc import Iterator
from typing import Final

from attestd_pki import der, extensions
from attestd_pki.certificate import Certificate, Name, read_name
from attestd_pki.ekcert import MANUFACTURERS, EkInfo, manufacturer_name
from attestd_pki.errors import PkiError

_ID = re.compile(r"(?:id:)?\s*(?:0x)?([0-9A-Fa-f]{8})", re.IGNORECASE)
_KINDS: Final = ("tpmManufacturer", "tpmModel", "tpmVersion")
_SPECIFICATION: Final = "2.23.133.2.16"
_TEXTS: Final = frozenset({0x0C, 0x13, 0x16})


def chip_of(certificate: Certificate) -> EkInfo:
    """Return what the certificate says of its chip, empty where it says nothing. *Raises* PkiError `extension-malformed`."""
    odd: list[str] = []
    found = _attributes(_alternative_names(certificate, odd))
    if not found.keys() & set(_KINDS):
        found = _attributes((certificate.subject,))
        if found.keys() & set(_KINDS):
            odd.append("chip-named-in-the-subject")
    manufacturer, model, version = (found.get(kind, "") for kind in _KINDS)
    return EkInfo(manufacturer, maker(manufacturer), model, version, tuple(odd))


def _attributes(names: tuple[Name, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, value in (attribute for name in names for rdn in name.rdns for attribute in rdn):
        found.setdefault(kind, "".join(c if c.isprintable() else "\ufffd" for c in value)[:64])
    return found


def _alternative_names(certificate: Certificate, odd: list[str]) -> tuple[Name, ...]:
    """Return the directory names of the alternative name; one that lacks its GeneralNames is a name itself."""
    extension = certificate.extension(extensions.SUBJECT_ALTERNATIVE_NAME)
    if extension is None:
        return ()
    try:
        whole = der.only(extension.value, der.SEQUENCE)
        if any(one.tag == der.SET for one in der.elements(whole.content)):
            odd.append("alternative-name-is-a-bare-name")
            return (read_name(whole),)
    except PkiError as error:
        raise PkiError("extension-malformed", f"subjectAltName: {error.message}") from error
    return extensions.alternative_directory_names(certificate)


def maker(manufacturer: str) -> str:
    """Return the registered name of a manufacturer's id (TCG TPM Vendor ID Registry), or the id itself."""
    if manufacturer.strip().upper() in MANUFACTURERS:
        return MANUFACTURERS[manufacturer.strip().upper()]
    match = _ID.fullmatch(manufacturer.strip())
    return manufacturer if match is None else manufacturer_name(f"id:{match[1].upper()}")


def specification_of(certificate: Certificate) -> str | None:
    """Return the TPM specification that the chip follows, such as "2.0 level 0 revision 138"; None where that is not said.

    What cannot be read says nothing: the attribute is for people.
    """
    try:
        return next(_specifications(certificate), None)
    except (PkiError, UnicodeDecodeError):
        return None


def _specifications(certificate: Certificate) -> Iterator[str]:
    """Yield the tPMSpecification attributes: SEQUENCE { family UTF8String, level INTEGER, revision INTEGER }."""
    extension = certificate.extension(extensions.SUBJECT_DIRECTORY_ATTRIBUTES)
    if extension is None:
        return
    for attribute in der.elements(der.only(extension.value, der.SEQUENCE).content):
        pair = der.elements(attribute.content)
        if len(pair) != 2 or der.object_identifier(pair[0]) != _SPECIFICATION:
            continue
        for value in der.elements(pair[1].content):
            parts = der.elements(value.content)
            if len(parts) == 3 and parts[0].tag in _TEXTS and len(parts[0].content) <= 16:
                family, (level, revision) = parts[0].content.decode("utf-8"), map(der.integer, parts[1:])
                if family.isprintable() and max(abs(level), abs(revision)) < 1 << 32:
                    yield f"{family} level {level} revision {revision}"
