"""Files that are far too large, or nothing at all: one line with a code, at once, with bounded memory."""

import json
import os
import threading
import time
import tracemalloc

import pytest
from typer.testing import CliRunner

from attestd.cli.main import app
from inspecting import inspect, shown
from tpm_structures import ima_entry

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


def test_standard_input_is_a_file_like_any_other():
    done = CliRunner().invoke(app, ["inspect", "ima", "-", "--json"], input=ima_entry() * 3)

    assert (done.exit_code, json.loads(done.stdout)["entries"]) == (0, 3)


def test_a_pipe_in_several_pieces_is_read_whole(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = ima_entry() * 20_000
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()

    _, document = inspect("ima", pipe)

    writer.join()
    assert document["entries"] == 20_000
