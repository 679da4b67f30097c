"""The few DER pieces that are written, measured or sliced here without a library.

Proves of an element that `measure` or `elements` returns that its tag and length are well formed and that it fits its
input. Assumes nothing. Writing is needed because a signature made elsewhere (a quorum) has to be put beside the
to-be-signed bytes without any library encoding those again; slicing, because a manufacturer's signature has to be
verified over the bytes as they came, deviations from DER included. Lengths in more bytes than needed are therefore read,
and can be asked for (`Element.minimal`). Work is linear in the input, with a bound on siblings.
"""

from dataclasses import dataclass
from typing import Final

from attestd_pki import bounds
from attestd_pki.errors import PkiError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31

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


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its tag byte, all its bytes, and the bytes of its content."""

    tag: int
    raw: bytes
    content: bytes

    @property
    def minimal(self) -> bool:
        """Whether tag and length are written as DER wants them."""
        return encode(self.tag, self.content) == self.raw


def elements(data: bytes, *, most: int = bounds.MAX_SIBLINGS) -> tuple[Element, ...]:
    """Return the elements that fill `data` one after the other, at most `most`. *Raises* as `measure`, `der-too-many`."""
    found: list[Element] = []
    offset = 0
    while offset < len(data):
        if len(found) == most:
            raise PkiError("der-too-many", f"more than {most} elements in one container")
        tag, start, end = measure(data, offset)
        found.append(Element(tag, data[offset:end], data[start:end]))
        offset = end
    return tuple(found)


def only(data: bytes, tag: int) -> Element:
    """Return the one element that fills `data`, which has this tag. *Raises* as `elements`, and `der-unexpected`."""
    found = elements(data)
    if len(found) != 1 or found[0].tag != tag:
        raise PkiError("der-unexpected", f"not one element with tag 0x{tag:02x}")
    return found[0]


def integer(element: Element) -> int:
    """Return the value of an INTEGER, redundant leading octets and all. *Raises* PkiError `der-unexpected`."""
    if element.tag != INTEGER or not element.content:
        raise PkiError("der-unexpected", "not an INTEGER")
    return int.from_bytes(element.content, "big", signed=True)


def object_identifier(element: Element) -> str:
    """Return the dotted form of an OBJECT IDENTIFIER of at most 64 octets. *Raises* PkiError `der-unexpected`."""
    content = element.content
    if element.tag != OBJECT_IDENTIFIER or not 0 < len(content) <= 64 or content[-1] & 0x80:
        raise PkiError("der-unexpected", "not an OBJECT IDENTIFIER")
    arcs: list[int] = []
    arc = 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(number) for number in (first, arcs[0] - 40 * first, *arcs[1:]))


def bits(element: Element) -> bytes:
    """Return the octets of a BIT STRING without unused bits. *Raises* PkiError `der-unexpected`."""
    if element.tag != BIT_STRING or element.content[:1] != b"\x00":
        raise PkiError("der-unexpected", "not a BIT STRING of whole octets")
    return element.content[1:]
