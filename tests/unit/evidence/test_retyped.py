"""A type that no digest covers, over content that a liar can log in full: it gains nothing that a profile may ignore (E01)."""

from struct import pack

import pytest

from attestd.appraisal.policy import NEVER_IGNORED
from attestd.evidence.components import _remembered
from attestd.evidence.types import Component
from attestd.protocol.limits import EVENT_MEMO_PARTS, MAX_EVENTS
from attestd.tpm.eventtypes import EventType as T
from event_logs import Made, event, facts_of, honest_boot

CONFIGURATION = b"timeout 3\ndefault other.conf\neditor yes\n"
KEYS = pack("<II", 0x00060002, 40) + b"K" * 40
"""Content of a list of shim whose first signature list, of an unknown type, reads as a tagged event of Windows."""


def last_in(pcr: int, *made: Made) -> Component:
    """Return the last component of a register when these events come before the hand-over."""
    honest = honest_boot()
    found = facts_of([*honest[:-2], *made, *honest[-2:]])
    return [component for component in found.components if component.pcr == pcr and component.claim != "boot-action"][
        -1
    ]


@pytest.mark.parametrize("kind", [T.EVENT_TAG, T.IPL, T.IPL_PARTITION_DATA, T.EFI_ACTION, T.EFI_GPT_EVENT])
def test_e01_a_boot_managers_configuration_called_a_partition_table_has_to_be_accepted(kind: T) -> None:
    honest = honest_boot()
    made = event(5, kind, CONFIGURATION, content=CONFIGURATION)
    (component,) = [c for c in facts_of([*honest[:-2], made, *honest[-2:]]).components if c.event == len(honest) - 2]
    assert component.claim in NEVER_IGNORED


@pytest.mark.parametrize("kind", [T.EVENT_TAG, T.COMPACT_HASH])
def test_e01_shims_keys_called_a_key_of_windows_have_to_be_accepted(kind: T) -> None:
    component = last_in(14, event(14, kind, KEYS, content=KEYS))
    assert component.claim == "windows-authority"
    assert component.claim in NEVER_IGNORED


@pytest.mark.parametrize("kind", [T.EVENT_TAG, T.COMPACT_HASH])
def test_e01_a_short_command_line_of_a_unified_kernel_does_not_pass_for_a_counter_of_windows(kind: T) -> None:
    name = event(11, T.IPL, ".cmdline\0".encode("utf-16-le"), content=b".cmdline\0")
    component = last_in(11, name, event(11, kind, b"rw 1", content=b"rw 1"))
    assert (component.claim, component.value) == ("unknown-event", "hex 72772031")


COUNTER = pack("<II", 0x00020002, 8) + b"8 bytes."


@pytest.mark.parametrize(("pcr", "claim"), [(12, "windows-state"), (13, "windows-setting"), (14, "windows-setting")])
def test_e01_counters_of_windows_are_of_no_consequence_where_windows_has_them_alone(pcr: int, claim: str) -> None:
    assert last_in(pcr, event(pcr, T.EVENT_TAG, COUNTER, content=COUNTER)).claim == claim


def test_a_tagged_event_of_a_boot_loader_is_no_setting_of_windows() -> None:
    """What systemd's stub logs of a profile has the form of Windows' tagged events, and another group of types."""
    addon = pack("<II", 0x3AED1B88, 9) + b"a profile"
    component = last_in(12, event(12, T.EVENT_TAG, addon, content=addon))
    assert (component.claim, component.value) == ("system-extension", None)


def crowd(number: int, parts: int) -> Made:
    """Return an event of Windows' form with many things in it; `number` makes it unlike others."""
    data = pack("<III", 0x00050001, 4, number) + pack("<II", 0x000500FE, 0) * parts
    return event(12, T.EVENT_TAG, data)


def test_e06_a_log_does_not_become_more_components_than_a_log_has_events() -> None:
    found = facts_of([*(crowd(number, 4000) for number in range(4)), event(12, T.IPL, b"behind"), *honest_boot()])
    assert len(found.components) < MAX_EVENTS + 4000 + 100
    behind = [component for component in found.components if component.event >= 3]
    assert {(component.claim, component.value) for component in behind} == {("unknown-event", None)}
    assert found.findings != ()


def test_e06_events_that_hold_much_are_not_remembered() -> None:
    _remembered.cache_clear()
    facts_of([*(crowd(number, EVENT_MEMO_PARTS + 1) for number in range(50)), *honest_boot()])
    kept = _remembered.cache_info().currsize
    facts_of(honest_boot())
    assert _remembered.cache_info().currsize == kept
    facts_of([*(crowd(number, EVENT_MEMO_PARTS) for number in range(50)), *honest_boot()])
    assert _remembered.cache_info().currsize == kept + 50


@pytest.mark.parametrize("kind", [T.EFI_VARIABLE_BOOT, T.EFI_VARIABLE_BOOT2])
def test_e06_a_boot_variable_of_no_bytes_is_an_event_that_nobody_understands(kind: T) -> None:
    assert last_in(1, event(1, kind, b"")).claim == "unknown-event"
