"""How a command fails: one line with a stable code and what to do next, and one of four exit codes. Never a traceback.

Assumes that whatever a service raises on purpose is in this table; what is not is a defect, and Python shows it as one.
"""

import json
import sys
from dataclasses import dataclass
from typing import Final

from attestd.cli.text import plain

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3

EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 refused, or not what was expected; 2 wrong usage or configuration; "
    "3 unavailable (database, verifier, a missing program)."
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a person and a program learn of a failure."""

    code: str
    message: str
    exit_code: int


class CommandFailed(Exception):
    """A command ends here, for a reason of its own: `code` is stable, the message says what to do next."""

    def __init__(self, code: str, message: str, *, exit_code: int = REFUSED) -> None:
        super().__init__(message)
        self.failure = Failure(code, message, exit_code)


def translate(error: Exception) -> Failure | None:
    """Return what to say of an error, or None for a defect."""
    from attestd.errors import Refused, UnsafeConfiguration

    if isinstance(error, CommandFailed):
        return error.failure
    if isinstance(error, UnsafeConfiguration):
        return Failure(error.code, str(error), USAGE)
    if isinstance(error, Refused):
        return _refused(error)
    if isinstance(error, OSError):
        return Failure("file", f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "), USAGE)
    return _of_rooms(error)


def _refused(error: Exception) -> Failure:
    from attestd.errors import Refused
    from attestd.protocol.reasons import PROBLEMS

    assert isinstance(error, Refused)
    problem = PROBLEMS[error.reason]
    detail = f" ({error.detail})" if error.detail else ""
    exit_code = UNAVAILABLE if problem.status == 503 else REFUSED
    return Failure(error.reason.value, f"{problem.title}{detail}. {problem.advice}", exit_code)


def _of_rooms(error: Exception) -> Failure | None:
    """Translate the errors of the other rooms; they are imported here, where a moment more does not matter."""
    from attestd.appraisal.profile import ProfileError
    from attestd.changes.errors import ChangeRefused
    from attestd.lifecycle.table import IllegalMove
    from attestd.services.declined import Declined
    from attestd.store.errors import SchemaMismatch, StaleState, StoreError, StoreUnavailable
    from attestd_pki.errors import PkiError

    if isinstance(error, Declined):
        return Failure(error.code, str(error), REFUSED)
    if isinstance(error, ProfileError):
        return Failure("profile-malformed", str(error), REFUSED)
    if isinstance(error, IllegalMove):
        return Failure("illegal-move", f"{error}: attestd device show says where it stands", REFUSED)
    if isinstance(error, SchemaMismatch):
        return Failure(error.code, f"{error} (attestd migrate)", USAGE)
    if isinstance(error, StoreUnavailable):
        return Failure(
            error.code, "the database does not answer: check `database` in attestd.toml, then repeat", UNAVAILABLE
        )
    if isinstance(error, StaleState):
        return Failure(error.code, f"{error}: look at it again, then repeat", REFUSED)
    if isinstance(error, PkiError):
        return Failure(error.code, error.message, REFUSED)
    if isinstance(error, StoreError | ChangeRefused):
        return Failure(error.code, str(error), REFUSED)
    return None


def show(failure: Failure, *, as_json: bool) -> None:
    """Write a failure to standard error."""
    if as_json:
        print(json.dumps({"error": {"code": failure.code, "message": failure.message}}), file=sys.stderr)
    else:
        print(f"attestd: {plain(failure.message, longest=2_000)} [{failure.code}]", file=sys.stderr)
