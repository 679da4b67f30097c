"""`attestd inspect eventlog` on boot logs of real machines, held against what each replays to."""

import json

import pytest

from inspecting import identity, inspect, path_of, shown
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

LOGS = [
    item
    for item in manifest_items(
        "eventlog/uefi",
        "eventlog/ccel",
        "eventlog/tpm12",
        "eventlog/fragment",
        "malformed/eventlog-altered",
        "rim/rimel",
    )
    if "replay" in item["expected"]
]
DAMAGED = manifest_items("malformed/eventlog")
MACHINES = ["good-1", "tampered-cmdline", "tampered-file"]


@pytest.mark.parametrize("item", LOGS, ids=identity)
def test_a_real_log_replays_to_the_expected_registers(item):
    _, document = inspect("eventlog", path_of(item))

    assert document["pcrs"] == item["expected"]["replay"]


@pytest.mark.parametrize("item", DAMAGED, ids=identity)
def test_e06_a_damaged_log_has_its_outcome(item):
    code, document = inspect("eventlog", path_of(item))

    expected = item["expected"]
    wanted = str(expected.get("outcome", "refuse"))
    if document["outcome"] == "refused":
        assert code == 1
        assert "refuse" in wanted
    else:
        assert document["pcrs"] == expected["replay"]
        assert not wanted.startswith("refuse")


def test_e06_a_log_that_was_cut_is_reported_up_to_the_cut():
    (item,) = (item for item in DAMAGED if item["file"].endswith("truncated_data.bin"))
    (base,) = (log for log in LOGS if log["sha256"] == item["expected"]["base_sha256"])

    (code, cut), (_, whole) = (inspect("eventlog", path_of(one)) for one in (item, base))

    assert (code, cut["outcome"], cut["reason"]) == (1, "refused", "structure-truncated")
    assert 0 < cut["damaged_at"] < path_of(item).stat().st_size
    assert cut["events"] == whole["events"][: len(cut["events"])] != []


@pytest.mark.parametrize("item", manifest_items("eventlog/cel-b64"), ids=identity)
def test_a_launchers_canonical_log_is_read_and_its_contents_hash_to_its_digests(item):
    code, document = inspect("eventlog", path_of(item))

    assert (code, document["outcome"], document["format"], list(document["pcrs"])) == (
        0,
        "parsed",
        "cel-tlv",
        ["sha384"],
    )
    assert {event["digest_matches_data"] for event in document["events"]} == {True}
    assert {event["content_type"] for event in document["events"]} == {"cos"}


@pytest.mark.parametrize("item", LOGS, ids=identity)
def test_every_event_of_a_real_log_has_a_summary_that_a_person_can_read(item):
    _, document = inspect("eventlog", path_of(item))

    assert all(event["summary"] for event in document["events"])
    # What a person reads has no control characters, whatever the log says.
    _, text = shown("eventlog", path_of(item))
    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_data_that_was_flipped_is_the_one_event_that_does_not_match():
    (item,) = (item for item in DAMAGED if "event_data_flipped" in item["file"])
    (base,) = (log for log in LOGS if log["sha256"] == item["expected"]["base_sha256"])

    altered, original = (
        [
            event["index"]
            for event in inspect("eventlog", path_of(one))[1]["events"]
            if event["digest_matches_data"] is False
        ]
        for one in (item, base)
    )

    assert (len(altered), original) == (1, [])


@pytest.mark.parametrize("machine", MACHINES)
def test_a_measured_boots_log_explains_its_registers(machine):
    folder = TESTDATA / "vm" / machine

    code, document = inspect("eventlog", folder / "eventlog.bin", "--pcrs", folder / "pcrs.json")

    states = {int(pcr): one["state"] for pcr, one in document["registers"]["sha256"].items()}
    assert (code, {states[pcr] for pcr in range(10)}, states[10]) == (0, {"explained"}, "not-logged")


@pytest.mark.parametrize("machine", MACHINES)
def test_what_a_tool_rendered_of_a_log_replays_as_the_log_does(machine):
    (_, log), (_, text) = (
        inspect("eventlog", TESTDATA / "vm" / machine / f"eventlog.{kind}") for kind in ("bin", "yaml")
    )

    assert (text["format"], text["pcrs"]) == ("tpm2-yaml", log["pcrs"])
    assert [event["type"] for event in text["events"]] == [event["type"] for event in log["events"]]


def test_e04_another_boots_registers_are_not_explained_and_the_exit_code_says_so():
    log, pcrs = TESTDATA / "vm/good-1/eventlog.bin", TESTDATA / "vm/tampered-cmdline/pcrs.json"

    code, document = inspect("eventlog", log, "--pcrs", pcrs)

    states = document["registers"]["sha256"]
    assert (code, {pcr for pcr, one in states.items() if one["state"] == "unexplained"}) == (1, {"4", "9", "11"})


WITH_REGISTERS = [item for item in LOGS if "vs_source" in item["expected"].get("reference", {})]


@pytest.mark.parametrize("item", WITH_REGISTERS, ids=identity)
def test_what_its_tpm_held_is_explained_where_the_manifest_says_so(item, tmp_path):
    values = tmp_path / "pcrs.json"
    values.write_text(json.dumps(item["expected"]["pcrs"]))

    _, document = inspect("eventlog", path_of(item), "--pcrs", values)

    for bank, verdict in item["expected"]["reference"]["vs_source"].items():
        states = document["registers"][bank]
        if verdict == "bank not in log":
            assert {one["state"] for one in states.values()} == {"not-logged"}
            continue
        assert all(states[str(pcr)]["state"] == "explained" for pcr in verdict["match"])
        assert all(states[str(pcr)]["state"] == "unexplained" for pcr in verdict["differ"])
