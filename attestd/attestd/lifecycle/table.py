"""The lifecycle of a device: one table, from which docs/lifecycle.md is generated.

A move that the table does not have raises and changes nothing. Three rules show in it: silence never restores trust
(SILENT leads down only); a ban is a person's word, so no proof lifts it; and trust is regained by ENROLLED alone, which
brings new keys, never by a routine proof.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What the verifier holds of a device."""

    PENDING = "pending"
    ADMITTED = "admitted"
    TRUSTED = "trusted"
    SUSPECT = "suspect"
    UNTRUSTED = "untrusted"
    EXPIRED = "expired"
    BANNED = "banned"
    RETIRED = "retired"


class Event(StrEnum):
    """What happens to a device. The first six come from evidence and time, the others from a person."""

    UNANNOUNCED = "unannounced"
    ENROLLED = "enrolled"
    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SILENT = "silent"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"
    BANNED = "banned"
    UNBANNED = "unbanned"
    RETIRED = "retired"
    READMITTED = "readmitted"


class IllegalMove(Exception):
    """The table has no such move; nothing was changed."""

    def __init__(self, state: State | None, event: Event) -> None:
        super().__init__(f"a device that is {state.value if state else 'unknown'} cannot be {event.value}")
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a state means: for people, for relying parties (`trusted`), and for the device's credentials (`keeps`)."""

    text: str
    trusted: bool
    keeps: bool


MEANINGS: dict[State, Meaning] = {
    State.PENDING: Meaning(
        "proved its TPM, but nobody announced it: it waits for a person", trusted=False, keeps=False
    ),
    State.ADMITTED: Meaning("announced, and has not passed an appraisal yet", trusted=False, keeps=False),
    State.TRUSTED: Meaning("its last proof met its profile, and it is in time", trusted=True, keeps=True),
    State.SUSPECT: Meaning(
        "its last proof met its profile with warnings: it keeps what it has and gets nothing new",
        trusted=False,
        keeps=True,
    ),
    State.UNTRUSTED: Meaning("its last proof failed: credentials withdrawn", trusted=False, keeps=False),
    State.EXPIRED: Meaning(
        "it fell silent, or must enrol again after a person's decision: credentials withdrawn",
        trusted=False,
        keeps=False,
    ),
    State.BANNED: Meaning("a person has shut it out: no proof lifts that", trusted=False, keeps=False),
    State.RETIRED: Meaning("taken out of service", trusted=False, keeps=False),
}

_S, _E = State, Event
MOVES: dict[tuple[State | None, Event], State] = {
    (None, _E.UNANNOUNCED): _S.PENDING,
    (None, _E.ENROLLED): _S.TRUSTED,
    (None, _E.WARNED): _S.UNTRUSTED,
    (None, _E.FAILED): _S.UNTRUSTED,
    (_S.PENDING, _E.UNANNOUNCED): _S.PENDING,
    (_S.PENDING, _E.APPROVED): _S.ADMITTED,
    (_S.PENDING, _E.ENROLLED): _S.TRUSTED,
    (_S.PENDING, _E.WARNED): _S.UNTRUSTED,
    (_S.PENDING, _E.FAILED): _S.UNTRUSTED,
    (_S.PENDING, _E.BANNED): _S.BANNED,
    (_S.PENDING, _E.RETIRED): _S.RETIRED,
    (_S.ADMITTED, _E.UNANNOUNCED): _S.PENDING,
    (_S.ADMITTED, _E.ENROLLED): _S.TRUSTED,
    (_S.ADMITTED, _E.WARNED): _S.UNTRUSTED,
    (_S.ADMITTED, _E.FAILED): _S.UNTRUSTED,
    (_S.ADMITTED, _E.WITHDRAWN): _S.PENDING,
    (_S.ADMITTED, _E.BANNED): _S.BANNED,
    (_S.ADMITTED, _E.RETIRED): _S.RETIRED,
    (_S.TRUSTED, _E.ENROLLED): _S.TRUSTED,
    (_S.TRUSTED, _E.PASSED): _S.TRUSTED,
    (_S.TRUSTED, _E.WARNED): _S.SUSPECT,
    (_S.TRUSTED, _E.FAILED): _S.UNTRUSTED,
    (_S.TRUSTED, _E.SILENT): _S.EXPIRED,
    (_S.TRUSTED, _E.WITHDRAWN): _S.UNTRUSTED,
    (_S.TRUSTED, _E.BANNED): _S.BANNED,
    (_S.TRUSTED, _E.RETIRED): _S.RETIRED,
    (_S.SUSPECT, _E.ENROLLED): _S.TRUSTED,
    (_S.SUSPECT, _E.PASSED): _S.TRUSTED,
    (_S.SUSPECT, _E.WARNED): _S.SUSPECT,
    (_S.SUSPECT, _E.FAILED): _S.UNTRUSTED,
    (_S.SUSPECT, _E.SILENT): _S.EXPIRED,
    (_S.SUSPECT, _E.WITHDRAWN): _S.UNTRUSTED,
    (_S.SUSPECT, _E.BANNED): _S.BANNED,
    (_S.SUSPECT, _E.RETIRED): _S.RETIRED,
    (_S.UNTRUSTED, _E.UNANNOUNCED): _S.UNTRUSTED,
    (_S.UNTRUSTED, _E.ENROLLED): _S.TRUSTED,
    (_S.UNTRUSTED, _E.WARNED): _S.UNTRUSTED,
    (_S.UNTRUSTED, _E.FAILED): _S.UNTRUSTED,
    (_S.UNTRUSTED, _E.WITHDRAWN): _S.UNTRUSTED,
    (_S.UNTRUSTED, _E.BANNED): _S.BANNED,
    (_S.UNTRUSTED, _E.RETIRED): _S.RETIRED,
    (_S.EXPIRED, _E.UNANNOUNCED): _S.EXPIRED,
    (_S.EXPIRED, _E.ENROLLED): _S.TRUSTED,
    (_S.EXPIRED, _E.WARNED): _S.UNTRUSTED,
    (_S.EXPIRED, _E.FAILED): _S.UNTRUSTED,
    (_S.EXPIRED, _E.WITHDRAWN): _S.UNTRUSTED,
    (_S.EXPIRED, _E.BANNED): _S.BANNED,
    (_S.EXPIRED, _E.RETIRED): _S.RETIRED,
    (_S.BANNED, _E.UNBANNED): _S.EXPIRED,
    (_S.BANNED, _E.RETIRED): _S.RETIRED,
    (_S.RETIRED, _E.READMITTED): _S.EXPIRED,
    (_S.TRUSTED, _E.READMITTED): _S.EXPIRED,
    (_S.SUSPECT, _E.READMITTED): _S.EXPIRED,
    (_S.UNTRUSTED, _E.READMITTED): _S.EXPIRED,
    (_S.EXPIRED, _E.READMITTED): _S.EXPIRED,
}
"""(state, or None for a device never seen; event) → next state."""


def move(state: State | None, event: Event) -> State:
    """Return the state after an event. Raises `IllegalMove` where the table has none."""
    try:
        return MOVES[(state, event)]
    except KeyError:
        raise IllegalMove(state, event) from None
