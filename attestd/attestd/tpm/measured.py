"""Which bytes of an event its digest vouches for.

Proves, by hashing again, that some part of an event's data is what was extended. Without this a log can carry any data
beside genuine digests: the replay stays equal. Assumes the event belongs to a log whose replay a quote explained.
The event's type picks the convention to try and is itself not vouched for: two types that share a convention cannot be
told apart by a digest. PC client platform firmware profile 1.06, 10.4; conventions of boot loaders as observed.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from attestd.tpm.algorithms import hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.eventdata import IPL_PREFIXES, parse_variable
from attestd.tpm.eventlog import Event
from attestd.tpm.eventtypes import EventType

Form = Literal["data", "variable-data", "text", "section-name"]

_VARIABLES: Final = frozenset({EventType.EFI_VARIABLE_BOOT, EventType.EFI_VARIABLE_AUTHORITY})
_PREFIXES: Final = tuple(prefix.encode() for prefix in IPL_PREFIXES)
_MAX_SECTION: Final = 2 * 9
"""Bytes of a section name in UTF-16 with its terminator (PE/COFF: eight characters)."""


class Measured(NamedTuple):
    """What a digest vouches for.

    `form`: "data" the event data as it stands (less one byte that old shims pad with); "variable-data" only the value
    of a UEFI variable, so its name is a mere claim; "text" what follows a boot loader's prefix; "section-name" a
    section's name in ASCII, as systemd's stub measures it.
    """

    form: Form
    data: bytes


def measured(event: Event, bank: str) -> Measured | None:
    """Return the bytes that the event's digest of bank vouches for, or None where it vouches for none of the data.

    None is normal for images, firmware ranges and files: their digest covers contents that are not in the log.
    *Raises* `Malformed` ("eventlog-bank" where the event has no digest of bank).
    """
    expected = dict(event.digests).get(bank)
    if expected is None:
        raise Malformed("eventlog-bank", f"event {event.index} has no {bank} digest")
    new = hasher(bank)
    for form, data in _candidates(event):
        if new(data).digest() == expected:
            return Measured(form, data)
    return None


def _candidates(event: Event) -> Iterator[tuple[Form, bytes]]:
    """Yield what producers hash for events of this type, the likeliest first; at most four."""
    data = event.data
    if event.type == EventType.IPL:
        yield from _loader_candidates(data)
        return
    yield "data", data
    if event.type in _VARIABLES:
        try:
            variable = parse_variable(data)
        except Malformed:
            return
        if variable.slack:
            # Old shims hash one byte less than they log, both counted from a padded structure.
            yield "data", data[:-1]
        if event.type == EventType.EFI_VARIABLE_BOOT:
            yield "variable-data", variable.data


def _loader_candidates(data: bytes) -> Iterator[tuple[Form, bytes]]:
    if data.startswith(_PREFIXES):
        size = next(len(prefix) for prefix in _PREFIXES if data.startswith(prefix))
        yield "text", data[size:].rstrip(b"\0")
        yield "text", data[size:]
        return
    yield "data", data
    if 4 <= len(data) <= _MAX_SECTION and not any(data[1::2]):
        yield "section-name", data[::2]
