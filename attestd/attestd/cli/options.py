"""The options that every command has, and the values that several take. Light: nothing here costs at start."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Final

import typer

_JSON: Final = "attestd.json"
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MAX_DAYS: Final = 3_650


def _remember_json(context: typer.Context, value: bool) -> bool:
    context.meta[_JSON] = value
    return value


def wants_json(context: typer.Context) -> bool:
    """Return whether the command that runs was asked for JSON: errors are then JSON too."""
    return bool(context.meta.get(_JSON, False))


def existing_file(help: str, *names: str) -> Any:
    """Return the option that names a file which is there; without `names` it is called as its parameter."""
    return typer.Option(*names, exists=True, dir_okay=False, help=help, show_default=False)


Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        help="The verifier's directory; default: ATTESTD_DIRECTORY, else /var/lib/attestd.",
        show_default=False,
        file_okay=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.", callback=_remember_json)]
Key = Annotated[
    Path | None,
    existing_file(
        "Your SSH private key, or the public half of one that an agent or a security key holds; "
        "default: the development operator's.",
        "--key",
    ),
]


def once_more(directory: Path | None) -> str:
    """Return the option that names the same verifier in the next command, where this one named it."""
    return "" if directory is None else f" -d {shlex.quote(str(directory))}"


def duration(text: str, *, option: str) -> int:
    """Return the seconds of `90s`, `15m`, `12h` or `30d`. *Raises* typer.BadParameter, which names the option."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _MAX_DAYS * _UNITS["d"]:
        raise typer.BadParameter("write 90s, 15m, 12h or 30d, at most ten years", param_hint=f"'{option}'")
    return seconds
