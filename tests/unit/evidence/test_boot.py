"""What a boot log proves once a quote is beside it, and what no log can talk its way out of."""

from dataclasses import replace
from hashlib import sha256

import pytest

from attestd.evidence.boot import boot_facts
from attestd.protocol.reasons import Reason
from attestd.tpm.eventtypes import EventType as T
from event_logs import SEPARATOR, event, facts, facts_of, honest_boot, image, make_log, quoted, rewritten, variable


def codes(found):
    return [finding.code for finding in found.findings]


def test_an_honest_boot_is_explained_and_nothing_is_wrong_with_it():
    found = facts_of(honest_boot())
    assert found.findings == ()
    assert set(range(10)) <= found.explained
    assert not found.unexplained | found.unlogged


def test_components_come_in_the_order_of_the_log():
    found = facts_of(honest_boot())
    events = [component.event for component in found.components]
    assert events == sorted(events)
    assert [c.claim for c in found.components if c.pcr == 4] == ["boot-action", "separator", "loader", "application"]


def test_a_register_that_nobody_extended_is_explained():
    assert {12, 13, 14} <= facts_of(honest_boot()).explained


def test_a_register_that_was_extended_without_an_event_is_unlogged():
    log = make_log(honest_boot())
    found = facts(log, pcrs=quoted(log) | {14: b"\x01" * 32})
    assert found.unlogged == {14}


def test_a_dynamic_register_stands_at_ones_when_nobody_launched():
    log = make_log(honest_boot())
    found = facts(log, pcrs=quoted(log) | {17: b"\xff" * 32, 18: bytes(32)})
    assert 17 in found.explained
    assert 18 in found.unlogged


def test_components_of_an_unexplained_register_are_left_out():
    log = make_log(honest_boot())
    found = facts(log, pcrs=quoted(log) | {8: b"\x01" * 32})
    assert found.unexplained == {8}
    assert not [component for component in found.components if component.pcr == 8]


def test_q05_components_of_a_register_that_was_not_quoted_are_left_out():
    log = make_log(honest_boot())
    pcrs = {index: value for index, value in quoted(log).items() if index != 9}
    assert not [component for component in facts(log, pcrs=pcrs).components if component.pcr == 9]


def test_q04_a_bank_that_firmware_never_extended_is_refused():
    log = make_log(honest_boot())
    found = facts(log, pcrs=dict.fromkeys(quoted(log), bytes(32)))
    assert codes(found) == [Reason.PCR_BANK_INACTIVE]
    assert not found.explained
    assert not found.components


def test_q04_a_bank_that_the_log_does_not_have_is_refused():
    log = make_log(honest_boot())
    found = boot_facts(log, log_digest=bytes(32), bank="sha384", pcrs={0: b"\x01" * 48})
    assert codes(found) == [Reason.PCR_BANK_INACTIVE]


def separated(log, *registers):
    word = sha256(b"os-separator").digest()
    return {
        index: sha256(value + word).digest() if index in registers else value for index, value in quoted(log).items()
    }


def test_registers_that_the_running_system_closed_are_explained_and_say_so():
    log = make_log(honest_boot())
    found = facts(log, pcrs=separated(log, *range(8), 9, 12, 13, 14))
    assert (found.findings, found.unexplained, found.unlogged) == ((), frozenset(), frozenset())
    closed = [c.pcr for c in found.components if c.claim == "boot-phase" and c.value == "os-separator"]
    assert closed == [*range(8), 9, 12, 13, 14]
    assert dict(found.handed_over) == {index: quoted(log)[index] for index in closed}


@pytest.mark.parametrize("index", [8, 10, 11])
def test_a_register_that_the_running_system_does_not_close_is_not_explained_by_its_separator(index):
    log = make_log(honest_boot())
    assert index not in facts(log, pcrs=separated(log, index)).explained


def test_e03_a_second_separator_of_the_running_system_explains_nothing():
    log = make_log(honest_boot())
    word = sha256(b"os-separator").digest()
    twice = {index: sha256(value + word).digest() for index, value in separated(log, 7).items() if index == 7}
    assert facts(log, pcrs={**quoted(log), **twice}).unexplained == {7}


# --- E01: the type of an event is not covered by its digest ----------------------------------------------------------


@pytest.mark.parametrize("kind", [T.EFI_ACTION, T.SEPARATOR, T.EFI_VARIABLE_BOOT, T.EFI_GPT_EVENT])
def test_e01_an_image_retyped_as_something_whose_data_is_hashed_is_found(kind):
    log = make_log(honest_boot())
    lie = rewritten(log, lambda e: e.data == image("\\vmlinuz"), type=int(kind))
    found = facts(lie, pcrs=quoted(log))
    assert Reason.LOG_EVENT_ALTERED in codes(found)


def test_e01_an_event_retyped_as_one_that_is_not_extended_leaves_its_register_unexplained():
    log = make_log(honest_boot())
    lie = rewritten(log, lambda e: e.data == image("\\vmlinuz"), type=int(T.NO_ACTION))
    assert facts(lie, pcrs=quoted(log)).unexplained == {4}


@pytest.mark.parametrize("kind", [0x0000040E, int(T.COMPACT_HASH), int(T.EVENT_TAG), int(T.OMIT_BOOT_DEVICE_EVENTS)])
def test_e01_an_image_of_a_type_that_does_not_belong_there_is_an_unknown_event(kind):
    log = make_log(honest_boot())
    lie = rewritten(log, lambda e: e.data == image("\\vmlinuz"), type=kind)
    (component,) = [c for c in facts(lie, pcrs=quoted(log)).components if c.pcr == 4 and c.event == 16]
    assert component.claim == "unknown-event"
    assert component.value is None


def test_e01_an_appended_event_leaves_its_register_unexplained():
    log = make_log(honest_boot())
    longer = make_log([*honest_boot(), event(8, T.IPL, b"grub_cmd: true\0", content=b"true")])
    assert facts(longer, pcrs=quoted(log)).unexplained == {8}


# --- E02: data that does not hash ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\x01")),
        (T.EFI_VARIABLE_BOOT, variable("BootOrder", b"\x01\0\0\0")),
        (T.SEPARATOR, SEPARATOR),
        (T.EFI_ACTION, b"Exit Boot Services Invocation"),
        (T.IPL, b"kernel_cmdline: /vmlinuz quiet\0"),
        (T.IPL, b"grub_cmd: linux /vmlinuz quiet\0"),
    ],
)
def test_e02_data_that_does_not_hash_to_the_digest_is_found(kind, data):
    log = make_log(honest_boot())
    lie = rewritten(log, lambda e: e.type == kind and e.data == data, data=data[:-2] + b"~" + data[-1:])
    found = facts(lie, pcrs=quoted(log))
    assert Reason.LOG_EVENT_ALTERED in codes(found)
    altered = [finding for finding in found.findings if finding.code is Reason.LOG_EVENT_ALTERED]
    assert all(finding.pcr is not None and finding.event is not None for finding in altered)


def test_e02_altered_data_is_never_a_value():
    log = make_log(honest_boot())
    lie = rewritten(
        log,
        lambda e: e.data == variable("SecureBoot", b"\x01"),
        data=variable("SecureBoot", b"\x00"),
    )
    components = facts(lie, pcrs=quoted(log)).components
    assert not [c for c in components if c.claim == "secure-boot"]


# --- E03: separators, and what may follow them -----------------------------------------------------------------------


@pytest.mark.parametrize("index", range(8))
def test_e03_a_missing_separator_is_found(index):
    made = [item for item in honest_boot() if not (item[1] is T.SEPARATOR and item[0] == index)]
    found = facts_of(made)
    assert (Reason.LOG_ORDER, index) in [(finding.code, finding.pcr) for finding in found.findings]


@pytest.mark.parametrize("index", range(8))
def test_e03_a_second_separator_is_found(index):
    made = honest_boot()
    made.insert(len(made) - 2, event(index, T.SEPARATOR, SEPARATOR))
    assert (Reason.LOG_ORDER, index) in [(f.code, f.pcr) for f in facts_of(made).findings]


@pytest.mark.parametrize("data", [b"\x01\0\0\0", b"WBCL", b"\x02\0\0\0"])
def test_e03_a_separator_that_means_something_else_is_found(data):
    made = [event(2, T.SEPARATOR, data) if item[:2] == (2, T.SEPARATOR) else item for item in honest_boot()]
    assert Reason.LOG_ORDER in codes(facts_of(made))


@pytest.mark.parametrize("index", [0, 2, 3, 6])
def test_e03_a_measurement_behind_the_separator_of_a_closed_register_is_found(index):
    made = honest_boot()
    made.insert(len(made) - 2, event(index, T.EFI_PLATFORM_FIRMWARE_BLOB, bytes(16), content=b"late firmware"))
    found = facts_of(made)
    assert [finding.pcr for finding in found.findings if finding.code is Reason.LOG_ORDER] == [index]


@pytest.mark.parametrize("index", range(8))
def test_e03_a_measurement_behind_exit_boot_services_is_found(index):
    made = [*honest_boot(), event(index, T.EFI_BOOT_SERVICES_APPLICATION, image("\\late"), content=b"late")]
    assert (Reason.LOG_ORDER, index) in [(f.code, f.pcr) for f in facts_of(made).findings]


def test_e03_the_policy_of_secure_boot_behind_its_separator_is_found():
    made = honest_boot()
    made.insert(len(made) - 2, event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\x01")))
    assert codes(facts_of(made)) == [Reason.LOG_ORDER]


def test_a_second_attempt_to_leave_boot_services_is_in_order():
    made = honest_boot()
    made.insert(len(made) - 1, event(5, T.EFI_ACTION, b"Exit Boot Services Returned with Failure"))
    made.insert(len(made) - 1, event(5, T.EFI_ACTION, b"Exit Boot Services Invocation"))
    assert facts_of(made).findings == ()


def test_boot_variables_may_follow_the_separator_of_pcr_1():
    made = honest_boot()
    made.insert(len(made) - 2, event(1, T.EFI_VARIABLE_BOOT, variable("BootOrder", b"\x02\0")))
    assert facts_of(made).findings == ()


# --- E04, E05: another log than the one that was extended ------------------------------------------------------------


def test_e04_a_log_that_is_shorter_than_what_was_extended_explains_nothing_of_that_register():
    log = make_log(honest_boot())
    assert facts(replace(log, events=log.events[:-1]), pcrs=quoted(log)).unexplained == {5}


def test_e04_the_log_of_another_boot_is_unexplained():
    other = [event(pcr, kind, data, content=content + b"!") for pcr, kind, data, content in honest_boot()]
    found = facts(make_log(honest_boot()), pcrs=quoted(make_log(other)))
    assert set(range(8)) <= found.unexplained
    assert found.components == ()


def test_e04_an_empty_log_explains_no_firmware():
    log = make_log(honest_boot())
    assert set(range(8)) <= facts(replace(log, events=()), pcrs=quoted(log)).unlogged


def test_e05_a_startup_locality_that_was_none_leaves_pcr_0_unexplained():
    log = make_log(honest_boot())
    assert facts(replace(log, startup_locality=3), pcrs=quoted(log)).unexplained == {0}


def test_e05_a_startup_locality_is_honoured():
    log = replace(make_log(honest_boot()), startup_locality=3)
    assert 0 in facts(log).explained


def test_e05_an_event_without_a_digest_of_the_bank_is_no_component():
    log = make_log(honest_boot())
    lie = rewritten(log, lambda e: e.pcr == 8, digests=())
    found = facts(lie, pcrs=quoted(log))
    assert 8 in found.unlogged
    assert not [c for c in found.components if c.pcr == 8]


# --- What systemd extends into PCR 11 while the system comes up ------------------------------------------------------


def phased(*phases, base=None):
    log = make_log(honest_boot() if base is None else base)
    made = [*(honest_boot() if base is None else base), *(event(11, T.IPL, b"", content=p.encode()) for p in phases)]
    return facts(log, pcrs=quoted(make_log(made)))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_phases_of_a_running_system_explain_pcr_11(count):
    phases = ("enter-initrd", "leave-initrd", "sysinit", "ready")[:count]
    found = phased(*phases)
    assert 11 in found.explained
    assert [c.value for c in found.components if c.claim == "boot-phase"] == list(phases)


def test_a_system_without_an_initial_ramdisk_starts_with_a_later_phase():
    found = phased("sysinit", "ready")
    assert [c.value for c in found.components if c.claim == "boot-phase"] == ["sysinit", "ready"]


def test_phases_follow_the_sections_of_a_unified_kernel():
    base = [*honest_boot(), event(11, T.IPL, ".linux\0".encode("utf-16-le"), content=b".linux\0")]
    found = phased("enter-initrd", base=base)
    assert [c.claim for c in found.components if c.pcr == 11] == ["uki-section", "boot-phase"]


def test_a_phase_that_does_not_exist_leaves_pcr_11_unlogged():
    assert phased("enter-initrd", "evil").unlogged == {11}
