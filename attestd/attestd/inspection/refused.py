"""The one way in which a report builder says no: a stable code for machines and a sentence for people.

What can be read is reported even where it is bad; `InspectionRefused` is for bytes of which there is nothing to report.
"""

import json
from typing import Any


class InspectionRefused(ValueError):
    """Bytes that are not what they were given as. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code beside the sentence."""
        super().__init__(message)
        self.code = code
        self.message = message


def read_object(data: bytes, *, most: int, what: str) -> dict[str, Any]:
    """Return the JSON object in `data`, of at most `most` bytes.

    *Raises* `InspectionRefused` ("json-size", "json-malformed").
    """
    if len(data) > most:
        raise InspectionRefused("json-size", f"{what} of {len(data)} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise InspectionRefused("json-malformed", f"{what} is not JSON") from None
    if not isinstance(document, dict):
        raise InspectionRefused("json-malformed", f"{what} is not a JSON object")
    return document


def hexadecimal(value: object, *, what: str) -> bytes:
    """Return the bytes of a hexadecimal text, with or without 0x. *Raises* `InspectionRefused` ("hex-malformed")."""
    try:
        return bytes.fromhex(value.removeprefix("0x") if isinstance(value, str) else "not text")
    except ValueError:
        raise InspectionRefused("hex-malformed", f"{what} is not hexadecimal") from None
