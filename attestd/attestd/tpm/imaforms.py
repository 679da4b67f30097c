"""Binary runtime lists in other forms than the one that devices send: of a single bank, of a big-endian machine.

Kernels since 6.10 show one list for each bank, with template hashes of the bank's size; big-endian kernels write (and hash) their
own byte order unless they were told to be canonical. Proves the form within bounds, and no more; people inspect these lists.
Linux security/integrity/ima/ima_fs.c (ima_measurements_show), ima_crypto.c (ima_calc_field_array_hash_tfm).
"""

from typing import Final, Literal, NamedTuple

from attestd.protocol.limits import MAX_IMA_ENTRIES, MAX_IMA_TEMPLATE, MAX_IMA_TEMPLATE_NAME, PCR_COUNT
from attestd.tpm.errors import Malformed
from attestd.tpm.imatemplates import (
    LEGACY,
    OTHER_BANKS,
    SHA1_SIZE,
    ImaEntry,
    Template,
    build_entry,
    split_fields,
    template_of,
)

Order = Literal["little", "big"]
_ORDERS: Final[tuple[Order, Order]] = ("little", "big")


class Form(NamedTuple):
    """How a list is written: the byte order of its numbers, the size of its template hashes."""

    order: Order
    size: int


def other_form(data: bytes) -> Form | None:
    """Return the form that the first entry has, or None for the usual one (and for what has none of them)."""
    if int.from_bytes(data[24:28], "little") <= MAX_IMA_TEMPLATE_NAME and data[0] < PCR_COUNT and data[0]:
        return None
    forms = (Form(order, size) for order in _ORDERS for size in (SHA1_SIZE, *OTHER_BANKS))
    found = next((form for form in forms if _fits(data, form)), None)
    return found if found != ("little", SHA1_SIZE) else None


def _fits(data: bytes, form: Form) -> bool:
    start = 8 + form.size
    size = int.from_bytes(data[start - 4 : start], form.order)
    name = data[start : start + size] if 0 < size <= MAX_IMA_TEMPLATE_NAME else b""
    if len(name) != size or not name or int.from_bytes(data[:4], form.order) >= PCR_COUNT:
        return False
    try:
        return bool(template_of(name).fields)
    except Malformed:
        return False


def parse_other(data: bytes, form: Form, entries: list[ImaEntry]) -> None:
    """Append entries. *Raises* `Malformed` ("ima-…", "structure-truncated")."""
    position = 0
    while position < len(data):
        index = len(entries)
        if index >= MAX_IMA_ENTRIES:
            raise Malformed("ima-entry-count", f"more than {MAX_IMA_ENTRIES} entries", where=position)
        pcr, place = _number(data, position, form)
        digest = data[place : place + form.size]
        size, place = _number(data, place + form.size, form)
        if pcr >= PCR_COUNT or size > MAX_IMA_TEMPLATE_NAME:
            code: Literal["ima-pcr-index", "ima-template-name"]
            code = "ima-pcr-index" if pcr >= PCR_COUNT else "ima-template-name"
            raise Malformed(code, f"entry {index} names PCR {pcr} and a template of {size} bytes", where=position)
        template = template_of(data[place : place + size])
        body, position = _template_data(data, place + size, template, form)
        entries.append(build_entry(index, pcr, digest, template, body, split_fields(template, body, form.order)))


def _number(data: bytes, position: int, form: Form) -> tuple[int, int]:
    if position + 4 > len(data):
        raise Malformed("structure-truncated", "an entry ends early", where=position)
    return int.from_bytes(data[position : position + 4], form.order), position + 4


def _template_data(data: bytes, position: int, template: Template, form: Form) -> tuple[bytes, int]:
    legacy = SHA1_SIZE if template.name == LEGACY else 0
    size, stop = _number(data, position + legacy, form)
    if size > MAX_IMA_TEMPLATE:
        raise Malformed("ima-template-size", f"template data of {size} bytes", where=position)
    if stop + size > len(data):
        raise Malformed("structure-truncated", f"template data of {size} bytes, {len(data)} in all", where=position)
    return data[position if legacy else stop : stop + size], stop + size
