"""Unified kernel images: what systemd's stub measures of them."""

import shutil
import subprocess
from pathlib import Path

import pytest

import boot_artefacts as made
from attestd.reference.boot import Artefact
from attestd.reference.files import ArtefactRefused
from attestd.reference.pe import parse_image
from attestd.reference.predict import Boot, predict
from attestd.reference.uki import UnifiedKernel, unified_kernel

MEASURE = Path("/usr/lib/systemd/systemd-measure")
NEWER = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrpkey",
    ".profile",
)


def read(data: bytes) -> UnifiedKernel:
    return unified_kernel(parse_image(data))


def refused(data: bytes) -> str:
    with pytest.raises(ArtefactRefused) as caught:
        read(data)
    return caught.value.code


def test_sections_are_in_the_order_of_the_stub_and_not_of_the_file() -> None:
    assert [name for name, _ in read(made.gateway()).sections] == [".linux", ".osrel", ".cmdline", ".initrd"]


def test_a_section_is_measured_where_the_stub_looks_for_it() -> None:
    parts = ((".sbat", b"sbat,1\n"), (".linux", made.kernel()), (".uname", b"6.1.0"))
    old, new = read(made.unified(*parts)), read(made.unified(*parts, version="255.4", names=NEWER))
    assert [name for name, _ in old.sections] == [".linux"]
    assert [name for name, _ in new.sections] == [".linux", ".uname", ".sbat"]


def test_an_empty_section_is_no_section() -> None:
    assert read(made.gateway(initrd=b"")).initrd == ()


def handed(data: bytes) -> bytes:
    """Return the ramdisk that the stub hands on."""
    return b"".join(read(data).initrd)


def newc(name: str, mode: str, content: bytes, number: int) -> bytes:
    """Return one member of an archive, as the kernel's documentation (buffer-format) describes it."""
    path = name.encode() + b"\0"
    fields = (
        f"{number:08x}{mode}{0:08x}{0:08x}{1:08x}{0:08x}{len(content):08x}" + f"{0:08x}" * 4 + f"{len(path):08x}{0:08x}"
    )
    head = b"070701" + fields.encode() + path
    return head.ljust(made.up(len(head), 4), b"\0") + content.ljust(made.up(len(content), 4), b"\0")


END = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"


def beside(name: str, content: bytes) -> bytes:
    return newc(".extra", "0000416d", b"", 1) + newc(f".extra/{name}", "00008124", content, 2) + END


def test_a_ramdisk_alone_is_handed_on_as_it_is() -> None:
    assert handed(made.gateway(initrd=b"odd")) == b"odd"


def test_a_signature_over_the_result_is_not_measured_and_lies_behind_the_ramdisk() -> None:
    data = made.unified((".linux", made.kernel()), (".initrd", b"odd"), (".pcrsig", b"{}"), (".pcrpkey", b"a key"))
    assert [name for name, _ in read(data).sections] == [".linux", ".initrd", ".pcrpkey"]
    expected = b"odd\0" + beside("tpm2-pcr-signature.json", b"{}") + beside("tpm2-pcr-public-key.pem", b"a key")
    assert handed(data) == expected


def test_microcode_lies_before_the_ramdisk_where_the_stub_knows_it() -> None:
    parts = ((".linux", made.kernel()), (".initrd", b"odd"), (".ucode", b"micro"))
    assert handed(made.unified(*parts, version="257.1", names=NEWER)) == b"micro\0\0\0odd\0"
    assert handed(made.unified(*parts)) == b"odd"


def test_a_stub_that_knows_the_system_s_description_hands_it_on() -> None:
    data = made.gateway(initrd=b"disk", version="257.1", extra="os-release".encode("utf-16-le") + b"\0\0")
    assert handed(data) == b"disk" + beside("os-release", b"ID=debian\n")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a b", "a b"),
        ("a\tb \n", "a b"),
        ("a b\0", "a b"),
        ("a\nb\0c", "a b"),
        ("", None),
    ],
)
def test_the_command_line_is_the_one_that_the_stub_hands_on(content: str, line: str | None) -> None:
    assert read(made.gateway(content)).command_line == line


@pytest.mark.parametrize("content", [" a", "\ta", "a\x7f"])
def test_a_command_line_in_which_stubs_differ_is_refused(content: str) -> None:
    assert refused(made.gateway(content)) == "uki-cmdline"


@pytest.mark.parametrize("name", [".profile", ".dtbauto", ".efifw"])
def test_a_choice_that_the_machine_makes_is_refused(name: str) -> None:
    assert refused(made.unified((".linux", made.kernel()), (name, b"x"))) == "uki-choice"


def test_two_sections_of_one_name_are_refused() -> None:
    assert refused(made.unified((".linux", made.kernel()), (".initrd", b"a"), (".initrd", b"b"))) == "uki-choice"


def test_an_image_without_a_kernel_is_refused() -> None:
    assert refused(made.loader()) == "uki-kernel"


def test_an_image_with_another_stub_is_refused() -> None:
    assert refused(made.image(made.Part(".text", b"a stub"), made.Part(".linux", made.kernel()))) == "uki-stub"


@pytest.mark.skipif(not MEASURE.is_file() or shutil.which("sh") is None, reason="apt-get install systemd")
def test_pcr_11_is_the_one_that_systemd_measure_computes(tmp_path: Path) -> None:
    data = made.gateway("root=/dev/vda2 ro")
    arguments = []
    for name, content in read(data).sections:
        path = tmp_path / name[1:]
        path.write_bytes(content)
        arguments.append(f"--{name[1:]}={path}")
    command = [str(MEASURE), "calculate", "--bank=sha256", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    values = [line.partition("sha256=")[2] for line in done.stdout.splitlines() if line.startswith("11:")]
    found = predict(Boot(unified=Artefact("gateway.efi", data)), "sha256")
    assert [one.value.hex() for one in found.registers if one.index == 11][1:] == values
    assert len(values) == 4
