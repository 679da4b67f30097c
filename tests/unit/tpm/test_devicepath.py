import struct
from uuid import UUID

import pytest

from attestd.protocol.limits import MAX_DEVICE_PATH_NODES
from attestd.tpm.devicepath import device_path_text
from attestd.tpm.errors import Malformed

END = b"\x7f\xff\x04\x00"
GUID = UUID("6cb0a6f4-6c43-4a0c-9e0a-3a5b0f0a8d11")


def node(kind: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        device_path_text(data)
    return caught.value.code


def test_a_boot_loader_on_a_partition_reads_as_firmware_shows_it():
    drive = struct.pack("<IQQ", 1, 2048, 4096) + GUID.bytes_le + b"\x02\x02"
    path = (
        node(2, 1, struct.pack("<II", 0x0A0341D0, 0))
        + node(1, 1, bytes((0, 0x1F)))
        + node(3, 18, struct.pack("<HHH", 0, 0xFFFF, 0))
        + node(4, 1, drive)
        + node(4, 4, "\\EFI\\BOOT\\BOOTX64.EFI\0".encode("utf-16-le"))
        + END
    )

    assert device_path_text(path) == (
        f"PciRoot(0x0)/Pci(0x1f,0x0)/Sata(0x0,0xffff,0x0)/HD(1,GPT,{GUID},0x800,0x1000)/\\EFI\\BOOT\\BOOTX64.EFI"
    )


@pytest.mark.parametrize(
    ("kind", "subtype", "body", "text"),
    [
        (1, 3, struct.pack("<IQQ", 11, 0x1000, 0x2000), "MemoryMapped(0xb,0x1000,0x2000)"),
        (1, 4, GUID.bytes_le + b"\x01\x02", f"VenHw({GUID},0102)"),
        (1, 4, GUID.bytes_le, f"VenHw({GUID})"),
        (2, 1, struct.pack("<II", 0x0A0841D0, 2), "PcieRoot(0x2)"),
        (2, 1, struct.pack("<II", 7, 2), "Acpi(0x7,0x2)"),
        (3, 5, b"\x03\x00", "USB(0x3,0x0)"),
        (3, 11, bytes(32) + b"\x01", "MAC(000000000000,0x1)"),
        (3, 23, struct.pack("<IQ", 1, 0), "NVMe(0x1,0x0)"),
        (3, 24, b"http://x/", "Uri(http://x/)"),
        (
            4,
            1,
            struct.pack("<IQQ", 2, 1, 1) + b"\x78\x56\x34\x12".ljust(16, b"\0") + b"\x01\x01",
            "HD(2,MBR,0x12345678,0x1,0x1)",
        ),
        (4, 6, GUID.bytes_le, f"FvFile({GUID})"),
        (4, 7, GUID.bytes_le, f"Fv({GUID})"),
        (4, 8, struct.pack("<IQQ", 0, 1, 2), "Offset(0x0,0x1,0x2)"),
        (4, 8, struct.pack("<QQ", 1, 2), "Offset(0x1,0x2)"),
        (4, 9, struct.pack("<QQ", 1, 2) + GUID.bytes_le + b"\0\0", f"RamDisk(0x1,0x2,0,{GUID})"),
        (2, 3, struct.pack("<I", 0x80010100), "AcpiAdr(0x80010100)"),
        (3, 12, bytes(15), "IPv4(0.0.0.0:0,0,dhcp,0.0.0.0:0)"),
        (
            3,
            12,
            bytes((10, 0, 0, 2, 10, 0, 0, 1))
            + struct.pack("<HHH?", 68, 67, 17, True)
            + bytes((10, 0, 0, 1, 255, 0, 0, 0)),
            "IPv4(10.0.0.1:67,17,static,10.0.0.2:68,10.0.0.1,255.0.0.0)",
        ),
        (3, 13, bytes(56), "IPv6([::]:0,0,0,[::]:0,0,::)"),
        (3, 20, b"\x05\0", "Vlan(0x5)"),
        (5, 1, b"\x02\0\0\0Hard disk\0", "BBS(0x2,0x0,Hard disk)"),
    ],
)
def test_known_nodes_have_a_name(kind, subtype, body, text):
    assert device_path_text(node(kind, subtype, body) + END) == text


@pytest.mark.parametrize(
    ("kind", "subtype", "body"),
    [
        (9, 9, b"ab"),
        (1, 1, b"abc"),
        (4, 1, b""),
        (4, 4, b"a"),
        (4, 4, b"\x00\xd8a\0"),
        (4, 4, b"a\0\0\0b\0"),
        (3, 24, b"\xff"),
        (1, 4, b""),
    ],
)
def test_nodes_that_are_unknown_or_odd_are_shown_by_their_bytes(kind, subtype, body):
    assert device_path_text(node(kind, subtype, body) + END) == f"Path({kind},{subtype},{body.hex()})"


def test_several_instances_are_separated():
    usb = node(3, 5, b"\x01\x00")

    assert device_path_text(usb + b"\x7f\x01\x04\x00" + usb + END) == "USB(0x1,0x0),USB(0x1,0x0)"


def test_no_bytes_are_an_empty_path():
    assert device_path_text(b"") == ""


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_e06_a_node_shorter_than_its_header_is_refused_and_does_not_loop(length):
    assert refused(struct.pack("<BBH", 1, 1, length) + bytes(8)) == "eventdata-size"


@pytest.mark.parametrize("data", [b"\x01", b"\x01\x01\x06\x00\x00", struct.pack("<BBH", 1, 1, 0xFFFF)])
def test_e06_a_node_past_the_end_is_refused(data):
    assert refused(data) == "structure-truncated"


def test_e06_a_path_of_endless_nodes_is_refused():
    usb = node(3, 5, b"\x01\x00")

    assert device_path_text(usb * (MAX_DEVICE_PATH_NODES - 1) + END).count("USB") == MAX_DEVICE_PATH_NODES - 1
    assert refused(usb * (MAX_DEVICE_PATH_NODES + 1) + END) == "eventdata-count"


def test_bytes_behind_the_end_node_are_refused():
    assert refused(END + b"\0") == "structure-trailing"
