"""Q11, Q12, Q13, Q16: a TPM whose clock, resets or firmware say that something else happened than the device says.

As important as the refusals are the ordinary lives of a machine that must pass: power cut, suspend, hibernation, reboot.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from attestd.lifecycle.table import Event
from attestd.protocol.reasons import Reason
from attestd.services import custody
from exchanges import Attestation, Enrolment, nonce_in, refusals, refused, snapshot
from softchip import SoftChip
from world import World

ChipFactory = Callable[..., SoftChip]


@pytest.fixture
def routine(world: World, chip: ChipFactory) -> Attestation:
    """A device that has proved itself a few times."""
    made = Attestation(world, chip(clock=10_000_000, reset_count=40))
    made.send()
    return made


@pytest.fixture
def again(world: World, routine: Attestation) -> Callable[[], Enrolment]:
    """Begin another enrolment of that device."""

    def begin() -> Enrolment:
        routine.chip.renew_keys()
        return Enrolment(world, routine.chip)

    return begin


# --- What must pass -----------------------------------------------------------------------------------------------------------


def test_an_orderly_reboot_that_is_announced_passes(routine: Attestation) -> None:
    routine.chip.boot()
    assert "rebooted" in routine.send(rebooted=True).changed
    assert routine.send().state == "trusted"


def test_several_reboots_between_two_proofs_pass(routine: Attestation) -> None:
    for _ in range(5):
        routine.chip.boot()
    assert routine.send(rebooted=True).state == "trusted"


def test_a_power_cut_passes_although_the_clock_is_not_safe_and_went_back(routine: Attestation) -> None:
    """The TPM lost up to 70 minutes of its clock, and says so by `safe` = 0 (TPM 2.0 Part 1, 36.3.2)."""
    before = routine.chip.clock
    routine.chip.boot()
    routine.chip.clock = before - 4_000_000
    for rebooted in (True, False, False):
        quote = routine.chip.quote(routine.bound(), safe=0)
        assert routine.send(quote=quote, rebooted=rebooted).state == "trusted"
    assert routine.send().state == "trusted"


def test_suspend_and_resume_pass_with_whatever_the_clock_says_of_its_safety(routine: Attestation) -> None:
    for safe in (1, 0, 0, 1):
        routine.chip.restart_count += 1
        assert routine.send(quote=routine.chip.quote(routine.bound(), safe=safe)).state == "trusted"


def test_a_reboot_after_a_suspend_starts_the_restarts_anew(routine: Attestation) -> None:
    routine.chip.restart_count = 7
    routine.send()
    routine.chip.boot()
    routine.chip.restart_count = 0
    assert routine.send(rebooted=True).state == "trusted"


def test_a_long_sleep_in_which_the_clock_stands_still_passes(routine: Attestation) -> None:
    routine.world.pass_time(250)
    assert routine.send().state == "trusted"


def test_a_known_device_that_rebooted_may_enrol_again(routine: Attestation, again: Callable[[], Enrolment]) -> None:
    routine.chip.boot()
    assert again().send().state == "trusted"


# --- Q11 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [1, 1000, 9_000_000])
@pytest.mark.parametrize("rebooted", [False, True])
def test_q11_clock_that_goes_backwards_without_a_reset_is_refused(
    routine: Attestation, back: int, rebooted: bool
) -> None:
    last = routine.chip.clock
    quote = routine.chip.quote(routine.bound(), clock=last - back)
    routine.refuse(Reason.TPM_CLOCK_BACKWARDS, quote=quote, rebooted=rebooted)
    assert routine.send().state == "trusted"


def test_q11_clock_that_goes_backwards_and_calls_itself_unsafe_is_refused(routine: Attestation) -> None:
    quote = routine.chip.quote(routine.bound(), clock=routine.chip.clock - 1000, safe=0)
    routine.refuse(Reason.TPM_CLOCK_BACKWARDS, quote=quote)
    assert routine.send().state == "trusted"


def test_q11_clock_that_stands_still_is_a_replay(routine: Attestation) -> None:
    quote = routine.chip.quote(routine.bound(), clock=routine.chip.clock)
    routine.refuse(Reason.REPLAYED, quote=quote)
    assert routine.send().state == "trusted"


def test_q11_restarts_that_go_backwards_without_a_reset_are_refused(routine: Attestation) -> None:
    routine.chip.restart_count = 3
    routine.send()
    back = routine.chip.quote(routine.bound(), restarts=2, clock=routine.chip.clock - 1)
    routine.refuse(Reason.TPM_CLOCK_BACKWARDS, quote=back)
    assert routine.send().state == "trusted"


@pytest.mark.parametrize("back", [1, 40])
@pytest.mark.parametrize("rebooted", [False, True])
def test_q11_resets_that_go_backwards_are_refused(routine: Attestation, back: int, rebooted: bool) -> None:
    earlier = {"resets": routine.chip.reset_count - back, "clock": routine.chip.clock - 1}
    quote = routine.chip.quote(routine.bound(), **earlier)
    routine.refuse(Reason.TPM_RESET_BACKWARDS, quote=quote, rebooted=rebooted)
    assert routine.send().state == "trusted"


def test_q11_reboot_that_nobody_announced_is_refused(routine: Attestation) -> None:
    routine.chip.boot()
    problem = routine.refuse(Reason.TPM_RESET_UNANNOUNCED)
    nonce = nonce_in(problem)
    quote = routine.chip.quote(routine.bound(nonces=(nonce,)))
    assert routine.send(nonce=nonce, quote=quote, rebooted=True).state == "trusted"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clock": 1}, Reason.TPM_CLOCK_BACKWARDS),
        ({"resets": 3, "clock": 100}, Reason.TPM_RESET_BACKWARDS),
        ({"resets": 0, "restarts": 0, "clock": 100}, Reason.TPM_RESET_BACKWARDS),
        ({"resets": 3}, Reason.TPM_DIVERGED),
    ],
    ids=["clock", "resets", "as after a clear", "resets alone"],
)
def test_q11_counters_that_go_backwards_are_refused_at_another_enrolment(
    again: Callable[[], Enrolment], changes: dict[str, int], reason: Reason
) -> None:
    enrolment = again()
    enrolment.refuse(reason, quote=enrolment.chip.quote(enrolment.bound(), **changes))
    assert enrolment.send().state == "trusted"


# --- Q12 ------------------------------------------------------------------------------------------------------------------


def test_q12_tpm_that_was_reset_under_a_running_machine_is_refused(routine: Attestation) -> None:
    """The chip alone was reset and the good log extended again: registers and log are perfect, one count has moved."""
    routine.chip.reset_count += 1
    routine.refuse(Reason.TPM_RESET_UNANNOUNCED, pcrs=(), event_log=None)
    routine.refuse(Reason.TPM_RESET_UNANNOUNCED)
    routine.chip.reset_count -= 1
    assert routine.send().state == "trusted"


def test_q12_reset_is_not_forgotten_while_the_device_says_nothing_of_it(routine: Attestation) -> None:
    routine.chip.reset_count += 1
    for _ in range(3):
        routine.refuse(Reason.TPM_RESET_UNANNOUNCED)
    routine.chip.boot()
    assert routine.send(rebooted=True).state == "trusted"


def test_q12_register_that_a_reset_cleared_is_seen_in_the_quote(routine: Attestation) -> None:
    """TPM2_Startup(CLEAR) after a suspend clears registers and counts as a restart: they must lead to the good values again."""
    honest = dict(routine.chip.registers)
    routine.chip.registers = {index: bytes(32) for index in range(24)}
    routine.chip.restart_count += 1
    routine.refuse(Reason.PCR_VALUES_NEEDED, pcrs=(), event_log=None)
    routine.refuse(Reason.PCR_BANK_INACTIVE)
    routine.chip.registers = honest
    assert routine.send().state == "trusted"


# --- Q13 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize("firmware", [0, 0x2023_0101_0000_0000, 0x2023_0101_0000_0002, 2**64 - 1])
def test_q13_tpm_whose_firmware_changed_is_refused(routine: Attestation, firmware: int, rebooted: bool) -> None:
    honest = routine.chip.firmware
    if rebooted:
        routine.chip.boot()
    routine.chip.firmware = firmware
    routine.refuse(Reason.TPM_FIRMWARE_CHANGED, rebooted=rebooted)
    routine.chip.firmware = honest
    assert routine.send(rebooted=rebooted).state == "trusted"


def test_q13_tpm_whose_firmware_changed_is_refused_at_another_enrolment(
    routine: Attestation, again: Callable[[], Enrolment]
) -> None:
    routine.chip.firmware += 1
    again().refuse(Reason.TPM_FIRMWARE_CHANGED)
    routine.chip.firmware -= 1
    assert again().send().state == "trusted"


def test_a_person_can_let_a_tpm_with_new_firmware_in(routine: Attestation, again: Callable[[], Enrolment]) -> None:
    routine.chip.firmware += 1
    again().refuse(Reason.TPM_FIRMWARE_CHANGED)
    device = routine.chip.device_id
    custody.decide(routine.world.verifier, device, Event.READMITTED, actor="alice", reason="TPM firmware update")
    assert again().send().state == "trusted"


# --- Q16 ------------------------------------------------------------------------------------------------------------------


def twin_of(chip: SoftChip, **changes: Any) -> SoftChip:
    """Return a second device with the same keys and the same state: from now on each has a clock of its own."""
    twin = copy.copy(chip)
    for name, value in changes.items():
        setattr(twin, name, value)
    return twin


def test_q16_copy_whose_clock_is_behind_is_refused(routine: Attestation) -> None:
    twin = twin_of(routine.chip)
    for _ in range(3):
        routine.send()
    request = twin.attest_request(routine.nonce)
    refused(
        routine.world,
        lambda: routine.world.attest(request),
        Reason.TPM_CLOCK_BACKWARDS,
        recorded=routine.chip.device_id,
    )
    assert routine.send().state == "trusted"


def test_q16_original_is_refused_once_a_copy_is_ahead_and_a_person_sees_it(routine: Attestation) -> None:
    """Nobody can say which of two is the original; what counts is that both cannot go on."""
    twin = Attestation.__new__(Attestation)
    twin.__dict__.update(routine.__dict__, chip=twin_of(routine.chip, clock=routine.chip.clock + 60_000))
    assert twin.send().state == "trusted"
    routine.nonce = twin.nonce
    routine.refuse(Reason.TPM_CLOCK_BACKWARDS)
    assert twin.send().state == "trusted"
    assert refusals(routine.world, routine.chip.device_id) == ["tpm-clock-backwards"]


def test_q16_copy_that_rebooted_shuts_the_original_out(routine: Attestation) -> None:
    twin = twin_of(routine.chip)
    twin.boot()
    answer = routine.world.attest(twin.whole_attest_request(routine.nonce))
    routine.nonce = answer.next.nonce
    routine.refuse(Reason.TPM_RESET_BACKWARDS)
    assert routine.world.attest(twin.attest_request(routine.nonce)).state == "trusted"


def test_q16_copy_that_fell_behind_in_resets_and_is_ahead_in_time_is_known_for_what_it_is(routine: Attestation) -> None:
    """No TPM alone gets there: what has fewer resets and a later clock is another chip with the same keys."""
    twin = twin_of(routine.chip, clock=routine.chip.clock + 3_600_000)
    routine.chip.boot()
    routine.send(rebooted=True)
    for request in (twin.attest_request(routine.nonce), twin.whole_attest_request(routine.nonce)):
        refused(
            routine.world,
            lambda request=request: routine.world.attest(request),
            Reason.TPM_DIVERGED,
            recorded=routine.chip.device_id,
        )
    assert routine.send().state == "trusted"


@pytest.mark.parametrize(("restarts", "clock"), [(5, -1_000), (-1, 60_000)], ids=["slept more", "slept less"])
def test_q16_copy_that_slept_at_other_times_is_known_for_what_it_is(
    routine: Attestation, restarts: int, clock: int
) -> None:
    routine.chip.restart_count = 2
    routine.send()
    changes = {"restarts": 2 + restarts, "clock": routine.chip.clock + clock}
    routine.refuse(Reason.TPM_DIVERGED, quote=routine.chip.quote(routine.bound(), **changes))
    assert routine.send().state == "trusted"


def test_q16_copy_that_enrols_leaves_one_certificate_and_one_tunnel(routine: Attestation) -> None:
    """The keys of the enrolment before are withdrawn with it, so the original cannot go on under the same identity."""
    world, device = routine.world, routine.chip.device_id
    twin = twin_of(routine.chip)
    twin.renew_keys()
    twin.clock += 1000
    nonce = world.enrol(twin).next.nonce
    routine.chip.clock += 2000
    routine.nonce = nonce
    routine.refuse(Reason.QUOTE_BINDING)
    tables = snapshot(world)
    live = [row for row in tables["certificate"] if row[1] == device and row[5] is None]
    tunnels = [row for row in tables["vpn_credential"] if row[2] == device and row[4] is None]
    assert (len(live), len(tunnels)) == (1, 1)
    assert tunnels[0][1] == dict(twin.vpn_keys)["wireguard"]


def test_q16_two_copies_that_take_turns_do_not_both_stay(world: World, chip: ChipFactory) -> None:
    """A copy a few seconds behind proves itself right after the original, as it must once in a while."""
    first = Attestation(world, chip(clock=5_000_000))
    twin = twin_of(first.chip, clock=first.chip.clock - 5_000)
    refused_turns = 0
    for _ in range(3):
        first.chip.clock += 60_000
        twin.clock += 60_000
        first.send()
        request = twin.attest_request(first.nonce)
        refused(
            world,
            lambda request=request: world.attest(request),
            Reason.TPM_CLOCK_BACKWARDS,
            recorded=first.chip.device_id,
        )
        refused_turns += 1
    assert refused_turns == 3
