"""Boot logs made by hand: what an honest UEFI machine would log, and room for one lie."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from struct import pack

from attestd.evidence.boot import boot_facts
from attestd.evidence.types import BootFacts
from attestd.tpm.eventlog import Event, EventLog, replay
from attestd.tpm.eventtypes import EventType as T

GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
SEPARATOR = bytes(4)
QUOTED = (*range(10), 11, 12, 13, 14)

Made = tuple[int, T, bytes, bytes]


def event(pcr: int, kind: T, data: bytes, *, content: bytes | None = None) -> Made:
    """Describe an event: register, type, logged data, and what is hashed if that is something else."""
    return pcr, kind, data, data if content is None else content


def variable(name: str, value: bytes, *, guid: bytes = GLOBAL) -> bytes:
    """Return UEFI_VARIABLE_DATA."""
    return guid + pack("<QQ", len(name), len(value)) + name.encode("utf-16-le") + value


def image(path: str = "\\EFI\\BOOT\\BOOTX64.EFI") -> bytes:
    """Return UEFI_IMAGE_LOAD_EVENT with a file path."""
    name = path.encode("utf-16-le") + b"\0\0"
    nodes = pack("<BBH", 4, 4, 4 + len(name)) + name + bytes((0x7F, 0xFF, 4, 0))
    return pack("<QQQQ", 0x1000, 0x2000, 0, len(nodes)) + nodes


def honest_boot() -> list[Made]:
    """Return the events of an ordinary boot: firmware, Secure Boot, a loader, a kernel, GRUB's commands."""
    firmware = [
        event(0, T.S_CRTM_VERSION, "Firmware 1.0\0".encode("utf-16-le")),
        event(0, T.EFI_PLATFORM_FIRMWARE_BLOB, pack("<QQ", 0x820000, 917504), content=b"the firmware"),
        event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\x01")),
        event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b"")),
        event(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable("db", b"", guid=SECURITY)),
        event(7, T.SEPARATOR, SEPARATOR),
        event(1, T.EFI_VARIABLE_BOOT, variable("BootOrder", b"\x01\0\0\0")),
        event(4, T.EFI_ACTION, b"Calling EFI Application from Boot Option"),
    ]
    separators = [event(index, T.SEPARATOR, SEPARATOR) for index in range(7)]
    loader = [
        event(4, T.EFI_BOOT_SERVICES_APPLICATION, image(), content=b"shim"),
        event(4, T.EFI_BOOT_SERVICES_APPLICATION, image("\\vmlinuz"), content=b"a kernel image"),
        event(8, T.IPL, b"grub_cmd: linux /vmlinuz quiet\0", content=b"linux /vmlinuz quiet"),
        event(9, T.IPL, b"/vmlinuz\0", content=b"a kernel"),
        event(9, T.IPL, b"/initrd.img\0", content=b"an initial ramdisk"),
        event(8, T.IPL, b"kernel_cmdline: /vmlinuz quiet\0", content=b"/vmlinuz quiet"),
        event(5, T.EFI_ACTION, b"Exit Boot Services Invocation"),
        event(5, T.EFI_ACTION, b"Exit Boot Services Returned with Success"),
    ]
    return [*firmware, *separators, *loader]


def make_log(made: Iterable[Made]) -> EventLog:
    """Return a log of these events with honest SHA-256 digests."""
    events = tuple(
        Event(index, pcr, int(kind), (("sha256", sha256(content).digest()),), data)
        for index, (pcr, kind, data, content) in enumerate(made)
    )
    return EventLog("crypto-agile", ("sha256",), None, events, 0)


def quoted(log: EventLog) -> dict[int, bytes]:
    """Return the registers that a TPM would quote if exactly this log had been extended."""
    reached = replay(log, "sha256").pcrs
    return {index: reached.get(index, bytes(32)) for index in QUOTED}


def facts(log: EventLog, *, pcrs: dict[int, bytes] | None = None) -> BootFacts:
    """Return what the log proves: of these registers, or of those that it leads to."""
    values = quoted(log) if pcrs is None else pcrs
    return boot_facts(log, log_digest=sha256(b"the log").digest(), bank="sha256", pcrs=values)


def facts_of(made: Iterable[Made]) -> BootFacts:
    """Return what these events prove when they really were extended."""
    return facts(make_log(made))


def rewritten(log: EventLog, chosen: Callable[[Event], bool], **changes: object) -> EventLog:
    """Return the log with other words about the chosen events: a liar's log over genuine digests."""
    events = tuple(e._replace(**changes) if chosen(e) else e for e in log.events)  # type: ignore[arg-type]
    assert events != log.events, "no event was chosen"
    return replace(log, events=events)
