"""Canonical Event Logs in their encodings, as launchers, kernels and services write them."""

import base64
import hashlib
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestd.inspection.difference import inspect_difference, read_boot
from attestd.inspection.eventlog import inspect_event_log
from attestd.inspection.refused import InspectionRefused
from attestd.tpm.eventtypes import EventType
from event_logs import event as made
from event_logs import make_log
from inspecting import refusal_of
from tpm_structures import ima_entry


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tlv(kind: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">BI", kind, len(body)) + body


def tlv_record(number: int, digest: bytes, content: bytes, *, register: bytes = tlv(1, b"\x0b")) -> bytes:
    return tlv(0, number.to_bytes(8, "big")) + register + tlv(3, tlv(11, digest)) + content


def record(word: str, *, pcr: int = 11, kind: str = "phase", digest: bytes | None = None) -> dict:
    measured = sha256(word.encode()) if digest is None else digest
    return {
        "pcr": pcr,
        "digests": [{"hashAlg": "sha256", "digest": measured.hex()}],
        "content_type": "systemd",
        "content": {"string": word, "bootId": "189c18dd7ba245f38cf49d9ac154b525", "timestamp": 1, "eventType": kind},
    }


def sequence(*records: dict) -> bytes:
    return b"".join(b"\x1e" + json.dumps(one).encode() + b"\n" for one in records)


def extended(*digests: bytes) -> str:
    value = bytes(32)
    for digest in digests:
        value = sha256(value + digest)
    return value.hex()


PHASES = [record("enter-initrd"), record("leave-initrd")]
REPLAYED = extended(sha256(b"enter-initrd"), sha256(b"leave-initrd"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(sequence(*PHASES), id="separators"),
        pytest.param(b"\n".join(json.dumps(one).encode() for one in PHASES) + b"\n", id="lines"),
        pytest.param(json.dumps(PHASES, indent=2).encode(), id="list"),
        pytest.param(json.dumps({"events": PHASES}).encode(), id="object"),
        pytest.param(base64.b64encode(sequence(*PHASES)), id="base64"),
    ],
)
def test_what_the_running_system_measured_is_read_and_replayed(data):
    report = inspect_event_log(data).document()

    assert (report["outcome"], report["format"]) == ("parsed", "cel-json")
    assert report["pcrs"] == {"sha256": {"11": REPLAYED}}
    assert [event["summary"] for event in report["events"]] == ["phase: enter-initrd", "phase: leave-initrd"]
    assert [event["digest_matches_data"] for event in report["events"]] == [True, True]


def test_the_digest_of_a_key_is_not_that_of_its_label():
    (event,) = inspect_event_log(
        sequence(record("cryptsetup:root", pcr=15, kind="volume-key", digest=bytes(32)))
    ).events

    assert (event.type, event.pcr, event.matches, event.summary) == ("systemd", 15, None, "volume-key: cryptsetup:root")


def test_an_nv_index_is_told_and_extends_no_register():
    item = {**record("product", kind="product-id"), "nv_index": 0x01D10200}
    del item["pcr"]

    report = inspect_event_log(sequence(record("enter-initrd"), item)).document()

    assert report["pcrs"] == {"sha256": {"11": extended(sha256(b"enter-initrd"))}}
    assert "NV index 0x01d10200" in report["events"][1]["summary"]


def test_a_firmwares_event_in_json_reads_as_in_the_firmwares_own_log():
    data = bytes(4)
    event = {"event_type": "EV_SEPARATOR", "event_data": base64.b64encode(data).decode()}
    item = {"recnum": 0, "pcr": 7, "digests": {"sha256": sha256(data).hex()}, "content_type": "pcclient_std"}

    report = inspect_event_log(json.dumps([{**item, "content": event}]).encode()).document()

    (shown,) = report["events"]
    assert (shown["type"], shown["digest_matches_data"], shown["content_type"]) == (
        "EV_SEPARATOR",
        True,
        "pcclient_std",
    )


def test_an_entry_of_the_kernels_list_is_told_by_its_file():
    data = ima_entry(b"/usr/bin/kmod")[4 + 20 + 4 + 6 + 4 :]
    content = tlv(7, tlv(0, b"ima-ng"), tlv(1, data))

    (event,) = inspect_event_log(tlv_record(0, sha256(data), content, register=tlv(1, bytes(3) + b"\x0a"))).events

    assert (event.type, event.pcr, event.matches) == ("ima_template", 10, True)
    assert event.summary.startswith("ima-ng: /usr/bin/kmod sha256:11")


def test_a_firmwares_event_in_tlv_keeps_its_type():
    content = tlv(5, tlv(0, int(EventType.SEPARATOR).to_bytes(4, "big")), tlv(1, bytes(4)))

    (event,) = inspect_event_log(tlv_record(0, sha256(bytes(4)), content)).events

    assert (event.type, event.matches) == ("EV_SEPARATOR", True)


def test_cbor_with_numbers_for_names_is_the_same_log():
    word = b"enter-initrd"
    # {0: 0, 1: 11, 3: [[11, h'…']], 9: "enter-initrd"}
    item = b"\xa4\x00\x00\x01\x0b\x03\x81\x82\x0b\x58\x20" + sha256(word) + b"\x09\x6c" + word

    for data in (item, b"\x81" + item):
        report = inspect_event_log(data).document()
        assert (report["format"], report["pcrs"]) == ("cel-cbor", {"sha256": {"11": extended(sha256(word))}})
        assert report["events"][0]["digest_matches_data"] is True


HEADER = bytes.fromhex("53706563204944204576656e743033000000000000020002020000000400") + bytes.fromhex("14000b00200000")


def test_the_standards_example_in_cbor_reads():
    version = bytes.fromhex("1efb6b540c1d5540a4ad4ef4bf17b83a")
    # [{0: 0, 1: 0, 3: [{0: 4, 1: h'00…'}], 9: 5, 10: {0: 3, 1: h'Spec ID…'}}, {0: 1, 1: 0, 3: […], 9: 5, 10: {0: 8, 1: …}}]
    first = b"\xa5\x00\x00\x01\x00\x03\x81\xa2\x00\x04\x01\x54" + bytes(20)
    first += b"\x09\x05\x0a\xa2\x00\x03\x01\x58\x25" + HEADER
    second = b"\xa5\x00\x01\x01\x00\x03\x81\xa2\x00\x0b\x01\x58\x20" + sha256(version)
    second += b"\x09\x05\x0a\xa2\x00\x08\x01\x50" + version

    report = inspect_event_log(b"\x82" + first + second).document()

    assert [event["type"] for event in report["events"]] == ["EV_NO_ACTION", "EV_S_CRTM_VERSION"]
    assert report["pcrs"] == {"sha256": {"0": extended(sha256(version))}}


def test_a_startup_locality_counts_in_every_encoding():
    claim = {"event_type": "EV_NO_ACTION", "event_data": (b"StartupLocality\0\x03").hex()}
    items = [
        {"pcr": 0, "digests": {"sha256": "00" * 32}, "content_type": "pcclient_std", "content": claim},
        {**record("a"), "pcr": 0},
    ]

    report = inspect_event_log(json.dumps(items).encode()).document()

    value = sha256(bytes(31) + b"\x03" + sha256(b"a")).hex()
    assert (report["startup_locality"], report["pcrs"]) == (3, {"sha256": {"0": value}})
    assert inspect_event_log(json.dumps(items[::-1]).encode()).document()["reason"] == "eventlog-locality"


RENDERING = """---
version: 1
events:
- EventNum: 0
  PCRIndex: 0
  EventType: EV_NO_ACTION
  Digest: "0000000000000000000000000000000000000000"
  EventSize: 33
  SpecID:
  - Signature: Spec ID Event03
- EventNum: 1
  PCRIndex: 7
  EventType: EV_SEPARATOR
  DigestCount: 1
  Digests:
  - AlgorithmId: sha256
    Digest: "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119"
  EventSize: 4
  Event: "00000000"
- EventNum: 2
  PCRIndex: 4
  EventType: EV_EFI_BOOT_SERVICES_APPLICATION
  Digests:
  - AlgorithmId: sha256
    Digest: "%s"
  EventSize: 100
  Event:
    ImageLocationInMemory: 0x1000
    DevicePath: ''
pcrs:
  sha256:
    0  : 0x00
"""


def test_what_a_tool_rendered_is_replayed_from_its_digests():
    report = inspect_event_log((RENDERING % ("11" * 32)).encode()).document()

    assert (report["format"], list(report["pcrs"]["sha256"])) == ("tpm2-yaml", ["4", "7"])
    assert [(event["type"], event["digest_matches_data"]) for event in report["events"]] == [
        ("EV_SEPARATOR", True),
        ("EV_EFI_BOOT_SERVICES_APPLICATION", None),
    ]
    assert report["pcrs"]["sha256"]["4"] == extended(b"\x11" * 32)


def test_a_rendering_with_a_digest_that_is_none_is_refused_with_what_was_before_it():
    report = inspect_event_log((RENDERING % "zz").encode()).document()

    assert (report["reason"], [event["pcr"] for event in report["events"]]) == ("eventlog-record", [7])


@pytest.mark.parametrize("data", [sequence(*PHASES)[:-40], sequence(PHASES[0]) + b'\x1e{"pcr": 24}\n'])
def test_e06_a_damaged_sequence_is_reported_up_to_the_damage(data):
    report = inspect_event_log(data).document()

    assert (report["outcome"], report["damaged_at"]) == ("refused", data.rindex(b"\x1e") + 1)
    assert report["pcrs"] == {"sha256": {"11": extended(sha256(b"enter-initrd"))}}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pcr": 24}, "eventlog-pcr-index"),
        ({"pcr": True}, "eventlog-pcr-index"),
        ({"digests": []}, "eventlog-digest-count"),
        ({"digests": [{"hashAlg": "md5", "digest": "00" * 16}]}, "eventlog-record"),
        ({"digests": [{"hashAlg": "crc", "digest": "00" * 32}]}, "eventlog-algorithm-unknown"),
        ({"digests": [{"hashAlg": "sha1", "digest": "00" * 32}]}, "eventlog-algorithm-size"),
        ({"digests": 2 * record("a")["digests"]}, "eventlog-digest-duplicate"),
    ],
)
def test_e05_a_record_that_is_none_is_refused(change, code):
    assert refusal_of(lambda: inspect_event_log(sequence({**record("a"), **change}))) == code


def test_nesting_without_end_is_refused():
    with pytest.raises(InspectionRefused):
        inspect_event_log(b"[" * 100_000)


def test_a_difference_between_two_sequences_is_told_in_their_words():
    before, after = (read_boot({"eventlog.bin": sequence(*one)}) for one in (PHASES, [PHASES[0], record("sysinit")]))

    (change,) = inspect_difference(before, after).changes

    assert (change.kind, change.pcrs, change.after) == ("changed", (11,), "phase: sysinit")


def test_what_the_running_system_measured_explains_registers_behind_the_firmwares_log():
    firmware = make_log([made(11, EventType.IPL, b".linux\0", content=b"a section")])
    boot = [
        {
            "pcr": one.pcr,
            "digests": {name: digest.hex() for name, digest in one.digests},
            "content_type": "pcclient_std",
            "content": {"event_type": one.type, "event_data": one.data.hex()},
        }
        for one in firmware.events
    ]
    phases = [record("enter-initrd"), record("a-word-of-its-own")]
    value = extended(sha256(b"a section"), sha256(b"enter-initrd"), sha256(b"a-word-of-its-own"))
    registers = {"sha256": {11: bytes.fromhex(value)}}

    alone, both = (
        inspect_event_log(json.dumps(boot).encode(), registers, behind=one) for one in (None, sequence(*phases))
    )

    assert [one.registers[0].state for one in (alone, both)] == ["unexplained", "explained"]
    assert [one.summary for one in both.events[1:]] == ["phase: enter-initrd", "phase: a-word-of-its-own"]


@given(
    data=st.binary(max_size=200),
    head=st.sampled_from([b"", b"[", b'\x1e{"pcr":1,', b"\x81", b"\xa4\x00", tlv(0, bytes(8))]),
)
@settings(deadline=None, max_examples=200)
def test_whatever_follows_there_is_a_report_or_a_refusal(data, head):
    refusal = refusal_of(lambda: inspect_event_log(head + data).document())

    assert refusal is None or "-" in refusal
