"""The contents of the extensions that path building and the endorsement key profile look at.

Proves that what is returned is what the extension says, or that it is absent. Assumes a `Certificate` from
`parse_certificate`; every function *raises* PkiError `extension-malformed` for an extension that is there and cannot be
read, so that nothing unreadable passes for absent.
"""

import functools
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from attestd_pki import der
from attestd_pki.certificate import Certificate, Name, read_name
from attestd_pki.errors import PkiError

SUBJECT_DIRECTORY_ATTRIBUTES: Final = "2.5.29.9"
SUBJECT_KEY_IDENTIFIER: Final = "2.5.29.14"
KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALTERNATIVE_NAME: Final = "2.5.29.17"
BASIC_CONSTRAINTS: Final = "2.5.29.19"
NAME_CONSTRAINTS: Final = "2.5.29.30"
CERTIFICATE_POLICIES: Final = "2.5.29.32"
AUTHORITY_KEY_IDENTIFIER: Final = "2.5.29.35"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"
AUTHORITY_INFORMATION_ACCESS: Final = "1.3.6.1.5.5.7.1.1"
_CA_ISSUERS: Final = "1.3.6.1.5.5.7.48.2"
_MAX_URL: Final = 512

DIGITAL_SIGNATURE: Final = "digitalSignature"
KEY_ENCIPHERMENT: Final = "keyEncipherment"
DATA_ENCIPHERMENT: Final = "dataEncipherment"
KEY_AGREEMENT: Final = "keyAgreement"
KEY_CERT_SIGN: Final = "keyCertSign"
CRL_SIGN: Final = "cRLSign"

# RFC 5280, 4.2.1.3: bit 0 is the most significant of the first octet.
_USAGES: Final = (
    DIGITAL_SIGNATURE,
    "nonRepudiation",
    KEY_ENCIPHERMENT,
    DATA_ENCIPHERMENT,
    KEY_AGREEMENT,
    KEY_CERT_SIGN,
    CRL_SIGN,
    "encipherOnly",
    "decipherOnly",
)

P = ParamSpec("P")
R = TypeVar("R")


def _read(function: Callable[P, R]) -> Callable[P, R]:
    """Name the refusals of the DER reader after what was being read."""

    @functools.wraps(function)
    def wrapped(*arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return function(*arguments, **keywords)
        except PkiError as error:
            raise PkiError("extension-malformed", f"{function.__name__}: {error.message}") from error

    return wrapped


@_read
def basic_constraints(certificate: Certificate) -> tuple[bool, int | None] | None:
    """Return (CA, path length or None for no limit), or None where the extension is absent (RFC 5280, 4.2.1.9)."""
    extension = certificate.extension(BASIC_CONSTRAINTS)
    if extension is None:
        return None
    parts = der.elements(der.only(extension.value, der.SEQUENCE).content)
    flag = parts[0].content if parts and parts[0].tag == der.BOOLEAN else None
    rest = parts if flag is None else parts[1:]
    if len(rest) > 1 or (flag is not None and len(flag) != 1):
        raise PkiError("extension-malformed", "basicConstraints is not a BOOLEAN and an INTEGER")
    # X.690, 8.2.2: any octet but zero is TRUE.
    authority = flag not in (None, b"\x00")
    length = der.integer(rest[0]) if rest else None
    if length is not None and length < 0:
        raise PkiError("extension-malformed", "a negative path length")
    return authority, length


@_read
def key_usage(certificate: Certificate) -> frozenset[str] | None:
    """Return the names of the usages, or None where the extension is absent."""
    extension = certificate.extension(KEY_USAGE)
    if extension is None:
        return None
    content = der.only(extension.value, der.BIT_STRING).content
    if not 1 <= len(content) <= 3:
        raise PkiError("extension-malformed", "keyUsage is not a short BIT STRING")
    octets = content[1:] + b"\x00\x00"
    return frozenset(name for bit, name in enumerate(_USAGES) if octets[bit // 8] & 0x80 >> bit % 8)


@_read
def extended_key_usage(certificate: Certificate) -> tuple[str, ...] | None:
    """Return the dotted purposes, or None where the extension is absent."""
    extension = certificate.extension(EXTENDED_KEY_USAGE)
    if extension is None:
        return None
    parts = der.elements(der.only(extension.value, der.SEQUENCE).content)
    return tuple(der.object_identifier(part) for part in parts)


@_read
def subject_key_identifier(certificate: Certificate) -> bytes | None:
    """Return the identifier's octets, or None where the extension is absent."""
    extension = certificate.extension(SUBJECT_KEY_IDENTIFIER)
    return None if extension is None else der.only(extension.value, der.OCTET_STRING).content


@_read
def authority_key_identifier(certificate: Certificate) -> bytes | None:
    """Return the key identifier's octets, or None where extension or identifier is absent."""
    extension = certificate.extension(AUTHORITY_KEY_IDENTIFIER)
    if extension is None:
        return None
    parts = der.elements(der.only(extension.value, der.SEQUENCE).content)
    return next((part.content for part in parts if part.tag == 0x80), None)


@_read
def authority_serial(certificate: Certificate) -> int | None:
    """Return the serial number by which the issuer's certificate is meant, or None where that is not how ([2])."""
    extension = certificate.extension(AUTHORITY_KEY_IDENTIFIER)
    if extension is None:
        return None
    parts = der.elements(der.only(extension.value, der.SEQUENCE).content)
    found = next((part.content for part in parts if part.tag == 0x82), b"")
    return int.from_bytes(found, "big", signed=True) if found else None


@_read
def issuer_urls(certificate: Certificate) -> tuple[str, ...]:
    """Return where the issuer's certificate is said to be (caIssuers, RFC 5280, 4.2.2.1), of printable ASCII only."""
    extension = certificate.extension(AUTHORITY_INFORMATION_ACCESS)
    if extension is None:
        return ()
    found = []
    for access in der.elements(der.only(extension.value, der.SEQUENCE).content):
        parts = der.elements(access.content)
        if len(parts) == 2 and parts[1].tag == 0x86 and der.object_identifier(parts[0]) == _CA_ISSUERS:
            text = parts[1].content.decode("ascii", "replace")[:_MAX_URL]
            found.append("".join(one if "!" <= one <= "~" else "?" for one in text))
    return tuple(found)


@_read
def alternative_directory_names(certificate: Certificate) -> tuple[Name, ...]:
    """Return the directory names among the subject's alternative names (GeneralName [4], RFC 5280, 4.2.1.6)."""
    extension = certificate.extension(SUBJECT_ALTERNATIVE_NAME)
    if extension is None:
        return ()
    names = der.elements(der.only(extension.value, der.SEQUENCE).content)
    return tuple(read_name(der.only(name.content, der.SEQUENCE)) for name in names if name.tag == 0xA4)
