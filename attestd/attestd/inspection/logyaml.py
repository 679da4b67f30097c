"""A boot log as `tpm2_eventlog` renders it: what people keep and send when the log itself is gone.

Reads lines, no YAML: register, type and digests of each event, which is what replay needs; data only where the rendering has it
whole. Proves the form within bounds. That tool's own register values at the end are not believed and not read.
"""

import re
from typing import Final

from attestd.inspection.canonical import Content, Record, check_count, digests_of, register_of
from attestd.protocol.limits import MAX_EVENT_LOG, PCR_COUNT
from attestd.tpm.errors import Malformed
from attestd.tpm.eventtypes import EventType, TxtEventType

RENDERED: Final = "tpm2_eventlog"
_HEAD = re.compile(rb"---\s*\n(?:#[^\n]*\n)*(?:version: [0-9]+\s*\n)?events:\s*\n")
_DIGITS = re.compile(r"[0-9]{1,10}")
_FIELD = re.compile(r"\s*(?:- )?([A-Za-z]+): *(.*)")
_BLOCK: Final = ("|-", "|", "|+")
"""YAML's word for a text that begins on the next line."""
_MOST_LINES: Final = 400_000
_MOST_TEXT: Final = 12
"""Lines of an event's data that are kept as its text."""
_TYPES: Final = {f"EV_{one.name}": int(one) for one in EventType} | {
    f"TXT_{one.name}": int(one) for one in TxtEventType
}


def looks_like_rendering(data: bytes) -> bool:
    """Return whether the text begins as that tool's output does."""
    return _HEAD.match(data) is not None


def read_rendering(data: bytes, records: list[Record]) -> None:
    """Append records. *Raises* `Malformed`."""
    if len(data) > MAX_EVENT_LOG:
        raise Malformed("eventlog-size", f"a rendering of {len(data)} bytes")
    lines = data.decode("utf-8", "backslashreplace").split("\n", _MOST_LINES)
    event: list[str] = []
    for line in lines[:_MOST_LINES]:
        if line.startswith(("- EventNum:", "pcrs:")):
            _append(event, records)
            event = []
        if line.startswith("pcrs:"):
            return
        event.append(line)
    _append(event, records)


def _append(lines: list[str], records: list[Record]) -> None:
    if not lines or not lines[0].startswith("- EventNum:"):
        return
    check_count(len(records))
    record = _record(len(records), lines)
    # The header carries a digest of zeros under its SHA-1 form, in a log that may have no such bank.
    if record is not None:
        records.append(record)


def _record(index: int, lines: list[str]) -> Record | None:
    fields: dict[str, str] = {}
    algorithm, pairs, said = "sha1", [], []
    inside = False
    for line in lines:
        match = _FIELD.match(line)
        name, value = match.groups() if match is not None else ("", line.strip())
        value = value.strip().strip('"')
        value = "" if value in _BLOCK else value
        inside = inside or name in ("Event", "SpecID")
        if inside:
            said.append(f"{name}: {value}" if name and name != "Event" and value else value)
        elif name == "AlgorithmId":
            algorithm = value
        elif name == "Digest":
            pairs.append((algorithm, _hexadecimal(value, index)))
        if name and name not in fields:
            fields[name] = value
    if "SpecID" in fields:
        return None
    return _built(index, fields, pairs, [text for text in said if text])


def _built(index: int, fields: dict[str, str], pairs: list[tuple[str, bytes]], said: list[str]) -> Record:
    number = fields.get("PCRIndex", "")
    pcr = int(number) if number.isascii() and number.isdigit() and len(number) <= 10 else -1
    kind = _TYPES.get(fields.get("EventType", ""))
    if kind is None:
        kind = _number(fields.get("EventType", ""))
    digests = digests_of(pairs, index)
    data = _data(fields, kind)
    content = Content(RENDERED, "; ".join(said[:_MOST_TEXT]) or "(empty)", (data,) if data is not None else ())
    informational = kind == EventType.NO_ACTION and pcr >= PCR_COUNT
    register = None if informational else register_of(pcr, index)
    return Record(register, digests, content, (kind, data or b""))


def _data(fields: dict[str, str], kind: int) -> bytes | None:
    """Return an event's data where the rendering has it whole: in hexadecimal, of its said size; a startup locality."""
    if kind == EventType.NO_ACTION and _DIGITS.fullmatch(fields.get("StartupLocality", "")):
        return b"StartupLocality\0" + bytes((int(fields["StartupLocality"]) & 0xFF,))
    text = fields.get("Event", "")
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    size = fields.get("EventSize", "")
    return data if data and _DIGITS.fullmatch(size) and len(data) == int(size) else None


def _number(text: str) -> int:
    """Return a type that is written as a number ("Unknown event type: 0x…" in some versions)."""
    found = re.search(r"0x([0-9a-fA-F]{1,8})|([0-9]{1,10})", text)
    if found is None:
        raise Malformed("eventlog-record", f"there is no event type {text[:40]!r}")
    return int(found.group(1), 16) if found.group(1) else int(found.group(2)) & 0xFFFFFFFF


def _hexadecimal(text: str, index: int) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Malformed("eventlog-record", f"event {index} has a digest that is not hexadecimal") from None
