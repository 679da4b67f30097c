"""The command line as a whole: help, errors, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attestd.cli.text import moment, plain, span
from installation import ATTESTD, attestd

pytest_plugins = ("installation",)


def test_help_says_what_the_exit_codes_mean() -> None:
    spoken = attestd("--help")
    assert spoken.exit_code == 0
    assert "Exit codes" in spoken.stdout


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'pydantic', 'sqlalchemy', 'fastapi', 'cryptography', 'yaml', 'structlog', 'alembic', 'uvicorn'}"
    program = f"import sys, attestd.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_configuration_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    spoken = attestd("token", "list", "-d", tmp_path)
    assert (spoken.exit_code, spoken.error) == (2, "config-missing")
    assert f"attestd init --directory {tmp_path}" in spoken.stderr


def test_error_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    spoken = attestd("token", "list", "-d", tmp_path, "--json")
    assert spoken.stdout == ""
    assert json.loads(spoken.stderr)["error"]["code"] == "config-missing"


def test_malformed_configuration_is_one_line(installation: Path) -> None:
    (installation / "attestd.toml").write_text("[listen]\nport = 'eight'\n")
    spoken = attestd("token", "list", "-d", installation)
    assert (spoken.exit_code, spoken.error) == (2, "config-malformed")


def test_database_that_does_not_answer_is_unavailable(installation: Path) -> None:
    (installation / "attestd.toml").write_text('database = "postgresql://nobody@127.0.0.1:1/nothing"\n')
    spoken = attestd("token", "list", "-d", installation)
    assert (spoken.exit_code, spoken.error) == (3, "store-unavailable")


def test_database_that_was_never_migrated_is_a_matter_of_configuration(installation: Path) -> None:
    (installation / "attestd.db").unlink()
    spoken = attestd("token", "list", "-d", installation)
    assert (spoken.exit_code, spoken.error) == (2, "schema-old")
    assert not (installation / "attestd.db").exists()


def test_directory_comes_from_the_environment(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTESTD_DIRECTORY", str(installation))
    assert attestd("token", "list", "--json").document == {"tokens": []}


def test_installed_command_runs(installation: Path) -> None:
    command = [ATTESTD, "token", "list", "-d", str(installation)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "attestd token create" in done.stdout


@pytest.mark.parametrize(
    "text", ["\x1b]0;owned\x07", "a\nb", "\u202eevil", "\u2028", "\x9b31m", "a\rb", "\x00", "\U000e0001", "\ud800"]
)
def test_e11_text_of_devices_moves_nothing_on_a_terminal(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert shown != text


def test_ordinary_text_stays_as_it_is() -> None:
    assert plain("Größe: 12 µm – 日本語") == "Größe: 12 µm – 日本語"
    assert plain("x" * 401) == "x" * 400 + "…"


def test_times_are_shown_in_utc() -> None:
    assert moment(1_795_350_000_999) == "2026-11-22 12:20:00Z"
    assert [span(seconds) for seconds in (5, 119, 120, 7_200, 172_800)] == ["5 s", "119 s", "2 min", "2 h", "2 d"]
