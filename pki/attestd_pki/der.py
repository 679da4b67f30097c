"""The few DER pieces that are written or measured here without a library.

Proves of an element that `measure` returns that its tag and length are well formed and that it fits its input. Does not
look inside. Assumes nothing. Writing is needed because a signature made elsewhere (a quorum) has to be put beside the
to-be-signed bytes without any library encoding those again.
"""

from typing import Final

from attestd_pki.errors import PkiError

SEQUENCE: Final = 0x30
OCTET_STRING: Final = 0x04
BIT_STRING: Final = 0x03

ED25519_ALGORITHM: Final = bytes.fromhex("300506032b6570")
"""AlgorithmIdentifier of Ed25519, whose parameters are absent (RFC 8410, 3)."""


def encode(tag: int, content: bytes) -> bytes:
    """Return the DER element with this one-byte tag (X.690, 8.1.3 and 10.1: the shortest length)."""
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def signed(tbs: bytes, signature: bytes) -> bytes:
    """Return SEQUENCE { tbs, Ed25519, BIT STRING signature }: a certificate or revocation list (RFC 5280, 4.1 and 5.1)."""
    return encode(SEQUENCE, tbs + ED25519_ALGORITHM + encode(BIT_STRING, b"\x00" + signature))


def measure(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """Return (tag, start of content, end of content) of the element at `offset`; all are positions in `data`.

    One-byte tags and definite lengths of at most four bytes only; a length in more bytes than needed is accepted, since
    vendors' certificates are measured with this and judged elsewhere. *Raises* PkiError `der-truncated`, `der-malformed`.
    """
    if len(data) < offset + 2:
        raise PkiError("der-truncated", "no room for a tag and a length")
    tag, first = data[offset], data[offset + 1]
    if tag & 0x1F == 0x1F:
        raise PkiError("der-malformed", "a tag of several bytes")
    start = offset + 2
    length = first
    if first & 0x80:
        count = first & 0x7F
        if not 0 < count <= 4:
            raise PkiError("der-malformed", "an indefinite or oversized length")
        start += count
        if len(data) < start:
            raise PkiError("der-truncated", "the length is cut off")
        length = int.from_bytes(data[offset + 2 : start], "big")
    if len(data) < start + length:
        raise PkiError("der-truncated", f"the element says {length} bytes, {len(data) - start} are there")
    return tag, start, start + length
