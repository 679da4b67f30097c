"""How answers look: lines broken between words on terminals, whole in files, and nothing behind them."""

import io
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from rich.console import Console

from attestd.cli.answer import show_fields, show_line, show_table
from tpm_structures import SHA256_ID, agile_event, agile_log, spec_id

LONG = "the runtime list starts from another boot aggregate, which follows from the boot's registers"


def printed(show, *, terminal: bool, width: int) -> list[str]:
    """Return the lines that `show` prints on a console like that of the commands."""
    file = io.StringIO()
    show(Console(file=file, force_terminal=terminal, color_system=None, width=width, soft_wrap=True, highlight=False))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80])
def test_a_long_line_is_broken_between_words_on_a_terminal(width: int) -> None:
    lines = printed(lambda console: show_line(console, LONG), terminal=True, width=width)
    assert len(lines) > 1
    assert all(len(line) <= width for line in lines)
    assert [word for line in lines for word in line.split()] == LONG.split()


def test_a_long_line_is_one_line_in_a_file() -> None:
    assert printed(lambda console: show_line(console, LONG), terminal=False, width=40) == [LONG]


def test_a_command_to_copy_is_never_broken() -> None:
    command = f"  attestd profile activate edge 2 -d {'/a' * 40}"
    assert printed(lambda console: show_line(console, command), terminal=True, width=40) == [command]


def test_rows_end_where_their_text_ends_in_a_file() -> None:
    rows = [("a", "short"), ("b", "x" * 90)]
    table = printed(lambda console: show_table(console, ("n", "text"), rows, empty=""), terminal=False, width=1000)
    fields = printed(lambda console: show_fields(console, rows), terminal=False, width=1000)
    assert table == ["n  text", "a  short", f"b  {'x' * 90}"]
    assert fields == ["a  short", f"b  {'x' * 90}"]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_leaves_early_changes_no_exit_code(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A pipe whose reader is gone before anything is written: what was accepted is not told as refused."""
    log = tmp_path / "log"
    log.write_bytes(
        agile_log(
            agile_event(0, 4, bytes(4), digests=[(SHA256_ID, sha256(bytes(4)).digest())]),
            header=spec_id([(SHA256_ID, 32)]),
        )
    )
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(Path(sys.executable).with_name("attestd")), "inspect", "eventlog", str(log), *options]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
