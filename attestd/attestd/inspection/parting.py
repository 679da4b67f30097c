"""Where a log and a register part, when that can be known.

A register is a hash over all its events, so a difference says nothing of its place by itself. What can be found is one edit that
closes the gap: the log ends too late, one event too many or doubled, one whose digest was changed while its data was not, another
startup locality, one more extension that Windows or firmware is known to make behind the log. Proves, where it returns one, that
exactly this edit leads to the register. Work: at most `_MOST_STEPS` hashes for one register.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from attestd.tpm.algorithms import DIGEST_SIZES, hasher
from attestd.tpm.eventlog import Event, EventLog
from attestd.tpm.eventtypes import EventType
from attestd.tpm.pcr import initial_value

_MOST_STEPS: Final = 60_000
"""Square of the events of one register (about as many hashes, twice over): 245 events, where real registers have under 200."""
_LOCALITIES: Final = (None, 3, 4)


MOST_TOGETHER: Final = 500_000
"""The same over all registers of one report: a second of work for a log that was made to cost it."""


@dataclass(frozen=True, slots=True)
class Parting:
    """One edit that explains the register. `event` is the first event that log and register do not share, or None."""

    event: int | None
    text: str


def parting(log: EventLog, bank: str, pcr: int, target: bytes) -> Parting | None:
    """Return the edit of the log that leads to `target`, or None where no single one does.

    *Assumes* that the log declares the bank, and that its hash can be computed here.
    """
    events = [(event, digest) for event in log.events if (digest := _digest(event, bank, pcr)) is not None]
    start = initial_value(bank, pcr, startup_locality=log.startup_locality)
    values = [start]
    for _, digest in events:
        values.append(_extend(bank, values[-1], digest))
    return (
        _ends_early(events, values, target)
        or _other_start(log, bank, pcr, events, target)
        or _goes_on(bank, events, values[-1], target)
        or _one_edit(bank, events, values, target)
    )


def cost(log: EventLog, pcr: int) -> int:
    """Return what looking for an edit costs, in the unit of the bounds."""
    return sum(1 for event in log.events if event.pcr == pcr) ** 2


def _digest(event: Event, bank: str, pcr: int) -> bytes | None:
    if event.pcr != pcr or event.type == EventType.NO_ACTION:
        return None
    return dict(event.digests).get(bank)


def _extend(bank: str, value: bytes, digest: bytes) -> bytes:
    return bytes(hasher(bank)(value + digest).digest())


def _ends_early(events: list[tuple[Event, bytes]], values: list[bytes], target: bytes) -> Parting | None:
    if target not in values:
        return None
    index = values.index(target)
    if index == len(events):
        return None
    event = events[index][0].index
    rest = len(events) - index
    return Parting(event, f"the register stands before event {event}: {rest} of the log's events never reached it")


def _other_start(
    log: EventLog, bank: str, pcr: int, events: list[tuple[Event, bytes]], target: bytes
) -> Parting | None:
    if pcr != 0:
        return None
    for locality in _LOCALITIES:
        value = initial_value(bank, pcr, startup_locality=locality)
        for _, digest in events:
            value = _extend(bank, value, digest)
        if value == target:
            said = "claims none" if log.startup_locality is None else f"claims locality {log.startup_locality}"
            return Parting(None, f"the TPM was started from locality {locality or 0}, and the log {said}")
    return None


def _goes_on(bank: str, events: list[tuple[Event, bytes]], last: bytes, target: bytes) -> Parting | None:
    """Try what is known to be extended behind a log: caps of zeros, ones, a separator, the last event once more."""
    size = DIGEST_SIZES[bank]
    caps = {
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "a one": bytes(size - 1) + b"\x01",
        "a one in front": b"\x01" + bytes(size - 1),
        "a separator": bytes(hasher(bank)(bytes(4)).digest()),
        "a separator of ones": bytes(hasher(bank)(b"\xff" * 4).digest()),
        "an error separator": bytes(hasher(bank)(b"\x01\0\0\0").digest()),
    }
    behind = events[-1][0].index if events else None
    for name, digest in caps.items():
        if _extend(bank, last, digest) == target:
            place = f"behind event {behind}" if behind is not None else "without any event"
            return Parting(None, f"one more extension {place}, of {name}, which the log does not have: a cap")
    return None


def _one_edit(bank: str, events: list[tuple[Event, bytes]], values: list[bytes], target: bytes) -> Parting | None:
    """Try to leave out, double, exchange or mend one event after the other."""
    digests = [digest for _, digest in events]
    if len(digests) * len(digests) > _MOST_STEPS:
        return None
    for index, (event, digest) in enumerate(events):
        if _run(bank, values[index], digests[index + 1 :]) == target:
            return Parting(event.index, f"event {event.index} never reached the register")
        if _run(bank, values[index + 1], [digest, *digests[index + 1 :]]) == target:
            return Parting(event.index, f"event {event.index} was extended twice")
        mended = bytes(hasher(bank)(event.data).digest())
        if mended != digest and _run(bank, values[index], [mended, *digests[index + 1 :]]) == target:
            return Parting(
                event.index, f"the digest of event {event.index} is not the one that was extended, its data is"
            )
    for index, ((first, one), (second, other)) in enumerate(pairwise(events)):
        if _run(bank, values[index], [other, one, *digests[index + 2 :]]) == target:
            return Parting(first.index, f"events {first.index} and {second.index} stand in the wrong order")
    return None


def _run(bank: str, value: bytes, digests: list[bytes]) -> bytes:
    new = hasher(bank)
    for digest in digests:
        value = new(value + digest).digest()
    return value
