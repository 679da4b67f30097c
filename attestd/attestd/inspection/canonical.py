"""Canonical Event Logs (TCG CEL 1.0): logs of firmware, kernel and services in one form, with three encodings.

Reads TLV (confidential machines' launchers), JSON (a list, lines, or the sequence that systemd writes of what the running system
measures) and CBOR. Proves that the bytes are records, within bounds, and for each which of its contents its digests vouch for. Does
not prove that anything was measured. No device sends such a log: people inspect it.
TCG Canonical Event Log Format 1.0; RFC 7464 (JSON text sequences); systemd-pcrextend(8).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import MAX_DIGESTS, MAX_EVENT_LOG, MAX_EVENTS, PCR_COUNT
from attestd.tpm.algorithms import DIGEST_SIZES, HASH_NAMES, hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import INFORMATIONAL_PCR, Event, EventLog, Format, startup_locality
from attestd.tpm.eventtypes import EventType

CONTENT: Final = 0xFFFFFFFF
"""In place of a firmware's event type: a record with content of another kind. No specification gives this number a meaning."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a record says. `kind` is the content's type ("systemd", "ima_template", …), `text` for people.

    `hashed` are the bytes that producers of this kind hash, the likeliest first; none where the digest is of something else.
    """

    kind: str
    text: str
    hashed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One record as its encoding has it. `register` is None for an NV index, which `content` then names.

    `event` is (type, data) of a firmware's own event (pcclient_std), else None.
    """

    register: int | None
    digests: tuple[tuple[str, bytes], ...]
    content: Content
    event: tuple[int, bytes] | None = None


@dataclass(frozen=True, slots=True)
class CanonicalLog:
    """A log like any other, and what its records say, by index."""

    log: EventLog
    contents: Mapping[int, Content]


def canonical(form: Format, records: Iterable[Record]) -> CanonicalLog:
    """Return records as a log: what extends a register is an event of it, whatever its content is.

    *Raises* `Malformed` ("eventlog-locality").
    """
    events: list[Event] = []
    contents: dict[int, Content] = {}
    algorithms: dict[str, None] = {}
    kept = list(records)
    for record in kept:
        algorithms.update(dict.fromkeys(name for name, _ in record.digests))
    for index, record in enumerate(kept):
        given = dict(record.digests)
        digests = tuple((name, given[name]) for name in algorithms if name in given)
        kind, data = record.event or (CONTENT, b"")
        if record.register is None:
            events.append(Event(index, INFORMATIONAL_PCR, EventType.NO_ACTION, digests, data))
        else:
            events.append(Event(index, record.register, kind, digests, data))
        contents[index] = record.content
    return CanonicalLog(EventLog(form, tuple(algorithms), startup_locality(events), tuple(events), 0), contents)


def collect(
    read: Callable[[bytes, list[Record]], None], data: bytes, form: Format
) -> tuple[CanonicalLog, Malformed | None]:
    """Read records as far as they can be read: the log up to the first fault, and the fault or None."""
    records: list[Record] = []
    if len(data) > MAX_EVENT_LOG:
        return canonical(form, ()), Malformed("eventlog-size", f"a log of {len(data)} bytes", where=0)
    try:
        read(data, records)
    except Malformed as fault:
        return canonical(form, _without_claims(records)), fault
    except InspectionRefused as refusal:
        return canonical(form, _without_claims(records)), Malformed("eventlog-record", refusal.message)
    if not records:
        return canonical(form, ()), Malformed("eventlog-record", "there is no record")
    try:
        return canonical(form, records), None
    except Malformed as fault:
        return canonical(form, _without_claims(records)), fault


def _without_claims(records: Iterable[Record]) -> list[Record]:
    """Return records whose informational events claim nothing: what a damaged log claims of its start is not replayed."""
    return [
        record if record.event is None or record.event[0] != EventType.NO_ACTION else replace(record, event=(3, b""))
        for record in records
    ]


def register_of(number: object, index: int) -> int:
    """Return a register's number. *Raises* `Malformed` ("eventlog-pcr-index")."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < PCR_COUNT:
        raise Malformed("eventlog-pcr-index", f"record {index} names PCR {str(number)[:40]}")
    return number


def check_count(index: int) -> None:
    """Refuse a record too many. *Raises* `Malformed` ("eventlog-event-count")."""
    if index >= MAX_EVENTS:
        raise Malformed("eventlog-event-count", f"more than {MAX_EVENTS} records")


def digests_of(pairs: Iterable[tuple[object, bytes]], index: int) -> tuple[tuple[str, bytes], ...]:
    """Return digests by name out of (number or name, bytes). *Raises* `Malformed` ("eventlog-algorithm-…", "eventlog-digest-…")."""
    found: dict[str, bytes] = {}
    for algorithm, digest in pairs:
        name = _algorithm(algorithm)
        if name is None:
            raise Malformed("eventlog-algorithm-unknown", f"record {index} has a digest of {str(algorithm)[:40]!r}")
        if name in found:
            raise Malformed("eventlog-digest-duplicate", f"two digests of {name} in record {index}")
        if len(digest) != DIGEST_SIZES[name]:
            raise Malformed("eventlog-algorithm-size", f"record {index} has a {name} digest of {len(digest)} bytes")
        found[name] = digest
        if len(found) > MAX_DIGESTS:
            raise Malformed("eventlog-digest-count", f"record {index} has more than {MAX_DIGESTS} digests")
    if not found:
        raise Malformed("eventlog-digest-count", f"record {index} has no digest")
    return tuple(found.items())


def _algorithm(value: object) -> str | None:
    if isinstance(value, int):
        return HASH_NAMES.get(value)
    if not isinstance(value, str):
        return None
    name = value.lower().removeprefix("tpm_alg_").replace("-", "")
    name = {"sm3": "sm3_256", "sm3256": "sm3_256"}.get(name, name)
    if name.startswith("0x") and len(name) <= 6:
        try:
            return HASH_NAMES.get(int(name, 16))
        except ValueError:
            return None
    return name if name in DIGEST_SIZES else None


def content_matches(event: Event, content: Content) -> bool | None:
    """Return whether the digests are those of the content, or None where they are of something that is not in the log."""
    verdicts = set()
    for bank, digest in event.digests:
        try:
            new = hasher(bank)
        except Malformed:
            continue
        verdicts.add(any(new(data).digest() == digest for data in content.hashed))
    if verdicts == {True}:
        return True
    return False if len(verdicts) == 2 else None
