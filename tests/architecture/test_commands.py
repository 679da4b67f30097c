"""Commands that the documents show exist, with every option that is shown."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from attestd.cli.main import app
from attestd_agent import config
from attestd_agent.cli import Line
from attestd_agent.commands import _Commands as AgentCommands

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SHOWN = re.compile(r"(?:^\s*(?:[\w-]*[$#] )?|`|-- )(attestd(?:-agent)? [a-z][^`\n#|&]*)", re.MULTILINE)
AGENT_SETTINGS = {f"--{name.replace('_', '-')}" for name in ("config", "json", *config.SETTINGS)}


def shown(path: Path) -> list[str]:
    """Return the commands of this project that stand in code: after a prompt, or between backticks."""
    code = re.findall(r"```(?:console|text|sh)\n(.*?)```|(`attestd[^`\n]*`)", path.read_text(), re.DOTALL)
    return [match.strip() for block in code for match in SHOWN.findall("".join(block))]


def test_the_documents_show_commands() -> None:
    assert len({line for path in DOCUMENTS for line in shown(path)}) > 30


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_shown_exist_with_their_options(path: Path) -> None:
    assert [f"{line}: {wrong}" for line in shown(path) if (wrong := _wrong(line))] == []


def _wrong(line: str) -> str:
    """Return what is wrong with a command line, empty where nothing is."""
    program, *words = shlex.split(line.replace("…", " ").rstrip(".,;:"), comments=True)
    if program == "attestd-agent":
        return _wrong_for_agent(words)
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word not in command.commands:
            return f"there is no {word!r}"
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return _unknown(words, known)


def _wrong_for_agent(words: list[str]) -> str:
    command = getattr(AgentCommands(Line()), words[0], None) if words else None
    if command is None:
        return f"there is no {words[:1]}"
    made = typer.Typer()
    made.command()(command)
    known = {option for parameter in typer.main.get_command(made).params for option in parameter.opts}
    return _unknown(words[1:], known | AGENT_SETTINGS | {"--help"})


def _unknown(words: list[str], known: set[str]) -> str:
    return ", ".join(
        word for word in words if word.startswith("-") and word.split("=")[0] not in known and word != "--"
    )
