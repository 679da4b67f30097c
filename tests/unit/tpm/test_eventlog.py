import hashlib

import pytest

from attestd.protocol.limits import MAX_EVENT_DATA, MAX_EVENT_LOG, MAX_EVENTS
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import EventType, event_type_name, parse_event_log, replay
from tpm_structures import SHA1_ID, SHA256_ID, SHA384_ID, agile_event, agile_log, legacy_event, spec_id

ACTION = EventType.EFI_ACTION
NO_ACTION = EventType.NO_ACTION
SEPARATOR = EventType.SEPARATOR
LOCALITY = b"StartupLocality\0"


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parse_event_log(data)
    return caught.value.code


def digest_of(*data: bytes, start: bytes = bytes(32)) -> bytes:
    value = start
    for entry in data:
        value = hashlib.sha256(value + hashlib.sha256(entry).digest()).digest()
    return value


def test_a_crypto_agile_log_is_read():
    log = parse_event_log(agile_log(agile_event(4, ACTION, b"one"), agile_event(5, SEPARATOR, bytes(4))))

    assert (log.format, log.algorithms, log.startup_locality, log.tail) == (
        "crypto-agile",
        ("sha1", "sha256"),
        None,
        0,
    )
    assert [(event.index, event.pcr, event.type, event.data) for event in log.events] == [
        (0, 4, ACTION, b"one"),
        (1, 5, SEPARATOR, bytes(4)),
    ]
    assert log.events[0].digests == (
        ("sha1", hashlib.sha1(b"one").digest()),
        ("sha256", hashlib.sha256(b"one").digest()),
    )


def test_a_sha1_log_is_read_from_its_first_event_on():
    log = parse_event_log(legacy_event(0, ACTION, b"one") + legacy_event(7, ACTION, b"two"))

    assert (log.format, log.algorithms, len(log.events)) == ("sha1-legacy", ("sha1",), 2)
    assert replay(log, "sha1").pcrs[7] == hashlib.sha1(bytes(20) + hashlib.sha1(b"two").digest()).digest()


def test_an_older_spec_id_heads_a_sha1_log():
    log = parse_event_log(legacy_event(0, NO_ACTION, b"Spec ID Event00\0" + bytes(9)) + legacy_event(0, ACTION, b"x"))

    assert (log.format, len(log.events)) == ("sha1-legacy", 2)
    assert set(replay(log, "sha1").pcrs) == {0}


def test_events_extend_their_registers_in_order():
    log = parse_event_log(
        agile_log(agile_event(4, ACTION, b"a"), agile_event(5, ACTION, b"b"), agile_event(4, ACTION, b"c"))
    )

    found = replay(log, "sha256")

    assert found.pcrs == {4: digest_of(b"a", b"c"), 5: digest_of(b"b")}
    assert found.initial == {4: bytes(32), 5: bytes(32)}
    assert (found.bank, found.missing) == ("sha256", ())


@pytest.mark.parametrize("pcr", [0, 7])
def test_e05_no_action_is_never_extended_whatever_its_digests(pcr):
    log = parse_event_log(agile_log(agile_event(pcr, NO_ACTION, b"x"), agile_event(7, ACTION, b"a")))

    assert replay(log, "sha256").pcrs == {7: digest_of(b"a")}


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_the_startup_locality_sets_the_first_value_of_register_zero(locality):
    claim = agile_event(0, NO_ACTION, LOCALITY + bytes((locality,)))
    log = parse_event_log(agile_log(claim, agile_event(0, ACTION, b"a"), agile_event(1, ACTION, b"b")))

    found = replay(log, "sha256")

    assert log.startup_locality == locality
    assert found.initial == {0: bytes(31) + bytes((locality,)), 1: bytes(32)}
    assert found.pcrs[0] == digest_of(b"a", start=bytes(31) + bytes((locality,)))
    assert found.pcrs[1] == digest_of(b"b")


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([agile_event(0, ACTION, b"a"), agile_event(0, NO_ACTION, LOCALITY + b"\3")], id="late"),
        pytest.param([agile_event(0, NO_ACTION, LOCALITY + b"\3")] * 2, id="twice"),
        pytest.param([agile_event(0, NO_ACTION, LOCALITY + b"\5")], id="five"),
        pytest.param([agile_event(0, NO_ACTION, LOCALITY)], id="absent"),
        pytest.param([agile_event(0, NO_ACTION, LOCALITY + b"\3\0")], id="long"),
    ],
)
def test_e05_a_startup_locality_out_of_place_is_refused(events):
    assert refused(agile_log(*events)) == "eventlog-locality"


def test_e05_a_startup_locality_of_another_register_is_no_claim():
    log = parse_event_log(agile_log(agile_event(1, NO_ACTION, LOCALITY + b"\3"), agile_event(0, ACTION, b"a")))

    assert log.startup_locality is None
    assert replay(log, "sha256").pcrs == {0: digest_of(b"a")}


def test_e05_a_digest_missing_from_a_bank_is_told_by_its_replay():
    windows = agile_event(12, ACTION, b"w", digests=[(SHA256_ID, hashlib.sha256(b"w").digest())])
    log = parse_event_log(agile_log(agile_event(4, ACTION, b"a"), windows))

    assert replay(log, "sha256").missing == ()
    assert replay(log, "sha256").pcrs[12] == digest_of(b"w")
    assert replay(log, "sha1").missing == (1,)
    assert set(replay(log, "sha1").pcrs) == {4}


def test_digests_in_another_order_are_put_into_the_declared_one():
    digests = [(SHA256_ID, b"2" * 32), (SHA1_ID, b"1" * 20)]
    log = parse_event_log(agile_log(agile_event(4, ACTION, b"a", digests=digests)))

    assert log.events[0].digests == (("sha1", b"1" * 20), ("sha256", b"2" * 32))


@pytest.mark.parametrize(
    ("event", "code"),
    [
        pytest.param(agile_event(4, ACTION, b"", digests=[]), "eventlog-digest-count", id="none"),
        pytest.param(agile_event(4, ACTION, b"", count=3), "eventlog-digest-count", id="more"),
        pytest.param(agile_event(4, ACTION, b"", count=0xFFFFFFFF), "eventlog-digest-count", id="huge"),
        pytest.param(
            agile_event(4, ACTION, b"", digests=[(SHA1_ID, bytes(20))] * 2), "eventlog-digest-duplicate", id="doubled"
        ),
        pytest.param(
            agile_event(4, ACTION, b"", digests=[(SHA1_ID, bytes(20)), (SHA384_ID, bytes(48))]),
            "eventlog-algorithm-undeclared",
            id="undeclared",
        ),
        pytest.param(
            agile_event(4, ACTION, b"", digests=[(0xFFFF, bytes(20))]), "eventlog-algorithm-undeclared", id="unknown"
        ),
    ],
)
def test_e05_a_digest_list_that_does_not_fit_the_header_is_refused(event, code):
    assert refused(agile_log(event)) == code


@pytest.mark.parametrize(
    ("header", "code"),
    [
        pytest.param(spec_id([]), "eventlog-algorithm-count", id="none"),
        pytest.param(spec_id([(SHA1_ID, 20)] * 6), "eventlog-algorithm-count", id="six"),
        pytest.param(spec_id([(SHA1_ID, 20), (SHA1_ID, 20)]), "eventlog-algorithm-duplicate", id="twice"),
        pytest.param(spec_id([(0x0027, 32)]), "eventlog-algorithm-unknown", id="unknown"),
        pytest.param(spec_id([(SHA1_ID, 21)]), "eventlog-algorithm-size", id="size"),
        pytest.param(spec_id() + b"\0", "eventlog-header", id="trailing"),
        pytest.param(spec_id()[:-1], "structure-truncated", id="cut"),
        pytest.param(spec_id()[:21] + b"\x01" + spec_id()[22:], "eventlog-version", id="version"),
        pytest.param(spec_id()[:24] + b"\xff\xff\0\0" + bytes(40), "eventlog-algorithm-count", id="e06-ffff"),
    ],
)
def test_e05_a_header_that_declares_nonsense_is_refused(header, code):
    assert refused(agile_log(header=header)) == code


def test_vendor_information_in_the_header_is_skipped():
    log = parse_event_log(agile_log(agile_event(4, ACTION, b"a"), header=spec_id(vendor=b"maker")))

    assert len(log.events) == 1


@pytest.mark.parametrize("size", [MAX_EVENT_DATA + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_e06_an_event_of_absurd_size_is_refused_without_allocating(size):
    assert refused(agile_log(agile_event(4, ACTION, b"a", size=size))) == "eventlog-event-size"
    assert refused(legacy_event(4, ACTION, b"a", size=size)) == "eventlog-event-size"


def test_e06_a_log_beyond_the_bound_is_refused():
    assert refused(bytes(MAX_EVENT_LOG + 1)) == "eventlog-size"


@pytest.mark.parametrize("head", [agile_log(), b""])
def test_e06_more_events_than_the_bound_are_refused(head):
    event = agile_event(4, ACTION, b"a") if head else legacy_event(4, ACTION, b"a")

    assert len(parse_event_log(head + event * MAX_EVENTS).events) == MAX_EVENTS
    assert refused(head + event * (MAX_EVENTS + 1)) == "eventlog-event-count"


@pytest.mark.parametrize("pcr", [24, 0x7FFFFFFF, 0xFFFFFFFE])
@pytest.mark.parametrize("kind", [ACTION, NO_ACTION])
def test_e07_a_register_above_23_is_refused(pcr, kind):
    assert refused(agile_log(agile_event(pcr, kind, b"a"))) == "eventlog-pcr-index"
    assert refused(legacy_event(pcr, kind, b"a")) == "eventlog-pcr-index"


def test_e07_the_informational_register_is_refused_to_an_event_that_extends():
    assert refused(agile_log(agile_event(0xFFFFFFFF, ACTION, b"a"))) == "eventlog-pcr-index"


def test_the_informational_register_extends_nothing():
    log = parse_event_log(agile_log(agile_event(0xFFFFFFFF, NO_ACTION, b"trust point"), agile_event(4, ACTION, b"a")))

    assert log.events[0].pcr == 0xFFFFFFFF
    assert set(replay(log, "sha256").pcrs) == {4}


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
@pytest.mark.parametrize("size", [1, 3, 64, 4096])
def test_padding_behind_the_events_is_counted_and_dropped(filler, size):
    plain = agile_log(agile_event(4, ACTION, b"a"))

    log = parse_event_log(plain + filler * size)

    assert log.tail == size
    assert log.events == parse_event_log(plain).events


def test_an_event_may_end_in_filler_itself():
    log = parse_event_log(agile_log(agile_event(4, SEPARATOR, bytes(4)), agile_event(5, SEPARATOR, b"\xff" * 4)))

    assert (len(log.events), log.tail) == (2, 0)


def test_padding_of_two_kinds_is_no_padding():
    assert refused(agile_log(agile_event(4, ACTION, b"a")) + bytes(64) + b"\xff" * 64).startswith("eventlog-")


def test_a_log_of_nothing_is_refused():
    assert refused(b"") == "structure-truncated"


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_a_log_area_that_nobody_wrote_is_no_log(filler):
    assert refused(filler * 4096) == "structure-truncated"


def test_e04_a_log_cut_inside_an_event_is_refused():
    data = agile_log(agile_event(4, ACTION, b"some data"))
    start = len(agile_log())

    codes = {refused(data[:length]) for length in range(start + 1, len(data))}

    # A cut that leaves less than one register number of zeros looks like padding, and then the event is missing.
    assert codes <= {"structure-truncated", "eventlog-digest-count"}


def test_e04_a_log_cut_at_an_event_replays_to_something_else():
    whole = agile_log(agile_event(4, ACTION, b"a"), agile_event(4, ACTION, b"b"))
    short = whole[: -len(agile_event(4, ACTION, b"b"))]

    assert replay(parse_event_log(short), "sha256").pcrs != replay(parse_event_log(whole), "sha256").pcrs


def test_a_bank_that_the_log_does_not_declare_cannot_be_replayed():
    with pytest.raises(Malformed) as caught:
        replay(parse_event_log(agile_log()), "sha384")

    assert caught.value.code == "eventlog-bank"


def test_event_types_go_by_the_profiles_names():
    assert event_type_name(0x80000008) == "EV_EFI_PLATFORM_FIRMWARE_BLOB"
    assert event_type_name(0x80000012) == "unknown-0x80000012"


def test_a_confidential_computing_log_has_registers_in_place_of_pcrs():
    header = spec_id([(SHA384_ID, 48)])
    event = agile_event(2, ACTION, b"a", digests=[(SHA384_ID, hashlib.sha384(b"a").digest())])
    log = parse_event_log(legacy_event(1, NO_ACTION, header, digest=bytes(20)) + event + b"\xff" * 100)

    assert replay(log, "sha384").pcrs == {2: hashlib.sha384(bytes(48) + hashlib.sha384(b"a").digest()).digest()}
