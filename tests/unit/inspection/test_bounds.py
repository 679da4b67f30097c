"""Files that are far too large, or nothing at all: one line with a code, at once, with bounded memory."""

import os
import time
import tracemalloc

import pytest

from inspecting import inspect, shown

COMMANDS = {
    "eventlog": "eventlog-size",
    "ima": "ima-size",
    "ek": "unwrap-too-large",
    "cert": "unwrap-too-large",
    "quote": "json-size",
    "certify": "json-size",
    "platform": "platform-size",
    "ear": "ear-size",
    "rim": "rim-size",
    "corim": "corim-size",
}


@pytest.fixture(scope="module")
def garbage(tmp_path_factory):
    path = tmp_path_factory.mktemp("garbage") / "garbage.bin"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
    yield path
    path.unlink()


@pytest.mark.parametrize(("command", "code"), COMMANDS.items())
def test_e06_a_hundred_megabytes_of_garbage_are_refused_at_once(command, code, garbage):
    tracemalloc.start()
    began = time.process_time()

    exit_code, text = shown(command, garbage)

    taken, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (exit_code, text.count("\n"), f"[{code}]" in text) == (1, 1, True)
    assert (taken < 1, peak < 20 << 20) == (True, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_file_has_an_answer(command, tmp_path):
    file = tmp_path / "empty"
    file.write_bytes(b"")

    exit_code, document = inspect(command, file)

    assert (exit_code, document["outcome"]) == ((0, "parsed") if command == "ima" else (1, "refused"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_not_there_is_wrong_usage(command, tmp_path):
    exit_code, _ = shown(command, tmp_path / "nothing")

    assert exit_code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_e06_an_endless_file_is_read_to_its_bound_and_refused(command):
    if not os.path.exists("/dev/zero"):
        pytest.skip("there is no /dev/zero")

    exit_code, text = shown(command, "/dev/zero")

    assert (exit_code, f"[{COMMANDS[command]}]" in text) == (1, True)


def test_e06_a_file_of_line_feeds_is_refused_with_bounded_memory(tmp_path):
    file = tmp_path / "feeds"
    file.write_bytes(b"\n" * (16 << 20))
    tracemalloc.start()

    _, document = inspect("ima", file)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (document["reason"], peak < 64 << 20) == ("ima-entry-count", True)
