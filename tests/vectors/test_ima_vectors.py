"""Runtime lists of real machines: hashes, replay, and which damage is refused."""

import json
from collections import Counter
from typing import Any

import pytest

from attestd.tpm.errors import Malformed
from attestd.tpm.ima import RuntimeList, parse_ima, prefix_length, replay, template_hash_mismatches
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

Item = dict[str, Any]

LISTS = manifest_items("ima/binary", "ima/ascii", "ima/ascii-mixed", "malformed/ima")
MACHINES = ["good-1", "tampered-cmdline", "tampered-file"]

REFUSED = {
    "own__mut_s_data_len_huge.ima": "ima-template-size",
    "own__mut_s_name_len_huge.ima": "ima-template-name",
    "own__mut_s_truncated.ima": "structure-truncated",
    "tpm2-tss__sml-ima-ng-sha1-invalidated.bin": "structure-truncated",
    # A stray line feed behind the last entry: a list is read whole or not at all.
    "tpm2-tss__sml-ima-sha1.bin": "structure-truncated",
    # Template hashes of another size than SHA-1's, and of no bank that is replayed here.
    "keylime__create-runtime-policy__ima-log-sm3_256": "ima-line",
    "keylime__create-runtime-policy__ima-log-unknown": "ima-line",
}
MISMATCHES = {
    "own__mut_s_template_data_flipped.ima": (10,),
    "own__mut_s_template_hash_flipped.ima": (10,),
    # A file of several lines joined to one: read as one path, told by its hash.
    "keylime__test_ima_verification_str.ascii": (0,),
    # "Some lines are deliberately invalid".
    "keylime__test_create_runtime_policy.py.lines.ascii": (1, 2),
}


def name(item: Item) -> str:
    return str(item["file"].rsplit("/", 1)[-1])


def identity(item: Item) -> str:
    return str(item["file"])


def read(item: Item) -> RuntimeList:
    return parse_ima((TESTDATA / item["file"]).read_bytes())


READABLE = [item for item in LISTS if name(item) not in REFUSED]


def last_value(runtime: RuntimeList, method: str) -> str:
    bank, _, convention = method.partition("-")
    *_, value = replay(runtime, bank, padded=bool(convention), whole_ones=True)
    return value.hex()


@pytest.mark.parametrize("item", READABLE, ids=identity)
def test_a_real_list_has_the_expected_entries(item):
    expected = item["expected"]["ima_replay"]

    runtime = read(item)

    assert len(runtime.entries) == expected["entries"]
    assert Counter(entry.template for entry in runtime.entries) == expected["templates"]
    assert sum(entry.violation for entry in runtime.entries) == expected["violations"]
    assert all(entry.file_digest is None for entry in runtime.entries if entry.violation)


@pytest.mark.parametrize("item", READABLE, ids=identity)
def test_every_template_hash_of_a_real_list_is_that_of_its_data(item):
    assert template_hash_mismatches(read(item)) == MISMATCHES.get(name(item), ())


def replays() -> list[Any]:
    """Every (list, method) of the manifest. Its padded ones extend ones throughout for a violation, as kernels since 5.8 do."""
    return [
        pytest.param(item, method, id=f"{item['file']}:{method}")
        for item in READABLE
        for method in item["expected"]["ima_replay"]["pcr10"]
    ]


@pytest.mark.parametrize(("item", "method"), replays())
def test_a_real_list_replays_to_the_expected_register(item, method):
    assert last_value(read(item), method) == item["expected"]["ima_replay"]["pcr10"][method]


@pytest.mark.parametrize(
    "item", [item for item in READABLE if item["expected"]["ima_replay"].get("reached")], ids=identity
)
def test_e08_the_prefix_that_the_tpm_had_seen_is_found(item):
    runtime = read(item)

    for bank, reached in item["expected"]["ima_replay"]["reached"].items():
        target = bytes.fromhex(item["expected"]["pcr10"][bank])
        assert prefix_length(runtime, bank, target, padded=False) == reached["entries"]


@pytest.mark.parametrize("item", [item for item in LISTS if name(item) in REFUSED], ids=identity)
def test_e08_a_damaged_list_is_refused_for_its_damage(item):
    with pytest.raises(Malformed) as caught:
        read(item)

    assert caught.value.code == REFUSED[name(item)]


def test_e11_a_path_with_a_line_feed_stays_one_path():
    (item,) = (item for item in LISTS if "newline_in_path" in name(item))

    paths = [entry.path for entry in read(item).entries if entry.path and b"\n" in entry.path]

    assert len(paths) == 1


def test_e08_an_entry_moved_to_another_register_changes_the_replay():
    good, moved = (next(item for item in LISTS if part in name(item)) for part in ("ok_100", "pcr11"))

    assert last_value(read(good), "sha256") != last_value(read(moved), "sha256")
    assert sorted(Counter(entry.pcr for entry in read(moved).entries).items()) == [(10, 99), (11, 1)]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_measured_boots_list_explains_register_ten(machine):
    folder = TESTDATA / "vm" / machine
    target = bytes.fromhex(json.loads((folder / "pcrs.json").read_text())["sha256"]["10"])

    runtime = parse_ima((folder / "ima.bin").read_bytes())

    assert prefix_length(runtime, "sha256", target, padded=False) is not None
    assert template_hash_mismatches(runtime) == ()


@pytest.mark.parametrize("machine", MACHINES)
def test_both_forms_of_a_measured_boots_list_are_the_same_list(machine):
    folder = TESTDATA / "vm" / machine

    assert parse_ima((folder / "ima.ascii").read_bytes()) == parse_ima((folder / "ima.bin").read_bytes())
