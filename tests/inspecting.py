"""Running `attestd inspect` as a person does, and reading its JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from attestd.cli.main import app
from attestd.inspection.refused import InspectionRefused
from testdata import TESTDATA

Document = dict[str, Any]


def inspect(command: str, *arguments: str | Path) -> tuple[int, Document]:
    """Return the exit code and the document of `attestd inspect COMMAND … --json`."""
    done = CliRunner().invoke(app, ["inspect", command, *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    document: Document = json.loads(done.stdout)
    return done.exit_code, document


def shown(command: str, *arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and what a person sees."""
    done = CliRunner().invoke(app, ["inspect", command, *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def refusal_of(build: Callable[[], Any]) -> str | None:
    """Return the code with which a report builder refuses, or None where there is a report."""
    try:
        build()
    except InspectionRefused as refusal:
        return refusal.code
    return None


def path_of(item: Document) -> Path:
    """Return where a file of the manifest lies."""
    return TESTDATA / str(item["file"])


def identity(item: Document) -> str:
    """Return what to call a file in a test's id."""
    return str(item["file"])
