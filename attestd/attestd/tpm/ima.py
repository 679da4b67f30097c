"""The Linux runtime list (IMA): reading it, checking its hashes, replaying it.

Proves that the bytes are a list, within bounds, and what PCR 10 would hold after each of its entries. It does not prove
that they were extended: a quote does, for the prefix whose value it covers (list and quote are not taken at one
moment). Three conventions exist for banks other than SHA-1, and only the quote tells which one a kernel follows.
Linux security/integrity/ima; Documentation/security/IMA-templates.rst.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from attestd.protocol.limits import MAX_IMA_ENTRIES, MAX_IMA_LIST, MAX_IMA_TEMPLATE, MAX_IMA_TEMPLATE_NAME, PCR_COUNT
from attestd.tpm.algorithms import DIGEST_SIZES, hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.imaascii import parse_ascii
from attestd.tpm.imaforms import other_form, parse_other
from attestd.tpm.imatemplates import (
    LEGACY,
    OTHER_BANKS,
    SHA1_SIZE,
    Template,
    build_entry,
    split_fields,
    template_of,
)
from attestd.tpm.imatemplates import FileDigest as FileDigest
from attestd.tpm.imatemplates import ImaEntry as ImaEntry
from attestd.tpm.imatemplates import hashed_data as hashed_data

IMA_PCR: Final = 10
_HEADER: Final = Struct("<I20sI")
_LENGTH: Final = Struct("<I")


@dataclass(frozen=True, slots=True)
class RuntimeList:
    """The entries of a list, or of one part of it, in order.

    `bank` is the algorithm of the template hashes that the list states. `unreadable` counts lines of text that are no entries.
    """

    entries: tuple[ImaEntry, ...]
    bank: str = "sha1"
    unreadable: int = 0


def parse_ima(data: bytes) -> RuntimeList:
    """Read a whole list, binary (little-endian) or ASCII; nothing is an empty list.

    A binary list starts with a register number, so one of its first four bytes is zero; text has none.
    *Raises* `Malformed` ("ima-…", "structure-truncated").
    """
    runtime, fault = read_ima(data, most=MAX_IMA_LIST)
    if fault is not None:
        raise fault
    # Data have one reading: a byte order that the sender chooses would be a second one of what was hashed.
    if runtime.bank != "sha1" or (0 in data[:4] and other_form(data) is not None):
        raise Malformed("ima-form", f"a list of a single bank ({runtime.bank}) or of a big-endian machine")
    return runtime


def read_ima(data: bytes, *, most: int) -> tuple[RuntimeList, Malformed | None]:
    """Read a list of at most `most` bytes as far as it can be read: its entries up to the first fault, and the fault or None.

    Lines of text are read behind a fault, too. For people who look at a damaged list, or at one of another machine (of a single
    bank, of a big-endian machine). Nothing may be decided by entries beside a fault: `parse_ima` has none.
    """
    if len(data) > most:
        return RuntimeList(()), Malformed("ima-size", f"a list of {len(data)} bytes")
    entries: list[ImaEntry] = []
    fault, unreadable = None, 0
    if 0 not in data[:4]:
        unreadable, fault = parse_ascii(data, entries)
    else:
        form = other_form(data)
        try:
            if form is None:
                _parse_binary(data, entries)
            else:
                parse_other(data, form, entries)
        except Malformed as found:
            fault = found
    size = len(entries[0].template_digest) if entries else SHA1_SIZE
    runtime = RuntimeList(tuple(entries), OTHER_BANKS.get(size, "sha1"), unreadable)
    if size != SHA1_SIZE and not _is_of_its_bank(runtime):
        return RuntimeList((), unreadable=unreadable + len(entries)), Malformed(
            "ima-line", f"template hashes of {size} bytes that are not {runtime.bank}'s"
        )
    return runtime, fault


def _is_of_its_bank(runtime: RuntimeList) -> bool:
    """Return whether the first hash that is not zero is that of its data: the size of a hash alone says nothing."""
    first = next((entry for entry in runtime.entries if not entry.violation), None)
    return first is None or hasher(runtime.bank)(hashed_data(first)).digest() == first.template_digest


def _parse_binary(data: bytes, entries: list[ImaEntry]) -> None:
    """Append entries: register, SHA-1, template name and template data, each with a 32-bit length."""
    position, end = 0, len(data)
    while position < end:
        index = len(entries)
        try:
            pcr, digest, size = _HEADER.unpack_from(data, position)
        except error:
            raise Malformed("structure-truncated", f"entry {index} ends early", where=position) from None
        if pcr >= PCR_COUNT or index >= MAX_IMA_ENTRIES or size > MAX_IMA_TEMPLATE_NAME:
            _check_bounds(index, pcr, size, position)
        start = position + _HEADER.size
        position = start + size
        template = template_of(data[start:position])
        body, position = _template_data(data, position, template)
        entries.append(build_entry(index, pcr, digest, template, body, split_fields(template, body)))


def _check_bounds(index: int, pcr: int, size: int, where: int) -> None:
    """Refuse a register that does not exist, an entry too many and a template's name that is too long."""
    if pcr >= PCR_COUNT:
        raise Malformed("ima-pcr-index", f"entry {index} names PCR {pcr}", where=where)
    if index >= MAX_IMA_ENTRIES:
        raise Malformed("ima-entry-count", f"more than {MAX_IMA_ENTRIES} entries", where=where)
    raise Malformed("ima-template-name", f"a template name of {size} bytes", where=where)


def _template_data(data: bytes, position: int, template: Template) -> tuple[bytes, int]:
    """Return an entry's template data and its end.

    The legacy template gives no length for the whole, only one for the name behind its digest.
    """
    legacy = SHA1_SIZE if template.name == LEGACY else 0
    try:
        (size,) = _LENGTH.unpack_from(data, position + legacy)
    except error:
        raise Malformed("structure-truncated", "template data ends early", where=position) from None
    if size > MAX_IMA_TEMPLATE:
        raise Malformed("ima-template-size", f"template data of {size} bytes", where=position)
    start = position if legacy else position + 4
    stop = position + legacy + 4 + size
    if stop > len(data):
        raise Malformed("structure-truncated", f"template data of {size} bytes, {len(data)} in all", where=position)
    return data[start:stop], stop


def template_hash_mismatches(runtime: RuntimeList) -> tuple[int, ...]:
    """Return the indices of entries whose hash is not that of their data.

    Violations are left out: they carry zeros by design and are told by `ImaEntry.violation`.
    """
    new = hasher(runtime.bank)
    return tuple(
        entry.index
        for entry in runtime.entries
        if not entry.violation and new(hashed_data(entry)).digest() != entry.template_digest
    )


def replay(
    runtime: RuntimeList,
    bank: str,
    *,
    padded: bool,
    whole_ones: bool = False,
    pcr: int = IMA_PCR,
    start: bytes | None = None,
) -> Iterator[bytes]:
    """Yield the register's value after 0, 1, 2, … entries: one more value than there are entries.

    `padded` selects the convention of kernels before 5.8, which extend the SHA-1 template digest filled up with zeros;
    newer ones hash the template data in each bank's algorithm. For SHA-1 both are the same. A violation extends ones,
    of SHA-1's size and then zeros under the older convention. With `whole_ones` it is ones throughout there: newer kernels pad
    in a bank whose algorithm they were built without (ima_crypto.c, ima_calc_field_array_hash; ima_queue.c,
    ima_init_digests). Entries of other registers leave the value as it is.
    `start` is the register's value before the first entry, zeros where absent: a later part of a list continues.

    *Assumes* nothing: under the newer convention the digest that the list states is not used at all.
    *Raises* `Malformed` ("algorithm-unknown").
    """
    new, size = hasher(bank), DIGEST_SIZES.get(bank, 0)
    value = bytes(size) if start is None else start
    filler = bytes(size - SHA1_SIZE)
    ones = b"\xff" * SHA1_SIZE + filler if padded and not whole_ones else b"\xff" * size
    stated = padded or bank == "sha1"
    yield value
    for entry in runtime.entries:
        _, register, template_digest, template, data, _, _, _, violation = entry
        if register == pcr:
            if violation:
                digest = ones
            elif stated:
                digest = template_digest + filler
            else:
                digest = new(data if template != LEGACY else hashed_data(entry)).digest()
            value = new(value + digest).digest()
        yield value


def prefix_length(
    runtime: RuntimeList, bank: str, target: bytes, *, padded: bool, start: bytes | None = None
) -> int | None:
    """Return how many entries explain target as PCR 10's value, or None where no prefix does.

    The shortest prefix is given: entries behind it that belong to another register are not covered by target. With `padded`
    both of its violations are tried.
    """
    conventions = (False, True) if padded and any(entry.violation for entry in runtime.entries) else (False,)
    for whole_ones in conventions:
        values = replay(runtime, bank, padded=padded, whole_ones=whole_ones, start=start)
        for count, value in enumerate(values):
            if value == target:
                return count
    return None
