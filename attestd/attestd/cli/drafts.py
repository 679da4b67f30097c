"""Profiles in files, before anybody signs them: read within bounds, written where there is nothing yet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestd.cli.failures import CommandFailed

if TYPE_CHECKING:
    from attestd.appraisal.policy import Profile

Output = Annotated[Path, typer.Option("--output", "-o", help="The YAML file to write; it must not exist.")]


def read_profile(path: Path) -> "tuple[Profile, str]":
    """Return the profile in a file, and the file's text. *Raises* ProfileError, CommandFailed."""
    from attestd.appraisal.profile import parse_profile_yaml
    from attestd.protocol import limits

    with path.open("rb") as file:
        data = file.read(limits.MAX_PROFILE_DOCUMENT + 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandFailed("profile-malformed", f"{path} is not UTF-8 text") from None
    return parse_profile_yaml(text), text


def require_free(output: Path) -> None:
    """Refuse a place where something is, before any work is done for it. *Raises* CommandFailed ("file-exists")."""
    if output.exists():
        raise _exists(output)


def write_new(output: Path, text: str) -> None:
    """Write a file that must not exist, line endings as they are. *Raises* CommandFailed ("file-exists")."""
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise _exists(output) from None


def _exists(output: Path) -> CommandFailed:
    return CommandFailed("file-exists", f"{output} exists, and nothing is overwritten")
