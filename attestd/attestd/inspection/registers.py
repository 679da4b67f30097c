"""Register values that came beside a file: {"sha256": {"0": "<hex>", …}, …}, as `pcrs.json` of an evidence directory.

Proves their form only: nobody signed them.
"""

from attestd.inspection.refused import InspectionRefused, hexadecimal, read_object
from attestd.protocol.limits import MAX_JSON_BODY, PCR_COUNT
from attestd.tpm.algorithms import DIGEST_SIZES

Values = dict[str, dict[int, bytes]]


def read_registers(data: bytes) -> Values:
    """Return the values by bank and register.

    *Raises* `InspectionRefused` ("pcrs-malformed", and as `read_object`).
    """
    return registers_of(read_object(data, most=MAX_JSON_BODY, what="the PCR values"))


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
