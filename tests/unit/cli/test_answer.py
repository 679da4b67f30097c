"""How answers look: lines broken between words on terminals, whole in files, and nothing behind them."""

import io

import pytest
from rich.console import Console

from attestd.cli.answer import show_fields, show_line, show_table

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
