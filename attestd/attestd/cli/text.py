"""Text for a terminal, some of it chosen by devices.

Proves, of what `plain` returns, that it moves no cursor, changes no colour, starts no line and reverses no writing direction
(E11). Assumes nothing about its input.
"""

import shlex
import unicodedata
from datetime import UTC, datetime
from typing import Final

_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control and format characters (bidirectional overrides are among them), surrogates, private use, line separators."""
_LONGEST: Final = 400


def plain(value: object, *, longest: int = _LONGEST) -> str:
    """Return a value on one line, with every character that a terminal would obey written as an escape."""
    text = str(value)
    shown = "".join(_visible(character) for character in text[:longest])
    return shown if len(text) <= longest else shown + "…"


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _CATEGORIES:
        return character
    return character.encode("unicode_escape").decode("ascii")


def counted(number: int, what: str, *, several: str = "") -> str:
    """Return a number and what it counts, in the singular where it is one."""
    return f"{number} {what if number == 1 else several or what + 's'}"


def next_step(file: str) -> str:
    """Return what comes after a profile was written and read: authoring needs no verifier, so nothing says which one it will be."""
    return f"attestd profile add {shlex.quote(file)} -d DIRECTORY (the verifier's)"


def moment(milliseconds: int | None) -> str:
    """Return a time in UTC, to the second, or a dash where there is none."""
    if milliseconds is None:
        return "-"
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(seconds: float) -> str:
    """Return a length of time in the largest units that matter: 45 s, 12 min, 3 h, 5 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def maker(code: str | None) -> str:
    """Return a TPM maker's code as its letters: `id:49465800` is IFX (TCG TPM Vendor ID Registry)."""
    digits = (code or "").removeprefix("id:")
    try:
        letters = bytes.fromhex(digits).rstrip(b"\0 ").decode("ascii")
    except ValueError:
        letters = ""
    return letters if letters and letters.isprintable() else plain(code or "unknown maker")
