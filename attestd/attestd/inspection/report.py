"""How every report on a document begins: its outcome, and what speaks against it, for programs and for people."""

from typing import Any

Reasons = tuple[tuple[str, str], ...]
"""(code, sentence) of each; an accepted document has none."""


def opening(reasons: Reasons, *, outcome: str = "", **lists: tuple[str, ...]) -> dict[str, Any]:
    """Return the first members of a report: `outcome` (by default accepted or refused), reasons, their sentences, and `lists`."""
    return {
        "outcome": outcome or ("refused" if reasons else "accepted"),
        "reasons": [code for code, _ in reasons],
        "messages": [message for _, message in reasons],
        **{name: list(items) for name, items in lists.items()},
    }
