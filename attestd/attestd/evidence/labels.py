"""Labels: what a person calls a component. They come from the log's author, prove nothing and decide nothing.

Everything that is shown, logged or written into a page goes through `printable` first.
"""

from typing import Final

from attestd.tpm.errors import Malformed
from attestd.tpm.eventdata import parse_firmware_blob, parse_image_load, parse_ipl, parse_post_code, parse_text
from attestd.tpm.eventlog import Event
from attestd.tpm.eventtypes import EventType as T
from attestd.tpm.eventtypes import event_type_name

IMAGES: Final = frozenset(
    {int(T.EFI_BOOT_SERVICES_APPLICATION), int(T.EFI_BOOT_SERVICES_DRIVER), int(T.EFI_RUNTIME_SERVICES_DRIVER)}
)
"""Types of events whose digest is that of an executable image."""


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
        else:
            found = parse_text(event.data)
    except Malformed:
        return type_label(event)
    if isinstance(found, str):
        return found or type_label(event)
    return f"{found.description or 'firmware volume'} at {found.base:#x}, {found.length} bytes"


def image_label(event: Event) -> str:
    """Return the device path of an image."""
    try:
        path = parse_image_load(event.data).device_path if event.type in IMAGES else ""
    except Malformed:
        path = ""
    return path or firmware_label(event)


def text_label(event: Event) -> str:
    """Return the text of a boot loader's event."""
    try:
        return parse_ipl(event.data).text or type_label(event)
    except Malformed:
        return type_label(event)
