"""A virtual machine with a software TPM of its own: firmware, TPM state and a data disk that outlive its boots.

One call is one boot, from the power button to the power going off, in plain emulation: with /dev/kvm it would be faster
and not everywhere the same. Ends for certain what it started.
"""

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import image

from attestd_agent.lab.swtpm import SoftwareTpm

BOOT_SECONDS: Final = 120.0
_END: Final = "vm: end"
_POLL_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 5.0
_FIRMWARE: Final = (("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd"))
_FIRMWARE_PLACE: Final = Path("/usr/share/OVMF")


class BootFailed(Exception):
    """A boot did not come to its end; the serial log says where it stopped."""

    def __init__(self, why: str, serial: Path) -> None:
        """Say why, and keep where the serial console's log lies."""
        super().__init__(why)
        self.serial = serial


@dataclass(frozen=True, slots=True)
class Boot:
    """What one boot left: the console, and how long it took."""

    serial: Path
    seconds: float

    def said(self, what: str) -> str:
        """Return the rest of the first line that begins with "vm: `what`: ", empty if there is none."""
        lead = f"vm: {what}: "
        lines = self.serial.read_text(errors="replace").splitlines()
        return next((line[len(lead) :].strip() for line in lines if line.startswith(lead)), "")


class VirtualMachine:
    """One machine. Its TPM was made by a manufacturer, and is off between two boots."""

    def __init__(self, tpm: SoftwareTpm) -> None:
        """Make the machine around its TPM. *Raises* BootFailed where there is no firmware."""
        self.place = tpm.directory
        self._tpm = tpm
        self._code, variables = _firmware()
        self._variables = self.place / "variables.fd"
        shutil.copyfile(variables, self._variables)
        self.state = self.place / "state.img"
        image.file_system(self.state, image.STATE_MIB * 1024 * 1024)

    def boot(self, disk: Path, label: str) -> Boot:
        """Boot a disk and return when the machine is off. *Raises* BootFailed."""
        serial = self.place / f"{label}.serial.log"
        begin = time.monotonic()
        # A short path: a socket's name has 108 bytes (unix(7)), and the project may lie deep.
        with tempfile.TemporaryDirectory(prefix="vm-") as sockets:
            control = Path(sockets) / "tpm"
            chip = self._start(self._chip(control), "swtpm")
            try:
                self._await(chip, control, serial)
                self._run(disk, control, serial)
            finally:
                _end(chip)
        if _END not in serial.read_text(errors="replace"):
            raise BootFailed("the machine went off before it was done", serial)
        return Boot(serial, time.monotonic() - begin)

    def _run(self, disk: Path, control: Path, serial: Path) -> None:
        machine = self._start(self._machine(disk, control, serial), "qemu")
        try:
            code = machine.wait(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            raise BootFailed(f"the machine was not done within {BOOT_SECONDS:.0f} s", serial) from None
        finally:
            _end(machine)
        if code:
            log = (self.place / "qemu.log").read_text(errors="replace").strip()[-400:]
            raise BootFailed(f"qemu ended with {code}: {log}", serial)

    def _await(self, chip: "subprocess.Popen[bytes]", control: Path, serial: Path) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        while not control.exists():
            if chip.poll() is not None or time.monotonic() > deadline:
                log = (self.place / "swtpm.log").read_text(errors="replace").strip()[-400:]
                raise BootFailed(f"swtpm did not start: {log}", serial)
            time.sleep(_POLL_SECONDS)

    def _chip(self, control: Path) -> list[str]:
        return ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._tpm.state}", "--ctrl",
                f"type=unixio,path={control}", "--terminate"]  # fmt: skip

    def _machine(self, disk: Path, control: Path, serial: Path) -> list[str]:
        return [
            # Ends even where this process is killed and cannot end it.
            "timeout", "--kill-after=5", str(int(BOOT_SECONDS) + 10), "qemu-system-x86_64",
            "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
            "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "768M", "-no-reboot",
            "-rtc", "base=utc", "-serial", f"file:{serial}",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={self._code}",
            "-drive", f"if=pflash,unit=1,format=raw,file={self._variables}",
            "-drive", f"if=none,id=system,format=raw,readonly=on,file={disk}",
            "-device", "virtio-blk-pci,drive=system,bootindex=0",
            "-drive", f"if=none,id=state,format=raw,file={self.state}",
            "-device", "virtio-blk-pci,drive=state",
            "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-rng-pci",
            "-chardev", f"socket,id=tpm,path={control}", "-tpmdev", "emulator,id=tpm,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm",
        ]  # fmt: skip

    def _start(self, command: list[str], name: str) -> "subprocess.Popen[bytes]":
        with (self.place / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )


def _firmware() -> tuple[Path, Path]:
    """Return code and variables of the firmware without Secure Boot keys. *Raises* FileNotFoundError."""
    for names in _FIRMWARE:
        code, variables = (_FIRMWARE_PLACE / name for name in names)
        if code.is_file() and variables.is_file():
            return code, variables
    raise FileNotFoundError(2, "there is no firmware: apt-get install ovmf", str(_FIRMWARE_PLACE))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End one process of this boot, for certain."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
