"""Reports on boot logs: what they say of each event, and where log and register part."""

import base64
import json
import struct
import time
from hashlib import sha256

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attestd.inspection.eventlog import inspect_event_log
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.registers import read_registers
from attestd.tpm.eventlog import EventType, parse_event_log, replay
from attestd.tpm.pcr import extend
from inspecting import refusal_of
from tpm_structures import SHA256_ID, agile_event, agile_log, spec_id

DATA = b"\0\0\0\0"
OTHER = b"Calling EFI Application from Boot Option"


def digest_of(data: bytes) -> bytes:
    return sha256(data).digest()


def event(pcr: int, kind: EventType, data: bytes, *, digest: bytes | None = None) -> bytes:
    return agile_event(pcr, kind, data, digests=[(SHA256_ID, digest or digest_of(data))])


def log_of(*events: bytes) -> bytes:
    return agile_log(*events, header=spec_id([(SHA256_ID, 32)]))


def good() -> list[bytes]:
    return [event(4, EventType.EFI_ACTION, OTHER), *(event(pcr, EventType.SEPARATOR, DATA) for pcr in range(8))]


def register(data: bytes, pcr: int) -> bytes:
    return replay(parse_event_log(data), "sha256").pcrs[pcr]


def explained(data: bytes, pcr: int, value: bytes):
    values = {index: register(data, index) for index in range(8)} | {pcr: value}
    report = inspect_event_log(data, {"sha256": values})
    return next(one for one in report.registers if one.pcr == pcr)


def test_an_event_whose_data_was_altered_is_marked():
    report = inspect_event_log(log_of(event(4, EventType.EFI_ACTION, OTHER, digest=digest_of(DATA))))

    assert [one.matches for one in report.events] == [False]


def test_an_event_about_something_outside_the_log_is_not_judged():
    report = inspect_event_log(log_of(event(0, EventType.POST_CODE, b"ACPI DATA", digest=digest_of(DATA))))

    assert [(one.matches, one.summary) for one in report.events] == [(None, "ACPI DATA")]


def test_a_log_in_base64_is_the_same_log():
    data = log_of(*good())

    assert inspect_event_log(base64.b64encode(data)).document() == inspect_event_log(data).document()


def test_a_register_that_the_log_leads_to_is_explained():
    data = log_of(*good())

    assert explained(data, 4, register(data, 4)).state == "explained"


def test_a_register_that_stands_before_the_last_events_names_the_first_that_never_reached_it():
    data = log_of(*good())
    before = register(log_of(good()[0]), 4)

    found = explained(data, 4, before)

    assert found.parting is not None
    assert (found.state, found.parting.event) == ("unexplained", 5)


def test_an_event_that_was_added_to_the_log_is_named():
    events = good()
    data = log_of(events[0], event(4, EventType.EFI_ACTION, b"evil"), *events[1:])

    found = explained(data, 4, register(log_of(*events), 4))

    assert found.parting is not None
    assert found.parting.event == 1


def test_an_event_whose_digest_was_changed_is_named_where_its_data_was_not():
    events = good()
    data = log_of(event(4, EventType.EFI_ACTION, OTHER, digest=digest_of(b"evil")), *events[1:])

    found = explained(data, 4, register(log_of(*events), 4))

    assert found.parting is not None
    assert (found.parting.event, "its data is" in found.parting.text) == (0, True)


def test_a_cap_behind_the_log_is_told():
    data = log_of(*good())

    found = explained(data, 4, extend("sha256", register(data, 4), b"\xff" * 32))

    assert found.parting is not None
    assert found.parting.event is None
    assert "cap" in found.parting.text


def test_a_register_that_nothing_explains_is_unexplained_without_a_reason():
    found = explained(log_of(*good()), 4, digest_of(b"anything"))

    assert (found.state, found.parting) == ("unexplained", None)


def test_a_register_without_any_event_is_not_logged():
    assert explained(log_of(*good()), 14, digest_of(b"anything")).state == "not-logged"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"[]", "json-malformed"),
        (b"{", "json-malformed"),
        (b"[" * 20_000, "json-malformed"),
        (b'{"sha256": 0}', "pcrs-malformed"),
        (b'{"md5": {}}', "pcrs-malformed"),
        (b'{"sha256": {"24": "00"}}', "pcrs-malformed"),
        (b'{"sha256": {"0": "00"}}', "pcrs-malformed"),
        (b'{"sha256": {"0": 1}}', "hex-malformed"),
        (b" " * 300_000, "json-size"),
    ],
)
def test_registers_that_are_none_are_refused(text, code):
    with pytest.raises(InspectionRefused) as caught:
        read_registers(text)

    assert caught.value.code == code


@pytest.mark.parametrize(
    "spelt",
    [
        {"SHA256": {"PCR0": "0x" + "AB" * 32}},
        {"sha-256": ["ab" * 32]},
        {"0": "ab" * 32},
        {"sha256": {"00": "ab" * 32}, "sha3_256": {"0": "11" * 32}},
        {"TPM_ALG_SHA256": {"pcr-0": "ab" * 32}},
    ],
)
def test_registers_in_the_spelling_of_others_are_the_same_registers(spelt):
    assert read_registers(json.dumps(spelt).encode()) == {"sha256": {0: b"\xab" * 32}}


def test_what_a_tool_printed_of_registers_is_read():
    printed = f"  sha1:\n  sha256:\n    0 : 0x{'11' * 32}\n    10: 0x{'AA' * 32}\n".encode()

    assert read_registers(printed) == {"sha1": {}, "sha256": {0: b"\x11" * 32, 10: b"\xaa" * 32}}


def test_the_kernels_list_of_an_old_tpm_is_read():
    printed = b"PCR-00:" + b" 3A" * 20 + b"\nPCR-23:" + b" 00" * 20 + b"\n"

    assert read_registers(printed) == {"sha1": {0: b"\x3a" * 20, 23: bytes(20)}}


def test_a_log_in_the_container_of_a_launch_is_the_log_in_it():
    events = bytes.fromhex("11000000") + (0x404).to_bytes(4, "little") + digest_of(b"x")[:20] + bytes(4)
    size = 48 + len(events) + 100
    head = b"TXT Event Container\0" + bytes(12) + b"\1\0\1\0" + struct.pack("<III", size, 48, 48 + len(events))

    (event_report,) = inspect_event_log(head + events + bytes(100)).events

    assert (event_report.pcr, event_report.type) == (17, "TXT_MLE_HASH")
    assert refusal_of(lambda: inspect_event_log((head + events)[:-1])) == "structure-truncated"


@given(st.binary(max_size=2_000) | st.binary(max_size=400).map(lambda tail: log_of(*good()) + tail))
@example(b"")
@example(log_of(*good()))
@settings(deadline=None)
def test_whatever_the_bytes_there_is_a_report_or_a_refusal(data):
    refusal = refusal_of(lambda: inspect_event_log(data, {"sha256": {0: bytes(32), 4: bytes(32)}}).document())

    assert refusal is None or refusal.startswith(("eventlog-", "structure-"))


@given(st.sampled_from(list(EventType)), st.integers(0, 23), st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_whatever_an_events_data_it_has_a_summary(kind, pcr, data):
    report = inspect_event_log(log_of(event(pcr, kind, data)))

    assert all(isinstance(one.summary, str) for one in report.events)


def test_e06_a_log_made_to_cost_much_costs_little():
    events = [event(number % 24, EventType.IPL, b"grub", digest=bytes(32)) for number in range(24 * 240)]
    values = {index: bytes((7,)) * 32 for index in range(24)}
    began = time.process_time()

    report = inspect_event_log(log_of(*events), {"sha256": values})

    assert {one.state for one in report.registers} == {"unexplained"}
    assert time.process_time() - began < 4
