"""The table of a device's life: complete, and held against the three rules that it must show."""

import pytest

from attestd.lifecycle.table import MEANINGS, MOVES, Event, IllegalMove, State, move

OF_EVIDENCE = {Event.UNANNOUNCED, Event.ENROLLED, Event.PASSED, Event.WARNED, Event.FAILED, Event.SILENT}
OF_A_PERSON = set(Event) - OF_EVIDENCE
ENROLMENTS = {Event.UNANNOUNCED, Event.ENROLLED, Event.WARNED, Event.FAILED}
SHUT_OUT = {State.BANNED, State.RETIRED}
KEEPING = {state for state, meaning in MEANINGS.items() if meaning.keeps}
EVERY = [(state, event) for state in (None, *State) for event in Event]


def moves(*events: Event) -> list[tuple[State | None, Event, State]]:
    return [(before, event, after) for (before, event), after in MOVES.items() if event in (events or Event)]


# --- Complete -----------------------------------------------------------------------------------------------------------


def test_every_state_has_a_meaning() -> None:
    assert set(MEANINGS) == set(State)
    assert all(meaning.text for meaning in MEANINGS.values())


def test_every_state_can_be_reached_from_a_device_never_seen() -> None:
    reached: set[State | None] = {None}
    while True:
        further = {after for (before, _), after in MOVES.items() if before in reached}
        if further <= reached:
            break
        reached |= further
    assert reached == {None, *State}


def test_every_event_moves_something() -> None:
    assert {event for _, event in MOVES} == set(Event)


def test_every_outcome_of_an_enrolment_has_a_move_unless_a_person_shut_the_device_out() -> None:
    """An enrolment must never end in an exception because a state was forgotten."""
    open_to_all = set(State) - SHUT_OUT
    appraised = ENROLMENTS - {Event.UNANNOUNCED}
    assert [(state, event) for state in open_to_all for event in appraised if (state, event) not in MOVES] == []
    assert {None, *open_to_all} - {before for before, _, _ in moves(Event.UNANNOUNCED)} == KEEPING


def test_every_outcome_of_a_routine_proof_has_a_move_for_whoever_may_send_one() -> None:
    outcomes = {Event.PASSED, Event.WARNED, Event.FAILED, Event.WITHDRAWN, Event.SILENT}
    assert [(state, event) for state in KEEPING for event in outcomes if (state, event) not in MOVES] == []


def test_every_device_can_be_banned_or_retired_by_a_person_unless_it_already_is() -> None:
    assert {before for before, _, _ in moves(Event.BANNED)} == set(State) - SHUT_OUT
    assert {before for before, _, _ in moves(Event.RETIRED)} == set(State) - {State.RETIRED}


def test_from_every_state_something_leads_on() -> None:
    """No dead end: whatever happened to a device, a person or a proof can make it trusted again."""
    for start in State:
        reached = {start}
        while True:
            further = {after for (before, _), after in MOVES.items() if before in reached} - reached
            if not further:
                break
            reached |= further
        assert State.TRUSTED in reached, start


# --- A move that is not in the table --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), [pair for pair in EVERY if pair not in MOVES])
def test_a_move_that_the_table_does_not_have_raises(state: State | None, event: Event) -> None:
    with pytest.raises(IllegalMove) as refused:
        move(state, event)
    assert (refused.value.state, refused.value.event) == (state, event)


@pytest.mark.parametrize(("state", "event"), list(MOVES))
def test_a_move_of_the_table_is_made(state: State | None, event: Event) -> None:
    assert move(state, event) is MOVES[(state, event)]


# --- Silence ------------------------------------------------------------------------------------------------------------


def test_p05_silence_only_leads_down() -> None:
    assert {(before, after) for before, _, after in moves(Event.SILENT)} == {
        (state, State.EXPIRED) for state in KEEPING
    }
    assert not MEANINGS[State.EXPIRED].keeps


def test_p05_device_that_fell_silent_is_trusted_again_by_nothing_but_an_enrolment() -> None:
    assert {event for (before, event), after in MOVES.items() if before is State.EXPIRED and after in KEEPING} == {
        Event.ENROLLED
    }


# --- Trust ----------------------------------------------------------------------------------------------------------------


def test_trust_is_restored_by_an_enrolment_alone() -> None:
    """Into a state in which a device keeps credentials, from one in which it does not or from nowhere."""
    restoring = {event for before, event, after in moves() if after in KEEPING and before not in KEEPING}
    assert restoring == {Event.ENROLLED}


def test_a_routine_proof_that_passes_says_nothing_of_a_device_that_has_lost_its_trust() -> None:
    assert {before for before, _, _ in moves(Event.PASSED)} == KEEPING


def test_no_word_of_a_person_makes_a_device_trusted() -> None:
    assert [one for one in moves(*OF_A_PERSON) if one[2] in KEEPING] == []


def test_a_proof_that_failed_ends_trust_from_wherever_it_came() -> None:
    assert {after for _, _, after in moves(Event.FAILED)} == {State.UNTRUSTED}


def test_a_withdrawal_ends_trust() -> None:
    assert [one for one in moves(Event.WITHDRAWN) if one[2] in KEEPING] == []


def test_warnings_give_nothing_to_a_device_that_has_nothing() -> None:
    assert {after for before, _, after in moves(Event.WARNED) if before not in KEEPING} == {State.UNTRUSTED}


def test_only_trusted_is_called_trusted_and_whoever_is_trusted_keeps_its_credentials() -> None:
    assert {state for state, meaning in MEANINGS.items() if meaning.trusted} == {State.TRUSTED}
    assert {State.TRUSTED, State.SUSPECT} == KEEPING


# --- Bans -----------------------------------------------------------------------------------------------------------------


def test_a_ban_is_lifted_by_a_person_and_by_nothing_else() -> None:
    leaving = {
        event for (before, event), after in MOVES.items() if before is State.BANNED and after is not State.BANNED
    }
    assert leaving == {Event.UNBANNED, Event.RETIRED}
    assert leaving <= OF_A_PERSON


def test_lifting_a_ban_gives_no_trust() -> None:
    assert move(State.BANNED, Event.UNBANNED) is State.EXPIRED
    assert move(State.RETIRED, Event.READMITTED) is State.EXPIRED


def test_neither_evidence_nor_time_moves_a_device_that_a_person_shut_out() -> None:
    assert [one for one in moves(*OF_EVIDENCE) if one[0] in SHUT_OUT] == []


def test_a_device_that_a_person_let_in_again_must_still_enrol() -> None:
    assert {after for _, _, after in moves(Event.READMITTED)} == {State.EXPIRED}
    assert {after for _, _, after in moves(Event.APPROVED)} == {State.ADMITTED}
