"""Writes a crypto-agile TCG event log. FOR LABORATORIES ONLY.

An encoder: the verifier has its own parser, which shares nothing with this file, so that one can be held against the
other. Layout: TCG PC Client Platform Firmware Profile 1.06, 10.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attestd_agent.lab.authenticode import image_digest

EV_NO_ACTION: Final = 0x00000003
EV_SEPARATOR: Final = 0x00000004
EV_S_CRTM_VERSION: Final = 0x00000008
EV_IPL: Final = 0x0000000D
EV_EFI_VARIABLE_DRIVER_CONFIG: Final = 0x80000001
EV_EFI_VARIABLE_BOOT: Final = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION: Final = 0x80000003
EV_EFI_BOOT_SERVICES_DRIVER: Final = 0x80000004
EV_EFI_GPT_EVENT: Final = 0x80000006
EV_EFI_ACTION: Final = 0x80000007
EV_EFI_PLATFORM_FIRMWARE_BLOB2: Final = 0x8000000A
EV_EFI_VARIABLE_AUTHORITY: Final = 0x800000E0

_ALGORITHMS: Final = {"sha1": (0x0004, 20), "sha256": (0x000B, 32), "sha384": (0x000C, 48), "sha512": (0x000D, 64)}


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement: what is extended where, and what the log says about it."""

    pcr: int
    kind: int
    digests: Mapping[str, bytes]
    data: bytes


def measured(pcr: int, kind: int, data: bytes, content: bytes, banks: tuple[str, ...]) -> Event:
    """Return an event whose digest is over ``content``, which is often but not always its data."""
    return Event(pcr, kind, {bank: hashlib.new(bank, content).digest() for bank in banks}, data)


def measured_image(pcr: int, kind: int, data: bytes, image: bytes, banks: tuple[str, ...]) -> Event:
    """Return an event whose digest is the Authenticode digest of an image."""
    return Event(pcr, kind, {bank: image_digest(image, bank) for bank in banks}, data)


def encode_log(events: tuple[Event, ...], banks: tuple[str, ...]) -> bytes:
    """Return the log: the Spec ID event in the old format (10.4.5.1), then TCG_PCR_EVENT2 structures (10.2.2)."""
    algorithms = b"".join(struct.pack("<HH", *_ALGORITHMS[bank]) for bank in banks)
    # Platform class 0 (client), specification 2.0 errata 0, 64-bit UINTN, no vendor data.
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(banks)) + algorithms + b"\0"
    head = struct.pack("<II20sI", 0, EV_NO_ACTION, bytes(20), len(spec)) + spec
    return head + b"".join(_encode(event, banks) for event in events)


def _encode(event: Event, banks: tuple[str, ...]) -> bytes:
    digests = b"".join(struct.pack("<H", _ALGORITHMS[bank][0]) + event.digests[bank] for bank in banks)
    head = struct.pack("<III", event.pcr, event.kind, len(banks)) + digests
    return head + struct.pack("<I", len(event.data)) + event.data
