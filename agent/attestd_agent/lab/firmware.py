"""Simulates the boot of a UEFI machine with shim, GRUB and Linux. FOR LABORATORIES ONLY.

``simulate_boot`` is a pure function: the same image gives the same event log, byte for byte. The order of events, what
each digest covers and what each event says follow real logs of Debian and Ubuntu machines with EDK2 firmware. No code
is run; a boot image is only named and hashed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from attestd_agent.lab import eventlog as log
from attestd_agent.lab import uefi
from attestd_agent.lab.authenticode import pe_image
from attestd_agent.lab.eventlog import Event, measured, measured_image

_DISK: Final = uefi.lab_uuid("disk")
_ROOT: Final = uefi.lab_uuid("root file system")
_VENDOR: Final = "Laboratory"
_SEPARATOR: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class BootImage:
    """Everything that a simulated machine measures while it boots.

    The defaults are one healthy machine with Secure Boot; the ``with_…`` methods are the ways it can differ.
    """

    firmware_version: str = "LAB 1.0.0"
    firmware_blobs: tuple[bytes, ...] = (b"laboratory PEI 1.0.0" * 64, b"laboratory DXE 1.0.0" * 256)
    secure_boot: bool = True
    pk: bytes = uefi.certificate_list(uefi.lab_certificate(f"{_VENDOR} Platform Key"))
    kek: bytes = uefi.certificate_list(uefi.lab_certificate(f"{_VENDOR} Key Exchange Key"))
    db: bytes = uefi.certificate_list(uefi.lab_certificate(f"{_VENDOR} UEFI CA"))
    dbx: bytes = uefi.digest_list(bytes(32), b"\x01" * 32)
    option_roms: tuple[bytes, ...] = (pe_image(b"laboratory network boot ROM 1.0"),)
    boot_order: tuple[int, ...] = (1, 0)
    boot_entries: tuple[tuple[int, str], ...] = ((0, "UiApp"), (1, "debian"))
    shim: bytes = pe_image(b"laboratory shim 15.8")
    shim_vendor_certificate: bytes = uefi.lab_certificate(f"{_VENDOR} Secure Boot CA")
    sbat_level: bytes = b"sbat,1,2024010900\nshim,4\ngrub,3\n"
    mok_list: bytes = b""
    loader: bytes = pe_image(b"laboratory GRUB 2.06")
    loader_configuration: bytes = b"set default=0\nset timeout=0\n"
    loader_commands: tuple[str, ...] = (
        f"search.fs_uuid {_ROOT} root hd0,gpt2",
        "set prefix=(hd0,gpt2)/grub",
        "configfile (hd0,gpt2)/grub/grub.cfg",
        "set default=0",
        "set timeout=0",
        "menuentry Debian GNU/Linux --class debian {\n\tlinux …\n\tinitrd …\n}",
        "setparams Debian GNU/Linux",
        "load_video",
        "insmod gzio",
        "insmod part_gpt",
        "insmod ext2",
        "set root=hd0,gpt2",
    )
    kernel_version: str = "6.1.0-29-amd64"
    kernel: bytes = pe_image(b"laboratory Linux 6.1.0-29-amd64" * 64)
    initrd: bytes = b"laboratory initial RAM disk 6.1.0-29-amd64" * 64
    command_line: str = f"root=UUID={_ROOT} ro quiet"

    def with_command_line(self, command_line: str) -> Self:
        """Return the image with other kernel parameters."""
        return replace(self, command_line=command_line)

    def with_kernel(self, version: str, *, kernel: bytes | None = None, initrd: bytes | None = None) -> Self:
        """Return the image after a kernel update; both files follow the version where they are not given."""
        return replace(
            self,
            kernel_version=version,
            kernel=kernel or pe_image(f"laboratory Linux {version}".encode() * 64),
            initrd=initrd or f"laboratory initial RAM disk {version}".encode() * 64,
        )

    def with_tampered_kernel(self) -> Self:
        """Return the image with a backdoor in a kernel of the same name and version."""
        return replace(self, kernel=pe_image(self.kernel + b"backdoor"))

    def with_initrd(self, initrd: bytes) -> Self:
        """Return the image with another initial RAM disk."""
        return replace(self, initrd=initrd)

    def with_firmware(self, version: str) -> Self:
        """Return the image after a firmware update."""
        blobs = tuple(f"laboratory {part} {version}".encode() * 64 for part in ("PEI", "DXE"))
        return replace(self, firmware_version=version, firmware_blobs=blobs)

    def with_option_rom(self, rom: bytes) -> Self:
        """Return the image with one more expansion card that brings its own driver."""
        return replace(self, option_roms=(*self.option_roms, rom))

    def with_revocations(self, *digests: bytes) -> Self:
        """Return the image with another dbx, of SHA-256 digests (at least one)."""
        return replace(self, dbx=uefi.digest_list(*digests))

    def without_secure_boot(self) -> Self:
        """Return the image with Secure Boot switched off in the firmware's menu."""
        return replace(self, secure_boot=False)


@dataclass(frozen=True, slots=True)
class Boot:
    """What one simulated boot leaves behind."""

    events: tuple[Event, ...]
    event_log: bytes
    """As the kernel shows it in binary_bios_measurements."""

    @property
    def extends(self) -> tuple[tuple[int, Mapping[str, bytes]], ...]:
        """(index, {bank: digest}) in the order in which they go into the TPM."""
        return tuple((event.pcr, event.digests) for event in self.events)


def simulate_boot(image: BootImage, *, banks: tuple[str, ...] = ("sha256",)) -> Boot:
    """Return the log and the extends of one boot of ``image``."""
    events = (
        *_firmware(image, banks),
        *_boot_options(image, banks),
        *_ready_to_boot(banks),
        *_shim(image, banks),
        *_grub(image, banks),
        *_kernel(image, banks),
        *_exit_boot_services(banks),
    )
    return Boot(events, log.encode_log(events, banks))


def _firmware(image: BootImage, banks: tuple[str, ...]) -> Iterator[Event]:
    """Yield what the core root of trust, the firmware and expansion cards measure (PCR 0, 7 and 2)."""
    version = (image.firmware_version + "\0").encode("utf-16le")
    yield measured(0, log.EV_S_CRTM_VERSION, version, version, banks)
    address = 0x820000
    for number, blob in enumerate(image.firmware_blobs):
        data = uefi.firmware_blob(f"Fv({number})", blob, address=address)
        yield measured(0, log.EV_EFI_PLATFORM_FIRMWARE_BLOB2, data, blob, banks)
        address += 0x100000
    for namespace, name, value in (
        (uefi.GLOBAL_VARIABLE, "SecureBoot", b"\x01" if image.secure_boot else b"\x00"),
        (uefi.GLOBAL_VARIABLE, "PK", image.pk),
        (uefi.GLOBAL_VARIABLE, "KEK", image.kek),
        (uefi.IMAGE_SECURITY, "db", image.db),
        (uefi.IMAGE_SECURITY, "dbx", image.dbx),
    ):
        data = uefi.variable(namespace, name, value)
        yield measured(7, log.EV_EFI_VARIABLE_DRIVER_CONFIG, data, data, banks)
    yield measured(7, log.EV_SEPARATOR, _SEPARATOR, _SEPARATOR, banks)
    for number, rom in enumerate(image.option_roms):
        data = uefi.image_load(rom, uefi.pci_path(3 + number, 0), address=0x7DE00018)
        yield measured_image(2, log.EV_EFI_BOOT_SERVICES_DRIVER, data, rom, banks)


def _boot_options(image: BootImage, banks: tuple[str, ...]) -> Iterator[Event]:
    """Yield the boot variables (PCR 1). EDK2 hashes their value alone, not the structure around it."""
    order = b"".join(number.to_bytes(2, "little") for number in image.boot_order)
    entries = dict(image.boot_entries)
    options = [(f"Boot{number:04X}", _load_option(entries[number])) for number in image.boot_order]
    for name, value in (("BootOrder", order), *options):
        data = uefi.variable(uefi.GLOBAL_VARIABLE, name, value)
        yield measured(1, log.EV_EFI_VARIABLE_BOOT, data, value, banks)


def _load_option(description: str) -> bytes:
    return uefi.load_option(description, _shim_path() if description == "debian" else uefi.pci_path(0, 0))


def _shim_path() -> bytes:
    esp = uefi.lab_uuid(f"{_DISK} esp")
    return uefi.hard_drive_path("\\EFI\\debian\\shimx64.efi", partition=esp, start=2048, sectors=1_048_576)


def _ready_to_boot(banks: tuple[str, ...]) -> Iterator[Event]:
    """Yield the boot attempt and the separators that end the firmware's own part; PCR 7 had its own before."""
    action = b"Calling EFI Application from Boot Option"
    yield measured(4, log.EV_EFI_ACTION, action, action, banks)
    for index in range(7):
        yield measured(index, log.EV_SEPARATOR, _SEPARATOR, _SEPARATOR, banks)


def _shim(image: BootImage, banks: tuple[str, ...]) -> Iterator[Event]:
    """Yield the disk, shim and what shim measures (PCR 5, 4, 14 and 7)."""
    authority = uefi.first_signature(image.db)
    if image.secure_boot and authority:
        yield _authority(uefi.variable(uefi.IMAGE_SECURITY, "db", authority), banks)
    table = uefi.gpt(_DISK)
    yield measured(5, log.EV_EFI_GPT_EVENT, table, table, banks)
    data = uefi.image_load(image.shim, _shim_path(), address=0x7CF0A018)
    yield measured_image(4, log.EV_EFI_BOOT_SERVICES_APPLICATION, data, image.shim, banks)
    yield measured(14, log.EV_IPL, b"MokList\0", image.mok_list, banks)
    yield measured(14, log.EV_IPL, b"MokListX\0", b"", banks)
    yield _authority(uefi.variable(uefi.SHIM_LOCK, "SbatLevel", image.sbat_level), banks)


def _authority(data: bytes, banks: tuple[str, ...]) -> Event:
    return measured(7, log.EV_EFI_VARIABLE_AUTHORITY, data, data, banks)


def _grub(image: BootImage, banks: tuple[str, ...]) -> Iterator[Event]:
    """Yield the boot loader and what it reads and runs (PCR 4, 7, 9 and 8)."""
    path = uefi.file_path("\\EFI\\debian\\grubx64.efi")
    data = uefi.image_load(image.loader, path, address=0x7CC00018)
    yield measured_image(4, log.EV_EFI_BOOT_SERVICES_APPLICATION, data, image.loader, banks)
    if image.secure_boot:
        yield _authority(uefi.variable(uefi.SHIM_LOCK, "Shim", image.shim_vendor_certificate), banks)
    # What is on the EFI system partition only says where the real configuration is.
    yield _file("(hd0,gpt1)/EFI/debian/grub.cfg", "\n".join(image.loader_commands[:3]).encode(), banks)
    for command in image.loader_commands:
        yield _text("grub_cmd", command, banks)
        if command.startswith("configfile "):
            yield _file(command.removeprefix("configfile "), image.loader_configuration, banks)


def _kernel(image: BootImage, banks: tuple[str, ...]) -> Iterator[Event]:
    """Yield the kernel, its command line and the initial RAM disk (PCR 8, 9 and 4)."""
    kernel, initrd = f"/vmlinuz-{image.kernel_version}", f"/initrd.img-{image.kernel_version}"
    line = f"{kernel} {image.command_line}"
    yield _text("grub_cmd", f"linux {line}", banks)
    yield _file(kernel, image.kernel, banks)
    data = uefi.image_load(image.kernel, b"", address=0x78AB0000)
    yield measured_image(4, log.EV_EFI_BOOT_SERVICES_APPLICATION, data, image.kernel, banks)
    yield _text("kernel_cmdline", line, banks)
    yield _text("grub_cmd", f"initrd {initrd}", banks)
    yield _file(initrd, image.initrd, banks)


def _text(kind: str, text: str, banks: tuple[str, ...]) -> Event:
    """Return GRUB's measurement of a text: the digest covers it without its prefix and without the final NUL."""
    return measured(8, log.EV_IPL, f"{kind}: {text}\0".encode(), text.encode(), banks)


def _file(path: str, content: bytes, banks: tuple[str, ...]) -> Event:
    """Return GRUB's measurement of a file that it read: the name in the log, the content in the digest."""
    return measured(9, log.EV_IPL, f"{path}\0".encode(), content, banks)


def _exit_boot_services(banks: tuple[str, ...]) -> Iterator[Event]:
    for action in (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success"):
        yield measured(5, log.EV_EFI_ACTION, action, action, banks)
