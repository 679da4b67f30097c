"""Logs and labels: read as they are, bounded, cut between entries, and absent without a fuss."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tpm_structures
from attestd.protocol import limits
from attestd_agent import collect
from testdata import TESTDATA, needs_testdata

NAMES = ("boot_aggregate", "/bin/a", "/usr/lib/b", "/c")
ENTRIES = tuple(tpm_structures.ima_entry(name.encode()) for name in NAMES)
WHOLE = b"".join(ENTRIES)


@pytest.fixture
def ima(tmp_path: Path) -> Path:
    path = tmp_path / "ima"
    path.write_bytes(WHOLE)
    return path


def test_absent_boot_log_is_empty(tmp_path: Path) -> None:
    assert collect.event_log(tmp_path / "none") == b""


def test_boot_log_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x00log\xff")
    assert collect.event_log(tmp_path / "log") == b"\x00log\xff"


def test_boot_log_beyond_its_bound_is_cut(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(limits.MAX_EVENT_LOG + 10))
    assert len(collect.event_log(tmp_path / "log")) == limits.MAX_EVENT_LOG


def test_boot_log_that_cannot_be_read_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        collect.event_log(tmp_path)


def test_absent_runtime_list_is_none(tmp_path: Path) -> None:
    assert collect.runtime_list(tmp_path / "none", 0) is None


@pytest.mark.parametrize("offset", range(len(ENTRIES) + 1))
def test_runtime_list_is_read_from_an_entry_on(ima: Path, offset: int) -> None:
    found = collect.runtime_list(ima, offset)
    assert found is not None
    assert (found.offset, found.entries) == (offset, b"".join(ENTRIES[offset:]))


def test_list_shorter_than_before_is_another_list_and_is_read_whole(ima: Path) -> None:
    found = collect.runtime_list(ima, len(ENTRIES) + 1)
    assert found is not None
    assert (found.offset, found.entries) == (0, WHOLE)


def test_runtime_list_is_cut_between_entries(ima: Path) -> None:
    most = len(ENTRIES[0]) + len(ENTRIES[1]) + 5
    found = collect.runtime_list(ima, 0, most=most)
    assert found is not None
    assert found.entries == ENTRIES[0] + ENTRIES[1]


def test_oldest_template_is_understood(tmp_path: Path) -> None:
    name = b"/bin/old"
    old = (10).to_bytes(4, "little") + bytes(20) + (3).to_bytes(4, "little") + b"ima" + bytes(20)
    old += len(name).to_bytes(4, "little") + name
    (tmp_path / "ima").write_bytes(old + ENTRIES[1])
    found = collect.runtime_list(tmp_path / "ima", 1)
    assert found is not None
    assert found.entries == ENTRIES[1]


def test_what_is_no_list_is_sent_for_the_verifier_to_see(tmp_path: Path) -> None:
    (tmp_path / "ima").write_bytes(b"\xff" * 100)
    found = collect.runtime_list(tmp_path / "ima", 0)
    assert found is not None
    assert found.entries == b"\xff" * 100


def test_entries_are_counted() -> None:
    assert collect.count_entries(WHOLE) == len(ENTRIES)
    assert collect.count_entries(WHOLE[:-1]) == len(ENTRIES) - 1
    assert collect.count_entries(b"") == 0


@given(st.binary(max_size=300), st.integers(0, 5), st.integers(0, 200))
def test_no_bytes_make_the_reader_fail_or_exceed_its_bound(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int, most: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(data)
    found = collect.runtime_list(path, offset, most=most)
    assert found is not None
    assert len(found.entries) <= most
    assert found.entries in data


def test_huge_sizes_are_not_believed(tmp_path: Path) -> None:
    head = (10).to_bytes(4, "little") + bytes(20)
    for sizes in (b"\xff\xff\xff\xff", b"\x06\x00\x00\x00ima-ng\xff\xff\xff\x7f"):
        assert collect.count_entries(head + sizes + bytes(50)) == 0


def test_labels_are_printable_and_leave_identifiers_out() -> None:
    labels = dict(collect.labels())
    assert {"hostname", "kernel"} <= set(labels) <= {"hostname", "kernel", "vendor", "model"}
    assert all(value.isprintable() and 0 < len(value) <= limits.MAX_TEXT for value in labels.values())


@needs_testdata
@pytest.mark.testdata
@pytest.mark.parametrize("path", sorted((TESTDATA / "ima" / "binary").glob("*")), ids=lambda path: path.name[:40])
def test_real_lists_are_stepped_through_to_their_end(path: Path, tmp_path: Path) -> None:
    import json

    manifest = json.loads((TESTDATA / "manifest.json").read_text())["items"]
    (item,) = [item for item in manifest if item["file"] == str(path.relative_to(TESTDATA))]
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == item["sha256"]
    assert collect.count_entries(data) == item["expected"]["ima_replay"]["entries"]
