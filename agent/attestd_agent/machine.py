"""When the agent asks what: a state machine without I/O, clock or randomness.

It is one table, :data:`MOVES`. Each call of :func:`step` takes what is remembered, one event and one random number, and
gives what to remember and what to do. Two properties hold for every sequence of events, and the tests hold it to them:
it never stops (every state is left by an event that must come: an answer, a failure or a timer), and it never spins
(after a failure it sleeps for at least :data:`BASE_SECONDS`, but for at most :data:`MAX_REPEATS` repetitions that the
verifier itself asked for).

Assumes that whoever runs it carries out the actions in order, keeps exactly one request or timer at a time, and reports
how each ended. Does not judge evidence, and does not decide trust: the verifier's answers do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from attestd.protocol.messages import Attested, EnrolChallenge, Enrolled, Finding, Next
from attestd.protocol.reasons import Reason
from attestd_agent.errors import ExitCode, Problem

BASE_SECONDS: Final = 2.0
"""Shortest sleep after a failure, and the first step of the backoff."""
CAP_SECONDS: Final = 300.0
"""Longest sleep of the backoff: a verifier that comes back has its whole fleet within five minutes."""
RARE_SECONDS: Final = 900.0
"""Shortest sleep of a device that a person has shut out: the ban may be lifted, and nothing else changes it."""
PATIENT_SECONDS: Final = 60.0
"""Sleep of a device that waits for a person, where the verifier names no time."""
MAX_RETRY_AFTER: Final = 3600.0
"""A longer Retry-After counts as this: one wrong header must not silence a device for good."""
MAX_REPEATS: Final = 3
"""Repetitions at once in a row, each over a nonce that the verifier gave for it: values, log and runtime list are three."""
MAX_REFUSALS: Final = 4
"""Attestations refused in a row before the agent enrols again: its own record may be what is wrong."""
EARLY: Final = 0.1
"""Largest share of the interval by which a proof comes early, so that a fleet that booted together spreads out."""
TRUSTED: Final = "trusted"
"""The one state of the verifier's lifecycle that counts as trust."""


class State(StrEnum):
    """Where the agent stands."""

    IDLE = "idle"
    UNENROLLED = "unenrolled"
    REQUESTING = "requesting"
    PROVING = "proving"
    ENROLLED = "enrolled"
    ATTESTING = "attesting"


class Outcome(StrEnum):
    """What an attempt came to."""

    TRUSTED = "trusted"
    REFUSED = "refused"
    WAITING = "waiting"
    UNREACHABLE = "unreachable"
    TPM_FAILED = "tpm-failed"

    @property
    def exit_code(self) -> ExitCode:
        """Return what a one-shot command ends with after this outcome."""
        return _EXIT_CODES[self]


_EXIT_CODES: Final = {
    Outcome.TRUSTED: ExitCode.TRUSTED,
    Outcome.REFUSED: ExitCode.REFUSED,
    Outcome.WAITING: ExitCode.WAITING,
    Outcome.UNREACHABLE: ExitCode.UNREACHABLE,
    Outcome.TPM_FAILED: ExitCode.TPM,
}


# --- Events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The agent began. `nonce` is the stored one of the next proof, or None where the device is not enrolled."""

    nonce: bytes | None = None


@dataclass(frozen=True, slots=True)
class Challenged:
    """The enrolment request was answered with challenges."""

    challenge: EnrolChallenge


@dataclass(frozen=True, slots=True)
class Admitted:
    """The enrolment's proof was accepted."""

    answer: Enrolled


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The proof of a known device was accepted."""

    answer: Attested


@dataclass(frozen=True, slots=True)
class Refused:
    """The verifier refused the request."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class NotReached:
    """No verifier answered, or something that is not the verifier did. `detail` is for a person."""

    detail: str


@dataclass(frozen=True, slots=True)
class TpmFailed:
    """The TPM did not answer, or refused an operation. `detail` is for a person."""

    detail: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The device's own record of its enrolment is gone or damaged."""

    detail: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The sleep is over."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A person asked for a proof now."""


Event = Started | Challenged | Admitted | Confirmed | Refused | NotReached | TpmFailed | Lost | TimerFired | Wanted


# --- Actions ---------------------------------------------------------------------------------------------------------


class Part(StrEnum):
    """What a proof carries only when the verifier lacks it."""

    PCRS = "pcrs"
    LOG = "log"
    RUNTIME = "runtime"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class SendEnrol:
    """Send an enrolment request. With `new_keys`, device key and tunnel key are made anew; else those of the last try serve."""

    new_keys: bool


@dataclass(frozen=True, slots=True)
class Prove:
    """Answer the challenges of the enrolment request that was sent last."""

    challenge: EnrolChallenge


@dataclass(frozen=True, slots=True)
class Attest:
    """Prove this device again over `nonce`; send every part in `parts`, even where the verifier should have it."""

    nonce: bytes
    parts: frozenset[Part]


@dataclass(frozen=True, slots=True)
class Adopt:
    """Store the enrolment with the keys that it was made for."""

    answer: Enrolled


@dataclass(frozen=True, slots=True)
class Record:
    """Store what an accepted proof brought."""

    answer: Attested


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the enrolment and its credentials: the verifier's trust has ended."""

    code: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; then report TimerFired."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Tell a person, a log and the service manager what happened. `code` is a reason code or the verifier's state."""

    outcome: Outcome
    code: str
    detail: str = ""
    advice: str = ""
    findings: tuple[Finding, ...] = ()


Action = SendEnrol | Prove | Attest | Adopt | Record | Forget | Sleep | Report


# --- What is remembered ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """All that the machine knows. `nonce` is the next proof's; `failures`, `repeats` and `refusals` count in a row."""

    state: State = State.IDLE
    nonce: bytes = b""
    parts: frozenset[Part] = frozenset()
    new_keys: bool = True
    failures: int = 0
    repeats: int = 0
    refusals: int = 0


class IllegalMove(Exception):
    """This event cannot come in this state; nothing was changed."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{type(event).__name__} cannot come while {state.value}")
        self.state = state
        self.event = event


Step = tuple[Memory, tuple[Action, ...]]


@dataclass(frozen=True, slots=True)
class Move:
    """What one event does in one state, and every state that it can lead to."""

    act: Callable[[Memory, Any, float], Step]
    leads_to: frozenset[State] = field(default=frozenset())


def step(memory: Memory, event: Event, *, draw: float) -> Step:
    """Return what to remember and what to do after `event`.

    `draw` is a fresh random number, at least 0 and below 1. *Raises* IllegalMove and changes nothing for an event that
    the table does not have.
    """
    move = MOVES.get((memory.state, type(event)))
    if move is None:
        raise IllegalMove(memory.state, event)
    return move.act(memory, event, draw)


# --- Sleeps ----------------------------------------------------------------------------------------------------------


def backoff(failures: int, *, draw: float) -> float:
    """Return the seconds to sleep after this many failures in a row: full jitter above a floor of BASE_SECONDS."""
    # 2^8 · 2 s is above the cap; the exponent is bounded so that a week of failures does not make a bignum.
    ceiling = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(failures, 8))
    return BASE_SECONDS + draw * (ceiling - BASE_SECONDS)


def _no_sooner_than(seconds: float, problem: Problem, draw: float) -> float:
    if problem.retry_after is None:
        return seconds
    asked = min(float(problem.retry_after), MAX_RETRY_AFTER)
    return max(seconds, asked * (1 + EARLY * draw))  # late by a little: all were told the same time


def _until_next(following: Next, draw: float) -> float:
    return min(following.interval, following.deadline) * (1 - EARLY * draw)


# --- Moves -----------------------------------------------------------------------------------------------------------


def _start(memory: Memory, event: Started, _draw: float) -> Step:
    if event.nonce is None:
        return _enrol(memory)
    return _attest(replace(memory, nonce=event.nonce))


def _enrol(memory: Memory) -> Step:
    fresh = replace(memory, state=State.REQUESTING, new_keys=False, nonce=b"", parts=frozenset(), repeats=0)
    return fresh, (SendEnrol(memory.new_keys),)


def _attest(memory: Memory) -> Step:
    return replace(memory, state=State.ATTESTING), (Attest(memory.nonce, memory.parts),)


def _time_to_enrol(memory: Memory, _event: TimerFired | Wanted, _draw: float) -> Step:
    return _enrol(memory)


def _time_to_attest(memory: Memory, _event: TimerFired | Wanted, _draw: float) -> Step:
    return _attest(replace(memory, repeats=0))


def _stay(memory: Memory, _event: Event, _draw: float) -> Step:
    return memory, ()


def _prove(memory: Memory, event: Challenged, _draw: float) -> Step:
    return replace(memory, state=State.PROVING), (Prove(event.challenge),)


def _adopt(_memory: Memory, event: Admitted, draw: float) -> Step:
    answer = event.answer
    kept = Memory(state=State.ENROLLED, nonce=answer.next.nonce)
    return kept, (Adopt(answer), _verdict(answer), Sleep(_until_next(answer.next, draw)))


def _record(_memory: Memory, event: Confirmed, draw: float) -> Step:
    answer = event.answer
    kept = Memory(state=State.ENROLLED, nonce=answer.next.nonce)
    return kept, (Record(answer), _verdict(answer), Sleep(_until_next(answer.next, draw)))


def _verdict(answer: Enrolled | Attested) -> Report:
    outcome = Outcome.TRUSTED if answer.state == TRUSTED else Outcome.REFUSED
    return Report(outcome, answer.state, findings=answer.findings)


def _rest(memory: Memory) -> Memory:
    resting = State.ENROLLED if memory.state is State.ATTESTING else State.UNENROLLED
    return replace(memory, state=resting, failures=memory.failures + 1)


def _fail(memory: Memory, report: Report, draw: float) -> Step:
    resting = _rest(memory)
    return resting, (report, Sleep(backoff(resting.failures, draw=draw)))


def _not_reached(memory: Memory, event: NotReached, draw: float) -> Step:
    return _fail(memory, Report(Outcome.UNREACHABLE, "unreachable", event.detail), draw)


def _tpm_failed(memory: Memory, event: TpmFailed, draw: float) -> Step:
    return _fail(memory, Report(Outcome.TPM_FAILED, "tpm-failed", event.detail), draw)


def _lost(memory: Memory, event: Lost, draw: float) -> Step:
    problem = Problem(0, "record-lost", "The record of the enrolment is gone", event.detail, "The device enrols again.")
    return _renew(memory, problem, draw)


def _refused(memory: Memory, event: Refused, draw: float) -> Step:
    """Follow the advice that goes with the problem's code: the table of dispositions, else the backoff."""
    return DISPOSITIONS.get(event.problem.code, _again)(memory, event.problem, draw)


# --- Dispositions of a refusal ----------------------------------------------------------------------------------------


def _wait(memory: Memory, problem: Problem, seconds: float, draw: float, outcome: Outcome) -> Step:
    detail = problem.detail or problem.title
    report = Report(outcome, problem.code, detail, problem.advice, problem.findings)
    return _rest(memory), (report, Sleep(_no_sooner_than(seconds, problem, draw)))


def _again(memory: Memory, problem: Problem, draw: float) -> Step:
    """Sleep, then ask the same again; a proof that was refused too often gives way to a new enrolment."""
    transient = problem.status >= 500 or problem.status in (408, 429)
    if memory.state is State.ATTESTING and not transient:
        memory = replace(memory, refusals=memory.refusals + 1)
        if memory.refusals >= MAX_REFUSALS:
            return _renew(memory, problem, draw)
    outcome = Outcome.UNREACHABLE if transient else Outcome.REFUSED
    return _wait(memory, problem, backoff(memory.failures + 1, draw=draw), draw, outcome)


def _renew(memory: Memory, problem: Problem, draw: float) -> Step:
    """Sleep, then enrol with new keys: trust is restored by nothing else, and never with the old keys."""
    forgotten = (Forget(problem.code),) if memory.state is State.ATTESTING else ()
    ended = replace(memory, state=State.REQUESTING, new_keys=True, nonce=b"", parts=frozenset(), refusals=0)
    kept, actions = _wait(ended, problem, backoff(memory.failures + 1, draw=draw), draw, Outcome.REFUSED)
    return kept, forgotten + actions


def _patiently(memory: Memory, problem: Problem, draw: float) -> Step:
    """Wait for a person's decision, at the pace that the verifier names."""
    pace = PATIENT_SECONDS if problem.retry_after is None else BASE_SECONDS
    return _wait(memory, problem, pace, draw, Outcome.WAITING)


def _rarely(memory: Memory, problem: Problem, draw: float) -> Step:
    """Ask seldom, and never stop: a person shut this device out, and only a person lets it in again."""
    return _wait(memory, problem, RARE_SECONDS * (1 + draw), draw, Outcome.REFUSED)


def _with(*parts: Part) -> Callable[[Memory, Problem, float], Step]:
    """Repeat a proof with these parts: at once over the problem's nonce, or after a sleep where it has none."""

    def repeat(memory: Memory, problem: Problem, draw: float) -> Step:
        if memory.state is not State.ATTESTING:
            return _again(memory, problem, draw)
        asked = replace(memory, parts=memory.parts | frozenset(parts), nonce=problem.nonce or memory.nonce)
        if problem.nonce is None or memory.repeats >= MAX_REPEATS:
            return _again(asked, problem, draw)
        return _attest(replace(asked, repeats=memory.repeats + 1))

    return repeat


def _over_another_nonce(memory: Memory, problem: Problem, draw: float) -> Step:
    """Repeat over the problem's nonce, for a verifier that was restarted knows none of its nonces; else enrol."""
    return (_renew if problem.nonce is None else _with())(memory, problem, draw)


DISPOSITIONS: Final[dict[str, Callable[[Memory, Problem, float], Step]]] = {
    Reason.NONCE_EXPIRED: _with(),
    Reason.PCR_VALUES_NEEDED: _with(Part.PCRS),
    Reason.QUOTE_PCR_DIGEST: _with(Part.PCRS),
    Reason.LOG_NEEDED: _with(Part.LOG),
    Reason.RUNTIME_NEEDED: _with(Part.RUNTIME),
    Reason.TPM_RESET_UNANNOUNCED: _with(Part.REBOOT, Part.LOG, Part.PCRS, Part.RUNTIME),
    Reason.ENROLMENT_NEEDED: _renew,
    Reason.DEVICE_UNKNOWN: _renew,
    Reason.NONCE_INVALID: _over_another_nonce,
    Reason.EVIDENCE_REFUSED: _renew,
    Reason.INVENTORY_WITHDRAWN: _renew,
    Reason.VPN_KEY_IN_USE: _renew,
    Reason.GRANT_INVALID: _renew,
    Reason.GRANT_USED: _renew,
    Reason.DEVICE_UNANNOUNCED: _patiently,
    Reason.DEVICE_BANNED: _rarely,
    Reason.DEVICE_RETIRED: _rarely,
}
"""Code of a refusal → what follows from it. Every other code: sleep, then ask the same again."""


# --- The table --------------------------------------------------------------------------------------------------------

_S = State
_ASKING: Final = (_S.REQUESTING, _S.PROVING, _S.ATTESTING)


def _table() -> dict[tuple[State, type], Move]:
    moves: dict[tuple[State, type], Move] = {
        (_S.IDLE, Started): Move(_start, frozenset({_S.REQUESTING, _S.ATTESTING})),
        (_S.REQUESTING, Challenged): Move(_prove, frozenset({_S.PROVING})),
        (_S.PROVING, Admitted): Move(_adopt, frozenset({_S.ENROLLED})),
        (_S.ATTESTING, Confirmed): Move(_record, frozenset({_S.ENROLLED})),
        (_S.ATTESTING, Lost): Move(_lost, frozenset({_S.UNENROLLED})),
        (_S.ATTESTING, Refused): Move(_refused, frozenset({_S.ATTESTING, _S.ENROLLED, _S.UNENROLLED})),
    }
    for event in (TimerFired, Wanted):
        moves[_S.UNENROLLED, event] = Move(_time_to_enrol, frozenset({_S.REQUESTING}))
        moves[_S.ENROLLED, event] = Move(_time_to_attest, frozenset({_S.ATTESTING}))
    for state in _ASKING:
        rest = frozenset({_S.ENROLLED if state is _S.ATTESTING else _S.UNENROLLED})
        moves[state, NotReached] = Move(_not_reached, rest)
        moves[state, TpmFailed] = Move(_tpm_failed, rest)
        moves[state, Wanted] = Move(_stay, frozenset({state}))
        moves.setdefault((state, Refused), Move(_refused, rest))
    return moves


MOVES: Final = _table()
"""(state, kind of event) → move. What is not here cannot happen."""


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for docs/."""
    arrows = sorted({(s.value, t.value, e.__name__) for (s, e), move in MOVES.items() for t in move.leads_to})
    return "stateDiagram-v2\n    [*] --> idle\n" + "".join(f"    {s} --> {t}: {e}\n" for s, t, e in arrows)
