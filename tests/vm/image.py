"""A bootable disk: a GPT with an EFI system partition that holds one unified kernel image, and a root file system.

The same input makes the same partition table, kernel image and files; the file systems around them may differ in times.
Makes no use of mounts or of a privileged program.
"""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cpio
import uki
from kernel import Kernel

COMMAND_LINE: Final = "root=/dev/vda2 ro console=ttyS0 quiet ima_policy=tcb ima_hash=sha256 panic=-1"
STATE_MIB: Final = 64
IMAGE: Final = "image.efi"
INITRD: Final = "initrd.img"
_ESP_MIB: Final = 48
_MIB: Final = 1024 * 1024
_SPARE: Final = 1.3
"""A file system's own share of its disk, and room for what differs between distributions."""
_ROOT_TYPE: Final = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"  # Discoverable Partitions Specification: root, x86-64
_ESP_TYPE: Final = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_TABLE: Final = f"""\
label: gpt
label-id: 5D1C7B5E-0E3B-4C6A-9C0B-3A6F0A6D7E01
start={{esp_start}}, size={{esp_size}}, type={_ESP_TYPE}, uuid=5D1C7B5E-0E3B-4C6A-9C0B-3A6F0A6D7E02, name="esp"
start={{root_start}}, size={{root_size}}, type={_ROOT_TYPE}, uuid=5D1C7B5E-0E3B-4C6A-9C0B-3A6F0A6D7E03, name="root"
"""
_DIRECTORIES: Final = ("bin", "dev", "modules", "proc", "root", "sys")


class ToolFailed(Exception):
    """A program that makes file systems failed; the message has its output."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a disk is made of."""

    stub: Path
    os_release: bytes
    kernel: Kernel
    busybox: Path
    init: Path
    root: Path
    command_line: str = COMMAND_LINE

    def with_command_line(self, command_line: str) -> "Parts":
        """Return the same with another command line."""
        return replace(self, command_line=command_line)

    def with_root(self, root: Path) -> "Parts":
        """Return the same with another root file system."""
        return replace(self, root=root)

    def initrd(self) -> bytes:
        """Return the initial ramdisk: busybox, the modules in their order, and a script."""
        modules = {f"modules/{name}": code for name, code in self.kernel.modules}
        order = "".join(f"{name}\n" for name, _ in self.kernel.modules).encode()
        files = {"init": self.init.read_bytes(), "bin/busybox": self.busybox.read_bytes(), "modules/order": order}
        return cpio.archive(files | modules, _DIRECTORIES)

    def unified_image(self) -> bytes:
        """Return the kernel image that firmware starts."""
        sections = (
            (".osrel", self.os_release),
            (".cmdline", self.command_line.encode() + b"\0"),
            (".initrd", self.initrd()),
            (".linux", self.kernel.image),
        )
        return uki.unified_image(self.stub.read_bytes(), sections)


def build(parts: Parts, place: Path) -> Path:
    """Make the disk `place`/disk.img, with the kernel image and the ramdisk that are in it beside it; return its path."""
    place.mkdir(parents=True)
    (place / INITRD).write_bytes(parts.initrd())
    image, esp, root, disk = (place / name for name in (IMAGE, "esp.img", "root.img", "disk.img"))
    image.write_bytes(parts.unified_image())
    _system_partition(image, esp)
    file_system(root, _size_of(parts.root), source=parts.root, options=("-O", "^has_journal"))
    starts = (_MIB, _MIB + esp.stat().st_size)
    _sparse(disk, starts[1] + root.stat().st_size + _MIB)
    table = _TABLE.format(
        esp_start=starts[0] // 512,
        esp_size=esp.stat().st_size // 512,
        root_start=starts[1] // 512,
        root_size=root.stat().st_size // 512,
    )
    _run("sfdisk", "--quiet", str(disk), given=table)
    for part, start in zip((esp, root), starts, strict=True):
        _run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start // _MIB}", "conv=notrunc,sparse", "status=none")
        part.unlink()
    return disk


def file_system(path: Path, size: int, *, source: Path | None = None, options: tuple[str, ...] = ()) -> None:
    """Make an ext4 file system of `size` bytes in a file, with the content of a directory."""
    _sparse(path, size)
    content = () if source is None else ("-d", str(source))
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "root_owner=0:0", *options, *content, str(path))


def read(file_system_image: Path, name: str, target: Path) -> bool:
    """Copy a file or a directory out of a file system that is not mounted; return whether it was there."""
    kind = "rdump" if name.endswith("/") else "dump"
    source = name.rstrip("/")
    _run("debugfs", "-R", f"{kind} {source} {target}", str(file_system_image))
    return target.exists() if kind == "dump" else (target / Path(source).name).is_dir()


def _system_partition(image: Path, target: Path) -> None:
    """Make a FAT file system with the image where firmware looks for it (UEFI 2.10, 3.5.1.1)."""
    _sparse(target, _ESP_MIB * _MIB)
    _run("mformat", "-i", str(target), "-N", "5D1C7B5E", "::")
    _run("mmd", "-i", str(target), "::/EFI", "::/EFI/BOOT")
    _run("mcopy", "-i", str(target), str(image), "::/EFI/BOOT/BOOTX64.EFI")


def _size_of(tree: Path) -> int:
    """Return the bytes of a file system that holds the tree, in whole mebibytes."""
    held = sum(max(path.lstat().st_size, 4096) + 512 for path in tree.rglob("*"))
    return (int(held * _SPARE) // _MIB + 8) * _MIB


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _run(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolFailed(f"{command[0]} failed ({done.returncode}): {(done.stderr or done.stdout).strip()[-800:]}")
