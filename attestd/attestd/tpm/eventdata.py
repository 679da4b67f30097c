"""The data of boot events, decoded by type.

Proves that the bytes have the shape the type promises, within bounds. It does not prove that they are what was
measured: `attestd.tpm.measured` says which bytes a digest vouches for, and only those may feed a decision.
Text comes from firmware and boot loaders: whoever shows it escapes it.
PC client platform firmware profile 1.06, 10.2 and 10.4.
"""

from dataclasses import dataclass
from struct import Struct, error
from typing import Final, Literal, NamedTuple

from attestd.protocol.limits import MAX_PARTITIONS, MAX_VARIABLE_NAME
from attestd.tpm.devicepath import device_path_text
from attestd.tpm.errors import Malformed
from attestd.tpm.guid import guid_text

_VARIABLE: Final = Struct("<16sQQ")
_IMAGE: Final = Struct("<QQQQ")
_BLOB: Final = Struct("<QQ")
_TABLE: Final = Struct("<16sQ")
_COUNT: Final = Struct("<Q")
_GPT_HEADER: Final = Struct("<8sIII4xQQQQ16sQIII")
_GPT_ENTRY: Final = Struct("<16s16sQQQ72s")
_MAX_ENTRY: Final = 4096
_SHIM_SLACK: Final = 6
"""Bytes that older shims log behind a variable: they take the C structure's padded size."""
_SHIM_IMAGE_SLACK: Final = (8, 9)
"""The same behind a device path; the older of the two also logs one byte too many of everything."""


class UefiVariable(NamedTuple):
    """UEFI_VARIABLE_DATA: GUID as text, name, value, and how many bytes of slack followed (0, or 6 by old shims)."""

    guid: str
    name: str
    data: bytes
    slack: int


@dataclass(frozen=True, slots=True)
class ImageLoad:
    """UEFI_IMAGE_LOAD_EVENT: where an image was, the device path it came from as text, and slack (by old shims)."""

    base: int
    length: int
    link_address: int
    device_path: str
    slack: int


@dataclass(frozen=True, slots=True)
class FirmwareBlob:
    """A range of firmware memory, with the description that the second version of the structure carries."""

    base: int
    length: int
    description: str


@dataclass(frozen=True, slots=True)
class Partition:
    """One GPT entry: GUIDs as text, first and last block, attribute bits, name."""

    type_guid: str
    guid: str
    first: int
    last: int
    attributes: int
    name: str


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """UEFI_GPT_DATA: the disk's GUID and its used entries."""

    disk_guid: str
    partitions: tuple[Partition, ...]


class IplText(NamedTuple):
    """What a boot loader said it did: `prefix` is GRUB's ("grub_cmd", "kernel_cmdline", …) or empty."""

    prefix: str
    text: str


Separator = Literal["normal", "error", "windows", "other"]

IPL_PREFIXES: Final = (
    "grub_cmd: ",
    "kernel_cmdline: ",
    "module_cmdline: ",
    "grub_kernel_cmdline ",
    "grub_module_cmdline ",
    "grub_linuxefi ",
    "grub_linux ",
    "grub_initrd ",
    "grub_cmd ",
)
"""What GRUB puts before the text it measures: upstream with a colon, distributions' older patches with a blank."""


def parse_variable(data: bytes) -> UefiVariable:
    """Read UEFI_VARIABLE_DATA (10.2.6).

    *Raises* `Malformed`: a name too long or not UTF-16, sizes that do not add up.
    """
    try:
        guid, units, size = _VARIABLE.unpack_from(data)
    except error:
        raise Malformed("structure-truncated", f"a variable of {len(data)} bytes", where=0) from None
    start = _VARIABLE.size + 2 * units
    slack = len(data) - start - size
    if units > MAX_VARIABLE_NAME or slack not in (0, _SHIM_SLACK):
        raise Malformed("eventdata-size", f"a variable with {units} units of name and {size} bytes of value")
    name = _utf16(data[_VARIABLE.size : start])
    return UefiVariable(guid_text(guid), name, data[start : start + size], slack)


def parse_variables(data: bytes) -> tuple[UefiVariable, ...]:
    """Read UEFI_VARIABLE_DATA structures that fill the data one after the other: older firmware measures its boot entries so.

    *Raises* `Malformed`: as `parse_variable`, or more than `MAX_PARTITIONS` of them.
    """
    found: list[UefiVariable] = []
    position = 0
    while position < len(data):
        try:
            _, units, size = _VARIABLE.unpack_from(data, position)
        except error:
            raise Malformed("structure-truncated", "a variable ends early", where=position) from None
        end = position + _VARIABLE.size + 2 * units + size
        if len(found) >= MAX_PARTITIONS:
            raise Malformed("eventdata-count", f"more than {MAX_PARTITIONS} variables", where=position)
        found.append(parse_variable(data[position:end]))
        position = end
    return tuple(found)


def parse_handoff_tables(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Read UEFI_HANDOFF_TABLE_POINTERS, with or without a description: the description, and the tables' GUIDs (10.2.7).

    *Raises* `Malformed`.
    """
    description = ""
    if len(data) % _TABLE.size != _COUNT.size and data:
        description = parse_text(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    count = int.from_bytes(data[: _COUNT.size], "little")
    if count > MAX_PARTITIONS or len(data) != _COUNT.size + count * _TABLE.size:
        raise Malformed("eventdata-size", f"{count} tables in {len(data)} bytes")
    tables = (_TABLE.unpack_from(data, _COUNT.size + index * _TABLE.size)[0] for index in range(count))
    return description, tuple(guid_text(guid) for guid in tables)


def parse_image_load(data: bytes) -> ImageLoad:
    """Read UEFI_IMAGE_LOAD_EVENT (10.2.3).

    *Raises* `Malformed`, also as `device_path_text` does.
    """
    try:
        base, length, link_address, size = _IMAGE.unpack_from(data)
    except error:
        raise Malformed("structure-truncated", f"an image event of {len(data)} bytes", where=0) from None
    slack = len(data) - _IMAGE.size - size
    if slack not in (0, *_SHIM_IMAGE_SLACK):
        raise Malformed("eventdata-size", f"a device path of {size} bytes in {len(data) - _IMAGE.size}")
    path = device_path_text(data[_IMAGE.size : _IMAGE.size + size])
    return ImageLoad(base, length, link_address, path, slack)


def parse_firmware_blob(data: bytes) -> FirmwareBlob:
    """Read UEFI_PLATFORM_FIRMWARE_BLOB, with or without a description (10.2.5).

    The second form is one byte of size, a description and the range; the first form is the range alone.
    *Raises* `Malformed`.
    """
    description = ""
    if len(data) > _BLOB.size:
        size = data[0]
        description = parse_text(data[1 : 1 + size])
        data = data[1 + size :]
    if len(data) != _BLOB.size:
        raise Malformed("eventdata-size", f"a firmware range of {len(data)} bytes")
    base, length = _BLOB.unpack(data)
    return FirmwareBlob(base, length, description)


def parse_post_code(data: bytes) -> FirmwareBlob | str:
    """Read EV_POST_CODE: either a firmware range or a text such as "ACPI DATA" (10.4.1).

    *Raises* `Malformed`.
    """
    if len(data) == _BLOB.size and not _is_text(data):
        return parse_firmware_blob(data)
    return parse_text(data)


def parse_gpt(data: bytes) -> PartitionTable:
    """Read UEFI_GPT_DATA: the table's header, a count and that many entries (10.2.4).

    *Raises* `Malformed`: another signature, too many entries, entries of impossible size, sizes that do not add up.
    """
    try:
        fields = _GPT_HEADER.unpack_from(data)
        (count,) = Struct("<Q").unpack_from(data, _GPT_HEADER.size)
    except error:
        raise Malformed("structure-truncated", f"a partition table of {len(data)} bytes", where=0) from None
    if fields[0] != b"EFI PART":
        raise Malformed("eventdata-value", "not a GUID partition table", where=0)
    entry_size = fields[11]
    if count > MAX_PARTITIONS or not _GPT_ENTRY.size <= entry_size <= _MAX_ENTRY:
        raise Malformed("eventdata-count", f"{count} partition entries of {entry_size} bytes")
    start = _GPT_HEADER.size + 8
    if len(data) != start + count * entry_size:
        raise Malformed("eventdata-size", f"{count} partition entries in {len(data) - start} bytes")
    entries = tuple(_partition(data, start + index * entry_size) for index in range(count))
    return PartitionTable(guid_text(fields[8]), entries)


def _partition(data: bytes, position: int) -> Partition:
    """Read EFI_PARTITION_ENTRY (UEFI 2.10, 5.3.3)."""
    kind, guid, first, last, attributes, name = _GPT_ENTRY.unpack_from(data, position)
    text = _utf16(name).partition("\0")[0]
    return Partition(guid_text(kind), guid_text(guid), first, last, attributes, text)


def parse_separator(data: bytes) -> Separator:
    """Say what a separator means (10.4.1): "normal", "error" (firmware gave up), "windows" (its boot manager's own).

    "other" is anything else, which some machines do write and no policy should take for the end of the firmware.
    """
    if data in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        return "normal"
    if data == b"\x01\0\0\0":
        return "error"
    return "windows" if data == b"WBCL" else "other"


def parse_ipl(data: bytes) -> IplText:
    """Read the text of EV_IPL: UTF-8 from GRUB and shim, UTF-16 from systemd's boot loader and stub.

    One stray byte behind the terminator is dropped: older shims log one too many.
    *Raises* `Malformed` ("eventdata-text" where it is neither).
    """
    if _looks_like_utf16(data):
        return IplText("", _utf16(data).rstrip("\0"))
    if data[-2:-1] == b"\0" and data[-1:] >= b"\x80":
        data = data[:-1]
    try:
        text = data.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("eventdata-text", "neither UTF-8 nor UTF-16") from None
    if not text.startswith(IPL_PREFIXES):
        return IplText("", text)
    prefix = next(prefix for prefix in IPL_PREFIXES if text.startswith(prefix))
    return IplText(prefix.rstrip(": "), text[len(prefix) :])


def parse_crtm_version(data: bytes) -> str:
    """Return EV_S_CRTM_VERSION as text: UTF-16 or ASCII, a GUID in its usual form, or hex for anything else (10.4.1)."""
    if _looks_like_utf16(data):
        return _utf16(data).rstrip("\0")
    if _is_text(data.rstrip(b"\0")):
        return data.rstrip(b"\0").decode("ascii")
    return guid_text(data) if len(data) == 16 else data.hex()


def parse_text(data: bytes) -> str:
    """Return printable ASCII less a terminator: EV_EFI_ACTION, EV_ACTION, EV_POST_CODE and their like.

    *Raises* `Malformed` ("eventdata-text").
    """
    text = data.rstrip(b"\0")
    if not _is_text(text):
        raise Malformed("eventdata-text", "not printable ASCII")
    return text.decode("ascii")


def _is_text(data: bytes) -> bool:
    return data.isascii() and data.decode("ascii").isprintable()


def _looks_like_utf16(data: bytes) -> bool:
    """Tell UTF-16 of mostly Latin text from bytes: an even length and a zero at the second place."""
    return len(data) >= 2 and len(data) % 2 == 0 and data[1] == 0 and (data[0] != 0 or len(data) == 2)


def _utf16(data: bytes) -> str:
    try:
        return data.decode("utf-16-le")
    except UnicodeDecodeError:
        raise Malformed("eventdata-text", "not UTF-16") from None
