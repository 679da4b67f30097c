import hashlib
import struct
from uuid import UUID

import pytest

from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import Event, EventType
from attestd.tpm.measured import Measured, measured


def event(kind: int, data: bytes, digested: bytes) -> Event:
    return Event(3, 8, kind, (("sha256", hashlib.sha256(digested).digest()),), data)


def variable(name: str, value: bytes) -> bytes:
    text = name.encode("utf-16-le")
    return UUID(int=1).bytes_le + struct.pack("<QQ", len(text) // 2, len(value)) + text + value


@pytest.mark.parametrize(
    "kind",
    [
        EventType.SEPARATOR,
        EventType.EFI_ACTION,
        EventType.EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EFI_VARIABLE_AUTHORITY,
        EventType.EFI_GPT_EVENT,
        EventType.EVENT_TAG,
        EventType.S_CRTM_VERSION,
    ],
)
def test_data_that_was_hashed_as_it_stands_is_vouched_for(kind):
    assert measured(event(kind, b"data", b"data"), "sha256") == Measured("data", b"data")


@pytest.mark.parametrize("kind", [EventType.SEPARATOR, EventType.IPL, EventType.EFI_VARIABLE_BOOT, 0x12345678])
def test_e02_data_that_does_not_hash_to_its_digest_is_not_vouched_for(kind):
    assert measured(event(kind, b"grub_cmd: data", b"other"), "sha256") is None


def test_only_the_value_of_a_boot_variable_may_be_vouched_for():
    data = variable("Boot0001", b"value")

    assert measured(event(EventType.EFI_VARIABLE_BOOT, data, b"value"), "sha256") == Measured("variable-data", b"value")
    assert measured(event(EventType.EFI_VARIABLE_BOOT, data, data), "sha256") == Measured("data", data)


def test_e02_the_value_alone_does_not_vouch_for_a_secure_boot_variable():
    data = variable("SecureBoot", b"\x01")

    assert measured(event(EventType.EFI_VARIABLE_DRIVER_CONFIG, data, b"\x01"), "sha256") is None


def test_old_shims_hash_one_byte_less_than_they_log():
    data = variable("Shim", b"certificate") + bytes(6)

    assert measured(event(EventType.EFI_VARIABLE_AUTHORITY, data, data[:-1]), "sha256") == Measured("data", data[:-1])


@pytest.mark.parametrize(
    ("data", "digested"),
    [
        (b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz ro"),
        (b"grub_cmd: ls\0", b"ls"),
        (b"grub_cmd ls\0", b"ls\0"),
        (b"grub_kernel_cmdline /vmlinuz\0", b"/vmlinuz"),
    ],
)
def test_grub_hashes_what_follows_its_prefix(data, digested):
    assert measured(event(EventType.IPL, data, digested), "sha256") == Measured("text", digested)


def test_e02_a_prefix_is_not_part_of_what_grub_vouches_for():
    renamed = event(EventType.IPL, b"grub_cmd: /vmlinuz ro\0", b"/vmlinuz ro")

    assert measured(renamed, "sha256") == Measured("text", b"/vmlinuz ro")


def test_the_stub_hashes_a_sections_name_in_ascii_and_logs_it_in_utf16():
    data = ".cmdline\0".encode("utf-16-le")

    assert measured(event(EventType.IPL, data, b".cmdline\0"), "sha256") == Measured("section-name", b".cmdline\0")


def test_a_boot_loaders_utf16_text_is_vouched_for_as_it_stands():
    data = "ro quiet\0".encode("utf-16-le")

    assert measured(event(EventType.IPL, data, data), "sha256") == Measured("data", data)


def test_a_files_digest_vouches_for_nothing_in_the_log():
    assert measured(event(EventType.IPL, b"/boot/vmlinuz\0", b"the kernel itself"), "sha256") is None


def test_a_bank_without_a_digest_vouches_for_nothing():
    with pytest.raises(Malformed) as caught:
        measured(event(EventType.IPL, b"x", b"x"), "sha384")

    assert caught.value.code == "eventlog-bank"
