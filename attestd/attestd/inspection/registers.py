"""Register values that came beside a file: {"sha256": {"0": "<hex>", …}, …}, as `pcrs.json` of an evidence directory.

Banks and registers may be spelt as others spell them (tuples.py), and banks that no log here has are left out. What `tpm2_pcrread`
prints is read too, and the kernel's list of a TPM 1.2 (`PCR-00: 3A 3F …`). Proves their form only: nobody signed them.
"""

import re
from typing import Any, Final

from attestd.inspection.refused import InspectionRefused, hexadecimal, read_object
from attestd.inspection.tuples import banks
from attestd.protocol.limits import MAX_JSON_BODY, PCR_COUNT
from attestd.tpm.algorithms import DIGEST_SIZES

Values = dict[str, dict[int, bytes]]

_BANK = re.compile(r"\s*(sha1|sha256|sha384|sha512|sm3_256|sha3_\d{3})\s*:\s*")
_REGISTER = re.compile(r"\s*([0-9]{1,2})\s*:\s*(?:0x)?([0-9A-Fa-f]+)\s*")
_OLD_REGISTER = re.compile(r"PCR-([0-9]{2}):((?: [0-9A-Fa-f]{2}){20})\s*")
_MOST_LINES: Final = 1_000
"""Lines of a listing: five banks of 24 registers have 125."""


def read_registers(data: bytes) -> Values:
    """Return the values by bank and register.

    *Raises* `InspectionRefused` ("pcrs-malformed", and as `read_object`).
    """
    text = len(data) <= MAX_JSON_BODY and data[:1] not in (b"{", b"[")
    listed = _listed(data.decode("ascii", "replace")) if text else {}
    return registers_of(banks(listed or read_object(data, most=MAX_JSON_BODY, what="the file of register values")))


def _listed(text: str) -> dict[str, Any]:
    """Return what a tool printed, as a document; an empty one where some line is none of its lines."""
    found: dict[str, Any] = {}
    bank: dict[str, str] | None = None
    for line in text.split("\n", _MOST_LINES):
        if head := _BANK.fullmatch(line):
            bank = found.setdefault(head.group(1), {})
        elif (one := _REGISTER.fullmatch(line)) and bank is not None:
            bank[one.group(1)] = one.group(2)
        elif old := _OLD_REGISTER.fullmatch(line):
            found.setdefault("sha1", {})[str(int(old.group(1)))] = old.group(2).replace(" ", "")
        elif line.strip():
            return {}
    return found


def registers_of(document: object) -> Values:
    """Return the values in a document that was read. *Raises* `InspectionRefused` ("pcrs-malformed")."""
    if not isinstance(document, dict):
        raise InspectionRefused("pcrs-malformed", "the PCR values are not an object of banks")
    return {bank: _bank(str(bank), values) for bank, values in document.items()}


def _bank(bank: str, values: object) -> dict[int, bytes]:
    size = DIGEST_SIZES.get(bank)
    if size is None or not isinstance(values, dict):
        raise InspectionRefused("pcrs-malformed", f"{bank!r} is not a bank with its registers")
    found: dict[int, bytes] = {}
    for index, text in values.items():
        value = hexadecimal(text, what=f"PCR {index} of {bank}")
        if not (index.isascii() and index.isdigit() and len(index) <= 2) or int(index) >= PCR_COUNT:
            raise InspectionRefused("pcrs-malformed", f"there is no PCR {index!r}")
        if len(value) != size:
            raise InspectionRefused("pcrs-malformed", f"PCR {index} of {bank} has {len(value)} bytes")
        found[int(index)] = value
    return found
