"""One boot event in one line, for a person.

Decodes what the data says, not what was measured: `digest_matches_data` of the report tells whether the digest vouches for it.
Nothing is decided by these texts. They hold what firmware and boot loaders wrote: whoever shows them escapes them.
PC client platform firmware profile 1.06, 10.4.
"""

import re
from collections.abc import Callable
from typing import Final

from attestd.evidence.claims import Place, Seen, read_event
from attestd.evidence.labels import IMAGES, firmware_label, image_label, named_label, tables_label, text_label
from attestd.inspection.windows import tagged_text, trust_point_text
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
from attestd.tpm.eventlog import INFORMATIONAL_PCR, Event
from attestd.tpm.eventtypes import EventType as T
from attestd.tpm.measured import Measured, measured
from attestd.tpm.signaturelist import SignatureEntry, parse_authority, parse_signature_lists
from attestd_pki.certificate import parse_certificate
from attestd_pki.errors import PkiError

LONGEST: Final = 2_000
"""Characters of a summary; a db with twenty certificates has 1,500."""
_SHOWN_BYTES: Final = 32
_SHOWN_NAMES: Final = 24
_SMALLEST_CERTIFICATE: Final = 64
"""Bytes: an authority of less is a switch or a level, whatever its name."""
_SEPARATORS: Final = {
    "normal": "the firmware hands over: nothing of it follows here",
    "error": "the firmware gave up with an error",
    "windows": "Windows: the boot manager's part begins",
    "other": "a separator with other data",
}
_DATABASES: Final = frozenset(
    {"PK", "KEK", "db", "dbx", "dbt", "dbr", "PKDefault", "KEKDefault", "dbDefault", "dbxDefault"}
)
_LISTS: Final = frozenset({"MokList", "MokListX", "MokListRT", "MokListXRT", "MokListTrusted"})
_SWITCHES: Final = frozenset({"SecureBoot", "SetupMode", "AuditMode", "DeployedMode", "VendorKeys", "MokSBState"})
_SECTION = re.compile(r"\.[a-z]{3,7}")
"""A section of a unified kernel image, as systemd's stub names it before it extends its content."""
_GCE: Final = b"GCE NonHostInfo\0"
_GCE_MEMORY: Final = {0: "nothing", 1: "AMD SEV", 2: "AMD SEV-ES", 3: "Intel TDX", 4: "AMD SEV-SNP"}
_BITLOCKER: Final = 11
_WORD: Final = 4
_LEVEL_DAY = re.compile(rb"sbat,[0-9]+,([0-9]{4})([0-9]{2})([0-9]{2})")
_STATES: Final = {b"\x01": "on", b"\x00": "off", b"": "not set"}
_LOAD_OPTIONS: Final = ("Boot0", "Boot1", "Boot2", "BootOrder", "Driver", "SysPrep", "PlatformRecovery")
_NO_ACTIONS: Final = (
    (b"Spec ID Event", "the log's own header"),
    (b"SP800-155 Event", "names the platform's reference manifest"),
    (b"NvIndexInstance", "names an NV index that firmware extended"),
    (b"NvIndexDynamic", "names an NV index that firmware extended"),
    (b"H-CRTM event", "a dynamic root of trust measured before the firmware"),
)


def summarise(event: Event) -> str:
    """Return what an event says in one line of at most `LONGEST` characters; data of no known form is shown in hex."""
    try:
        text = _SUMMARIES.get(event.type, _unknown)(event)
    except (Malformed, ValueError):
        text = f"{len(event.data)} bytes that are not of this type's form: {_excerpt(event.data)}"
    return text[:LONGEST]


def certificate_name(data: bytes) -> str:
    """Return the subject of a DER certificate, or what it is instead."""
    try:
        return parse_certificate(data).subject.text or "a certificate without a name"
    except PkiError:
        return f"{len(data)} bytes that are no certificate"


def _excerpt(data: bytes) -> str:
    shown = data[:_SHOWN_BYTES].hex()
    return f"{shown}…" if len(data) > _SHOWN_BYTES else shown or "(empty)"


def _unknown(event: Event) -> str:
    data = event.data.rstrip(b"\0")
    if data.isascii() and data.decode("ascii").isprintable() and data:
        return data.decode("ascii")
    named = named_label(event.data)
    return f"{named} {_excerpt(event.data)}" if named else f"{len(event.data)} bytes {_excerpt(event.data)}"


def _tables(event: Event) -> str:
    return tables_label(event.data)


def _non_host(event: Event) -> str:
    """Read what platforms say of parts that the processor does not run; Google's clouds say how the memory is kept."""
    if event.data.startswith(_GCE) and len(event.data) > len(_GCE):
        return f"Google's platform, memory kept by {_GCE_MEMORY.get(event.data[len(_GCE)], 'another technology')}"
    return _unknown(event)


def _compact_hash(event: Event) -> str:
    if event.pcr == _BITLOCKER and len(event.data) == _WORD:
        return f"Windows: BitLocker access control {event.data.hex()}"
    label = text_label(event)
    return label if not label.startswith("EV_") else _unknown(event)


def _no_action(event: Event) -> str:
    data = event.data
    if data.startswith(b"StartupLocality\0"):
        return f"TPM2_Startup came from locality {data[16]}" if len(data) > 16 else "StartupLocality without a value"
    if event.pcr == INFORMATIONAL_PCR:
        return trust_point_text(data)
    for signature, text in _NO_ACTIONS:
        if data.startswith(signature):
            return text
    return _unknown(event)


def _separator(event: Event) -> str:
    return _SEPARATORS[parse_separator(event.data)]


def _variable(event: Event) -> str:
    try:
        variable = parse_variable(event.data)
    except Malformed:
        found = [one.name for one in parse_variables(event.data)]
        return f"{len(found)} variables: {', '.join(found[:_SHOWN_NAMES])}"
    name = variable.name
    if name in _DATABASES or (name in _LISTS and event.type != T.EFI_VARIABLE_AUTHORITY):
        return f"{name}: {database_text(variable.data)}"
    if event.type == T.EFI_SPDM_DEVICE_POLICY:
        return f"{name}: {database_text(variable.data)}"
    if name in _SWITCHES and len(variable.data) <= 1:
        return f"{name} is {_STATES.get(variable.data, 'off')}"
    if event.type in (T.EFI_VARIABLE_BOOT, T.EFI_VARIABLE_BOOT2) or name.startswith(_LOAD_OPTIONS):
        return _boot_variable(event)
    return f"{name} ({variable.guid}) = {_value(variable)}"


def _boot_variable(event: Event) -> str:
    """Read EFI_LOAD_OPTION or BootOrder as the evidence room does."""
    seen = Seen(Event(0, 1, T.EFI_VARIABLE_BOOT, (), event.data), Measured("data", event.data), Place())
    return read_event(seen).label


def _value(variable: UefiVariable) -> str:
    text = variable.data.rstrip(b"\0")
    if text and text.isascii() and text.decode("ascii").replace("\n", " ").isprintable() and len(text) > 3:
        return "; ".join(text.decode("ascii").splitlines())
    return _excerpt(variable.data)


def database_text(data: bytes) -> str:
    """Return a signature database as names of certificates and counts of digests. *Raises* `Malformed`."""
    names: list[str] = []
    counts: dict[str, int] = {}
    for found in parse_signature_lists(data):
        if found.type == "x509":
            names += [certificate_name(entry.data) for entry in found.signatures]
        else:
            counts[found.type] = counts.get(found.type, 0) + len(found.signatures)
    parts = [f"[{name}]" for name in names[:_SHOWN_NAMES]]
    parts += [f"and {len(names) - _SHOWN_NAMES} more certificates"] if len(names) > _SHOWN_NAMES else []
    parts += [f"{count} {kind} digests" for kind, count in counts.items()]
    return ", ".join(parts) or "empty"


def _authority(event: Event) -> str:
    variable = parse_variable(event.data)
    if variable.name == "SbatLevel":
        return f"SBAT level{_level_day(variable.data)}: {_value(variable)}"
    if variable.name in _SWITCHES:
        return _variable(event)
    if len(variable.data) < _SMALLEST_CERTIFICATE:
        return f"{variable.name} = {_value(variable)}"
    entry: SignatureEntry = parse_authority(variable.data)
    return f"let an image start: {certificate_name(entry.data)} in {variable.name}"


def _level_day(data: bytes) -> str:
    """Return the day that shim's level says it is of, or nothing."""
    found = _LEVEL_DAY.match(data)
    return f" of {b'-'.join(found.groups()).decode()}" if found else ""


def _gpt(event: Event) -> str:
    table = parse_gpt(event.data)
    parts = [f"{part.name or 'unnamed'} ({part.last - part.first + 1} blocks)" for part in table.partitions]
    return f"disk {table.disk_guid}: {', '.join(parts) or 'no partitions'}"


def _ipl(event: Event) -> str:
    found = parse_ipl(event.data)
    if _SECTION.fullmatch(found.text):
        named = event.digests and measured(event, event.digests[0][0]) is not None
        return f"{'name' if named else 'content'} of the section {found.text}"
    return f"{found.prefix}: {found.text}" if found.prefix else found.text or "(empty)"


def _tagged(event: Event) -> str:
    try:
        return tagged_text(event.data, event.pcr)
    except Malformed:
        return _unknown(event)  # some producers log the description alone


def _action(event: Event) -> str:
    return parse_text(event.data)


_SUMMARIES: Final[dict[int, Callable[[Event], str]]] = {
    T.NO_ACTION: _no_action,
    T.SEPARATOR: _separator,
    T.ACTION: _action,
    T.EFI_ACTION: _action,
    T.OMIT_BOOT_DEVICE_EVENTS: _action,
    T.S_CRTM_VERSION: lambda event: f"firmware version {parse_crtm_version(event.data) or '(empty)'}",
    T.S_CRTM_CONTENTS: firmware_label,
    T.POST_CODE: firmware_label,
    T.POST_CODE2: firmware_label,
    T.EFI_PLATFORM_FIRMWARE_BLOB: firmware_label,
    T.EFI_PLATFORM_FIRMWARE_BLOB2: firmware_label,
    T.EFI_VARIABLE_DRIVER_CONFIG: _variable,
    T.EFI_VARIABLE_BOOT: _variable,
    T.EFI_VARIABLE_BOOT2: _variable,
    T.EFI_VARIABLE_AUTHORITY: _authority,
    T.EFI_GPT_EVENT: _gpt,
    T.EFI_GPT_EVENT2: _gpt,
    T.IPL: _ipl,
    T.EVENT_TAG: _tagged,
    T.COMPACT_HASH: _compact_hash,
    T.EFI_HANDOFF_TABLES: _tables,
    T.EFI_HANDOFF_TABLES2: _tables,
    T.TABLE_OF_DEVICES: _tables,
    T.NONHOST_INFO: _non_host,
    T.EFI_SPDM_DEVICE_POLICY: _variable,
    T.EFI_SPDM_DEVICE_AUTHORITY: _authority,
    **dict.fromkeys(IMAGES, image_label),
}
