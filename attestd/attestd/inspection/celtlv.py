"""Canonical Event Logs in TLV: type (one byte), length (four, big-endian), value, nested for digests and contents.

Proves the form within bounds. What a content means is known for firmware events, IMA's entries, systemd's texts and the launcher of
Google's Container-Optimized OS; others are counted and shown in hexadecimal.
TCG Canonical Event Log Format 1.0, 5.1.
"""

from struct import Struct
from typing import Final

from attestd.inspection.canonical import Content, Record, check_count, digests_of, register_of
from attestd.inspection.contents import hex_excerpt, ima_content, readable
from attestd.protocol.limits import MAX_EVENT_DATA
from attestd.tpm.errors import Malformed

_HEADER: Final = Struct(">BI")
_NUMBER, _PCR, _NV_INDEX, _DIGESTS, _CC_REGISTER = 0, 1, 2, 3, 108
_REGISTERS: Final = frozenset({_PCR, _NV_INDEX, _CC_REGISTER})
_KINDS: Final = {4: "cel", 5: "pcclient_std", 7: "ima_template", 8: "ima_tlv", 9: "systemd", 80: "cos"}
_COS: Final = (
    "image reference",
    "image digest",
    "restart policy",
    "image id",
    "argument",
    "environment",
    "overridden argument",
    "overridden environment",
    "launch separator",
    "memory monitor",
    "GPU's confidential mode",
)
_IMA_TLV: Final = ("path", "digest", "signature", "owner", "group", "mode", "time", "label")
_MANAGEMENT: Final = {1: "version", 2: "end of the firmware's log", 3: "time", 4: "change of state"}
_NAMES: Final = {"cos": dict(enumerate(_COS)), "ima_tlv": dict(enumerate(_IMA_TLV)), "cel": _MANAGEMENT}


def looks_like_tlv(data: bytes) -> bool:
    """Return whether the first record's number is followed by a register: no other log begins so."""
    if len(data) < 2 * _HEADER.size or data[0] != _NUMBER:
        return False
    size = int.from_bytes(data[1:5], "big")
    behind = 5 + size
    if not 0 < size <= 8 or len(data) < behind + 5:
        return False
    kind, length = _HEADER.unpack_from(data, behind)
    return kind in _REGISTERS and 0 < length <= 8


def read_tlv(data: bytes, records: list[Record]) -> None:
    """Append records. *Raises* `Malformed`."""
    position = 0
    while position < len(data):
        check_count(len(records))
        fields = []
        start = position
        for _ in range(4):
            kind, value, position = _take(data, position)
            fields.append((kind, value))
        records.append(_record(len(records), fields, start))


def _take(data: bytes, position: int) -> tuple[int, bytes, int]:
    if position + _HEADER.size > len(data):
        raise Malformed("structure-truncated", "a record ends early", where=position)
    kind, size = _HEADER.unpack_from(data, position)
    start = position + _HEADER.size
    if size > MAX_EVENT_DATA:
        raise Malformed("eventlog-event-size", f"a field of {size} bytes", where=position)
    if start + size > len(data):
        raise Malformed("structure-truncated", f"a field of {size} bytes, {len(data) - start} left", where=position)
    return kind, data[start : start + size], start + size


def _nested(data: bytes) -> list[tuple[int, bytes]]:
    position, found = 0, []
    while position < len(data):
        kind, value, position = _take(data, position)
        found.append((kind, value))
        check_count(len(found))
    return found


def _record(index: int, fields: list[tuple[int, bytes]], where: int) -> Record:
    (first, _), (where_kind, where_value), (third, digests), (kind, body) = fields
    if first != _NUMBER or where_kind not in _REGISTERS or third != _DIGESTS or not 0 < len(where_value) <= 8:
        raise Malformed("eventlog-record", f"record {index} has its fields in another order", where=where)
    number = int.from_bytes(where_value, "big")
    register = None if where_kind == _NV_INDEX else register_of(number, index)
    found = digests_of(_nested(digests), index)
    content, event = _content(kind, body)
    if register is None:
        content = Content(content.kind, f"NV index {number:#010x}: {content.text}", content.hashed)
    return Record(register, found, content, event)


def _content(kind: int, body: bytes) -> tuple[Content, tuple[int, bytes] | None]:
    name = _KINDS.get(kind, f"content {kind}")
    whole = _HEADER.pack(kind, len(body)) + body
    if name == "systemd":
        return Content(name, readable(body), (body, whole)), None
    try:
        parts = _nested(body)
    except Malformed:
        return Content(name, hex_excerpt(body), (body, whole)), None
    values = dict(parts)
    if name == "pcclient_std" and {0, 1} <= values.keys() and len(values[0]) <= 8:
        data = values[1]
        return Content(name, "", (data,)), (int.from_bytes(values[0], "big"), data)
    if name == "ima_template" and {0, 1} <= values.keys():
        return ima_content(values[0], values[1]), None
    names = _NAMES.get(name, {})
    text = "; ".join(f"{names.get(part, f'field {part}')}: {readable(value)}" for part, value in parts)
    return Content(name, text or "(empty)", (whole, body)), None
