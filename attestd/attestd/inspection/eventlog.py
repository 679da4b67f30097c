"""A boot event log for a person: every event with what it means, and what it explains of given registers.

Proves what replay gives, and for each event whether its digest is that of its data. A damaged log is reported up to the damage.
Assumes nothing of the bytes. Does not say that anything was measured: without a quote, a log is what somebody wrote.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from struct import Struct
from typing import Any, Final

from attestd.evidence.boot import boot_facts
from attestd.evidence.claims import MUST_HASH
from attestd.evidence.types import BootFacts
from attestd.inspection.canonical import Content, collect, content_matches
from attestd.inspection.celjson import looks_like_cbor, looks_like_json, read_cbor_records, read_json
from attestd.inspection.celtlv import looks_like_tlv, read_tlv
from attestd.inspection.logyaml import RENDERED, looks_like_rendering, read_rendering
from attestd.inspection.parting import MOST_TOGETHER, Parting, cost, parting
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.registers import Values
from attestd.inspection.summaries import LONGEST, summarise
from attestd.protocol.limits import MAX_EVENT_LOG
from attestd.tpm.errors import Malformed
from attestd.tpm.eventdata import IPL_PREFIXES
from attestd.tpm.eventlog import INFORMATIONAL_PCR, Event, EventLog, read_event_log, replay
from attestd.tpm.eventtypes import EventType, event_type_name
from attestd.tpm.measured import measured
from attestd_pki.base64text import decode_base64

_GRUB: Final = tuple(prefix.encode() for prefix in IPL_PREFIXES)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=\s-]+")
_HEXADECIMAL = re.compile(rb"0{6}(?:[0-9A-Fa-f]{2}|\s)+")
"""A log in hexadecimal begins with a register's number or a record's: six zeros."""
_TXT: Final = b"TXT Event Container\0"
_TXT_HEADER: Final = Struct("<20s12sBBBBIII")
_FIRMWARES: Final = frozenset({"pcclient_std", RENDERED})
_NO_CONTENTS: Final[Mapping[int, Content]] = {}


@dataclass(frozen=True, slots=True)
class EventReport:
    """One event. `digests` are (algorithm, hex); `matches` is None where the digest is not one of the logged data.

    `content` is the content's type in a Canonical Event Log, and None in others.
    """

    index: int
    pcr: int
    type: str
    digests: tuple[tuple[str, str], ...]
    summary: str
    matches: bool | None
    content: str | None = None


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """One given register: `state` is explained, unexplained or not-logged; `parting` says where they part, if known."""

    bank: str
    pcr: int
    state: str
    expected: str
    replayed: str | None
    parting: Parting | None


@dataclass(frozen=True, slots=True)
class LogReport:
    """One log. `pcrs` are (bank, ((register, hex), …)) of each register that some event extends.

    `fault` is what is wrong with its form; everything else is then what was read in front of it.
    """

    log: EventLog
    pcrs: tuple[tuple[str, tuple[tuple[int, str], ...]], ...]
    events: tuple[EventReport, ...]
    registers: tuple[RegisterReport, ...] = ()
    fault: Malformed | None = None

    @property
    def reproduced(self) -> bool:
        """Return whether the log was read whole and no given register contradicts it."""
        return self.fault is None and all(register.state != "unexplained" for register in self.registers)

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        document: dict[str, Any] = {
            "outcome": "parsed" if self.fault is None else "refused",
            "reason": self.fault.code if self.fault else None,
            "message": str(self.fault) if self.fault else None,
            "damaged_at": self.fault.where if self.fault else None,
            "format": self.log.format,
            "algorithms": list(self.log.algorithms),
            "startup_locality": self.log.startup_locality,
            "padding": self.log.tail,
            "pcrs": {bank: {str(pcr): value for pcr, value in values} for bank, values in self.pcrs},
            "events": [_event_document(event) for event in self.events],
        }
        if self.registers:
            document["registers"] = _registers_document(self.registers)
        return document


def _event_document(event: EventReport) -> dict[str, Any]:
    document: dict[str, Any] = {
        "index": event.index,
        "pcr": event.pcr,
        "type": event.type,
        "digests": dict(event.digests),
        "summary": event.summary,
        "digest_matches_data": event.matches,
    }
    return document if event.content is None else {**document, "content_type": event.content}


def _registers_document(registers: tuple[RegisterReport, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in registers:
        found.setdefault(one.bank, {})[str(one.pcr)] = {
            "state": one.state,
            "expected": one.expected,
            "replayed": one.replayed,
            "parts_at_event": one.parting.event if one.parting else None,
            "why": one.parting.text if one.parting else None,
        }
    return found


def refused_log(code: str, message: str) -> dict[str, Any]:
    """Return the document of a log that cannot be read: the same keys, with nothing in them."""
    return {
        "outcome": "refused",
        "reason": code,
        "message": message,
        "damaged_at": None,
        "format": None,
        "algorithms": [],
        "startup_locality": None,
        "pcrs": {},
        "events": [],
    }


def inspect_event_log(data: bytes, registers: Values | None = None, *, behind: bytes | None = None) -> LogReport:
    """Return the report on a log in any form; with given register values also what it explains of them.

    `behind` is a second log, of what the running system measured behind the first: the registers go on with it.
    *Raises* `InspectionRefused` with the code of the parser, where there is nothing in front of the fault.
    """
    log, contents, fault = read_any_log(data)
    if fault is not None and not log.events and log.format != "crypto-agile":
        raise InspectionRefused(fault.code, str(fault))
    if behind is not None:
        later, said, other = read_any_log(behind)
        log, contents, fault = joined(log, later), {**contents, **_shifted(said, len(log.events))}, fault or other
    pcrs = tuple((bank, values) for bank in log.algorithms if (values := _replayed(log, bank)))
    events = tuple(_event(event, contents.get(event.index)) for event in log.events)
    return LogReport(log, pcrs, events, tuple(_registers(log, data, registers or {})), fault)


def read_any_log(data: bytes) -> tuple[EventLog, Mapping[int, Content], Malformed | None]:
    """Return a log (of firmware, canonical; in base64 or hexadecimal), what its records contain, and its first fault if any."""
    plain = _out_of_txt(unarmoured(data))
    if looks_like_tlv(plain):
        found, fault = collect(read_tlv, plain, "cel-tlv")
    elif looks_like_json(plain):
        found, fault = collect(read_json, plain, "cel-json")
    elif looks_like_rendering(plain):
        found, fault = collect(read_rendering, plain, "tpm2-yaml")
    elif looks_like_cbor(plain):
        found, fault = collect(read_cbor_records, plain, "cel-cbor")
    else:
        log, fault = read_event_log(plain)
        return log, _NO_CONTENTS, fault
    return found.log, found.contents, fault


def _out_of_txt(data: bytes) -> bytes:
    """Return the events in the container that Intel TXT keeps a TPM 1.2's log in (Software Development Guide, appendix F)."""
    if not data.startswith(_TXT) or len(data) < _TXT_HEADER.size:
        return data
    size, start, end = _TXT_HEADER.unpack_from(data)[-3:]
    if not _TXT_HEADER.size <= start <= end <= min(size, len(data)):
        raise InspectionRefused("structure-truncated", f"a container of {size} bytes with events from {start} to {end}")
    return data[start:end]


def joined(log: EventLog, later: EventLog) -> EventLog:
    """Return one log whose registers go on with the events of another, in the banks of the first."""
    banks = frozenset(log.algorithms)
    count = len(log.events)
    added = (
        event._replace(
            index=count + event.index, digests=tuple((bank, digest) for bank, digest in event.digests if bank in banks)
        )
        for event in later.events
    )
    return replace(log, events=(*log.events, *added))


def _shifted(contents: Mapping[int, Content], by: int) -> dict[int, Content]:
    return {by + index: content for index, content in contents.items()}


def unarmoured(data: bytes) -> bytes:
    """Return what base64 or hexadecimal holds, and anything else as it is; a log starts with a number, which is no text."""
    if len(data) > 2 * MAX_EVENT_LOG or 0 in data[:8]:
        return data
    try:
        if _HEXADECIMAL.fullmatch(data):
            return bytes.fromhex(data.decode("ascii"))
        if not _BASE64.fullmatch(data):
            return data
        return decode_base64(data)
    except ValueError:
        return data


def _replayed(log: EventLog, bank: str) -> tuple[tuple[int, str], ...]:
    """Return each register's last value; a bank that cannot be computed here has none."""
    try:
        found = replay(log, bank)
    except Malformed:
        return ()
    return tuple((pcr, value.hex()) for pcr, value in sorted(found.pcrs.items()))


def _event(event: Event, content: Content | None) -> EventReport:
    digests = tuple((bank, digest.hex()) for bank, digest in event.digests)
    if content is None or (content.kind == "pcclient_std" and event.pcr != INFORMATIONAL_PCR):
        said, matches = summarise(event), digest_matches_data(event)
    else:
        said, matches = content.text[:LONGEST], content_matches(event, content)
    kind = event_type_name(event.type) if content is None or content.kind in _FIRMWARES else content.kind
    return EventReport(event.index, event.pcr, kind, digests, said, matches, content.kind if content else None)


def digest_matches_data(event: Event) -> bool | None:
    """Return whether every digest of an event is one of its data, or None where it is of something that is not in the log.

    False only for types whose data is what is hashed on every machine, and where banks disagree with each other.
    """
    if event.type == EventType.NO_ACTION or not event.digests:
        return None
    verdicts = set()
    for bank, _ in event.digests:
        try:
            verdicts.add(measured(event, bank) is not None)
        except Malformed:
            continue  # a hash that cannot be computed here says nothing
    if verdicts == {True}:
        return True
    must = event.type in MUST_HASH or (event.type == EventType.IPL and event.pcr == 8 and event.data.startswith(_GRUB))
    return False if verdicts and (must or len(verdicts) == 2) else None


def _registers(log: EventLog, data: bytes, given: Mapping[str, Mapping[int, bytes]]) -> Iterator[RegisterReport]:
    digest = sha256(data).digest()
    spent = 0
    for bank, values in given.items():
        if bank not in log.algorithms:
            yield from (
                RegisterReport(bank, pcr, "not-logged", value.hex(), None, None) for pcr, value in values.items()
            )
            continue
        facts = boot_facts(log, log_digest=digest, bank=bank, pcrs=values)
        replayed = dict(_replayed(log, bank))
        for pcr, value in sorted(values.items()):
            state = _state(facts, pcr)
            spent += cost(log, pcr) if state == "unexplained" else 0
            where = parting(log, bank, pcr, value) if state == "unexplained" and spent <= MOST_TOGETHER else None
            yield RegisterReport(bank, pcr, state, value.hex(), replayed.get(pcr), where)


def _state(facts: BootFacts, pcr: int) -> str:
    if pcr in facts.explained:
        return "explained"
    return "unexplained" if pcr in facts.unexplained else "not-logged"
