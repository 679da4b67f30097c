"""The one exception of this package: a stable code for machines, a sentence for people.

Proves nothing. Assumes nothing. The code is kebab-case and part of the interface (tests and audit records pin it); the
message may change, may name public facts of the input (names, serials, object identifiers) and never holds a secret.
"""

import re

_CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class PkiError(Exception):
    """A refusal, or an input that cannot be understood; both mean no.

    *Assumes* that whoever raises it changed nothing before.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep `code` (kebab-case) and `message` (one sentence). *Raises* ValueError for a code of another shape."""
        if not _CODE.fullmatch(code):
            raise ValueError(f"not a kebab-case code: {code!r}")
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
