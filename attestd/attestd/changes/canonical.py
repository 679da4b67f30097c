"""Canonical JSON: one document, one sequence of bytes, so that a digest names one document.

Proves, of what `read` returns, that its bytes are the only ones that mean it: keys sorted, no spaces, no key twice, no
floating-point numbers. Does not know what a document means.
"""

import json
from typing import Any, NoReturn

from attestd.changes import bounds
from attestd.changes.errors import ChangeRefused


def write(document: Any) -> bytes:
    """Return the canonical bytes. *Raises* ChangeRefused `change-malformed` for what JSON cannot say (a lone surrogate)."""
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ChangeRefused("change-malformed", "the document cannot be written as JSON") from error


def read(body: bytes) -> dict[str, Any]:
    """Return the object that the canonical bytes mean. *Raises* ChangeRefused `change-malformed`."""
    if len(body) > bounds.MAX_BODY:
        raise ChangeRefused("change-malformed", f"a document has at most {bounds.MAX_BODY} bytes")
    try:
        document = json.loads(body, parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ChangeRefused("change-malformed", "the document is not JSON of integers and texts") from error
    if type(document) is not dict:
        raise ChangeRefused("change-malformed", "the document is not a JSON object")
    # A key that is there twice, a space or another order comes out differently here.
    if write(document) != body:
        raise ChangeRefused("change-malformed", "the document is not in canonical form")
    return document


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:16]!r} is not an integer")
