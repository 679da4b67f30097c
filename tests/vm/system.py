"""The machine's system: the agent as it is installed, its interpreter and libraries, busybox, and one script as init.

Everything is a copy of what this checkout runs with; nothing of the agent is changed. The interpreter moves to /usr, its
packages into a virtual environment under /opt/attestd, as docs/operations.md installs it on a device. Byte code is made
when the image is built, so that a machine neither compiles nor measures sources that it does not read.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

PROJECT: Final = Path(__file__).resolve().parents[2]
GUEST: Final = Path(__file__).with_name("guest")
EXECUTED: Final = "opt/gateway/collect"
"""The file that the machine executes and that an attacker changes."""

_ENVIRONMENT: Final = "opt/attestd"
_PACKAGES: Final = ("attestd/attestd", "agent/attestd_agent", "pki/attestd_pki")
_NOT_NEEDED: Final = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages",
    "dist-packages", "config-*", "*.a",
)  # fmt: skip
_APPLETS: Final = ("sh", "mount", "umount", "ip", "cat", "rm", "sync", "poweroff")
_LIBRARY: Final = re.compile(r"(?:=> )?(/\S+) \(0x")
_VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"


class NotInstalled(Exception):
    """Something that the image is made of is not here; the message says what."""


def interpreter_tree(cache: Path) -> Path:
    """Return a directory with interpreter, third-party packages and libraries, made once for each set of versions."""
    lock = (PROJECT / "uv.lock").read_bytes() + Path(__file__).read_bytes() + sys.version.encode()
    tree = cache / f"system-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not tree.is_dir():
        building = tree.with_suffix(".part")
        shutil.rmtree(building, ignore_errors=True)
        _skeleton(building)
        _interpreter(building)
        _third_party(building / _ENVIRONMENT / "lib" / _VERSION / "site-packages")
        _libraries(building)
        _compiled(building)
        building.rename(tree)
    for old in cache.glob("system-*"):
        if old != tree:
            shutil.rmtree(old)
    return tree


def busybox_in(packages: Path) -> Path:
    """Return the static busybox among unpacked packages. *Raises* NotInstalled."""
    for name in ("usr/bin/busybox", "bin/busybox"):
        if (packages / name).is_file():
            return packages / name
    raise NotInstalled(f"{packages} holds no busybox")


def root_tree(base: Path, busybox: Path, place: Path, *, configuration: dict[str, bytes]) -> Path:
    """Return a new directory with the whole root file system: the base, busybox, the project, and its configuration."""
    subprocess.run(["cp", "-a", base, place], check=True)
    shutil.copy2(busybox, place / "usr/bin/busybox")
    for applet in _APPLETS:
        (place / "usr/bin" / applet).symlink_to("busybox")
    site = place / _ENVIRONMENT / "lib" / _VERSION / "site-packages"
    for package in _PACKAGES:
        shutil.copytree(PROJECT / package, site / Path(package).name, ignore=shutil.ignore_patterns("__pycache__"))
    _console_script(place / _ENVIRONMENT / "bin/attestd-agent")
    _compiled(place, site / "attestd/protocol", site / "attestd_agent", site / "attestd_pki")
    for source, target in (("init", "usr/sbin/init"), ("collect", EXECUTED)):
        (place / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(GUEST / source, place / target)
        (place / target).chmod(0o755)
    for name, content in configuration.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def files_of(tree: Path) -> dict[str, str]:
    """Return path and SHA-256 in hex of every file of a tree, as the machine will know it."""
    return {
        f"/{path.relative_to(tree)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def _skeleton(tree: Path) -> None:
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "proc", "sys", "dev", "run", "tmp", "var/lib"):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")


def _interpreter(tree: Path) -> None:
    executable = Path(os.path.realpath(sys.executable))
    shutil.copy2(executable, tree / "usr/bin" / _VERSION)
    standard = tree / "usr/lib" / _VERSION
    library = sysconfig.get_path("stdlib")
    shutil.copytree(library, standard, ignore=_NOT_NEEDED, ignore_dangling_symlinks=True)
    environment = tree / _ENVIRONMENT
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(f"/usr/bin/{_VERSION}")
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")


def _third_party(site: Path) -> None:
    """Copy every distribution that `attestd[agent]` needs, and the metadata of attestd itself."""
    site.mkdir(parents=True)
    for distribution in _needed("attestd", ("agent",)):
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or "__pycache__" in file.parts or file.suffix == ".pth" or not source.is_file():
                continue
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, site / file)


def _needed(name: str, extras: tuple[str, ...]) -> list[importlib.metadata.Distribution]:
    """Return a distribution and all that it needs with these extras, each once."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = [(name, extras)]
    while wanted:
        name, extras = wanted.pop()
        if name.lower() in found:
            continue
        distribution = found[name.lower()] = importlib.metadata.distribution(name)
        for text in distribution.requires or ():
            requirement = Requirement(text)
            environments = ({"extra": extra} for extra in (*extras, ""))
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                wanted.append((requirement.name, tuple(requirement.extras)))
    return list(found.values())


def _libraries(tree: Path) -> None:
    """Copy each shared library that a program or an extension in the tree names, and those that are loaded by name."""
    programs = [tree / "usr/bin" / _VERSION, *(path for path in tree.rglob("*.so*") if path.is_file())]
    libraries = _linked(programs)
    tss = next((Path(path).parent for path in libraries if Path(path).name.startswith("libtss2-esys.so")), None)
    if tss is None:
        raise NotInstalled("tpm2_pytss is not linked with libtss2-esys")
    loaded = [path for path in (*tss.glob("libtss2-tcti-device.so.0*"), *tss.glob("libgcc_s.so.1")) if path.is_file()]
    for path in sorted(libraries | {str(path) for path in loaded} | _linked(loaded)):
        target = tree / os.path.normpath(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(os.path.realpath(path), target)


def _linked(programs: Iterable[Path]) -> set[str]:
    """Return the paths of all libraries that these need, by the dynamic loader's own account."""
    done = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)
    if "not found" in done.stdout:
        raise NotInstalled(next(line.strip() for line in done.stdout.splitlines() if "not found" in line))
    return {path for path in _LIBRARY.findall(done.stdout) if not path.startswith(str(PROJECT))}


def _console_script(path: Path) -> None:
    """Copy the command that the installation made, with the machine's interpreter in its first line."""
    script = Path(sys.executable).with_name("attestd-agent").read_text()
    path.write_text(f"#!/{_ENVIRONMENT}/bin/python\n" + script.partition("\n")[2])
    path.chmod(0o755)


def _compiled(tree: Path, *places: Path) -> None:
    """Make byte code that is not checked against its source: reading both would measure both."""
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash",
         "-s", str(tree), "-p", "/", *map(str, places or (tree,))],
        check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
