"""`attestd inspect ima` on runtime lists of real machines, held against what each replays to."""

import time

import pytest

from inspecting import identity, inspect, path_of, shown
from testdata import manifest_items, needs_testdata
from tpm_structures import ima_entry

pytestmark = [pytest.mark.testdata, needs_testdata]

LISTS = manifest_items("ima/binary", "ima/ascii", "malformed/ima")
# Digests of another size than their algorithms': the lines are entries that vouch for no file.
MIXED = manifest_items("ima/ascii-mixed")
BANKS = ("sha1", "sha256", "sha384", "sha512")


@pytest.mark.parametrize("item", LISTS, ids=identity)
def test_a_real_list_has_the_expected_entries_violations_and_registers(item):
    expected = item["expected"]["ima_replay"]

    _, document = inspect("ima", path_of(item))

    assert (document["entries"], document["violations"]) == (expected["entries"], expected["violations"])
    found = {bank: document["pcrs"][bank]["10"] for bank in BANKS if bank in expected["pcr10"]}
    assert found == {bank: expected["pcr10"][bank] for bank in found}
    if expected.get("template_hash_mismatch") is not None:
        assert document["template_hash_mismatches"] == expected["template_hash_mismatch"]


@pytest.mark.parametrize("item", [item for item in LISTS if item["kind"] == "malformed/ima"], ids=identity)
def test_e08_a_damaged_list_has_its_outcome(item):
    code, document = inspect("ima", path_of(item))

    expected = item["expected"]
    refused = str(expected.get("outcome", "")).startswith("refuse") or bool(expected["ima_replay"]["error"])
    assert (code, document["outcome"]) == ((1, "refused") if refused else (0, "parsed"))
    assert bool(document["reason"]) is refused


@pytest.mark.parametrize("item", LISTS + MIXED, ids=identity)
def test_lines_that_are_no_entries_are_counted(item):
    _, document = inspect("ima", path_of(item))

    assert document["unparsable_lines"] == item["expected"]["ima_replay"].get("unparsable_lines", 0)


@pytest.mark.parametrize("item", MIXED, ids=identity)
def test_e08_digests_of_another_size_leave_their_entries_in_the_replay(item):
    expected = item["expected"]["ima_replay"]

    _, document = inspect("ima", path_of(item))

    assert (document["entries"], document["templates"]) == (expected["entries"], expected["templates"])
    assert document["pcrs"]["sha1"]["10"] == expected["pcr10"]["sha1"]


def test_e11_a_path_with_a_line_feed_cannot_write_a_line_of_its_own():
    (item,) = (item for item in LISTS if "newline_in_path" in item["file"])

    _, text = shown("ima", path_of(item))

    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_a_hundred_thousand_entries_take_less_than_two_seconds(tmp_path):
    file = tmp_path / "long.ima"
    file.write_bytes(b"".join(ima_entry(b"/usr/bin/%d" % number) for number in range(1_000)) * 100)
    began = time.process_time()

    code, document = inspect("ima", file)

    assert (code, document["entries"]) == (0, 100_000)
    assert time.process_time() - began < 2
