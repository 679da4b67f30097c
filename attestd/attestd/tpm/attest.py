"""What a TPM signs: TPMS_ATTEST.

Proves that the bytes are exactly one attestation structure, of any type. Does not judge it: whether the magic is the
TPM's, the type the one that was asked for, the selection the requested one and the nonce ours is the evidence room's
business, which therefore sees structures that are wrong on purpose. TPM 2.0 part 2, 10.12.
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error
from typing import Final

from attestd.protocol.limits import MAX_PCR_SELECTIONS, MAX_TPM_STRUCTURE, PCR_COUNT
from attestd.tpm.algorithms import HASH_NAMES
from attestd.tpm.cursor import Cursor
from attestd.tpm.errors import Malformed

TPM_GENERATED_VALUE: Final = 0xFF544347
"""The magic that a restricted key signs only when the TPM itself made the structure (part 2, 6.2)."""

KINDS: Final = {
    0x8014: "nv",
    0x8015: "command-audit",
    0x8016: "session-audit",
    0x8017: "certify",
    0x8018: "quote",
    0x8019: "time",
    0x801A: "creation",
    0x801C: "nv-digest",
}
"""TPM_ST_ATTEST_* (part 2, 6.9). A tag that is not here parses as "unknown"."""


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """TPMS_CLOCK_INFO: milliseconds of power, resets, restarts, and whether the clock may have run backwards."""

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """One bank of a selection: PCR indices in ascending order, and the bytes its bitmap took."""

    algorithm: str
    pcrs: tuple[int, ...]
    size_of_select: int


@dataclass(frozen=True, slots=True)
class QuoteBody:
    """TPMS_QUOTE_INFO: selections in the order in which the TPM hashed them, and the digest over the PCR values."""

    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class CertifyBody:
    """TPMS_CERTIFY_INFO: name and qualified name of the certified object."""

    name: bytes
    qualified_name: bytes


@dataclass(frozen=True, slots=True)
class OtherBody:
    """The body of any other type, unread."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Attest:
    """One TPMS_ATTEST. `kind` is the name of `tag` in `KINDS`, or "unknown"."""

    magic: int
    tag: int
    kind: str
    qualified_signer: bytes
    extra_data: bytes
    clock: ClockInfo
    firmware_version: int
    body: QuoteBody | CertifyBody | OtherBody


_HEAD: Final = Struct(">IHH")
_SIZE: Final = Struct(">H")
_CLOCK: Final = Struct(">QIIBQ")
_COUNT: Final = Struct(">I")
_SELECTION: Final = Struct(">HB")
_MAX_SELECT: Final = 4
"""Bytes of a bitmap: implementations send 3 (24 PCRs) or 4; more would only name PCRs that do not exist."""
_BITS: Final = tuple(
    tuple(tuple(8 * byte + bit for bit in range(8) if value >> bit & 1) for value in range(256))
    for byte in range(_MAX_SELECT)
)


def parse_attest(data: bytes) -> Attest:
    """Read one TPMS_ATTEST that fills data exactly.

    *Raises* `Malformed`: truncated, trailing, too long, an unknown bank, a PCR above 23, a flag that is neither 0 nor 1.
    """
    if len(data) > MAX_TPM_STRUCTURE:
        raise Malformed("structure-size", f"an attestation of {len(data)} bytes")
    try:
        magic, tag, size = _HEAD.unpack_from(data)
        position = 8 + size
        qualified_signer = data[8:position]
        (size,) = _SIZE.unpack_from(data, position)
        start = position + 2
        position = start + size
        extra_data = data[start:position]
        # A slice may fall short silently; this unpack at its end cannot.
        clock, resets, restarts, safe, firmware = _CLOCK.unpack_from(data, position)
    except error:
        raise Malformed("structure-truncated", f"an attestation of {len(data)} bytes", where=len(data)) from None
    if safe > 1:
        raise Malformed("attest-flag", f"the clock's safe flag is {safe}", where=position + 16)
    kind = KINDS.get(tag, "unknown")
    body: QuoteBody | CertifyBody | OtherBody
    position += _CLOCK.size
    if kind == "quote":
        body = _quote(data, position)
    elif kind == "certify":
        body = _certify(data, position)
    else:
        body = OtherBody(data[position:])
    return Attest(
        magic, tag, kind, qualified_signer, extra_data, ClockInfo(clock, resets, restarts, safe == 1), firmware, body
    )


def _quote(data: bytes, position: int) -> QuoteBody:
    """Read TPMS_QUOTE_INFO from position to the end of data (part 2, 10.12.4)."""
    try:
        (count,) = _COUNT.unpack_from(data, position)
        if count > MAX_PCR_SELECTIONS:
            raise Malformed("pcr-selection-count", f"{count} PCR selections", where=position)
        position += 4
        selections = []
        for _ in range(count):
            number, size = _SELECTION.unpack_from(data, position)
            position += 3
            selections.append(_selection(number, data[position : position + size], size, position))
            position += size
        (size,) = _SIZE.unpack_from(data, position)
    except error:
        raise Malformed("structure-truncated", "a quote that ends early", where=len(data)) from None
    position += 2
    _expect_size(data, position + size)
    return QuoteBody(tuple(selections), data[position:])


@lru_cache(maxsize=256)
def _selection(number: int, bitmap: bytes, size: int, where: int) -> PcrSelection:
    """Turn one bank's bitmap into indices: bit 0 of the first byte is PCR 0 (part 2, 10.6.1).

    A memo of a pure function: a fleet is asked for one selection.
    """
    algorithm = HASH_NAMES.get(number)
    if algorithm is None:
        raise Malformed("algorithm-unknown", f"a PCR bank of algorithm 0x{number:04x}", where=where)
    if not 0 < size <= _MAX_SELECT:
        raise Malformed("pcr-selection-size", f"a PCR bitmap of {size} bytes", where=where)
    if len(bitmap) != size:
        raise Malformed("structure-truncated", "a PCR bitmap that ends early", where=where)
    pcrs: tuple[int, ...] = ()
    for table, value in zip(_BITS, bitmap, strict=False):
        pcrs += table[value]
    if pcrs and pcrs[-1] >= PCR_COUNT:
        raise Malformed("pcr-index", f"PCR {pcrs[-1]} is selected", where=where)
    return PcrSelection(algorithm, pcrs, size)


def _certify(data: bytes, position: int) -> CertifyBody:
    """Read TPMS_CERTIFY_INFO from position to the end of data (part 2, 10.12.3)."""
    cursor = Cursor(data)
    cursor.position = position
    body = CertifyBody(cursor.sized2b(), cursor.sized2b())
    cursor.expect_end()
    return body


def _expect_size(data: bytes, end: int) -> None:
    """Refuse data that does not end exactly at end."""
    if end > len(data):
        raise Malformed("structure-truncated", f"{end - len(data)} bytes are missing", where=len(data))
    if end < len(data):
        raise Malformed("structure-trailing", f"{len(data) - end} bytes after the structure", where=end)
