"""Builds a runtime measurement list as the Linux kernel's IMA does. FOR LABORATORIES ONLY.

Template ``ima-ng`` in the binary format of binary_runtime_measurements (little-endian). Two conventions exist for what
goes into a SHA-256 bank, and a verifier has to support both:

- ``per_bank`` (Linux 5.8 and later): the digest of the template data in the bank's own algorithm;
- ``padded_sha1`` (before): the SHA-1 template digest, filled with zero bytes to the bank's size.

The list itself always carries the SHA-1 digest, whatever is extended.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Convention = Literal["per_bank", "padded_sha1"]
IMA_PCR: Final = 10
_TEMPLATE: Final = b"ima-ng"


@dataclass(frozen=True, slots=True)
class ImaEntry:
    """One measured file: its path, as bytes because Linux paths are, and the digest of its content."""

    path: bytes
    digest: bytes
    """SHA-256, 32 bytes."""
    violation: bool = False
    """The kernel saw the file change while it was in use: zeros in the list, ones in the register."""


def measured_file(path: str, content: bytes) -> ImaEntry:
    """Return the entry of a file with this content."""
    return ImaEntry(path.encode(), hashlib.sha256(content).digest())


def boot_aggregate(pcrs: tuple[bytes, ...]) -> ImaEntry:
    """Return the first entry of every list: the digest over PCR 0 to 9 of the SHA-256 bank (0 to 7 before Linux 5.8)."""
    return ImaEntry(b"boot_aggregate", hashlib.sha256(b"".join(pcrs)).digest())


def encode_list(entries: tuple[ImaEntry, ...]) -> bytes:
    """Return the binary list."""
    return b"".join(_encode(entry) for entry in entries)


def extends(
    entries: tuple[ImaEntry, ...], *, banks: tuple[str, ...] = ("sha256",), convention: Convention = "per_bank"
) -> tuple[tuple[int, Mapping[str, bytes]], ...]:
    """Return what the kernel extends into PCR 10 for these entries."""
    return tuple((IMA_PCR, {bank: _extended(entry, bank, convention) for bank in banks}) for entry in entries)


def _template_data(entry: ImaEntry) -> bytes:
    digest = b"sha256:\0" + entry.digest
    name = entry.path + b"\0"
    return struct.pack("<I", len(digest)) + digest + struct.pack("<I", len(name)) + name


def _encode(entry: ImaEntry) -> bytes:
    data = _template_data(entry)
    digest = bytes(20) if entry.violation else hashlib.sha1(data, usedforsecurity=False).digest()
    head = struct.pack("<I20sI", IMA_PCR, digest, len(_TEMPLATE)) + _TEMPLATE
    return head + struct.pack("<I", len(data)) + data


def _extended(entry: ImaEntry, bank: str, convention: Convention) -> bytes:
    size = hashlib.new(bank).digest_size
    data = _template_data(entry)
    if convention == "per_bank":
        return b"\xff" * size if entry.violation else hashlib.new(bank, data).digest()
    sha1 = b"\xff" * 20 if entry.violation else hashlib.sha1(data, usedforsecurity=False).digest()
    return sha1.ljust(size, b"\0")
