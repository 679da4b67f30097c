"""Base64 as people and programs write it: either alphabet (RFC 4648, 4 and 5), padded or not, on one line or on many.

Strict in all else: a character of neither alphabet is an error. Proves nothing of the bytes.
"""

import base64


def decode_base64(text: str | bytes) -> bytes:
    """Return the bytes that a text holds. *Raises* ValueError."""
    plain = text.encode("ascii") if isinstance(text, str) else text
    compact = b"".join(plain.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
