"""The boot event log: TCG crypto-agile and SHA-1 formats, and their replay into register values.

Proves that the bytes are one log, within bounds, with only declared algorithms; and what registers would hold had
exactly these events been extended. It does not prove that they were: that is the quote's part. Nothing in an event but
its digest is ever authenticated here: not its type, and not its data (decoders re-hash first).
PC client platform firmware profile 1.06, 10; confidential-computing logs (UEFI 2.10, 38.4) have the same shape with
measurement registers in place of PCR numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error
from typing import Final, Literal, NamedTuple

from attestd.protocol.limits import MAX_DIGESTS, MAX_EVENT_DATA, MAX_EVENT_LOG, MAX_EVENTS, PCR_COUNT
from attestd.tpm.algorithms import DIGEST_SIZES, HASH_NAMES, hasher
from attestd.tpm.cursor import Cursor
from attestd.tpm.errors import Malformed
from attestd.tpm.eventtypes import EventType as EventType
from attestd.tpm.eventtypes import event_type_name as event_type_name
from attestd.tpm.pcr import initial_value

Format = Literal["crypto-agile", "sha1-legacy", "cel-tlv", "cel-json", "cel-cbor", "tpm2-yaml"]
"""The last four are encodings of a Canonical Event Log and a tool's rendering, which people inspect and no device sends."""

INFORMATIONAL_PCR: Final = 0xFFFFFFFF
"""The register number of events that extend nothing; Windows writes its trust points so (10.4.5)."""
_NO_ACTION: Final = int(EventType.NO_ACTION)
_FORMATS: Final[tuple[Format, Format]] = ("sha1-legacy", "crypto-agile")
_SPEC_ID: Final = b"Spec ID Event03\0"
_STARTUP_LOCALITY: Final = b"StartupLocality\0"
_LOCALITY_SIZE: Final = len(_STARTUP_LOCALITY) + 1
_HIGHEST_LOCALITY: Final = 4

_LEGACY: Final = Struct("<II20sI")
_MAX_LAYOUTS: Final = 16
"""Headers remembered, each under 1 KiB: a fleet has a few of them; what cannot be read is not remembered."""
_made: Final = tuple.__new__
"""What a named tuple's constructor ends in, without the call before it."""


class Event(NamedTuple):
    """One event; a tuple, since a log has hundreds of them.

    `index` counts from 0 behind the Spec ID header; `digests` are (algorithm, digest), declared order.
    """

    index: int  # type: ignore[assignment]  # hides a method of tuples that nobody needs here
    pcr: int
    type: int
    digests: tuple[tuple[str, bytes], ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class EventLog:
    """One log. `startup_locality` is None where the log does not say; `tail` counts padding bytes behind the events."""

    format: Format
    algorithms: tuple[str, ...]
    startup_locality: int | None
    events: tuple[Event, ...]
    tail: int


@dataclass(frozen=True, slots=True)
class Replay:
    """What a log explains in one bank.

    `pcrs` and `initial` hold the last and the first value of every register that some event extends. `missing` are the
    indices of extending events that carry no digest for this bank: their registers cannot be explained by it.
    """

    bank: str
    pcrs: Mapping[int, bytes]
    initial: Mapping[int, bytes]
    missing: tuple[int, ...]


def parse_event_log(data: bytes) -> EventLog:
    """Read a whole log; padding of 0x00 or 0xFF behind the last event is counted and dropped.

    The first event tells the format (10.2.2): one with a "Spec ID Event03" signature heads a crypto-agile log, anything
    else is already an event of a SHA-1 log.
    *Raises* `Malformed` ("eventlog-…", "structure-truncated").
    """
    log, fault = read_event_log(data)
    if fault is not None:
        raise fault
    return log


def read_event_log(data: bytes) -> tuple[EventLog, Malformed | None]:
    """Read a log as far as it can be read: its events up to the first fault, and the fault or None.

    For people who look at a damaged log. Nothing may be decided by events in front of a fault: `parse_event_log` has none.
    """
    events: list[Event] = []
    agile = False
    algorithms: tuple[str, ...] = ("sha1",)
    try:
        if len(data) > MAX_EVENT_LOG:
            raise Malformed("eventlog-size", f"a log of {len(data)} bytes", where=0)
        _, kind, _, size = _legacy_header(data, 0)
        start = _LEGACY.size
        agile = kind == _NO_ACTION and data.startswith(_SPEC_ID, start)
        if agile:
            algorithms = ()
            layout = _layout(_event_data(data, start, size))
            algorithms = layout.algorithms
            end = _agile_events(data, start + size, layout, events)
        else:
            end = _legacy_events(data, events)
        locality = startup_locality(events)
    except Malformed as fault:
        return EventLog(_FORMATS[agile], algorithms, None, tuple(events), 0), fault
    return EventLog(_FORMATS[agile], algorithms, locality, tuple(events), len(data) - end), None


class _Layout:
    """How an event looks that carries every declared algorithm in the declared order, which nearly all events do."""

    __slots__ = ("algorithms", "expected", "full", "ids")

    def __init__(self, declared: tuple[tuple[int, str], ...]) -> None:
        self.ids = dict(declared)
        self.algorithms = tuple(name for _, name in declared)
        digests = "".join(f"H{DIGEST_SIZES[name]}s" for name in self.algorithms)
        self.full = Struct(f"<III{digests}I")
        # What unpacking must yield at the places of the algorithm identifiers.
        self.expected = tuple(self.ids)


def _spec_id(header: bytes) -> tuple[tuple[int, str], ...]:
    """Read TCG_EfiSpecIDEvent (10.4.5.1): the declared algorithms as (identifier, name)."""
    cursor = Cursor(header, order="<")
    cursor.take(len(_SPEC_ID) + 4)  # signature and platform class
    minor, major, _errata, _uintn = cursor.u8(), cursor.u8(), cursor.u8(), cursor.u8()
    if major != 2:
        raise Malformed("eventlog-version", f"log specification {major}.{minor}")
    count = cursor.u32()
    if not 0 < count <= MAX_DIGESTS:
        raise Malformed("eventlog-algorithm-count", f"{count} digest algorithms are declared")
    declared: dict[int, str] = {}
    for _ in range(count):
        number, size = cursor.u16(), cursor.u16()
        name = HASH_NAMES.get(number)
        if name is None:
            raise Malformed("eventlog-algorithm-unknown", f"algorithm 0x{number:04x} is declared")
        if number in declared:
            raise Malformed("eventlog-algorithm-duplicate", f"{name} is declared twice")
        if size != DIGEST_SIZES[name]:
            raise Malformed("eventlog-algorithm-size", f"{name} is declared with digests of {size} bytes")
        declared[number] = name
    cursor.take(cursor.u8())  # vendor information
    if cursor.remaining:
        raise Malformed("eventlog-header", f"{cursor.remaining} bytes behind the vendor information")
    return tuple(declared.items())


@lru_cache(maxsize=_MAX_LAYOUTS)
def _layout(header: bytes) -> _Layout:
    return _Layout(_spec_id(header))


def _agile_events(data: bytes, position: int, layout: _Layout, events: list[Event]) -> int:
    """Append TCG_PCR_EVENT2 structures from position on; return where they end (10.2.1)."""
    full, expected, names, width = layout.full, layout.expected, layout.algorithms, len(layout.algorithms)
    padding = _padding_start(data)
    while position < padding:
        index = len(events)
        try:
            fields = full.unpack_from(data, position)
        except error:
            fields = ()
        if fields and fields[2] == width and fields[3:-1:2] == expected:
            pcr, kind, size = fields[0], fields[1], fields[-1]
            digests = tuple(zip(names, fields[4:-1:2]))  # noqa: B905 - both have width places, by the struct's shape
            start = position + full.size
        else:
            pcr, kind, digests, size, start = _uneven_event(data, position, layout)
        if pcr >= PCR_COUNT or size > MAX_EVENT_DATA or index >= MAX_EVENTS:
            _check_bounds(pcr, kind, size, index, position)
        position = start + size
        body = data[start:position]
        if len(body) != size:
            raise Malformed("structure-truncated", f"event {index} says {size} bytes, {len(body)} left", where=start)
        events.append(_made(Event, (index, pcr, kind, digests, body)))
    return position


def _uneven_event(
    data: bytes, position: int, layout: _Layout
) -> tuple[int, int, tuple[tuple[str, bytes], ...], int, int]:
    """Read an event whose digests are fewer than declared or in another order (both occur on real machines).

    Windows, started by firmware with two banks, logs its own events for one bank only.
    """
    cursor = Cursor(data, order="<")
    cursor.position = position
    pcr, kind, count = cursor.u32(), cursor.u32(), cursor.u32()
    if not 0 < count <= len(layout.ids):
        raise Malformed(
            "eventlog-digest-count", f"{count} digests where {len(layout.ids)} are declared", where=position
        )
    found: dict[str, bytes] = {}
    for _ in range(count):
        where = cursor.position
        number = cursor.u16()
        name = layout.ids.get(number)
        if name is None:
            raise Malformed("eventlog-algorithm-undeclared", f"a digest of algorithm 0x{number:04x}", where=where)
        if name in found:
            raise Malformed("eventlog-digest-duplicate", f"two digests of {name} in one event", where=where)
        found[name] = cursor.take(DIGEST_SIZES[name])
    digests = tuple((name, found[name]) for name in layout.algorithms if name in found)
    return pcr, kind, digests, cursor.u32(), cursor.position


def _legacy_events(data: bytes, events: list[Event]) -> int:
    """Append TCG_PCClientPCREvent structures; return where they end (10.2.3)."""
    position, padding = 0, _padding_start(data)
    if not padding:
        raise Malformed("structure-truncated", f"{len(data)} bytes of padding, and no event", where=0)
    while position < padding:
        index = len(events)
        pcr, kind, digest, size = _legacy_header(data, position)
        _check_bounds(pcr, kind, size, index, position)
        start = position + _LEGACY.size
        body = _event_data(data, start, size)
        position = start + size
        events.append(Event(index, pcr, kind, (("sha1", digest),), body))
    return position


def _legacy_header(data: bytes, position: int) -> tuple[int, int, bytes, int]:
    try:
        pcr, kind, digest, size = _LEGACY.unpack_from(data, position)
    except error:
        raise Malformed("structure-truncated", "an event's header ends early", where=position) from None
    return pcr, kind, digest, size


def _event_data(data: bytes, start: int, size: int) -> bytes:
    body = data[start : start + size] if size <= MAX_EVENT_DATA else b""
    if len(body) != size:
        code: Literal["eventlog-event-size", "structure-truncated"]
        code = "eventlog-event-size" if size > MAX_EVENT_DATA else "structure-truncated"
        raise Malformed(code, f"an event of {size} bytes, {len(data) - start} left", where=start)
    return body


def _check_bounds(pcr: int, kind: int, size: int, index: int, where: int) -> None:
    """Refuse a register that does not exist, an event too many and data too large.

    Number 0xFFFFFFFF is allowed to an event that by its type extends nothing.
    """
    if pcr >= PCR_COUNT and not (pcr == INFORMATIONAL_PCR and kind == _NO_ACTION):
        raise Malformed("eventlog-pcr-index", f"event {index} names PCR {pcr}", where=where)
    if size > MAX_EVENT_DATA:
        raise Malformed("eventlog-event-size", f"event {index} says {size} bytes", where=where)
    if index >= MAX_EVENTS:
        raise Malformed("eventlog-event-count", f"more than {MAX_EVENTS} events", where=where)


def _padding_start(data: bytes) -> int:
    """Return the offset from which data is one filler byte to the end: firmware hands out its whole log area.

    An event may itself end in such bytes, so this is only where padding can begin: a parser stops at the first event
    boundary at or behind it.
    """
    return min(len(data.rstrip(b"\0")), len(data.rstrip(b"\xff")))


def startup_locality(events: Sequence[Event]) -> int | None:
    """Return the locality of TPM2_Startup that the log claims, or None (10.4.5.3).

    The claim changes PCR 0's first value, so it has to come before anything is extended there, and once.
    *Raises* `Malformed` ("eventlog-locality").
    """
    locality: int | None = None
    extended = False
    for event in events:
        if event.pcr != 0:
            continue
        if event.type != _NO_ACTION:
            extended = True
        elif event.data.startswith(_STARTUP_LOCALITY):
            if extended or locality is not None or len(event.data) != _LOCALITY_SIZE:
                raise Malformed("eventlog-locality", f"event {event.index} claims a startup locality out of place")
            locality = event.data[-1]
            if locality > _HIGHEST_LOCALITY:
                raise Malformed("eventlog-locality", f"event {event.index} claims locality {locality}")
    return locality


def replay(log: EventLog, bank: str) -> Replay:
    """Extend every event of log into registers of bank, a hash algorithm's name.

    EV_NO_ACTION and events of register 0xFFFFFFFF extend nothing, whatever digests they carry (10.4.1).
    *Raises* `Malformed` ("eventlog-bank" where the log does not declare bank).
    """
    if bank not in log.algorithms:
        raise Malformed("eventlog-bank", f"the log has no {bank} digests")
    new = hasher(bank)
    place = log.algorithms.index(bank)
    width = len(log.algorithms)
    pcrs: dict[int, bytes] = {}
    initial: dict[int, bytes] = {}
    missing: list[int] = []
    for index, pcr, kind, digests, _ in log.events:
        if kind == _NO_ACTION:
            continue
        value = pcrs.get(pcr)
        digest = digests[place][1] if len(digests) == width else dict(digests).get(bank)
        if digest is None:
            missing.append(index)
            continue
        if value is None:
            value = initial[pcr] = initial_value(bank, pcr, startup_locality=log.startup_locality)
        pcrs[pcr] = new(value + digest).digest()
    return Replay(bank, pcrs, initial, tuple(missing))
