"""Files that a person hands to `attestd inspect`: read within bounds, and a refusal is a report like any other.

Sizes are looked at before anything is read, and no more is read than is allowed, whatever the size says: pipes and devices have
none.
"""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from attestd.cli import failures
from attestd.cli.answer import answer, console, show_line

if TYPE_CHECKING:
    from rich.console import Console

    from attestd.appraisal.policy import Profile
    from attestd_pki.chain import TrustStore

_STANDARD_INPUT: Final = "-"


def _existing(path: Path) -> Path:
    """Return the path of a file that is there, or of standard input. *Raises* typer.BadParameter."""
    if str(path) == _STANDARD_INPUT:
        return path
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a directory: name a file in it, or: attestd inspect evidence {path}")
    if not path.exists():
        raise typer.BadParameter(f"{path} is not there")
    return path


Subject = Annotated[
    Path, typer.Argument(callback=_existing, help="The file; - for standard input.", show_default=False)
]
_PIECE: Final = 1 << 20
Document = dict[str, Any]
Shown = tuple[Document, Callable[["Console"], None], bool]
"""What a report is for programs, how it is shown to people, and whether it accepts what it looked at."""


def read(path: Path, most: int, *, code: str) -> bytes:
    """Return a file of at most `most` bytes. *Raises* `InspectionRefused` with the code for a longer one."""
    from attestd.inspection.refused import InspectionRefused

    if str(path) == _STANDARD_INPUT:
        return _read(sys.stdin.buffer, 0, most, code)
    size = path.stat().st_size
    if size > most:
        raise InspectionRefused(code, f"{path} has {size} bytes, and at most {most} are read")
    with path.open("rb") as file:
        return _read(file, size, most, code)


def _read(file: BinaryIO, size: int, most: int, code: str) -> bytes:
    """Read to the end, in pieces: reading sets memory aside for all that is asked for, and the kernel's files have no size."""
    from attestd.inspection.refused import InspectionRefused

    data = file.read(max(size, _PIECE))
    pieces, total = [data], len(data)
    while data and total <= most:
        data = file.read(_PIECE)
        pieces.append(data)
        total += len(data)
    if total > most:
        raise InspectionRefused(code, f"there are more than {most} bytes")
    return b"".join(pieces) if len(pieces) > 2 else pieces[0]


class Given:
    """The file that a command of `attestd inspect` was given: read within its bound, and looked at again where it does not fit."""

    def __init__(self, path: Path, command: str, most: int, *, code: str) -> None:
        self._path, self._command, self._most, self._code = path, command, most, code
        self._data: bytes | None = None

    def read(self) -> bytes:
        """Return what is in it. *Raises* `InspectionRefused` with the file's code for a longer one."""
        self._data = read(self._path, self._most, code=self._code)
        return self._data

    def hint(self) -> tuple[str, str] | None:
        """Return (what it looks like, the sentence that says which command fits), or None where no other does."""
        from attestd.inspection.kinds import hint_for
        from attestd.inspection.refused import InspectionRefused
        from attestd.protocol.limits import MAX_EVENT_LOG

        data = self._data
        if data is None and self._path.is_file():  # too long for this command, and perhaps not for another
            try:
                data = read(self._path, 2 * MAX_EVENT_LOG, code=self._code)
            except InspectionRefused:
                return None
        return hint_for(data, self._command) if data else None


def store_of(anchors: list[Path] | None) -> "TrustStore":
    """Return the authorities in these bundles, or none. *Raises* `InspectionRefused` ("bundle-…")."""
    from attestd.inspection.certificates import NOBODY, read_bundle
    from attestd.protocol.limits import INSPECTED_BUNDLE

    if not anchors:
        return NOBODY
    return read_bundle([read(path, INSPECTED_BUNDLE, code="bundle-size") for path in anchors])


def files_of(directory: Path) -> dict[str, bytes]:
    """Return the files of an evidence directory that are known by name. *Raises* `InspectionRefused` ("evidence-too-large")."""
    from attestd.inspection.evidence import CERTIFICATES, MOST_CERTIFICATES, NEEDED, OPTIONAL
    from attestd.protocol.limits import INSPECTED_CERTIFICATE

    wanted = {**NEEDED, **OPTIONAL}
    wanted |= {path.name: INSPECTED_CERTIFICATE for path in sorted(directory.glob(CERTIFICATES))[:MOST_CERTIFICATES]}
    return {
        name: read(directory / name, most, code="evidence-too-large")
        for name, most in wanted.items()
        if (directory / name).is_file()
    }


def profile_in(path: Path) -> "Profile":
    """Return the profile in a YAML file. *Raises* ProfileError, CommandFailed (profile-malformed)."""
    from attestd.appraisal.profile import parse_profile_yaml
    from attestd.protocol.limits import MAX_PROFILE_DOCUMENT

    with path.open("rb") as file:
        data = file.read(MAX_PROFILE_DOCUMENT + 1)
    try:
        return parse_profile_yaml(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise failures.CommandFailed(
            "profile-malformed", f"{path} is not UTF-8 text", exit_code=failures.USAGE
        ) from None


def report(
    build: Callable[[], Shown], refused: Callable[[str, str], Document], *, as_json: bool, given: Given | None = None
) -> None:
    """Build a report and print it; exit with 1 where it does not accept, or where there is nothing to report.

    Of a file that does not fit the command (`given`) it is said which one does: `looks_like` for programs.
    """
    from attestd.inspection.refused import InspectionRefused

    try:
        document, show, accepted = build()
    except InspectionRefused as error:
        hint = given.hint() if given is not None else None
        message = f"{error.message}; {hint[1]}" if hint else error.message
        if as_json:
            print(json.dumps(refused(error.code, message) | _looks(hint), indent=2))
        else:
            failures.show(failures.Failure(error.code, message, failures.REFUSED), as_json=False)
        raise typer.Exit(failures.REFUSED) from None
    hint = given.hint() if given is not None and not accepted else None
    answer(document | _looks(hint), show, as_json=as_json)
    if hint and not as_json:
        show_line(console(), f"! {hint[1]}", style="yellow")
    if not accepted:
        raise typer.Exit(failures.REFUSED)


def _looks(hint: tuple[str, str] | None) -> Document:
    return {"looks_like": hint[0]} if hint else {}


def instant(text: str) -> int:
    """Return the unix seconds of `2026-11-22`, `2026-11-22T10:00:00Z` or of themselves; now where there is no text.

    A time without a zone is UTC. *Raises* typer.BadParameter.
    """
    from attestd import clock

    if not text:
        return clock.now_ms() // 1000
    try:
        if text.isascii() and text.isdigit() and len(text) <= 11 and len(text) != 8:
            return int(text)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            "write 2026-11-22, 2026-11-22T10:00:00Z or unix seconds", param_hint="'--at'"
        ) from None
    return int((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp())
