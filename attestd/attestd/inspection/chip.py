"""Which chip a certificate names, whatever its purpose: attestation keys' certificates carry the same name as endorsement keys'.

Proves nothing of the chip. `attestd_pki.ekcert` reads the same attributes for enrolment, and only after it has checked the purpose.
TCG EK Credential Profile 2.5, 3.2.9.
"""

import re
from typing import Final

from attestd_pki import extensions
from attestd_pki.certificate import Certificate
from attestd_pki.ekcert import MANUFACTURERS, EkInfo

_ID = re.compile(r"id:([0-9A-Fa-f]{8})")
_KINDS: Final = ("tpmManufacturer", "tpmModel", "tpmVersion")
_SOFTWARE: Final = "00001014"


def chip_of(certificate: Certificate) -> EkInfo:
    """Return what the certificate says of its chip, empty where it says nothing. *Raises* PkiError `extension-malformed`."""
    found: dict[str, str] = {}
    for name in extensions.alternative_directory_names(certificate):
        for kind, value in (attribute for rdn in name.rdns for attribute in rdn):
            found.setdefault(kind, "".join(c if c.isprintable() else "\ufffd" for c in value)[:64])
    manufacturer, model, version = (found.get(kind, "") for kind in _KINDS)
    return EkInfo(manufacturer, maker(manufacturer), model, version, ())


def maker(manufacturer: str) -> str:
    """Return the registered name of a manufacturer's id (TCG TPM Vendor ID Registry), or the id itself."""
    match = _ID.fullmatch(manufacturer)
    if match is None:
        return manufacturer
    if match[1] == _SOFTWARE:
        return "software TPM"
    code = bytes.fromhex(match[1]).rstrip(b"\0 ").decode("ascii", "replace")
    return MANUFACTURERS.get(code, manufacturer)
