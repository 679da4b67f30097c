"""A boot that has not happened: the measurements that artefacts will lead to, in order, as events of a log.

Proves nothing of a machine. Events are made here and read by the same code that reads those of real logs (attestd.evidence), so a
prediction says exactly what evidence of such a boot will say. Assumes firmware that follows the PC client platform firmware profile
1.06, systemd's stub or boot loader 252 and later, GRUB 2.06 with its TPM module, and a kernel that measures what its start code is
handed (Linux 6.1 does); what such programs measure was compared with real boots of each.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from struct import pack
from typing import Final
from uuid import UUID

from attestd.reference.authenticode import content_digest, image_digest
from attestd.reference.pe import Bytes, Image
from attestd.reference.secureboot import IMAGE_SECURITY, Variable
from attestd.reference.uki import UnifiedKernel
from attestd.tpm.eventlog import Event
from attestd.tpm.eventtypes import EventType as T

CALLING: Final = "Calling EFI Application from Boot Option"
RETURNING: Final = "Returning from EFI Application from Boot Option"
LEAVING: Final = ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success")
FIRMWARE: Final = "what every firmware measures"
_SEPARATOR: Final = bytes(4)
_LOAD_OPTIONS: Final = (0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0")
_LOADER_CONF: Final = (0xF5BC582A, b"loader.conf\0")
_INITRD: Final = (0x8F3B22EC, b"Linux initrd\0")


Parts = tuple[Bytes, ...]


class Style(StrEnum):
    """Who starts the kernel: that decides what is measured, and into which register."""

    UKI = "uki"
    GRUB = "grub"
    SYSTEMD_BOOT = "systemd-boot"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Artefact:
    """The content of a file, and what a person calls it."""

    name: str
    data: Bytes


@dataclass(frozen=True, slots=True)
class Measurement:
    """One event to come, and the artefact it comes from.

    `sure` is false where some boots of the same artefacts do without it; `text` is, for people, what a digest stands for.
    """

    event: Event
    source: str
    sure: bool = True
    text: str = ""


class Log:
    """Measurements in one bank, in the order in which they will be made."""

    def __init__(self, bank: str) -> None:
        self.bank = bank
        self.measurements: list[Measurement] = []

    def content(self, pcr: int, kind: int, parts: Parts, data: bytes, source: str, *, sure: bool = True) -> None:
        """Expect these parts, one behind the other, to be hashed into a register, by an event with `data`."""
        self.digest(pcr, kind, content_digest(self.bank, parts), data, source, sure=sure)

    def data(self, pcr: int, kind: int, data: bytes, source: str, *, sure: bool = True) -> None:
        """Expect an event whose data is what is hashed."""
        self.content(pcr, kind, (data,), data, source, sure=sure)

    def digest(self, pcr: int, kind: int, digest: bytes, data: bytes, source: str, *, sure: bool = True) -> None:
        """Expect a digest in a register."""
        event = Event(len(self.measurements), pcr, int(kind), ((self.bank, digest),), data)
        self.measurements.append(Measurement(event, source, sure))

    def explain(self, text: str) -> None:
        """Say what the last digest stands for."""
        self.measurements[-1] = replace(self.measurements[-1], text=text)

    def image(self, image: Image, source: str, *, sure: bool = True) -> None:
        """Expect an image to be started."""
        kind = T.EFI_BOOT_SERVICES_APPLICATION
        self.digest(4, kind, image_digest(image, self.bank), source.encode(), source, sure=sure)


def boot_attempt(log: Log) -> None:
    """Expect what stands between firmware and what it starts: the attempt, and the separators (10.4.1)."""
    log.data(4, T.EFI_ACTION, CALLING.encode(), FIRMWARE)
    for pcr in range(7):
        log.data(pcr, T.SEPARATOR, _SEPARATOR, FIRMWARE)


def secure_boot_policy(log: Log, policy: tuple[Variable, ...]) -> None:
    """Expect the variables of Secure Boot, in order, and the separator behind them."""
    for one in policy:
        log.data(7, T.EFI_VARIABLE_DRIVER_CONFIG, variable(one.namespace, one.name, one.value), one.source)
    log.data(7, T.SEPARATOR, _SEPARATOR, FIRMWARE)


def authority(log: Log, signature: bytes, source: str) -> None:
    """Expect the entry of db (EFI_SIGNATURE_DATA) that lets an image run (10.4.4)."""
    log.data(7, T.EFI_VARIABLE_AUTHORITY, variable(IMAGE_SECURITY, "db", signature), source)


def variable(namespace: UUID, name: str, value: bytes) -> bytes:
    """Return UEFI_VARIABLE_DATA (10.2.6)."""
    text = name.encode("utf-16-le")
    return namespace.bytes_le + pack("<QQ", len(text) // 2, len(value)) + text + value


def partition_table(log: Log, table: bytes, source: str) -> None:
    """Expect the partition table of the disk that is booted from, as UEFI_GPT_DATA."""
    log.data(5, T.EFI_GPT_EVENT, table, source)


def unified_sections(log: Log, unified: UnifiedKernel, source: str) -> None:
    """Expect each section's name, with its terminator, and then its content (systemd-stub(7), PCR 11)."""
    for name, content in unified.sections:
        data = (name + "\0").encode("utf-16-le")
        log.content(11, T.IPL, (name.encode() + b"\0",), data, source)
        log.content(11, T.IPL, (content,), data, f"{source} {name}")
        if name == ".cmdline" and unified.command_line is not None:
            log.explain(unified.command_line)


def load_options(line: str) -> bytes:
    """Return a command line as UEFI hands it on: UTF-16 with a terminator."""
    return (line + "\0").encode("utf-16-le")


def parameters(log: Log, line: str, source: str, *, sure: bool = True) -> None:
    """Expect a boot loader or stub to measure the command line that it was given or hands on (PCR 12)."""
    log.data(12, T.IPL, load_options(line), source, sure=sure)


def loader_configuration(log: Log, content: Bytes, source: str) -> None:
    """Expect systemd's boot loader to measure its configuration (PCR 5): version 257 does, 252 does not."""
    log.content(5, T.EVENT_TAG, (content,), _tagged(_LOADER_CONF), source, sure=False)


def handover(log: Log, line: str | None, initrd: Parts, *, line_source: str, initrd_source: str) -> None:
    """Expect what the kernel's start code measures of what it is handed (PCR 9; drivers/firmware/efi/libstub)."""
    if line:
        log.content(9, T.EVENT_TAG, (load_options(line),), _tagged(_LOAD_OPTIONS), line_source)
        log.explain(line)
    if initrd:
        log.content(9, T.EVENT_TAG, initrd, _tagged(_INITRD), initrd_source)


def _tagged(tag: tuple[int, bytes]) -> bytes:
    number, text = tag
    return pack("<II", number, len(text)) + text


def grub_command(log: Log, text: str, source: str) -> None:
    """Expect GRUB to measure a command (PCR 8): the digest covers the text alone."""
    log.content(8, T.IPL, (text.encode(),), b"grub_cmd: " + text.encode() + b"\0", source)


def grub_command_line(log: Log, text: str, source: str) -> None:
    """Expect GRUB to measure the kernel's command line (PCR 8): the kernel's path, and what follows it."""
    log.content(8, T.IPL, (text.encode(),), b"kernel_cmdline: " + text.encode() + b"\0", source)


def grub_file(log: Log, path: str, content: Bytes, source: str) -> None:
    """Expect GRUB to measure a file that it reads (PCR 9): the name is in the log, the content in the digest."""
    log.content(9, T.IPL, (content,), path.encode() + b"\0", source)


def leave(log: Log) -> None:
    """Expect the hand-over of the machine to the kernel (8.2)."""
    for text in LEAVING:
        log.data(5, T.EFI_ACTION, text.encode(), FIRMWARE)
