"""How a profile that a program wrote looks: the scalars and lines that people then read and change.

Assumes nothing of the texts: paths, command lines and labels come from machines and artefacts. What is written here is read back by
`document.read_yaml` as the very same text.
"""

from collections.abc import Iterable


def quoted(text: str) -> str:
    """Return text as a double-quoted scalar (YAML 1.2, 7.3.1), on one line and without anything invisible in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def allow_line(path: str, digests: Iterable[str], *, remark: str = "") -> str:
    """Return a line of `runtime.allow`: the path, the digests (as `sha256:…`, in order) that it may have, and a remark."""
    return f"    {quoted(path)}: [{', '.join(sorted(digests))}]{f'  # {remark}' if remark else ''}"
