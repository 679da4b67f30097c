import struct
from uuid import UUID

import pytest

from attestd.protocol.limits import MAX_PARTITIONS, MAX_VARIABLE_NAME
from attestd.tpm import eventdata
from attestd.tpm.errors import Malformed

GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
END = b"\x7f\xff\x04\x00"


def variable(
    name: str, value: bytes, *, units: int | None = None, size: int | None = None, slack: bytes = b""
) -> bytes:
    text = name.encode("utf-16-le")
    head = struct.pack("<QQ", len(text) // 2 if units is None else units, len(value) if size is None else size)
    return GLOBAL.bytes_le + head + text + value + slack


def refused(parse, data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parse(data)
    return caught.value.code


def test_a_variable_is_read():
    found = eventdata.parse_variable(variable("SecureBoot", b"\x01"))

    assert (found.guid, found.name, found.data, found.slack) == (str(GLOBAL), "SecureBoot", b"\x01", 0)


def test_the_slack_of_old_shims_is_told():
    found = eventdata.parse_variable(variable("Shim", b"certificate", slack=bytes(6)))

    assert (found.data, found.slack) == (b"certificate", 6)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "structure-truncated"),
        (variable("a", b"b")[:31], "structure-truncated"),
        (variable("a", b"b", slack=b"\0"), "eventdata-size"),
        (variable("a", b"b", units=2**63), "eventdata-size"),
        (variable("a", b"b", size=2**64 - 1), "eventdata-size"),
        (variable("a" * (MAX_VARIABLE_NAME + 1), b""), "eventdata-size"),
        (GLOBAL.bytes_le + struct.pack("<QQ", 1, 0) + b"\x00\xd8", "eventdata-text"),
    ],
)
def test_e06_a_variable_whose_sizes_do_not_add_up_is_refused(data, code):
    assert refused(eventdata.parse_variable, data) == code


def image(path: bytes, *, size: int | None = None, slack: bytes = b"") -> bytes:
    return struct.pack("<QQQQ", 0x1000, 0x2000, 0, len(path) if size is None else size) + path + slack


@pytest.mark.parametrize("slack", [0, 8, 9])
def test_an_image_load_is_read(slack):
    path = struct.pack("<BBH", 4, 4, 12) + "abc\0".encode("utf-16-le") + END

    found = eventdata.parse_image_load(image(path, slack=bytes(slack)))

    assert (found.base, found.length, found.device_path, found.slack) == (0x1000, 0x2000, "abc", slack)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes(31), "structure-truncated"),
        (image(END, size=5), "eventdata-size"),
        (image(END, slack=b"\0"), "eventdata-size"),
        (image(END, size=2**64 - 1), "eventdata-size"),
        (image(b"\x01\x01\x00\x00"), "eventdata-size"),
    ],
)
def test_e06_an_image_load_whose_sizes_do_not_add_up_is_refused(data, code):
    assert refused(eventdata.parse_image_load, data) == code


def test_a_firmware_range_is_read_with_and_without_description():
    plain = struct.pack("<QQ", 0xFF000000, 0x10000)

    assert eventdata.parse_firmware_blob(plain) == eventdata.FirmwareBlob(0xFF000000, 0x10000, "")
    assert eventdata.parse_firmware_blob(b"\x04PEI " + plain) == eventdata.FirmwareBlob(0xFF000000, 0x10000, "PEI ")


@pytest.mark.parametrize("data", [b"", bytes(15), b"\xff" + bytes(16), b"\x01a" + bytes(15)])
def test_a_firmware_range_of_another_size_is_refused(data):
    assert refused(eventdata.parse_firmware_blob, data) == "eventdata-size"


def test_a_post_code_is_a_text_or_a_range():
    assert eventdata.parse_post_code(b"ACPI DATA") == "ACPI DATA"
    assert eventdata.parse_post_code(struct.pack("<QQ", 1, 2)) == eventdata.FirmwareBlob(1, 2, "")


def gpt(count: int, *, claimed: int | None = None, entry_size: int = 128, signature: bytes = b"EFI PART") -> bytes:
    disk, name = UUID(int=7), "root".encode("utf-16-le").ljust(72, b"\0")
    header = struct.pack(
        "<8sIII4xQQQQ16sQIII", signature, 0x10000, 92, 0, 1, 2, 34, 99, disk.bytes_le, 2, 128, entry_size, 0
    )
    entry = UUID(int=8).bytes_le + UUID(int=9).bytes_le + struct.pack("<QQQ", 34, 99, 1) + name
    return header + struct.pack("<Q", count if claimed is None else claimed) + entry.ljust(entry_size, b"\0") * count


@pytest.mark.parametrize("entry_size", [128, 256])
def test_a_partition_table_is_read(entry_size):
    table = eventdata.parse_gpt(gpt(2, entry_size=entry_size))

    assert table.disk_guid == str(UUID(int=7))
    assert table.partitions == (eventdata.Partition(str(UUID(int=8)), str(UUID(int=9)), 34, 99, 1, "root"),) * 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (gpt(0)[:99], "structure-truncated"),
        (gpt(1, signature=b"EFI PARD"), "eventdata-value"),
        (gpt(0, claimed=2**64 - 1), "eventdata-count"),
        (gpt(MAX_PARTITIONS + 1), "eventdata-count"),
        (gpt(1, entry_size=4097), "eventdata-count"),
        (gpt(1, claimed=2), "eventdata-size"),
        (gpt(1) + b"\0", "eventdata-size"),
    ],
)
def test_e06_a_partition_table_whose_sizes_do_not_add_up_is_refused(data, code):
    assert refused(eventdata.parse_gpt, data) == code


def test_a_partition_entry_smaller_than_the_standards_is_refused():
    data = bytearray(gpt(0, claimed=1))
    data[84:88] = struct.pack("<I", 64)

    assert refused(eventdata.parse_gpt, bytes(data) + bytes(64)) == "eventdata-count"


@pytest.mark.parametrize(
    ("data", "meaning"),
    [
        (bytes(4), "normal"),
        (b"\xff" * 4, "normal"),
        (b"\x01\0\0\0", "error"),
        (b"WBCL", "windows"),
        (b"", "other"),
        (bytes(5), "other"),
        (b"\x02\0\0\0", "other"),
    ],
)
def test_a_separator_means_what_the_profile_says_and_nothing_else_is_normal(data, meaning):
    assert eventdata.parse_separator(data) == meaning


@pytest.mark.parametrize(
    ("data", "prefix", "text"),
    [
        (b"grub_cmd: insmod ext2\0", "grub_cmd", "insmod ext2"),
        (b"kernel_cmdline: /vmlinuz ro quiet\0", "kernel_cmdline", "/vmlinuz ro quiet"),
        (b"grub_kernel_cmdline /vmlinuz ro\0", "grub_kernel_cmdline", "/vmlinuz ro"),
        (b"grub_cmd menuentry x", "grub_cmd", "menuentry x"),
        (b"MokList\0", "", "MokList"),
        (b"MokList\0\xaf", "", "MokList"),
        ("init=/bin/sh\0".encode("utf-16-le"), "", "init=/bin/sh"),
        ("kernel_cmdline: ü".encode(), "kernel_cmdline", "ü"),
        (b"", "", ""),
        (b"\0\0", "", ""),
    ],
)
def test_a_boot_loaders_text_is_read(data, prefix, text):
    assert eventdata.parse_ipl(data) == eventdata.IplText(prefix, text)


@pytest.mark.parametrize("data", [b"\xff\xfe\xfd", b"a\0\x00\xd8"])
def test_a_boot_loaders_text_that_is_none_is_refused(data):
    assert refused(eventdata.parse_ipl, data) == "eventdata-text"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("v1.2\0".encode("utf-16-le"), "v1.2"),
        (b"N32ET68W\0", "N32ET68W"),
        (UUID(int=0x1EFB6B540C1D5540A4AD4EF4BF17B83A).bytes, "546bfb1e-1d0c-4055-a4ad-4ef4bf17b83a"),
        (b"\0\0", ""),
        (b"\x01\x02\x03", "010203"),
    ],
)
def test_a_firmware_version_is_shown_as_text(data, text):
    assert eventdata.parse_crtm_version(data) == text


def test_an_actions_text_is_read():
    assert eventdata.parse_text(b"Exit Boot Services Invocation") == "Exit Boot Services Invocation"


@pytest.mark.parametrize("data", [b"\x1b[31m", b"a\nb", b"\xff\xff\xff\xff", b"a\0b"])
def test_e11_a_text_with_control_characters_is_refused(data):
    assert refused(eventdata.parse_text, data) == "eventdata-text"
