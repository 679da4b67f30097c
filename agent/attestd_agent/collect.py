"""What the device has to show besides the TPM: the firmware's boot log, the kernel's runtime list, and labels.

Reads, bounds and cuts; it never judges or repairs. A file that is absent is not an error: whether a device must have a
boot log or a runtime list is the verifier's policy, and the quote alone decides whether what is sent is true. What
cannot be understood here is sent as it is, so that the verifier sees what the device sees.
"""

import os
import socket
import struct
from pathlib import Path
from typing import Final

from attestd.protocol import limits
from attestd.protocol.messages import RuntimeList

EVENT_LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
IMA_LIST: Final = Path("/sys/kernel/security/ima/binary_runtime_measurements")
RUNTIME_PCR: Final = 10
"""The register that the kernel extends with its runtime list (CONFIG_IMA_MEASURE_PCR_IDX has this default)."""

_DMI: Final = Path("/sys/class/dmi/id")
# Model and maker help a person to find the machine. Serial numbers and machine ids are left out: they identify, and
# the device has an identity already.
_DMI_LABELS: Final = (("vendor", "sys_vendor"), ("model", "product_name"))
_MAX_TEMPLATE_NAME: Final = 255  # the kernel's own names have at most 7 characters; custom formats are longer
_SHA1: Final = 20


def event_log(path: Path) -> bytes:
    """Return the boot log, empty where the machine has none, cut at MAX_EVENT_LOG (a cut log is refused by its reader).

    *Raises* OSError where it exists and cannot be read.
    """
    return _read(path, limits.MAX_EVENT_LOG)


def runtime_list(path: Path, offset: int, *, most: int = limits.MAX_IMA_LIST) -> RuntimeList | None:
    """Return the entries of the kernel's runtime list from entry `offset` (0 = all) on, or None where there is no list.

    At most `most` bytes, cut between two entries. Where the list has fewer than `offset` entries, it is another list
    than before, and all of it is returned. *Raises* OSError where it exists and cannot be read.
    """
    if not path.exists():
        return None
    data = _read(path, 2 * limits.MAX_IMA_LIST)
    start, skipped = _skip(data, offset, most=len(data))
    if skipped < offset:
        start = offset = 0
    end, _ = _skip(data, limits.MAX_IMA_ENTRIES, start=start, most=most)
    if end == start:  # nothing that reads as an entry: the verifier shall see it all the same
        end = start + most
    return RuntimeList(offset, data[start:end])


def count_entries(entries: bytes) -> int:
    """Return how many whole entries of a binary runtime list `entries` has."""
    return _skip(entries, limits.MAX_IMA_ENTRIES, most=len(entries))[1]


def labels() -> tuple[tuple[str, str], ...]:
    """Return what helps a person to recognise the machine: (name, value) pairs sorted by name; they decide nothing."""
    found = {"hostname": socket.gethostname(), "kernel": os.uname().release}
    for label, name in _DMI_LABELS:
        try:
            found[label] = _read(_DMI / name, limits.MAX_TEXT).decode("utf-8", "replace").strip()
        except OSError:
            continue
    return tuple(sorted((name, value) for name, value in found.items() if value and _is_label(value)))


def _is_label(value: str) -> bool:
    return value.isprintable() and len(value) <= limits.MAX_TEXT


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        return b""


def _skip(data: bytes, entries: int, *, start: int = 0, most: int) -> tuple[int, int]:
    """Step over at most `entries` entries and `most` bytes from `start`; return the position reached and the count.

    Stops before the first thing that does not read as an entry. Source: Linux, Documentation/security/IMA-templates:
    u32 PCR, 20 bytes of template hash, u32 length and name, u32 length and template data, in the machine's byte order;
    the oldest template, "ima", has a digest and a sized name in place of the sized data.
    """
    position, limit = start, min(len(data), start + most)
    for count in range(entries):
        size = _entry_size(data, position)
        if not size or position + size > limit:
            return position, count
        position += size
    return position, entries


def _entry_size(data: bytes, position: int) -> int:
    """Return the bytes of the entry at `position`, 0 where there is no whole one."""
    head = 4 + _SHA1
    name_size = _u32(data, position + head)
    if not 0 < name_size <= _MAX_TEMPLATE_NAME:
        return 0
    at = position + head + 4
    old = data[at : at + name_size] == b"ima"
    at += name_size + (_SHA1 if old else 0)
    size = _u32(data, at)
    end = at + 4 + size
    return end - position if 0 <= size <= limits.MAX_IMA_TEMPLATE and end <= len(data) else 0


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("=I", data, at)[0]) if at + 4 <= len(data) else -1
