"""The ASCII form of a runtime list.

For people and for machines whose agent can read nothing else. It is a lossy rendering: template data is rebuilt here,
and a path with a line feed makes two lines, which are one entry where the template hash proves it, and nothing else.
The template hash shows what was rebuilt wrongly; `ima.template_hash_mismatches` is therefore part of reading this form.
Linux security/integrity/ima/ima_fs.c, ima_ascii_measurements_show.
"""

import re
from typing import Final

from attestd.protocol.limits import MAX_IMA_ENTRIES, MAX_IMA_TEMPLATE, PCR_COUNT
from attestd.tpm.algorithms import hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.imatemplates import (
    LEGACY,
    OTHER_BANKS,
    SHA1_SIZE,
    ImaEntry,
    Template,
    build_entry,
    hashed_data,
    template_of,
)

_MOST_LINES: Final = 2 * MAX_IMA_ENTRIES
"""Lines, empty ones among them: a file of nothing but line feeds would fill the memory with emptiness."""
_MOST_UNREADABLE: Final = 10_000
"""Lines that cannot be read, behind which nothing more is looked at."""
_MOST_JOINED: Final = 16 * 1024
"""Bytes of lines that are tried as one: a path has 4,096 at most (PATH_MAX), a signature 1,024 in hexadecimal."""
_MOST_TRIED: Final = 2_000
"""Times that lines of one list are tried as one: each costs up to a fifteenth of a millisecond, and a list has 8 MiB."""
_BEGINS: Final = re.compile(rb" *\d{1,2} [0-9a-fA-F]{40}")
"""How an entry begins: what looks so is never the rest of a path."""
_DIGEST_FIELDS: Final = frozenset({"d-ng", "d-ngv2", "d-modsig"})
_MOST_DIGITS: Final = 10
_NUMBERS: Final = {"iuid": 4, "igid": 4, "imode": 2}
"""Fields that are shown as decimal numbers, and their sizes (ima_template_lib.c, ima_eventinodedac_init_common)."""


def parse_ascii(data: bytes, entries: list[ImaEntry]) -> tuple[int, Malformed | None]:
    """Append one entry a line, and return how many lines could not be read, and why the first of them could not.

    Empty lines and comments are skipped. A path may end in a carriage return, so they are dropped only where every line has one.
    """
    if b"\r\n" in data and data.count(b"\n") == data.count(b"\r\n"):
        data = data.replace(b"\r\n", b"\n")
    lines = data.split(b"\n", _MOST_LINES)
    if len(lines) > _MOST_LINES:
        return 1, Malformed("ima-entry-count", f"more than {_MOST_LINES} lines")
    reader = _Reader(entries, _digest_size(lines))
    for number, line in enumerate(lines):
        if not line or line.isspace() or line.startswith(b"#"):
            continue
        if not reader.take(number, line):
            break
    return len(reader.faults), reader.faults[0] if reader.faults else None


class _Reader:
    """Turns lines into entries, and keeps the lines that may be the beginning of an entry whose path has line feeds."""

    __slots__ = ("begun", "entries", "faults", "of_begun", "size", "tried")

    def __init__(self, entries: list[ImaEntry], size: int) -> None:
        self.entries = entries
        self.size = size
        self.faults: list[Malformed] = []
        self.begun = b""
        self.tried = 0
        self.of_begun = (0, 0)
        """How many entries and how many faults the beginning made by itself."""

    def take(self, at: int, line: bytes) -> bool:
        """Read one line; return whether another one may follow."""
        try:
            if len(self.entries) >= MAX_IMA_ENTRIES:
                raise Malformed("ima-entry-count", f"more than {MAX_IMA_ENTRIES} entries")
            self.entries.append(_entry(len(self.entries), at, line, self.size))
            self.begun, self.of_begun = line, (1, 0)
        except Malformed as fault:
            begins = _BEGINS.match(line) is not None
            if not begins and self._continues(at, line):
                return True
            self.faults.append(fault)
            whole = line if begins else self.begun + b"\n" + line
            made, refused = (0, 0) if begins else self.of_begun
            keep = bool(begins or self.begun) and len(whole) <= _MOST_JOINED
            self.begun, self.of_begun = (whole, (made, refused + 1)) if keep else (b"", (0, 0))
            return len(self.faults) < _MOST_UNREADABLE and fault.code != "ima-entry-count"
        return True

    def _continues(self, at: int, line: bytes) -> bool:
        """Take a line as the rest of a path, if the template hash proves that it is; return whether it did."""
        whole = self.begun + b"\n" + line
        made, refused = self.of_begun
        if not self.begun or len(whole) > _MOST_JOINED or self.tried >= _MOST_TRIED:
            return False
        self.tried += 1
        try:
            entry = _entry(len(self.entries) - made, at, whole, self.size)
        except Malformed:
            return False
        bank = OTHER_BANKS.get(self.size, "sha1")
        if hasher(bank)(hashed_data(entry)).digest() != entry.template_digest:
            return False
        del self.entries[len(self.entries) - made :], self.faults[len(self.faults) - refused :]
        self.entries.append(entry)
        self.begun, self.of_begun = whole, (1, 0)
        return True


def _digest_size(lines: list[bytes]) -> int:
    """Return the size of the template hashes: that of the first line, where a list of one bank has others than SHA-1."""
    first = next((line for line in lines if line and not line.isspace() and not line.startswith(b"#")), b"")
    parts = first.split(None, 2)
    size = len(parts[1]) // 2 if len(parts) > 1 else 0
    return size if size in OTHER_BANKS else SHA1_SIZE


def _entry(index: int, at: int, line: bytes, size: int) -> ImaEntry:
    parts = line.lstrip(b" ").split(b" ", 3)
    if len(parts) != 4:
        raise Malformed("ima-line", f"line {at} has {len(parts)} parts")
    number, digest_hex, name, rest = parts
    digest = _hex(digest_hex)
    if not number.isdigit() or len(number) > 2 or len(digest) != size:
        raise Malformed("ima-line", f"line {at} starts with no register and template digest")
    pcr = int(number)
    if pcr >= PCR_COUNT:
        raise Malformed("ima-pcr-index", f"entry {index} names PCR {pcr}")
    template = template_of(name)
    if not template.fields:
        raise Malformed("ima-template-name", f"line {at} has a template whose data cannot be rebuilt")
    texts = _texts(template, rest, at)
    fields = tuple(_field(template, kind, text) for kind, text in zip(template.fields, texts, strict=True))
    raw = _raw(template, fields)
    if len(raw) > MAX_IMA_TEMPLATE:
        raise Malformed("ima-template-size", f"entry {index} has {len(raw)} bytes of template data")
    return build_entry(index, pcr, digest, template, raw, fields)


def _texts(template: Template, rest: bytes, at: int) -> list[bytes]:
    """Split the rest of a line at blanks, except those of a path: fields before it from the left, behind from the right.

    An empty last field leaves a blank at the line's end, which tools like to strip.
    """
    before = max(template.path_at, 0)
    after = len(template.fields) - before - 1
    left = rest.split(b" ", before)
    right = left[-1].rsplit(b" ", after) if after else left[-1:]
    texts = left[:-1] + right
    if len(texts) == len(template.fields) - 1:
        texts.append(b"")
    if len(texts) != len(template.fields):
        raise Malformed("ima-line", f"line {at} has {len(texts)} fields")
    return texts


def _field(template: Template, kind: str, text: bytes) -> bytes:
    """Turn a field's text into the bytes of the binary form."""
    if kind in ("n", "n-ng"):
        return text if template.name == LEGACY else text + b"\0"
    if kind in _DIGEST_FIELDS and text:
        algorithm, colon, digest = text.rpartition(b":")
        if not colon:
            raise Malformed("ima-field", "a digest without its algorithm")
        return algorithm + b":\0" + _hex(digest)
    if kind == "xattrnames":
        return text + b"\0" if text else b""
    if kind in _NUMBERS and text:  # what is no file (boot_aggregate) has none
        return _number(text, _NUMBERS[kind])
    return _hex(text)


def _number(text: bytes, size: int) -> bytes:
    if not text.isdigit() or len(text) > _MOST_DIGITS or int(text) >= 1 << (8 * size):
        raise Malformed("ima-field", f"no number of {size} bytes")
    return int(text).to_bytes(size, "little")


def _raw(template: Template, fields: tuple[bytes, ...]) -> bytes:
    """Return template data as the binary form has it."""
    start = fields[0] if template.name == LEGACY else b""
    return start + b"".join(
        len(field).to_bytes(4, "little") + field for field in (fields[1:] if template.name == LEGACY else fields)
    )


def _hex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise Malformed("ima-field", "not hexadecimal") from None
