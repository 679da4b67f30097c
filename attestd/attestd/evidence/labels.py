"""Labels: what a person calls a component. They come from the log's author, prove nothing and decide nothing.

Everything that is shown, logged or written into a page goes through `printable` first.
"""

from typing import Final

from attestd.tpm.errors import Malformed
from attestd.tpm.eventdata import (
    parse_firmware_blob,
    parse_handoff_tables,
    parse_image_load,
    parse_ipl,
    parse_post_code,
    parse_text,
)
from attestd.tpm.eventlog import Event
from attestd.tpm.eventtypes import EventType as T
from attestd.tpm.eventtypes import event_type_name

IMAGES: Final = frozenset(
    {int(T.EFI_BOOT_SERVICES_APPLICATION), int(T.EFI_BOOT_SERVICES_DRIVER), int(T.EFI_RUNTIME_SERVICES_DRIVER)}
)
"""Types of events whose digest is that of an executable image."""
_SHORTEST_NAME: Final = 3
_LONGEST_NAME: Final = 64
_TABLES: Final = {
    "eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS",
    "f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3",
    "8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI",
    "eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI 1.0",
    "eb9d2d2f-2d88-11d3-9a16-0090273fc14d": "multiprocessor table",
    "eb9d2d32-2d88-11d3-9a16-0090273fc14d": "SAL system table",
    "b1b621d5-f19c-41a5-830b-d9152c69aae0": "device tree",
}
"""Tables that UEFI names (2.10, 4.6.1)."""


def printable(text: str) -> str:
    """Return text with everything escaped that is not printable (E11)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def type_label(event: Event) -> str:
    """Return the name of the event's type, for want of anything better."""
    return f"{event_type_name(event.type)} in PCR {event.pcr}"


def firmware_label(event: Event) -> str:
    """Return what firmware calls a part of itself, or where that part lies."""
    try:
        if event.type in (T.POST_CODE, T.POST_CODE2):
            found = parse_post_code(event.data)
        elif event.type in (T.EFI_PLATFORM_FIRMWARE_BLOB, T.EFI_PLATFORM_FIRMWARE_BLOB2):
            found = parse_firmware_blob(event.data)
        elif event.type in (T.EFI_HANDOFF_TABLES, T.EFI_HANDOFF_TABLES2, T.TABLE_OF_DEVICES):
            return tables_label(event.data)
        else:
            found = parse_text(event.data)
    except Malformed:
        return named_label(event.data) or type_label(event)
    if isinstance(found, str):
        return found or type_label(event)
    return f"{found.description or 'firmware volume'} at {found.base:#x}, {found.length} bytes"


def tables_label(data: bytes) -> str:
    """Return the names of tables that firmware hands to the operating system. *Raises* `Malformed`."""
    description, guids = parse_handoff_tables(data)
    names = ", ".join(_TABLES.get(guid, guid) for guid in guids) or "no tables"
    return f"{description}: {names}" if description else names


def named_label(data: bytes) -> str:
    """Return what binary data calls itself, where it begins with a name and a zero ("GCE NonHostInfo"); else nothing."""
    name, zero, rest = data.partition(b"\0")
    named = (
        zero and _SHORTEST_NAME <= len(name) <= _LONGEST_NAME and name.isascii() and name.decode("ascii").isprintable()
    )
    return f"{name.decode('ascii')} ({len(rest)} bytes)" if named else ""


def image_label(event: Event) -> str:
    """Return the device path of an image."""
    try:
        image = parse_image_load(event.data) if event.type in IMAGES else None
    except Malformed:
        image = None
    if image is None:
        return firmware_label(event)
    return image.device_path or f"an image of {image.length} bytes without a device path"


def text_label(event: Event) -> str:
    """Return the text of a boot loader's event."""
    try:
        return parse_ipl(event.data).text or type_label(event)
    except Malformed:
        return type_label(event)
