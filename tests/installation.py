"""A fresh installation for tests: made once by the real `attestd init`, then copied.

A pytest plugin; a test module that wants it says ``pytest_plugins = ("installation",)``.
There are no assertions here, so that the module can be imported before pytest sees it (PYTEST_DONT_REWRITE).
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attestd.cli.main import app

ATTESTD = str(Path(sys.executable).with_name("attestd"))
"""The installed command, for tests that run it as a process."""

Edit = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a command said, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON on standard output."""
        return json.loads(self.stdout)

    @property
    def error(self) -> str:
        """The stable code of the error: the last word of the one line on standard error."""
        lines = self.stderr.splitlines()
        return lines[0].rpartition(" [")[2].rstrip("]") if len(lines) == 1 else self.stderr


def attestd(*arguments: str | Path) -> Spoken:
    """Run one command in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Spoken(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def installation_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One installation, never changed."""
    place = tmp_path_factory.mktemp("installation") / "attestd"
    spoken = attestd("init", "-d", place, "--json")
    if spoken.exit_code:
        pytest.fail(spoken.stderr)
    return place


@pytest.fixture
def installation(installation_template: Path, tmp_path: Path) -> Path:
    """An installation of one's own."""
    return Path(shutil.copytree(installation_template, tmp_path / "attestd"))


@pytest.fixture
def edit(installation: Path) -> Edit:
    """Replace a text in the installation's attestd.toml, which must have it."""

    def replace(old: str, new: str) -> None:
        path = installation / "attestd.toml"
        text = path.read_text()
        if text.count(old) != 1:
            pytest.fail(f"{old!r} is not there once")
        path.write_text(text.replace(old, new))

    return replace
