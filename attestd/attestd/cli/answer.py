"""What a command says when it succeeds: one JSON document for programs, or tables and lines for people.

Every cell is text and never markup, so that nothing a device chose is interpreted. rich is imported when it is needed.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from attestd.cli.text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPE_WIDTH = 1_000
STYLES = {
    "trusted": "green",
    "admitted": "cyan",
    "pending": "yellow",
    "suspect": "yellow",
    "untrusted": "red",
    "expired": "red",
    "banned": "red",
    "retired": "dim",
}


def console(*, stderr: bool = False) -> "Console":
    """Return a console that colours nothing by itself, and to which it is the same whether anybody reads on."""
    from rich.console import Console

    class Unread(Console):
        """A console whose reader may leave (`| head`): what was found, and so the exit code, does not depend on it."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            _nobody_reads()

    made = Unread(highlight=False, soft_wrap=True, stderr=stderr)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH  # for grep and files: one row, one line
    return made


def answer(document: Any, render: Callable[["Console"], None], *, as_json: bool) -> None:
    """Print the document as JSON, or let `render` show it."""
    if not as_json:
        render(console())
        return
    try:
        print(json.dumps(document, indent=2, ensure_ascii=True), flush=True)
    except BrokenPipeError:
        _nobody_reads()


def _nobody_reads() -> None:
    """Let what is still to be written go nowhere, so that Python's own last flush finds a place, too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def show_table(console: "Console", columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table, or the sentence `empty` where it has no rows. A state is shown in its colour."""
    from rich.table import Table
    from rich.text import Text

    lines = list(rows)
    if not lines:
        console.print(Text(empty))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for line in lines:
        cells = [plain("-" if cell is None else cell) for cell in line]
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    print_table(console, table)


def print_table(console: "Console", table: "Table") -> None:
    """Print a table as wide as the terminal is; elsewhere each row is one line, and ends where its text does."""
    from rich.text import Text

    if console.is_terminal:
        console.print(table, soft_wrap=False)
        return
    with console.capture() as printed:
        console.print(table, soft_wrap=False)
    for line in printed.get().splitlines():
        console.print(Text(line.rstrip(" ")))


def show_fields(console: "Console", fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values in two columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        shown = plain("-" if value is None else value)
        table.add_row(Text(plain(name)), Text(shown, style=STYLES.get(shown, "")))
    print_table(console, table)


def show_line(console: "Console", text: str, *, style: str = "", whole: bool = False) -> None:
    """Print one line of text, never markup. A terminal gets it broken between words, unless it is `whole` or indented: to copy."""
    from rich.text import Text

    whole = whole or not console.is_terminal or text.startswith("  ")
    console.print(Text(plain(text, longest=2_000), style=style), soft_wrap=whole)
