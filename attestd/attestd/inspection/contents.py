"""What records of a Canonical Event Log contain, in words: an entry of IMA, a text, bytes.

Nothing is decided by these texts; whoever shows them escapes them.
"""

from typing import Final

from attestd.inspection.canonical import Content
from attestd.tpm.errors import Malformed
from attestd.tpm.ima import hashed_data
from attestd.tpm.imatemplates import ImaEntry, build_entry, split_fields, template_of

_SHOWN_BYTES: Final = 32
_SHOWN_TEXT: Final = 500


def hex_excerpt(data: bytes) -> str:
    """Return the first bytes in hexadecimal."""
    shown = data[:_SHOWN_BYTES].hex()
    return f"{shown}…" if len(data) > _SHOWN_BYTES else shown or "(empty)"


def readable(data: bytes) -> str:
    """Return bytes as the text that they are, or in hexadecimal."""
    text = data.rstrip(b"\0")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        return hex_excerpt(data)
    return decoded[:_SHOWN_TEXT] if decoded and decoded.isprintable() else hex_excerpt(data)


def ima_content(name: bytes, data: bytes) -> Content:
    """Return an entry of the runtime list: its template's name and data."""
    called = name.rstrip(b"\0")
    try:
        template = template_of(called)
        entry = build_entry(0, 0, b"\xff", template, data, split_fields(template, data))
    except Malformed:
        return Content("ima_template", f"{readable(called)}: {hex_excerpt(data)}", (data,))
    return Content("ima_template", f"{template.name}: {entry_text(entry)}", (data, hashed_data(entry)))


def entry_text(entry: ImaEntry) -> str:
    """Return the file of an entry and its digest."""
    path = entry.path.decode("utf-8", "backslashreplace") if entry.path is not None else hex_excerpt(entry.data)
    if entry.file_digest is None:
        return path
    algorithm, digest = entry.file_digest
    return f"{path} {algorithm}:{digest.hex()}"
