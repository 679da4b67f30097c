"""Events become components, in the order of the log.

Proves for each event which of its data is what was hashed. Assumes events of registers that the quote explains. What an
event means is decided in claims.py; what was decided for the same event before is remembered, since a fleet boots the same
images: the memo is of a pure function, bounded, and can only be slow or fast, never wrong.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from attestd.evidence.claims import MUST_HASH, Place, Seen, read_event
from attestd.evidence.labels import IMAGES, printable
from attestd.evidence.types import Component
from attestd.protocol.limits import EVENT_MEMO_DATA, EVENT_MEMO_ENTRIES, EVENT_MEMO_PARTS, MAX_EVENTS
from attestd.tpm.eventdata import IPL_PREFIXES
from attestd.tpm.eventlog import Event
from attestd.tpm.eventtypes import EventType
from attestd.tpm.measured import measured

_IPL: Final = int(EventType.IPL)
_NO_ACTION: Final = int(EventType.NO_ACTION)
_CONTENT_ELSEWHERE: Final = IMAGES | {
    int(EventType.EFI_PLATFORM_FIRMWARE_BLOB),
    int(EventType.EFI_PLATFORM_FIRMWARE_BLOB2),
    int(EventType.EFI_HANDOFF_TABLES),
}
_FILE_REGISTERS: Final = frozenset({9, 14})
_COMMAND_REGISTER, _BOOT_REGISTER, _UNIFIED_KERNEL_REGISTER = 8, 4, 11
_GRUB_PREFIXES: Final = tuple(prefix.encode() for prefix in IPL_PREFIXES)
_ANYWHERE: Final = Place()
_made: Final = tuple.__new__
"""What a named tuple's constructor ends in, without the call before it."""
_SHOWN: Final = 256
"""Characters of a label: enough to find the component, short enough for a line."""


class Examined(NamedTuple):
    """What one event is, without its place in the log. `altered`: its data should hash to its digest and does not.

    `more` are further (claim, value, label) of an event that holds several things.
    """

    claim: str
    value: str | None
    label: str
    altered: bool
    more: tuple[tuple[str, str, str], ...] = ()
    data: bytes | None = None


_TOO_MUCH: Final = Examined("unknown-event", None, "an event behind more things than a log can hold", False)


def components(events: Iterable[Event], bank: str, *, registers: frozenset[int]) -> Iterator[tuple[Component, bool]]:
    """Yield a component for every event that extended one of the registers, and whether its data was altered.

    An event that holds several things (Windows' do) is a component for each. Behind `MAX_EVENTS` such things nothing more of a log
    is understood, so that none becomes half a million components.

    *Assumes* that the quote explains the registers by these events.
    """
    places = {_BOOT_REGISTER: _ANYWHERE, _UNIFIED_KERNEL_REGISTER: _ANYWHERE}
    left = MAX_EVENTS
    for number, pcr, kind, digests, data in events:
        if pcr not in registers or kind == _NO_ACTION:
            continue
        for name, digest in digests:  # noqa: B007 - used behind the loop
            if name == bank:
                break
        else:
            continue  # not extended in this bank
        place = places.get(pcr, _ANYWHERE)
        examine = _remembered if len(data) <= EVENT_MEMO_DATA else _examine
        try:
            found = examine(pcr, kind, digest, data, bank, place) if left >= 0 else _TOO_MUCH
        except _HoldsMuch as much:
            found = much.found
        if pcr in places:
            places[pcr] = _next_place(place, found)
        claim, value, label, altered, more, content = found
        yield _made(Component, (claim, pcr, number, digest, value, label, content)), altered
        if more:
            left -= len(more)
            for claim, value, label in more:
                yield Component(claim, pcr, number, digest, value, label), False


def _next_place(place: Place, found: Examined) -> Place:
    return Place(
        place.separated or found.claim == "separator",
        place.loader_seen or found.claim == "loader",
        # A section's content follows its name and nothing else does.
        found.value if found.claim == "uki-section" else None,
    )


def _examine(pcr: int, kind: int, digest: bytes, data: bytes, bank: str, place: Place) -> Examined:
    event = Event(0, pcr, kind, ((bank, digest),), data)
    proof = None if _is_about_something_else(event) else measured(event, bank)
    claim, value, label, parts, content = read_event(Seen(event, proof, place))
    more = tuple((name, text, printable(text[:_SHOWN])) for name, text in parts) if parts else ()
    return Examined(claim, value, printable(label[:_SHOWN]), proof is None and _must_hash(event), more, content)


class _HoldsMuch(Exception):
    """An event that is not remembered: thousands of its kind would fill the memory."""

    def __init__(self, found: Examined) -> None:
        self.found = found


@lru_cache(maxsize=EVENT_MEMO_ENTRIES)
def _remembered(pcr: int, kind: int, digest: bytes, data: bytes, bank: str, place: Place) -> Examined:
    found = _examine(pcr, kind, digest, data, bank, place)
    if len(found.more) > EVENT_MEMO_PARTS:
        raise _HoldsMuch(found)  # what is raised is not kept
    return found


def _is_about_something_else(event: Event) -> bool:
    """Return whether the digest is that of an image, a firmware volume or a file: hashing the data would be in vain."""
    return event.type in _CONTENT_ELSEWHERE or (event.type == _IPL and event.pcr in _FILE_REGISTERS)


def _must_hash(event: Event) -> bool:
    if event.type in MUST_HASH:
        return True
    return event.pcr == _COMMAND_REGISTER and event.type == _IPL and event.data.startswith(_GRUB_PREFIXES)
