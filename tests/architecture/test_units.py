"""The units of systemd: hardened, and about commands that exist."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = [ROOT / "attestd/systemd/attestd.service", ROOT / "agent/systemd/attestd-agent.service"]
COMMANDS = {"attestd.service": ("attestd serve", "attestd migrate"), "attestd-agent.service": ("attestd-agent run",)}
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "DevicePolicy": "closed",
    "MemoryDenyWriteExecute": "yes",
    "RestrictNamespaces": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
    "Restart": "always",
}


def settings(unit: Path) -> list[tuple[str, str]]:
    lines = (line.strip() for line in unit.read_text().splitlines())
    return [
        (name, value) for name, _, value in (line.partition("=") for line in lines if line[:1] not in ("#", "[", ""))
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
@pytest.mark.parametrize(("name", "value"), HARDENED.items())
def test_the_unit_is_hardened(unit: Path, name: str, value: str) -> None:
    assert dict(settings(unit)).get(name) == value


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_unit_runs_commands_of_this_project(unit: Path) -> None:
    started = [value for name, value in settings(unit) if name.startswith("ExecStart")]

    assert sorted(Path(line).name for line in started) == sorted(COMMANDS[unit.name])


def test_the_verifier_has_no_capability_and_no_device() -> None:
    unit = dict(settings(UNITS[0]))

    assert (unit["CapabilityBoundingSet"], unit["PrivateDevices"], unit["User"]) == ("", "yes", "attestd")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("apt-get install systemd")
    # The commands are not installed here: point them at one that is.
    lines = [
        f"ExecStart=/bin/true {line}" if line.startswith("ExecStart=") else line
        for line in unit.read_text().splitlines()
    ]
    copy = tmp_path / unit.name
    copy.write_text("\n".join(line for line in lines if not line.startswith(("ExecStartPre=", "Documentation="))))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
