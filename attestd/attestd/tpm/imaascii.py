"""The ASCII form of a runtime list.

For people and for machines whose agent can read nothing else. It is a lossy rendering: template data is rebuilt here,
and a path with a line feed makes two lines of which at least one is refused. The template hash shows what was rebuilt
wrongly; `ima.template_hash_mismatches` is therefore part of reading this form.
Linux security/integrity/ima/ima_fs.c, ima_ascii_measurements_show.
"""

from typing import Final

from attestd.protocol.limits import MAX_IMA_ENTRIES, MAX_IMA_TEMPLATE, PCR_COUNT
from attestd.tpm.errors import Malformed
from attestd.tpm.imatemplates import LEGACY, OTHER_BANKS, SHA1_SIZE, ImaEntry, Template, build_entry, template_of

_MOST_LINES: Final = 2 * MAX_IMA_ENTRIES
"""Lines, empty ones among them: a file of nothing but line feeds would fill the memory with emptiness."""
_MOST_UNREADABLE: Final = 10_000
"""Lines that cannot be read, behind which nothing more is looked at."""
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
    size = _digest_size(lines)
    unreadable, first = 0, None
    for number, line in enumerate(lines):
        if not line or line.isspace() or line.startswith(b"#"):
            continue
        try:
            if len(entries) >= MAX_IMA_ENTRIES:
                raise Malformed("ima-entry-count", f"more than {MAX_IMA_ENTRIES} entries")
            entries.append(_entry(len(entries), number, line, size))
        except Malformed as fault:
            unreadable, first = unreadable + 1, first or fault
            if unreadable >= _MOST_UNREADABLE or fault.code == "ima-entry-count":
                break
    return unreadable, first


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
