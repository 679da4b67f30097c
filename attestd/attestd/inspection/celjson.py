"""Canonical Event Logs in JSON and CBOR: a list of records, one record a line, or a sequence behind record separators.

Both encodings have the same records; CBOR names their fields by number. systemd writes the sequence while the system comes up.
Proves the form within bounds. Octets are written in hexadecimal by some and in base64 by others: the reading is taken whose hash is
the record's digest, else the first that can be read.
TCG Canonical Event Log Format 1.0, 5.2 and 5.3; RFC 7464; systemd's tpm2-util.c as observed.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from attestd.inspection.canonical import Content, Record, check_count, digests_of, register_of
from attestd.inspection.cborread import Tag, read_cbor, read_cbor_sequence
from attestd.inspection.contents import hex_excerpt, ima_content, readable
from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import MAX_EVENT_DATA
from attestd.tpm.algorithms import DIGEST_SIZES, hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.eventtypes import EventType
from attestd_pki.base64text import decode_base64

_SEPARATOR: Final = b"\x1e"
_SPACE: Final = b" \t\r\n"
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_FIELDS: Final[dict[object, str]] = {
    0: "recnum",
    1: "pcr",
    2: "nv_index",
    3: "digests",
    9: "content_type",
    10: "content",
}
_CONTENTS: Final[dict[object, str]] = {
    4: "cel",
    5: "pcclient_std",
    7: "ima_template",
    8: "ima_tlv",
    9: "systemd",
    80: "cos",
}
_REGISTERS: Final = ("pcr", "index", "register", "mr_index", "imr")
_NV_INDICES: Final = ("nv_index", "nvIndex", "nvindex", "nvIndexHandle")
_NV_NAMES: Final = ("nvIndexName", "nv_index_name", "nvPcr", "nvpcr")
"""systemd has names for the indices that it uses like registers."""
_TYPES: Final = {f"EV_{member.name}": int(member) for member in EventType}
_MOST_HASHED: Final = 16
"""Values of a content of unknown kind that are hashed to see whether one is what was measured."""
_CBOR_FIRST: Final = frozenset((*range(0x80, 0xC0), 0x9F, 0xBF))
"""First bytes of a CBOR list or map."""


def looks_like_json(data: bytes) -> bool:
    """Return whether the first byte is that of a record in JSON, or a record separator."""
    return data.lstrip(_SPACE + _SEPARATOR + b"\xef\xbb\xbf")[:1] in (b"{", b"[")


def looks_like_cbor(data: bytes) -> bool:
    """Return whether the first byte begins a list or a map; a log that starts with a register's number does not."""
    return data[:1] != b"" and data[0] in _CBOR_FIRST


def read_json(data: bytes, records: list[Record]) -> None:
    """Append records. *Raises* `Malformed`."""
    for item, where in _items(data):
        check_count(len(records))
        records.append(_record(len(records), item, where))


def read_cbor_records(data: bytes, records: list[Record]) -> None:
    """Append records. *Raises* `Malformed`, `InspectionRefused` (what is no CBOR)."""
    try:
        found = read_cbor(data)
    except InspectionRefused:
        found = read_cbor_sequence(data)
    for item in found if isinstance(found, list) else [found]:
        check_count(len(records))
        records.append(_record(len(records), _named(item), None))


def _named(item: Any) -> Any:
    """Return a record of CBOR with the names that JSON has for its fields."""
    item = item.value if isinstance(item, Tag) else item
    if not isinstance(item, dict):
        return item
    named: dict[object, Any] = {}
    for key, value in item.items():
        if key in _CONTENTS and not (key == 9 and isinstance(value, int)):
            named["content_type"], named["content"] = _CONTENTS[key], value
        else:
            named[_FIELDS.get(key, key)] = value
    return named


def _items(data: bytes) -> Iterator[tuple[Any, int]]:
    """Yield what the file holds one after the other, with the offset at which it begins."""
    if _SEPARATOR not in data:
        whole = data.removeprefix(b"\xef\xbb\xbf").strip(_SPACE)
        lines = whole.startswith(b"{") and b"\n" in whole
        if not lines or _is_json(whole):
            found = _json(whole, 0)
            for item in _listed(found):
                yield item, 0
            return
    position = 0
    for piece in re.split(rb"[\x1e\n]", data) if _SEPARATOR not in data else data.split(_SEPARATOR):
        if piece.strip(_SPACE):
            yield _json(piece, position), position
        position += len(piece) + 1


def _listed(found: Any) -> list[Any]:
    """Return the records of a document: a list, one record, or an object around a list."""
    if isinstance(found, dict) and "digests" not in found:
        found = next((value for value in found.values() if isinstance(value, list)), [found])
    return found if isinstance(found, list) else [found]


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _json(data: bytes, where: int) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("eventlog-record", "a record that is not JSON", where=where) from None


def _record(index: int, item: Any, where: int | None) -> Record:
    if not isinstance(item, dict):
        raise Malformed("eventlog-record", f"record {index} is no object", where=where)
    try:
        digests = digests_of(_digests(item.get("digests")), index)
        register = _first(item, *_REGISTERS)
        kind = item.get("content_type", item.get("type", "unknown"))
        kind = _CONTENTS.get(kind, kind) if isinstance(kind, int) else kind
        body = item.get("content", item.get("sub_event", item.get("event")))
        content, event = _content(str(kind)[:64], body, digests)
        if register is None:
            named = _first(item, *_NV_INDICES)
            if named is None and isinstance(body, dict) and content.kind == "systemd":
                named = _first(body, *_NV_NAMES)
            if named is None:
                raise Malformed("eventlog-record", f"record {index} names no register")
            shown = f"{named:#010x}" if isinstance(named, int) else str(named)[:80]
            return Record(
                None, digests, Content(content.kind, f"NV index {shown}: {content.text}", content.hashed), event
            )
        return Record(register_of(register, index), digests, content, event)
    except Malformed as fault:
        raise Malformed(fault.code, str(fault), where=where) from None


def _first(fields: Mapping[Any, Any], *names: object) -> Any:
    """Return what the first of these names holds, or None."""
    return next((fields[name] for name in names if name in fields), None)


def _digests(value: Any) -> Iterator[tuple[object, bytes]]:
    """Yield (algorithm, digest): from objects that name both, from objects of one pair, or from one object of all."""
    entries: Iterable[Any] = value if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for entry in entries:
        if isinstance(entry, dict) and len(entry) == 1:
            entry = next(iter(entry.items()))
        if isinstance(entry, dict):
            pair = (
                _first(entry, "hashAlg", "hash_alg", "alg", "algorithm", 0),
                _first(entry, "digest", "hash", "value", 1),
            )
        elif isinstance(entry, list | tuple) and len(entry) == 2:
            pair = (entry[0], entry[1])
        else:
            raise Malformed("eventlog-record", "a digest of another form")
        yield pair[0], _digest(pair[1])


def _digest(value: Any) -> bytes:
    sizes = set(DIGEST_SIZES.values())
    readings = _octets(value)
    for octets in readings if isinstance(value, bytes) else readings[:-1]:  # a text is no digest by itself
        if len(octets) in sizes:
            return octets
    raise Malformed("eventlog-record", "a digest that is neither hexadecimal nor base64")


def _octets(value: Any) -> tuple[bytes, ...]:
    """Return what a text may stand for: hexadecimal, base64, itself."""
    if isinstance(value, bytes):
        return (value,)
    if not isinstance(value, str) or len(value) > 2 * MAX_EVENT_DATA:
        return ()
    found = []
    text = value.removeprefix("0x")
    if _HEX.fullmatch(text) or not text:
        found.append(bytes.fromhex(text))
    with suppress(ValueError):
        found.append(decode_base64(text))
    return (*found, value.encode("utf-8", "surrogatepass"))


def _vouched(candidates: tuple[bytes, ...], digests: tuple[tuple[str, bytes], ...]) -> bytes:
    """Return the reading whose hash is the digest, else the first."""
    name, digest = digests[0]
    try:
        new = hasher(name)
    except Malformed:
        return candidates[0] if candidates else b""
    return next((one for one in candidates if new(one).digest() == digest), candidates[0] if candidates else b"")


def _content(kind: str, body: Any, digests: tuple[tuple[str, bytes], ...]) -> tuple[Content, tuple[int, bytes] | None]:
    fields = body if isinstance(body, dict) else {}
    if kind == "pcclient_std":
        number = _event_type(_first(fields, "event_type", "eventType", "type", 0))
        data = _vouched(_octets(_first(fields, "event_data", "eventData", "data", 1)), digests)
        if number is not None:
            return Content(kind, "", (data,)), (number, data)
    if kind in ("ima_template", "ima"):
        name = _octets_of_text(
            next((fields[n] for n in ("template_name", "templateName", "name", 0) if n in fields), "")
        )
        data = _vouched(
            _octets(next((fields[n] for n in ("template_data", "templateData", "data", 1) if n in fields), b"")),
            digests,
        )
        return ima_content(name, data), None
    if kind == "systemd":
        return _systemd(fields if fields else body), None
    hashed = tuple(one for value in (fields.values() if fields else [body]) for one in _octets(value))
    return Content(kind, _shown(body), hashed[:_MOST_HASHED]), None


def _octets_of_text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value or "").encode("utf-8", "surrogatepass")


def _event_type(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 1 << 32 else None
    if isinstance(value, str):
        if value in _TYPES:
            return _TYPES[value]
        try:
            return int(value, 0) & 0xFFFFFFFF
        except ValueError:
            return None
    return None


def _systemd(body: Any) -> Content:
    """Return what systemd measured: a word, the identity of a file system, of a machine; a key by what it belongs to."""
    if not isinstance(body, dict):
        text = readable(body) if isinstance(body, bytes) else str(body)
        return Content("systemd", text, _octets(body)[-1:])
    word = body.get("string")
    text = word if isinstance(word, str) else ""
    kind = body.get("eventType", body.get("event_type"))
    label = f"{kind}: " if isinstance(kind, str) and kind != text else ""
    return Content(
        "systemd", f"{label}{text}" or _shown(body), (text.encode("utf-8", "surrogatepass"),) if text else ()
    )


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return hex_excerpt(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_short(one)}" for key, one in list(value.items())[:8]) or "(empty)"
    return _short(value)


def _short(value: Any) -> str:
    text = readable(value) if isinstance(value, bytes) else str(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
