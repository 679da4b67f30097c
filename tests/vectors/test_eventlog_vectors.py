"""Boot event logs of real machines: what they replay to, and which damage is refused."""

import base64
import json
from typing import Any

import pytest

from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import EventLog, parse_event_log, replay
from attestd.tpm.measured import measured
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

Item = dict[str, Any]
Values = dict[str, dict[str, str]]

LOGS = manifest_items("eventlog/uefi", "eventlog/ccel", "eventlog/tpm12", "malformed/eventlog-altered")
DAMAGED = manifest_items("malformed/eventlog")
MACHINES = ["good-1", "tampered-cmdline", "tampered-file"]

NOT_READ = {
    # The Spec ID event says 37 bytes and is 41 long; a lenient reader would have to guess which is true.
    "tpm2-tools__fixtures__specid-vendordata.bin": "structure-truncated",
}

REFUSED = {
    "intel-secl__eventlog__incomplete_tcg_spec_event.bin": "structure-truncated",
    "keylime__create-mb-policy__binary_bios_measurements-bogus": "eventlog-pcr-index",
    "own__mut_s_digest_count_huge.bin": "eventlog-digest-count",
    "own__mut_s_digest_count_zero.bin": "eventlog-digest-count",
    "own__mut_s_event_size_huge.bin": "eventlog-event-size",
    "own__mut_s_goatt_event_size_3GB.bin": "eventlog-pcr-index",
    "own__mut_s_pcr_minus_one.bin": "eventlog-pcr-index",
    "own__mut_s_pcr_out_of_range.bin": "eventlog-pcr-index",
    "own__mut_s_random_4k.bin": "eventlog-pcr-index",
    "own__mut_s_second_specid.bin": "eventlog-digest-count",
    "own__mut_s_specid_algcount_huge.bin": "eventlog-algorithm-count",
    "own__mut_s_specid_wrong_digest_size.bin": "eventlog-algorithm-size",
    "own__mut_s_truncated_data.bin": "structure-truncated",
    "own__mut_s_truncated_digest.bin": "structure-truncated",
    "own__mut_s_truncated_header.bin": "structure-truncated",
    "own__mut_s_truncated_specid.bin": "structure-truncated",
    "own__mut_s_undeclared_alg.bin": "eventlog-algorithm-undeclared",
}
# One of the flipped bits makes a register 24 out of register 8.
FLIPPED_REGISTER = {"own__mut_s_bitflips_3.bin"}
SAME = {
    "own__mut_s_event_data_flipped.bin",
    "own__mut_s_no_action_in_pcr7.bin",
    "own__mut_s_padding_ff.bin",
    "own__mut_s_padding_zero.bin",
}
DIFFERENT = {
    "own__mut_s_cut_at_boundary.bin",
    "own__mut_s_digest_flipped.bin",
    "own__mut_s_event_duplicated.bin",
    "own__mut_s_startup_locality_forged.bin",
}


def name(item: Item) -> str:
    return str(item["file"].rsplit("/", 1)[-1])


def identity(item: Item) -> str:
    grade = str(item["expected"].get("grade", ""))[:2].rstrip(":")
    return f"{item['file']}{f'[{grade}]' if grade else ''}"


def read(item: Item) -> bytes:
    return (TESTDATA / item["file"]).read_bytes()


def replayed(log: EventLog) -> Values:
    """Return the values of every register that some event extends, by bank; banks that nothing extends are left out."""
    banks = {bank: replay(log, bank).pcrs for bank in log.algorithms}
    return {bank: {str(pcr): value.hex() for pcr, value in pcrs.items()} for bank, pcrs in banks.items() if pcrs}


def base_of(item: Item) -> EventLog:
    (base,) = (log for log in LOGS if log["sha256"] == item["expected"]["base_sha256"])
    return parse_event_log(read(base))


@pytest.mark.parametrize("item", [item for item in LOGS if name(item) not in NOT_READ], ids=identity)
def test_a_real_log_replays_to_the_expected_registers(item):
    assert replayed(parse_event_log(read(item))) == item["expected"]["replay"]


@pytest.mark.parametrize(
    "item", [item for item in LOGS if "own" in item["expected"].get("reference", {})], ids=identity
)
def test_a_real_log_has_the_expected_events_locality_and_padding(item):
    expected = item["expected"]["reference"]["own"]
    if not expected["ok"]:
        pytest.skip("the reference does not read it either")

    log = parse_event_log(read(item))

    assert (log.format, list(log.algorithms), len(log.events), log.startup_locality) == (
        expected["format"],
        expected["algs"],
        expected["events"],
        expected["locality"],
    )
    assert log.tail == int((expected["tail"] or "0").split()[0])


@pytest.mark.parametrize("item", [item for item in LOGS if "vs_source" in item["expected"]["reference"]], ids=identity)
def test_a_real_log_explains_what_its_tpm_held(item):
    log = parse_event_log(read(item))
    compared = 0

    for bank, verdict in item["expected"]["reference"]["vs_source"].items():
        if verdict == "bank not in log":
            assert bank not in log.algorithms
            continue
        values = replay(log, bank).pcrs
        for pcr in verdict["match"]:
            assert values[pcr].hex() == item["expected"]["pcrs"][bank][str(pcr)]
            compared += 1
        for pcr in verdict["differ"]:
            assert values[pcr].hex() != item["expected"]["pcrs"][bank][str(pcr)]
            compared += 1

    assert compared


@pytest.mark.parametrize("item", [item for item in LOGS if name(item) in NOT_READ], ids=identity)
def test_a_log_that_contradicts_itself_is_refused(item):
    with pytest.raises(Malformed) as caught:
        parse_event_log(read(item))

    assert caught.value.code == NOT_READ[name(item)]


@pytest.mark.parametrize("item", [item for item in DAMAGED if name(item) in REFUSED], ids=identity)
def test_e06_a_damaged_log_is_refused_for_its_damage(item):
    with pytest.raises(Malformed) as caught:
        parse_event_log(read(item))

    assert caught.value.code == REFUSED[name(item)]


@pytest.mark.parametrize("item", [item for item in DAMAGED if name(item) in SAME], ids=identity)
def test_a_change_that_no_register_covers_leaves_the_replay_alone(item):
    assert replayed(parse_event_log(read(item))) == replayed(base_of(item))


@pytest.mark.parametrize("item", [item for item in DAMAGED if name(item) in DIFFERENT], ids=identity)
def test_e04_a_change_that_registers_cover_changes_the_replay(item):
    found = replayed(parse_event_log(read(item)))

    assert found == item["expected"]["replay"]
    assert found != replayed(base_of(item))


@pytest.mark.parametrize("item", [item for item in DAMAGED if "bitflips" in name(item)], ids=identity)
def test_flipped_bits_are_refused_or_change_the_replay_or_hit_only_data(item):
    if item["expected"]["own_parser"] != "parses" or name(item) in FLIPPED_REGISTER:
        with pytest.raises(Malformed):
            parse_event_log(read(item))
        return

    log, base = parse_event_log(read(item)), base_of(item)
    flipped_data = [event.data for event in log.events] != [event.data for event in base.events]
    assert replayed(log) == item["expected"]["replay"]
    assert replayed(log) != replayed(base) or flipped_data or log == base


@pytest.mark.parametrize("item", [item for item in DAMAGED if "event_data_flipped" in name(item)], ids=identity)
def test_e02_flipped_data_is_no_longer_vouched_for(item):
    log, base = parse_event_log(read(item)), base_of(item)

    changed = [new for new, old in zip(log.events, base.events, strict=True) if new.data != old.data]

    assert len(changed) == 1
    assert measured(base.events[changed[0].index], "sha256") is not None
    assert measured(changed[0], "sha256") is None


def test_every_damaged_log_has_its_verdict():
    named = REFUSED.keys() | SAME | DIFFERENT

    assert {name(item) for item in DAMAGED if "bitflips" not in name(item)} == named


@pytest.mark.parametrize("item", manifest_items("eventlog/txt"), ids=identity)
def test_a_dynamic_launch_log_is_read(item):
    log = parse_event_log(read(item))

    assert {event.pcr for event in log.events} == {17, 18}
    assert set(replay(log, "sha256").pcrs) <= {17, 18}


@pytest.mark.parametrize("item", manifest_items("eventlog/fragment"), ids=identity)
def test_a_log_of_one_claim_extends_nothing(item):
    log = parse_event_log(read(item))

    assert (log.startup_locality, replay(log, "sha1").pcrs) == (3, {})


@pytest.mark.parametrize("item", manifest_items("eventlog/cel-b64"), ids=identity)
def test_a_canonical_event_log_is_another_format_and_refused(item):
    with pytest.raises(Malformed):
        parse_event_log(base64.b64decode(read(item)))


@pytest.mark.parametrize("machine", MACHINES)
def test_a_measured_boots_log_explains_its_firmware_registers(machine):
    folder = TESTDATA / "vm" / machine
    held = json.loads((folder / "pcrs.json").read_text())["sha256"]

    values = replay(parse_event_log((folder / "eventlog.bin").read_bytes()), "sha256").pcrs

    assert set(range(8)) <= values.keys()
    assert {pcr: value.hex() for pcr, value in values.items()} == {pcr: held[str(pcr)] for pcr in values}
