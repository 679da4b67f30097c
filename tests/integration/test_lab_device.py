"""A software device boots for real: its log, as other programs read it, explains its TPM's registers."""

import hashlib
import subprocess

import pytest
import yaml

from attestd_agent.lab import ima
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.firmware import BootImage
from attestd_agent.tpm_esys import LabTpm
from swtpm import SWTPM_MARKS, DeviceFactory

pytest_plugins = ("swtpm",)
pytestmark = SWTPM_MARKS

BOOT_PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)


def replayed_by_tool(device: SoftwareDevice, bank: str) -> dict[int, bytes]:
    """Return the registers that tpm2_eventlog computes from the device's log."""
    done = subprocess.run(["tpm2_eventlog", str(device.event_log)], capture_output=True, text=True, check=True)
    return {
        index: value.to_bytes(32 if bank == "sha256" else 20, "big")
        for index, value in yaml.safe_load(done.stdout)["pcrs"][bank].items()
    }


def replayed_here(device: SoftwareDevice, bank: str) -> dict[int, bytes]:
    """Replay the events that the simulator says it made."""
    assert device.last_boot
    registers: dict[int, bytes] = {}
    for index, digests in device.last_boot.extends:
        old = registers.get(index, bytes(hashlib.new(bank).digest_size))
        registers[index] = hashlib.new(bank, old + digests[bank]).digest()
    return registers


@pytest.mark.parametrize("banks", [("sha256",), ("sha1", "sha256")])
def test_log_of_a_boot_replays_to_the_registers_of_the_tpm(swtpm_device: DeviceFactory, banks: tuple[str, ...]) -> None:
    device = swtpm_device(banks=banks)
    for bank in banks:
        read = dict(device.lab_tpm().read_pcrs(bank, BOOT_PCRS))
        assert read == replayed_by_tool(device, bank) == replayed_here(device, bank)


def test_reboot_clears_the_registers_and_measures_again(device: SoftwareDevice, lab_tpm: LabTpm) -> None:
    before = lab_tpm.read_pcrs("sha256", BOOT_PCRS)
    device.boot()
    assert lab_tpm.read_pcrs("sha256", BOOT_PCRS) == before


@pytest.mark.parametrize(
    ("image", "moved"),
    [
        (BootImage().with_command_line("ro init=/bin/sh"), {8}),
        (BootImage().with_initrd(b"another"), {9}),
        (BootImage().with_tampered_kernel(), {4, 9}),
        (BootImage().with_kernel("6.1.0-30-amd64"), {4, 8, 9}),
        (BootImage().without_secure_boot(), {7}),
        (BootImage().with_firmware("LAB 1.1.0"), {0}),
        (BootImage().with_option_rom(b"a card from nowhere"), {2}),
        (BootImage().with_revocations(b"\x02" * 32), {7}),
    ],
)
def test_a_change_of_the_image_moves_exactly_its_registers(
    device: SoftwareDevice, lab_tpm: LabTpm, image: BootImage, moved: set[int]
) -> None:
    before = dict(lab_tpm.read_pcrs("sha256", BOOT_PCRS))
    device.boot(image)
    after = dict(lab_tpm.read_pcrs("sha256", BOOT_PCRS))
    assert {index for index in BOOT_PCRS if before[index] != after[index]} == moved


@pytest.mark.parametrize("convention", ["per_bank", "padded_sha1"])
def test_runtime_list_replays_to_register_10(
    device: SoftwareDevice, lab_tpm: LabTpm, convention: ima.Convention
) -> None:
    files = tuple(ima.measured_file(f"/usr/bin/tool{number}", b"%d" % number) for number in range(3))
    device.measure(*files, convention=convention)
    register = bytes(32)
    for template_data, _ in ima_entries(device.ima_list.read_bytes()):
        digest = (
            hashlib.sha256(template_data).digest()
            if convention == "per_bank"
            else hashlib.sha1(template_data).digest().ljust(32, b"\0")
        )
        register = hashlib.sha256(register + digest).digest()
    assert dict(lab_tpm.read_pcrs("sha256", (10,)))[10] == register


def test_runtime_list_starts_with_the_boot_aggregate_of_the_registers(device: SoftwareDevice, lab_tpm: LabTpm) -> None:
    values = lab_tpm.read_pcrs("sha256", tuple(range(10)))
    device.measure(ima.measured_file("/init", b"init"))
    template_data, template_hash = ima_entries(device.ima_list.read_bytes())[0]
    assert hashlib.sha256(b"".join(value for _, value in values)).digest() in template_data
    assert template_data.endswith(b"boot_aggregate\0")
    assert template_hash == hashlib.sha1(template_data).digest()


def ima_entries(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return (template data, template hash) of each entry of a binary list."""
    found = []
    while data:
        length = int.from_bytes(data[24:28], "little")
        assert data[28 : 28 + length] == b"ima-ng"
        at = 28 + length + 4
        size = int.from_bytes(data[at - 4 : at], "little")
        found.append((data[at : at + size], data[4:24]))
        data = data[at + size :]
    return found
