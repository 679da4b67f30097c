"""The command `attestd demo`."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from attestd.cli import failures
from attestd.cli.failures import CommandFailed
from attestd.cli.options import Json


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on serving at the end, until Ctrl-C, and say what to try.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", "-d", help="Keep all files here, in a new directory.", show_default=False, file_okay=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the main job with software TPMs: machines enrol, are refused, wait, lose their trust and regain it. Under a minute."""
    from attestd.cli.demo.stage import NotPossible, Stage
    from attestd.cli.demo.story import Story
    from attestd.cli.demo.telling import ForPeople, ForPrograms

    telling = ForPrograms() if as_json else ForPeople()
    begin = time.monotonic()
    with _told_to_end():
        try:
            with Stage.at(directory) as stage:
                story = Story(stage, telling)
                steps = story.play()
                telling.end(steps, time.monotonic() - begin, stage, keep=keep)
                if keep:
                    story.stay()
        except NotPossible as error:
            raise CommandFailed("demo-unavailable", str(error), exit_code=failures.UNAVAILABLE) from None
    if not all(step.ok for step in steps):
        raise typer.Exit(failures.REFUSED)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Turn SIGTERM into an orderly end, so that nothing of the demonstration is left running."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise typer.Exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
