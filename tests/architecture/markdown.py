"""Tables and fenced text for the generated parts of docs/."""

from collections.abc import Sequence


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table; bars in cells are escaped."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def fenced(language: str, text: str) -> str:
    """Return text as a block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def wrapped(text: str, width: int = 112) -> str:
    """Return a long word on several lines."""
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))
