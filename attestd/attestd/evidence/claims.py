"""What a person would say one event measured, and how much of that is proved; one reader for each register.

A claim follows from the register and from content that the event's digest vouches for. What a digest does not vouch for
(the event's type, the name of a file, GRUB's prefix) may choose only among claims that a profile cannot ignore, or among those of
a register that has no code in it, so that lying about it wins nothing: the digest still has to be an accepted one (E01). Code
that can be read as something else (a driver that is also a well-formed variable) must not gain by it either: that is why PCR 2
has a single claim. An event for which no rule below fits is an `unknown-event`.
PC client platform firmware profile 1.06, 3.3.4 (what belongs into which register) and 10.4.
"""

from collections.abc import Callable
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from attestd.evidence.labels import IMAGES, firmware_label, image_label, text_label, type_label
from attestd.evidence.windows import windows_parts
from attestd.tpm.devicepath import device_path_text
from attestd.tpm.errors import Malformed
from attestd.tpm.eventdata import (
    UefiVariable,
    parse_crtm_version,
    parse_gpt,
    parse_ipl,
    parse_separator,
    parse_text,
    parse_variable,
    parse_variables,
)
from attestd.tpm.eventlog import Event
from attestd.tpm.eventtypes import EventType as T
from attestd.tpm.eventtypes import TxtEventType
from attestd.tpm.measured import Measured
from attestd.tpm.signaturelist import parse_signature_lists

MUST_HASH: Final = frozenset(
    {
        T.SEPARATOR,
        T.EFI_ACTION,
        T.EFI_VARIABLE_DRIVER_CONFIG,
        T.EFI_VARIABLE_BOOT,
        T.EFI_VARIABLE_BOOT2,
        T.EFI_VARIABLE_AUTHORITY,
        T.EFI_GPT_EVENT,
        T.EFI_GPT_EVENT2,
    }
)
"""Types whose data is what is hashed, on every UEFI machine whose log was ever seen to replay."""
EXIT_BOOT_SERVICES: Final = "Exit Boot Services"

_GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SECURITY: Final = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_DATABASES: Final = {
    (_GLOBAL, "PK"): "secure-boot-pk",
    (_GLOBAL, "KEK"): "secure-boot-kek",
    (_SECURITY, "db"): "secure-boot-db",
    (_SECURITY, "dbx"): "secure-boot-dbx",
    (_SECURITY, "dbt"): "secure-boot-db",
    (_SECURITY, "dbr"): "secure-boot-db",
}
_SECURITY_VARIABLES: Final = frozenset(
    {
        T.EFI_VARIABLE_DRIVER_CONFIG,
        T.EFI_VARIABLE_AUTHORITY,
        T.EFI_SPDM_DEVICE_POLICY,
        T.EFI_SPDM_DEVICE_AUTHORITY,
    }
)
_MODES: Final = frozenset({"SetupMode", "AuditMode", "DeployedMode"})
_FIRMWARE: Final = frozenset(
    {
        T.POST_CODE,
        T.POST_CODE2,
        T.S_CRTM_CONTENTS,
        T.CPU_MICROCODE,
        T.PLATFORM_CONFIG_FLAGS,
        T.NONHOST_CODE,
        T.NONHOST_CONFIG,
        T.NONHOST_INFO,
        T.EFI_PLATFORM_FIRMWARE_BLOB,
        T.EFI_PLATFORM_FIRMWARE_BLOB2,
        T.EFI_HANDOFF_TABLES,
        T.EFI_HCRTM_EVENT,
    }
)
_PLATFORM: Final = _FIRMWARE | {T.EFI_HANDOFF_TABLES2, T.TABLE_OF_DEVICES, T.EVENT_TAG, T.ACTION, T.COMPACT_HASH}
_OPTION_ROM: Final = (
    IMAGES | _PLATFORM | {T.EFI_VARIABLE_DRIVER_CONFIG, T.EFI_SPDM_FIRMWARE_BLOB, T.EFI_SPDM_FIRMWARE_CONFIG}
)
_TXT: Final = frozenset(int(kind) for kind in TxtEventType)
_LONGEST_VERSION: Final = 256
"""Bytes of a version that is text and could not be code as well."""
_LOADED_OPTIONS: Final = b"LOADED_IMAGE::LoadOptions"
_LINUX_INITRD: Final = b"Linux initrd"
_UKI_CLAIMS: Final = {".linux": "kernel", ".initrd": "initrd", ".cmdline": "kernel-command-line"}
_LOAD_OPTION: Final = Struct("<IH")
_COMMAND_LINES: Final = (b"kernel_cmdline: ", b"grub_kernel_cmdline ")


class Reading(NamedTuple):
    """What one event says: its claim, its proven value if any, and a label that is not yet escaped.

    `more` are further (claim, proven value) of an event that holds several things. `data` is proven content without a text.
    """

    claim: str
    value: str | None
    label: str
    more: tuple[tuple[str, str], ...] = ()
    data: bytes | None = None


class Place(NamedTuple):
    """Where in its register an event stands, as far as that tells what it is; order within a register is proved.

    `separated`: behind the separator. `loader_seen`: behind the first image that firmware started. `section`: the name that
    systemd's stub extended directly before.
    """

    separated: bool = False
    loader_seen: bool = False
    section: str | None = None


class Seen(NamedTuple):
    """One event with what its digest vouches for."""

    event: Event
    proof: Measured | None
    place: Place

    @property
    def type(self) -> int:
        """Return the event's type, which nothing vouches for."""
        return self.event.type

    @property
    def whole(self) -> bytes | None:
        """Return the data if the digest vouches for all of it."""
        return self.proof.data if self.proof is not None and self.proof.form == "data" else None


def read_event(seen: Seen) -> Reading:
    event = seen.event
    if event.type == T.SEPARATOR:
        return _separator(seen)
    reader = _READERS.get(event.pcr)
    try:
        found = reader(seen) if reader is not None else None
    except Malformed:
        found = None  # data that is not of its type's form is not understood
    return found or Reading("unknown-event", _hexadecimal(seen.whole), type_label(event))


def _separator(seen: Seen) -> Reading:
    if seen.whole is None:
        return Reading("unknown-event", None, "a separator with other data")
    meaning = parse_separator(seen.whole)
    return Reading("separator", seen.whole.hex() if meaning == "other" else meaning, f"separator ({meaning})")


def _firmware_code(seen: Seen) -> Reading | None:
    """PCR 0: the firmware itself, and the version it says it has."""
    if seen.type == T.S_CRTM_VERSION and seen.whole is not None and len(seen.whole) <= _LONGEST_VERSION:
        text = parse_crtm_version(seen.whole) or "(empty)"
        return Reading("firmware-version", text, text)
    if seen.type in _PLATFORM or seen.type in (T.S_CRTM_VERSION, T.EFI_SPDM_FIRMWARE_BLOB) or seen.type in _TXT:
        return Reading("firmware", _hexadecimal(seen.whole), firmware_label(seen.event))
    return None


def _platform_config(seen: Seen) -> Reading | None:
    """PCR 1: boot variables, and whatever else describes the platform."""
    if seen.type in (T.EFI_VARIABLE_BOOT, T.EFI_VARIABLE_BOOT2):
        return _boot_variable(seen)
    if seen.type == T.EFI_VARIABLE_DRIVER_CONFIG:
        return _configuration_variable(seen, "platform-config")
    if seen.type in _PLATFORM:
        return Reading("platform-config", _hexadecimal(seen.whole), firmware_label(seen.event))
    return None


def _boot_variable(seen: Seen) -> Reading | None:
    try:
        variable = _variable(seen)
    except Malformed:
        if not seen.whole:
            raise
        first, *others = (_boot_text(one) for one in parse_variables(seen.whole))
        return first._replace(more=tuple((one.claim, one.value or "") for one in others))
    return None if variable is None else _boot_text(variable)


def _boot_text(variable: UefiVariable) -> Reading:
    # Where only the value is vouched for, the name is a claim; nothing in this register is code, so it decides nothing more.
    if variable.name == "BootOrder":
        data = variable.data
        order = ",".join(f"{int.from_bytes(data[i : i + 2], 'little'):04x}" for i in range(0, len(data), 2))
        return Reading("boot-order", order, f"BootOrder {order}")
    text = _load_option(variable.data)
    return Reading("boot-entry", text, f"{variable.name}: {text}")


def _load_option(data: bytes) -> str:
    """Return EFI_LOAD_OPTION as one line (UEFI 2.10, 3.1.3): description, path, attributes, optional data.

    The entry's number is left out: firmware renumbers entries.
    """
    if len(data) < _LOAD_OPTION.size:
        return f"hex {data.hex()}"
    attributes, size = _LOAD_OPTION.unpack_from(data)
    end = data.find(b"\0\0", _LOAD_OPTION.size)
    while end >= 0 and (end - _LOAD_OPTION.size) % 2:  # the second half of one character and the first of the next
        end = data.find(b"\0\0", end + 1)
    if end < 0:
        return f"hex {data.hex()}"
    try:
        description = data[_LOAD_OPTION.size : end].decode("utf-16-le")
        path = device_path_text(data[end + 2 : end + 2 + size])
    except (UnicodeDecodeError, Malformed):
        return f"hex {data.hex()}"
    optional = data[end + 2 + size :].hex()
    return " ".join(part for part in (description, path, f"attributes={attributes:#x}", optional) if part)


def _variable(seen: Seen) -> UefiVariable | None:
    """Return the variable if the digest vouches for it, or for its value at least.

    It is read from the whole data: one byte of slack behind a variable may be all that the digest does not cover.
    """
    return parse_variable(seen.event.data) if seen.proof is not None else None


def _configuration_variable(seen: Seen, claim: str) -> Reading | None:
    variable = _variable(seen)
    if variable is None:
        return None
    value = f"{variable.name}={variable.data.hex()}"
    return Reading(claim, value, value)


def _option_rom(seen: Seen) -> Reading | None:
    """PCR 2: code that is not the platform maker's. Its configuration, where there is any, is under the same claim."""
    if seen.type in _OPTION_ROM:
        return Reading("option-rom", _hexadecimal(seen.whole), image_label(seen.event))
    return None


def _adapter_config(seen: Seen) -> Reading | None:
    """PCR 3: an adapter's configuration."""
    if seen.type == T.EFI_VARIABLE_DRIVER_CONFIG:
        return _configuration_variable(seen, "option-rom-config")
    if seen.type in _PLATFORM or seen.type in (T.EFI_SPDM_FIRMWARE_CONFIG, T.EFI_VARIABLE_BOOT):
        return Reading("option-rom-config", _hexadecimal(seen.whole), firmware_label(seen.event))
    return None


def _boot_manager(seen: Seen) -> Reading | None:
    """PCR 4: what firmware says it boots, and every image that was started; a BIOS' first blocks of the disk are one."""
    action = _action(seen)
    if action is not None:
        return action
    if seen.type not in IMAGES and seen.type != T.IPL:
        return None
    # The first image behind the separator is the operating system's; firmware's own applications come before it.
    first = seen.place.separated and not seen.place.loader_seen
    return Reading("loader" if first else "application", None, image_label(seen.event))


def _action(seen: Seen) -> Reading | None:
    if seen.type not in (T.EFI_ACTION, T.ACTION, T.OMIT_BOOT_DEVICE_EVENTS) or seen.whole is None:
        return None
    try:
        text = parse_text(seen.whole)
    except Malformed:
        return None
    return Reading("exit-boot-services" if text.startswith(EXIT_BOOT_SERVICES) else "boot-action", text, text)


def _boot_configuration(seen: Seen) -> Reading | None:
    """PCR 5: the partition table, the hand-over, the boot manager's configuration file."""
    if seen.type in (T.EFI_GPT_EVENT, T.EFI_GPT_EVENT2) and seen.whole is not None:
        table = parse_gpt(seen.whole)
        lines = [f"disk {table.disk_guid}"]
        lines += [
            f"{part.type_guid} {part.guid} {part.first}-{part.last} {part.attributes:x} {part.name}"
            for part in table.partitions
        ]
        return Reading("gpt", "\n".join(lines), f"partition table of disk {table.disk_guid}")
    if seen.type in (T.EFI_VARIABLE_BOOT, T.EFI_VARIABLE_BOOT2):
        return _boot_variable(seen)
    if seen.type in (T.EVENT_TAG, T.IPL):
        return Reading("boot-file", _hexadecimal(seen.whole), text_label(seen.event))
    if seen.type == T.IPL_PARTITION_DATA and seen.whole is not None:
        # No form tells such a table from a boot manager's configuration with this type, so it is under the same claim (E01).
        return Reading("boot-file", _hexadecimal(seen.whole), "partition table of a disk that a BIOS boots")
    return _action(seen)


def _management(seen: Seen) -> Reading | None:
    """PCR 6: the platform maker's own."""
    return Reading("management", _hexadecimal(seen.whole), firmware_label(seen.event))


def _secure_boot(seen: Seen) -> Reading | None:
    """PCR 7: the policy of Secure Boot, and who vouched for what was started."""
    variable = _variable(seen) if seen.type in _SECURITY_VARIABLES else None
    if variable is not None and seen.type == T.EFI_VARIABLE_DRIVER_CONFIG:
        return _secure_boot_variable(variable)
    if variable is not None and seen.type == T.EFI_SPDM_DEVICE_POLICY:
        text = f"{variable.name}\n{_signatures(variable.data)}"
        return Reading("secure-boot-db", text, f"{variable.name}: what devices are accepted by")
    if variable is not None:
        if variable.name in ("SbatLevel", "MokListTrusted"):
            content = variable.data.rstrip(b"\0").decode("ascii", "backslashreplace")
        else:
            # EFI_SIGNATURE_DATA: the owner's GUID and the certificate; shim logs the certificate alone.
            body = variable.data[16:] if variable.guid == _SECURITY else variable.data
            content = f"sha256:{sha256(body).hexdigest()}"
        value = f"{variable.name} {content}"
        return Reading("secure-boot-authority", value, value)
    action = _action(seen)
    # What firmware admits here (a debug mode, no protection against DMA) is policy, not one of its usual steps.
    return action._replace(claim="secure-boot-mode") if action is not None else None


def _secure_boot_variable(variable: UefiVariable) -> Reading | None:
    name = (variable.guid, variable.name)
    if name == (_GLOBAL, "SecureBoot"):
        # Firmware without keys logs an empty variable or a zero: both mean that nothing is enforced.
        on = variable.data == b"\x01"
        return Reading("secure-boot", "enabled" if on else "disabled", f"SecureBoot {'on' if on else 'off'}")
    if name in _DATABASES:
        # The list of what may not boot has hundreds of digests and no names: it is judged by its own, or by some of them.
        value = _signatures(variable.data) if variable.name != "dbx" else None
        if variable.name in ("dbt", "dbr"):
            value = f"{variable.name}\n{value}"
        data = variable.data if value is None else None
        return Reading(_DATABASES[name], value, f"{variable.name} of {len(variable.data)} bytes", data=data)
    if variable.guid == _GLOBAL and variable.name in _MODES:
        value = f"{variable.name}={variable.data.hex()}"
        return Reading("secure-boot-mode", value, value)
    return None


def _signatures(data: bytes) -> str:
    """Return a signature database as lines: the type and the SHA-256 of a certificate, or the digest itself."""
    lines = [
        f"{entry.type} {item.owner or '-'} "
        + (f"sha256:{sha256(item.data).hexdigest()}" if entry.type in ("x509", "rsa2048") else item.data.hex())
        for entry in parse_signature_lists(data)
        for item in entry.signatures
    ]
    return "\n".join(lines) or "(empty)"


def _loader_commands(seen: Seen) -> Reading | None:
    """PCR 8: what GRUB ran and with which command line it starts the kernel; systemd-boot's command line."""
    if seen.type != T.IPL:
        return None
    if seen.proof is not None and seen.proof.form == "text":
        text = seen.proof.data.decode("utf-8", "backslashreplace")
        # The prefix is a mere claim, as is which of the two claims it chooses: neither of them can be ignored.
        line = seen.event.data.startswith(_COMMAND_LINES)
        return Reading("kernel-command-line" if line else "grub-command", text, text)
    if seen.whole is not None:
        text = parse_ipl(seen.whole).text
        return Reading("kernel-command-line", text, text)
    return Reading("kernel-command-line", None, text_label(seen.event))


def _loaded_files(seen: Seen) -> Reading | None:
    """PCR 9: the files that GRUB read, and what the kernel's own start code was handed.

    The digest is that of a content that the log does not have; the name chooses among claims that cannot be ignored.
    """
    if seen.type == T.EVENT_TAG:
        if _LOADED_OPTIONS in seen.event.data:
            return Reading("kernel-command-line", None, "the command line handed to the kernel")
        if _LINUX_INITRD in seen.event.data:
            return Reading("initrd", None, "the initial ramdisk handed to the kernel")
        return Reading("boot-file", None, text_label(seen.event))
    if seen.type != T.IPL:
        return None
    label = text_label(seen.event)
    name = label.rstrip().rpartition("/")[2].lower()
    if name.startswith(("vmlinuz", "bzimage", "linux", "image", "kernel", "grub_linux")):
        return Reading("kernel", None, label)
    return Reading("initrd" if name.startswith(("initr", "grub_initrd")) else "boot-file", None, label)


def _of_windows(seen: Seen) -> Reading | None:
    """PCR 11 to 14: what Windows' boot manager logs, of which an event's digest vouches for every word."""
    if seen.type not in (T.EVENT_TAG, T.COMPACT_HASH) or seen.whole is None:
        return None
    parts = windows_parts(seen.event.pcr, seen.whole)
    return Reading(*parts[0], parts[0].text, parts[1:]) if parts else None


def _unified_kernel(seen: Seen) -> Reading | None:
    """PCR 11: systemd's stub extends each section's name and then its content, so a content's name is proven by order."""
    section = seen.place.section
    if seen.type != T.IPL:
        # Behind a section's name comes its content, and a short command line must not pass for a number of Windows (E01).
        return _of_windows(seen) if section is None else None
    if section is not None:
        return Reading(_UKI_CLAIMS.get(section, "uki-section"), None, f"{section} of the unified kernel image")
    if seen.proof is None or seen.proof.form != "section-name":
        return None
    name = seen.proof.data.rstrip(b"\0").decode("ascii", "backslashreplace")
    return Reading("uki-section", name, f"section name {name}")


def _kernel_parameters(seen: Seen) -> Reading | None:
    """PCR 12: a command line from outside the unified kernel image; credentials."""
    if seen.type not in (T.IPL, T.EVENT_TAG):
        return None
    windows = _of_windows(seen)
    if windows is not None:
        return windows
    if seen.type == T.IPL and seen.whole is not None:
        text = parse_ipl(seen.whole).text
        return Reading("kernel-command-line", text, text)
    return Reading("system-extension", None, text_label(seen.event))


def _system_extensions(seen: Seen) -> Reading | None:
    """PCR 13: system extensions handed to the kernel; what Windows' boot manager loaded."""
    windows = _of_windows(seen)
    if windows is not None:
        return windows
    return Reading("system-extension", None, text_label(seen.event)) if seen.type in (T.IPL, T.EVENT_TAG) else None


def _machine_owner_keys(seen: Seen) -> Reading | None:
    """PCR 14: shim's lists and states, each a digest of a variable's content; the keys behind what Windows loaded; EVE's files."""
    if seen.type == T.IPL:
        return Reading("mok", None, text_label(seen.event))
    action = _action(seen)
    return action._replace(claim="boot-file") if action is not None else _of_windows(seen)


def _dynamic_launch(seen: Seen) -> Reading:
    """PCR 17 to 22: what a processor measures that is started anew (TXT, SKINIT), and what it started."""
    return Reading("dynamic-launch", _hexadecimal(seen.whole), type_label(seen.event))


_READERS: Final[dict[int, Callable[[Seen], Reading | None]]] = {
    0: _firmware_code,
    1: _platform_config,
    2: _option_rom,
    3: _adapter_config,
    4: _boot_manager,
    5: _boot_configuration,
    6: _management,
    7: _secure_boot,
    8: _loader_commands,
    9: _loaded_files,
    11: _unified_kernel,
    12: _kernel_parameters,
    13: _system_extensions,
    14: _machine_owner_keys,
    **dict.fromkeys(range(17, 23), _dynamic_launch),
}


def _hexadecimal(data: bytes | None) -> str | None:
    return None if data is None else f"hex {data.hex()}"
