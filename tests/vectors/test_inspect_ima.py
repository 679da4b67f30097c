"""`attestd inspect ima` on runtime lists of real machines, held against what each replays to."""

import time

import pytest

from inspecting import identity, inspect, path_of, shown
from testdata import manifest_items, needs_testdata
from tpm_structures import ima_entry

pytestmark = [pytest.mark.testdata, needs_testdata]

LISTS = manifest_items("ima/binary", "ima/ascii", "malformed/ima")
# "Some lines are deliberately invalid" (a SHA-1 digest of 32 bytes): the reference leaves such lines out, and goes on.
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


@pytest.mark.parametrize("item", MIXED, ids=identity)
def test_e08_a_list_with_lines_that_are_none_is_refused_with_what_was_read_before(item):
    code, document = inspect("ima", path_of(item))

    assert (code, document["reason"], document["entries"] > 0) == (1, "ima-field", True)


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
