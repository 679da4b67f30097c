"""The agent's state machine: what follows from each answer, and that it never stops and never spins."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.protocol.messages import Attested, Challenge, EnrolChallenge, Enrolled, Finding, Next, QuoteRequest
from attestd.protocol.reasons import PROBLEMS, Reason
from attestd_agent import machine
from attestd_agent.errors import ExitCode, Problem
from attestd_agent.machine import (
    Action,
    Admitted,
    Adopt,
    Attest,
    Challenged,
    Confirmed,
    Event,
    Forget,
    IllegalMove,
    Lost,
    Memory,
    NotReached,
    Outcome,
    Part,
    Prove,
    Record,
    Refused,
    Report,
    SendEnrol,
    Sleep,
    Started,
    State,
    TimerFired,
    TpmFailed,
    Wanted,
    step,
)

NONCE = bytes(range(32))
FRESH = b"\xff" * 32
CHALLENGE = EnrolChallenge((Challenge("v1", NONCE, b"blob", b"secret"),), QuoteRequest("sha256", (0, 7)), 120)
NEXT = Next(NONCE, 60, 180)
FINDING = Finding("claim-mismatch", "kernel", "vmlinuz", "a kernel that the profile lists", 9, 41)


def enrolled(state: str = "trusted") -> Enrolled:
    return Enrolled("d", state, "jwt", (b"cert",), NEXT)


def attested(state: str = "trusted") -> Attested:
    return Attested(state, "jwt", Next(FRESH, 60, 180))


def problem(
    code: str, *, nonce: bytes | None = None, retry_after: int | None = None, status: int | None = None
) -> Problem:
    known = status or (PROBLEMS[Reason(code)].status if code in set(Reason) else 418)
    return Problem(known, code, "title", retry_after=retry_after, nonce=nonce)


def run(*events: Event, memory: Memory | None = None, draw: float = 0.5) -> tuple[Memory, tuple[Action, ...]]:
    memory = memory or Memory()
    actions: tuple[Action, ...] = ()
    for event in events:
        memory, actions = step(memory, event, draw=draw)
    return memory, actions


def attesting() -> Memory:
    return run(Started(NONCE))[0]


def only(kind: type, actions: tuple[Action, ...]) -> Any:
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


# --- The way to trust ---


def test_device_without_enrolment_asks_with_new_keys() -> None:
    memory, actions = run(Started())
    assert (memory.state, actions) == (State.REQUESTING, (SendEnrol(new_keys=True),))


def test_challenge_is_answered_at_once() -> None:
    memory, actions = run(Started(), Challenged(CHALLENGE))
    assert (memory.state, actions) == (State.PROVING, (Prove(CHALLENGE),))


def test_accepted_enrolment_is_stored_before_anything_else() -> None:
    memory, actions = run(Started(), Challenged(CHALLENGE), Admitted(enrolled()))
    assert memory.state is State.ENROLLED
    assert actions[0] == Adopt(enrolled())
    assert only(Report, actions).outcome is Outcome.TRUSTED


def test_next_proof_uses_the_nonce_of_the_last_answer() -> None:
    memory, actions = run(Started(NONCE), Confirmed(attested()), TimerFired())
    assert (memory.state, actions) == (State.ATTESTING, (Attest(FRESH, frozenset()),))


def test_accepted_proof_is_recorded_before_anything_else() -> None:
    _, actions = run(Started(NONCE), Confirmed(attested()))
    assert actions[0] == Record(attested())


@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_proof_comes_within_the_interval_and_never_late(draw: float) -> None:
    _, actions = run(Started(NONCE), Confirmed(attested()), draw=draw)
    assert 54 <= only(Sleep, actions).seconds <= 60


def test_interval_beyond_the_deadline_gives_way_to_the_deadline() -> None:
    late = Attested("trusted", "jwt", Next(FRESH, 600, 100))
    _, actions = run(Started(NONCE), Confirmed(late))
    assert only(Sleep, actions).seconds <= 100


@pytest.mark.parametrize("state", ["suspect", "untrusted", "pending", "banned", "", "TRUSTED", "anything"])
def test_only_the_word_trusted_counts_as_trust(state: str) -> None:
    _, actions = run(Started(NONCE), Confirmed(attested(state)))
    assert only(Report, actions).outcome is Outcome.REFUSED


def test_wish_for_a_proof_ends_the_sleep() -> None:
    memory, actions = run(Started(NONCE), Confirmed(attested()), Wanted())
    assert (memory.state, actions) == (State.ATTESTING, (Attest(FRESH, frozenset()),))


@pytest.mark.parametrize("busy", [State.REQUESTING, State.PROVING, State.ATTESTING])
def test_wish_for_a_proof_during_one_changes_nothing(busy: State) -> None:
    memory = Memory(state=busy)
    assert step(memory, Wanted(), draw=0.5) == (memory, ())


# --- Refusals that carry a nonce ---


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("nonce-expired", set()),
        ("nonce-invalid", set()),
        ("pcr-values-needed", {Part.PCRS}),
        ("log-needed", {Part.LOG}),
        ("runtime-needed", {Part.RUNTIME}),
        ("tpm-reset-unannounced", {Part.REBOOT, Part.LOG, Part.PCRS, Part.RUNTIME}),
    ],
)
def test_proof_is_repeated_at_once_over_the_nonce_of_the_problem(code: str, parts: set[Part]) -> None:
    memory, actions = step(attesting(), Refused(problem(code, nonce=FRESH)), draw=0.5)
    assert (memory.state, actions) == (State.ATTESTING, (Attest(FRESH, frozenset(parts)),))


def test_parts_that_were_asked_for_one_by_one_are_all_sent() -> None:
    codes = ("pcr-values-needed", "log-needed", "runtime-needed")
    _, actions = run(*(Refused(problem(code, nonce=FRESH)) for code in codes), memory=attesting())
    assert only(Attest, actions).parts == {Part.PCRS, Part.LOG, Part.RUNTIME}


def test_fourth_repetition_in_a_row_waits() -> None:
    memory, actions = run(*(Refused(problem("nonce-expired", nonce=FRESH)) for _ in range(4)), memory=attesting())
    assert memory.state is State.ENROLLED
    assert only(Sleep, actions).seconds >= machine.BASE_SECONDS


def test_repetition_without_a_nonce_waits_and_then_sends_what_was_asked_for() -> None:
    memory, actions = step(attesting(), Refused(problem("log-needed")), draw=0.5)
    assert only(Sleep, actions).seconds >= machine.BASE_SECONDS
    assert only(Attest, step(memory, TimerFired(), draw=0.5)[1]) == Attest(NONCE, frozenset({Part.LOG}))


def test_expired_enrolment_starts_again_with_the_same_keys_after_a_sleep() -> None:
    memory, actions = run(Started(), Challenged(CHALLENGE), Refused(problem("nonce-expired", nonce=FRESH)))
    assert memory.state is State.UNENROLLED
    assert only(Sleep, actions).seconds >= machine.BASE_SECONDS
    assert step(memory, TimerFired(), draw=0.5)[1] == (SendEnrol(new_keys=False),)


# --- Trust that ended ---


@pytest.mark.parametrize(
    "code", ["enrolment-needed", "device-unknown", "evidence-refused", "nonce-invalid", "inventory-withdrawn"]
)
def test_p05_ended_trust_is_regained_with_new_keys_only(code: str) -> None:
    memory, actions = step(attesting(), Refused(problem(code)), draw=0.5)
    assert only(Forget, actions) == Forget(code)
    assert memory.state is State.UNENROLLED
    assert step(memory, TimerFired(), draw=0.5)[1] == (SendEnrol(new_keys=True),)


def test_findings_reach_the_report() -> None:
    refusal = Problem(403, "evidence-refused", "title", "detail", "advice", findings=(FINDING,))
    _, actions = step(attesting(), Refused(refusal), draw=0.5)
    assert only(Report, actions) == Report(Outcome.REFUSED, "evidence-refused", "detail", "advice", (FINDING,))


def test_proof_refused_again_and_again_gives_way_to_an_enrolment() -> None:
    memory = attesting()
    for _ in range(machine.MAX_REFUSALS - 1):
        memory, _ = run(Refused(problem("quote-binding")), TimerFired(), memory=memory)
    memory, actions = step(memory, Refused(problem("quote-binding")), draw=0.5)
    assert only(Forget, actions) == Forget("quote-binding")
    assert step(memory, TimerFired(), draw=0.5)[1] == (SendEnrol(new_keys=True),)


def test_device_that_lost_its_record_enrols_again() -> None:
    memory, actions = step(attesting(), Lost("no file"), draw=0.5)
    assert only(Forget, actions) == Forget("record-lost")
    assert only(Sleep, actions).seconds >= machine.BASE_SECONDS
    assert step(memory, TimerFired(), draw=0.5)[1] == (SendEnrol(new_keys=True),)


@pytest.mark.parametrize("event", [NotReached("gone"), TpmFailed("busy"), Refused(problem("server-busy"))])
def test_enrolment_outlives_an_absent_verifier_and_a_failing_tpm(event: Event) -> None:
    memory = attesting()
    for _ in range(100):
        memory, actions = step(memory, event, draw=0.5)
        assert not any(isinstance(action, Forget) for action in actions)
        memory, _ = step(memory, TimerFired(), draw=0.5)
    assert memory.state is State.ATTESTING


# --- Waiting ---


def test_unannounced_device_asks_at_the_pace_of_the_verifier() -> None:
    memory, actions = run(Started(), Refused(problem("device-unannounced", retry_after=10)), draw=0.5)
    assert 10 <= only(Sleep, actions).seconds <= 11
    assert only(Report, actions).outcome is Outcome.WAITING
    assert step(memory, TimerFired(), draw=0.5)[1] == (SendEnrol(new_keys=False),)


def test_unannounced_device_without_a_pace_asks_every_minute() -> None:
    _, actions = run(Started(), Refused(problem("device-unannounced")))
    assert only(Sleep, actions).seconds == machine.PATIENT_SECONDS


@pytest.mark.parametrize("code", ["device-banned", "device-retired"])
@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_device_that_was_shut_out_asks_rarely_and_never_stops(code: str, draw: float) -> None:
    memory, actions = step(attesting(), Refused(problem(code, retry_after=1)), draw=draw)
    assert 900 <= only(Sleep, actions).seconds <= 1800
    assert step(memory, TimerFired(), draw=draw)[1]


def test_retry_after_is_a_floor_for_every_refusal() -> None:
    _, actions = run(Started(), Refused(problem("server-busy", retry_after=1200)), draw=0.0)
    assert only(Sleep, actions).seconds == 1200


def test_absurd_retry_after_does_not_silence_the_device() -> None:
    _, actions = run(Started(), Refused(problem("server-busy", retry_after=10**9)), draw=0.999)
    assert only(Sleep, actions).seconds <= 1.1 * machine.MAX_RETRY_AFTER


def test_backoff_doubles_up_to_its_cap_and_is_jittered_over_the_whole_range() -> None:
    ceilings = [machine.backoff(failures, draw=1.0) for failures in range(1, 12)]
    assert ceilings[:4] == [4, 8, 16, 32]
    assert ceilings[-1] == machine.CAP_SECONDS
    assert {machine.backoff(failures, draw=0.0) for failures in range(10_000)} == {machine.BASE_SECONDS}


def test_success_ends_the_backoff() -> None:
    memory = attesting()
    for _ in range(9):
        memory, _ = run(NotReached("gone"), TimerFired(), memory=memory)
    assert step(memory, Confirmed(attested()), draw=0.5)[0].failures == 0


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Confirmed(attested()), ExitCode.TRUSTED),
        (Refused(problem("evidence-refused")), ExitCode.REFUSED),
        (Refused(problem("device-banned")), ExitCode.REFUSED),
        (NotReached("gone"), ExitCode.UNREACHABLE),
        (Refused(problem("server-busy")), ExitCode.UNREACHABLE),
        (TpmFailed("busy"), ExitCode.TPM),
        (Refused(problem("device-unannounced")), ExitCode.WAITING),
    ],
)
def test_every_outcome_has_its_exit_code(event: Event, code: ExitCode) -> None:
    assert only(Report, step(attesting(), event, draw=0.5)[1]).outcome.exit_code == code


# --- The table ---


@pytest.mark.parametrize("state", list(State))
def test_illegal_move_raises(state: State) -> None:
    events: list[Event] = [Started(), Challenged(CHALLENGE), Admitted(enrolled()), Confirmed(attested()), TimerFired()]
    illegal = [event for event in events if (state, type(event)) not in machine.MOVES]
    assert illegal
    for event in illegal:
        with pytest.raises(IllegalMove):
            step(Memory(state=state), event, draw=0.5)


def test_every_asking_state_can_end_in_every_failure() -> None:
    for state in (State.REQUESTING, State.PROVING, State.ATTESTING):
        assert {NotReached, TpmFailed, Refused} <= {event for at, event in machine.MOVES if at is state}


def test_diagram_shows_every_move() -> None:
    arrows = machine.diagram().splitlines()[2:]
    assert len(arrows) == sum(len(move.leads_to) for move in machine.MOVES.values())


def test_dispositions_name_known_codes_only() -> None:
    assert set(machine.DISPOSITIONS) <= set(Reason)


# --- For every sequence of events ---

CODES = st.one_of(st.sampled_from([reason.value for reason in Reason]), st.text("abc-", min_size=1, max_size=9))
REFUSALS = st.builds(
    lambda code, nonce, after, status: Refused(problem(code, nonce=nonce, retry_after=after, status=status)),
    CODES,
    st.sampled_from([None, FRESH]),
    st.one_of(st.none(), st.integers(0, 10**9)),
    st.sampled_from([None, 400, 429, 500, 503]),
)
FAILURES = st.one_of(st.just(NotReached("x")), st.just(TpmFailed("x")), REFUSALS)
ANSWERS: dict[State, Event] = {
    State.REQUESTING: Challenged(CHALLENGE),
    State.PROVING: Admitted(enrolled()),
    State.ATTESTING: Confirmed(attested()),
}


def histories(
    choices: list[tuple[bool, Event]], next_event: Callable[[Memory, bool, Event], Event], start: Event
) -> Iterator[tuple[Memory, Event, Memory, tuple[Action, ...]]]:
    memory, actions = step(Memory(), start, draw=0.0)
    yield Memory(), start, memory, actions
    for success, failure in choices:
        event = next_event(memory, success, failure)
        after, actions = step(memory, event, draw=0.0)
        yield memory, event, after, actions
        memory = after


def due(memory: Memory, success: bool, failure: Event) -> Event:
    if memory.state in (State.ENROLLED, State.UNENROLLED):
        return TimerFired()
    return ANSWERS[memory.state] if success else failure


STARTS = st.sampled_from([Started(), Started(NONCE)])


@given(STARTS, st.lists(st.tuples(st.booleans(), FAILURES), max_size=60))
def test_every_step_asks_once_or_sleeps_once(start: Event, choices: list[tuple[bool, Event]]) -> None:
    for before, event, after, actions in histories(choices, due, start):
        waits = [action for action in actions if isinstance(action, SendEnrol | Prove | Attest | Sleep)]
        assert len(waits) == 1, "the machine would stop, or do two things at once"
        assert actions[-1] is waits[0]
        assert after.state in machine.MOVES[before.state, type(event)].leads_to


@given(STARTS, st.lists(FAILURES, min_size=1, max_size=80))
def test_failures_never_spin(start: Event, failures: list[Event]) -> None:
    at_once = 0
    for before, event, _, actions in histories([(False, failure) for failure in failures], due, start):
        sleeps = [action.seconds for action in actions if isinstance(action, Sleep)]
        assert all(seconds >= machine.BASE_SECONDS for seconds in sleeps)
        if isinstance(event, TimerFired | Started):
            at_once = 0
        elif not sleeps:
            at_once += 1
            assert before.state is State.ATTESTING
        assert at_once <= machine.MAX_REPEATS


@given(STARTS, st.lists(st.tuples(st.booleans(), FAILURES), max_size=60))
def test_keys_are_never_used_again_after_trust_ended(start: Event, choices: list[tuple[bool, Event]]) -> None:
    asked = [
        action
        for _, _, _, actions in histories(choices, due, start)
        for action in actions
        if isinstance(action, Forget | SendEnrol)
    ]
    for first, second in pairwise(asked):
        if isinstance(first, Forget):
            assert second == SendEnrol(new_keys=True)
