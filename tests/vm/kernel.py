"""A distribution's kernel, and the modules that a virtual machine needs of it, in the order in which they load.

Assumes a directory into which packages of a kernel were unpacked. A module that such a kernel has built in is skipped;
whether the rest is enough shows when it boots.
"""

import lzma
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WANTED: Final = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "crc32c_generic", "ext4")
"""The machine's disk, network, source of chance, and file system."""

_DEPENDS: Final = re.compile(rb"(?:^|\0)depends=([^\0]*)\0")
_SUFFIXES: Final = (".ko", ".ko.xz", ".ko.zst")


class NoKernel(Exception):
    """The directory holds no usable kernel; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel image and its modules, as (file name, content), each behind those that it depends on."""

    release: str
    image: bytes
    modules: tuple[tuple[str, bytes], ...]


def kernel_in(directory: Path) -> Kernel:
    """Return the one kernel that was unpacked there. *Raises* NoKernel."""
    images = sorted(directory.glob("boot/vmlinuz-*"))
    if len(images) != 1:
        raise NoKernel(f"{directory} holds {len(images)} kernels, not one")
    release = images[0].name.removeprefix("vmlinuz-")
    files = {
        _plain(path.name.partition(".")[0]): path
        for place in ("lib", "usr/lib")
        for path in (directory / place / "modules" / release).rglob("*.ko*")
        if path.name.endswith(_SUFFIXES)
    }
    if not files:
        raise NoKernel(f"{directory} holds no modules of {release}")
    ordered: dict[str, bytes] = {}
    for name in WANTED:
        _add(name, files, ordered)
    return Kernel(release, images[0].read_bytes(), tuple((f"{name}.ko", code) for name, code in ordered.items()))


def _add(name: str, files: dict[str, Path], ordered: dict[str, bytes]) -> None:
    """Put a module into the order, behind those that it depends on."""
    if name in ordered or name not in files:
        return
    code = _uncompressed(files[name])
    found = _DEPENDS.search(code)
    for needed in found[1].decode().split(",") if found else ():
        _add(_plain(needed), files, ordered)
    ordered[name] = code


def _plain(name: str) -> str:
    """Return the name as the kernel writes it: files have hyphens where it has underscores."""
    return name.replace("-", "_")


def _uncompressed(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    return path.read_bytes()
