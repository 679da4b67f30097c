"""Boots a software device and runs a command on it. FOR LABORATORIES ONLY.

    python -m attestd_agent.lab DIRECTORY [--variant VARIANT] [--maker DIRECTORY] -- attestd-agent run

The command finds the device through the agent's own settings in its environment (ATTESTD_AGENT_TCTI and its
siblings). When it ends, the device is switched off in order. What was made stays in the directory: the next start is a
reboot of the same machine. The manufacturer's certificates are in MAKER/authority; a verifier believes this device only
where somebody puts them among its anchors.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.firmware import BootImage
from attestd_agent.lab.manufacturer import LabError, Manufacturer
from attestd_agent.lab.swtpm import SoftwareTpm

VARIANTS: Final[Mapping[str, Callable[[BootImage], BootImage]]] = {
    "healthy": lambda image: image,
    "command-line": lambda image: image.with_command_line("root=/dev/sda2 rw init=/bin/sh"),
    "kernel-backdoor": lambda image: image.with_tampered_kernel(),
    "kernel-update": lambda image: image.with_kernel("6.1.0-30-amd64"),
    "initrd": lambda image: image.with_initrd(b"laboratory initial RAM disk with a key logger"),
    "firmware-update": lambda image: image.with_firmware("LAB 1.1.0"),
    "option-rom": lambda image: image.with_option_rom(b"a card that was not there yesterday"),
    "no-secure-boot": lambda image: image.without_secure_boot(),
}
"""What a demonstration can boot, by name."""


def main(arguments: list[str] | None = None) -> int:
    """Boot, run the command, switch off; return the command's exit code, or 4 where the laboratory fails."""
    given = _parser().parse_args(arguments)
    try:
        maker = Manufacturer(given.maker or given.directory / "maker")
        tpm = SoftwareTpm(given.directory, maker)
        with closing(tpm if tpm.state.is_dir() else tpm.manufacture()):
            return _run(SoftwareDevice(given.directory.name, tpm), given.variant, given.command)
    except LabError as exc:
        print(f"lab: {exc}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 130


def _run(device: SoftwareDevice, variant: str, command: list[str]) -> int:
    """Boot, run the command to its end (or end it with this process), and shut down in order."""
    try:
        device.boot(VARIANTS[variant](device.image))
        print(f"lab: booted {variant!r} at {device.tcti}", file=sys.stderr, flush=True)
        with subprocess.Popen(command, env={**os.environ, **environment(device)}) as process:
            try:
                return process.wait()
            finally:
                process.terminate()
    finally:
        device.tpm.power_off()


def environment(device: SoftwareDevice) -> dict[str, str]:
    """Return the settings with which an agent runs on this device."""
    return {
        "ATTESTD_AGENT_TCTI": device.tcti,
        "ATTESTD_AGENT_EVENT_LOG": str(device.event_log),
        "ATTESTD_AGENT_IMA_LIST": str(device.ima_list),
        "ATTESTD_AGENT_STATE_DIRECTORY": str(device.state),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m attestd_agent.lab", description="FOR LABORATORIES ONLY")
    parser.add_argument("directory", type=Path, help="the device's directory; made where it does not exist")
    parser.add_argument("--variant", choices=VARIANTS, default="healthy", help="what it boots")
    parser.add_argument("--maker", type=Path, help="the manufacturer's directory; several devices may share one")
    parser.add_argument("command", nargs="+", help="what runs on the device, after --")
    return parser


if __name__ == "__main__":
    # A container is stopped with SIGTERM; without this the device would be cut off and its TPM's process left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
