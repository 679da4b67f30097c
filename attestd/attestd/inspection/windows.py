"""What Windows' boot manager logs: tagged events inside of events, as far as their meaning is public.

Each is a 32-bit type, a 32-bit size and data; containers hold further ones. Two levels are read and no more, so that nothing a
log says makes this deeper. Names and types: wbcl.h of the Windows Driver Kit.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from attestd.tpm.errors import Malformed

_HEADER: Final = Struct("<II")
_CONTAINER: Final = 0x4000_0000
_MOST: Final = 256
"""Tagged events in one container: a loaded module has under 20."""
_LONGEST_TEXT: Final = 300

NAMES: Final = {
    0x40010001: "trust boundary",
    0x40010002: "early-launch anti-malware",
    0x40010003: "loaded module",
    0xC0010004: "trust point",
    0x40010005: "kernel soft restart",
    0x00020001: "information",
    0x00020002: "boot counter",
    0x00020003: "transfer of control",
    0x00020004: "application returned",
    0x00020005: "BitLocker unlock",
    0x00020006: "event counter",
    0x00020007: "counter id",
    0x00020009: "application security version",
    0x0002000A: "security version chain",
    0x0002000B: "memory overwrite state",
    0x00040001: "boot debugging",
    0x00040002: "boot revocation list",
    0x00050001: "kernel debugger",
    0x00050002: "code integrity",
    0x00050003: "test signing",
    0x00050004: "data execution prevention",
    0x00050005: "safe mode",
    0x00050006: "Windows PE",
    0x00050007: "physical address extension",
    0x00050008: "device of the system",
    0x00050009: "system root",
    0x0005000A: "hypervisor launch",
    0x0005000B: "hypervisor path",
    0x0005000C: "hypervisor IOMMU policy",
    0x0005000D: "hypervisor debugging",
    0x0005000E: "driver load policy",
    0x0005000F: "code integrity policy",
    0x00050012: "virtual secure mode launch",
    0x00050013: "system revocation list",
    0x00050020: "virtual secure mode key",
    0x00050021: "flight signing",
    0x00060001: "no authority",
    0x00060002: "authority's key",
    0x00070001: "file",
    0x00070002: "image size",
    0x00070003: "hash algorithm",
    0x00070004: "Authenticode digest",
    0x00070005: "issuer",
    0x00070006: "authority's serial",
    0x00070007: "image base",
    0x00070008: "publisher",
    0x00070009: "authority's SHA-1",
    0x0007000A: "image validated",
    0x0007000B: "module security version",
    0x80080001: "quote",
    0x80080002: "quote's signature",
    0x80080003: "attestation key id",
    0x80080004: "attestation key digest",
    0x00090001: "anti-malware key name",
    0x00090002: "anti-malware configuration",
    0x00090003: "anti-malware policy",
    0x00090004: "anti-malware measured",
    0x8F3B22EC: "Linux' start code: initial ramdisk",
    0x8F3B22ED: "Linux' start code: command line",
}
_TEXTS: Final = frozenset({0x00070001, 0x00050009, 0x0005000B, 0x00070005, 0x00070008, 0x00090001, 0x00050008})
_TOLD: Final = frozenset({0x00070001, 0x00070004, 0x00070008})
"""What is told of a loaded module: its file, its digest, its publisher."""


def tagged(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, data) of the tagged events that fill `data`. *Raises* `Malformed` ("eventdata-size", "eventdata-count")."""
    position = count = 0
    while position < len(data):
        count += 1
        if count > _MOST or position + _HEADER.size > len(data):
            raise Malformed("eventdata-count", "tagged events that do not end where they should", where=position)
        kind, size = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size
        position = start + size
        if position > len(data):
            raise Malformed("eventdata-size", f"a tagged event of {size} bytes", where=start)
        yield kind, data[start:position]


def tagged_text(data: bytes) -> str:
    """Return a tagged event in words. Other producers use the same form with types of their own (Linux' start code)."""
    return "; ".join(_one(kind, body) for kind, body in tagged(data))


def _one(kind: int, body: bytes) -> str:
    name = _name(kind)
    if kind not in NAMES or not kind & _CONTAINER:
        return f"{name}: {_value(kind, body)}"
    try:
        inner = list(tagged(body))
    except Malformed:
        return f"{name}: {_value(kind, body)}"
    modules = kind == 0x40010003
    told = [(k, b) for k, b in inner if not modules or k in _TOLD]
    return f"{name} ({', '.join(f'{_name(k)} {_value(k, b)}' for k, b in told)})"


def _name(kind: int) -> str:
    return NAMES.get(kind, f"tag 0x{kind:08x}")


def _value(kind: int, body: bytes) -> str:
    if kind in _TEXTS or _is_wide(body):
        return body.decode("utf-16-le", "replace").rstrip("\0")[:_LONGEST_TEXT]
    text = body.rstrip(b"\0")
    if (
        (kind not in NAMES or kind >> 16 == 0x8F3B)
        and len(text) > 3
        and text.isascii()
        and text.decode("ascii").isprintable()
    ):
        return text.decode("ascii")[:_LONGEST_TEXT]
    if kind & _CONTAINER:
        return f"{len(body)} bytes"
    return str(int.from_bytes(body, "little")) if 0 < len(body) <= 8 else body[:48].hex() or "(empty)"


def _is_wide(body: bytes) -> bool:
    return len(body) >= 8 and len(body) % 2 == 0 and not any(body[1:-2:2]) and all(body[:-2:2])


def trust_point_text(data: bytes) -> str:
    """Return what Windows logs outside of every register: a quote of its own over what came before."""
    try:
        return f"Windows: {tagged_text(data)}"
    except Malformed:
        return f"Windows: a trust point of {len(data)} bytes"
