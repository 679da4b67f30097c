"""`attestd profile predict` on the command line: files in, a profile out, and every refusal has its code."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

import boot_artefacts as made
from attestd.errors import Refused
from attestd_agent.lab.firmware import BootImage
from fleet import Fleet
from installation import Spoken, attestd

pytest_plugins = ("fleet",)

UPDATE = BootImage().with_kernel("6.1.0-30-amd64")


def file(place: Path, name: str, data: bytes | str) -> Path:
    path = place / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def predicted(*arguments: str | Path) -> Spoken:
    return attestd("profile", "predict", *arguments)


def update(place: Path, image: BootImage) -> list[str | Path]:
    """Return the options that name the artefacts of a kernel update."""
    version = image.kernel_version
    return [
        "--loader", file(place, "shimx64.efi", image.shim),
        "--application", file(place, "grubx64.efi", image.loader),
        "--kernel", file(place, f"vmlinuz-{version}", image.kernel),
        "--initrd", file(place, f"initrd.img-{version}", image.initrd),
        "--cmdline", f"/vmlinuz-{version} {image.command_line}",
        "--grub-command", f"initrd /initrd.img-{version}",
        "--boot-loader", "grub",
    ]  # fmt: skip


def test_machines_boot_an_update_whose_profile_was_predicted(empty_fleet: Fleet) -> None:
    fleet, place = empty_fleet, empty_fleet.place
    golden = fleet.activate(fleet.chip())
    chip = fleet.trusted()
    new = place / "edge-2.yaml"
    spoken = predicted(*update(place, UPDATE), "--onto", golden, "-o", new, "--json")
    assert (spoken.exit_code, spoken.document["version"]) == (0, 2)
    fleet.done("profile", "add", new, "--activate")
    chip.boot(UPDATE)
    fleet.attest(chip)
    assert fleet.trust(chip).trusted
    chip.boot(UPDATE.with_tampered_kernel())
    assert isinstance(fleet.attest(chip), Refused)
    assert not fleet.trust(chip).trusted


def test_machines_boot_no_update_whose_profile_was_not_predicted(empty_fleet: Fleet) -> None:
    fleet = empty_fleet
    fleet.activate(fleet.chip())
    chip = fleet.trusted()
    chip.boot(UPDATE)
    assert isinstance(fleet.attest(chip), Refused)


def test_a_unified_kernel_becomes_a_profile(tmp_path: Path) -> None:
    uki = file(tmp_path, "gateway.efi", made.gateway())
    disk = file(tmp_path, "disk.img", made.disk())
    output = tmp_path / "gateway.yaml"
    spoken = predicted("--uki", uki, "--disk", disk, "--secure-boot", "off", "-o", output, "--json")
    assert spoken.exit_code == 0, spoken.stderr
    assert {one["pcr"] for one in spoken.document["registers"]} == {4, 5, 9, 11}
    assert spoken.document["boot_loader"] == "uki"
    assert "gateway.efi .initrd" in output.read_text()
    assert str(tmp_path) not in output.read_text()
    assert attestd("profile", "check", output).exit_code == 0


def test_without_an_output_nothing_is_written(tmp_path: Path) -> None:
    spoken = predicted("--uki", file(tmp_path, "gateway.efi", made.gateway()))
    assert spoken.exit_code == 0
    assert "after ready" in spoken.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.efi"]


def test_files_that_may_run_are_listed_beside_the_boot(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    program = file(root, "program", b"\x7fELF a program")
    program.chmod(0o755)
    uki, base, output = file(tmp_path, "gateway.efi", made.gateway()), tmp_path / "base.yaml", tmp_path / "next.yaml"
    assert predicted("--uki", uki, "--files", root, "-o", base).exit_code == 0
    other = file(root, "other", b"\x7fELF another")
    other.chmod(0o755)
    assert predicted("--uki", uki, "--files", root, "--onto", base, "-o", output).exit_code == 0
    for path in (program, other):
        assert sha256(path.read_bytes()).hexdigest() in output.read_text()
    spoken = attestd("profile", "check", output, "--json")
    assert spoken.document["version"] == 2


def test_keys_are_named_with_their_owner(tmp_path: Path) -> None:
    key = file(tmp_path, "key.der", made.Authority("a key").der)
    spoken = predicted("--db", f"{made.OWNER}:{key}", "--secure-boot", "off", "--json")
    (found,) = [one for one in spoken.document["claims"] if one["claim"] == "secure-boot-db"]
    assert found["value"] == f"x509 {made.OWNER} sha256:{sha256(key.read_bytes()).hexdigest()}"
    assert predicted("--db", key).error == "key-owner"


def test_a_command_line_is_read_from_a_file(tmp_path: Path) -> None:
    kernel = file(tmp_path, "vmlinuz", made.kernel())
    line = file(tmp_path, "cmdline", "ro quiet\n")
    spoken = predicted("--kernel", kernel, "--cmdline", f"@{line}", "--json")
    digests = [one["digest"] for one in spoken.document["claims"] if one["claim"] == "kernel-command-line"]
    assert digests == [sha256("ro quiet\0".encode("utf-16-le")).hexdigest()]


def test_the_bank_is_the_one_that_devices_quote(tmp_path: Path) -> None:
    uki = file(tmp_path, "gateway.efi", made.gateway())
    spoken = predicted("--uki", uki, "--bank", "sha384", "--json")
    assert {len(one["value"]) for one in spoken.document["registers"]} == {96}


def test_replacing_keeps_what_was_not_predicted(tmp_path: Path) -> None:
    one = file(tmp_path, "one.efi", made.gateway("root=/dev/vda2"))
    other = file(tmp_path, "other.efi", made.gateway("root=/dev/vda3"))
    base, output = tmp_path / "base.yaml", tmp_path / "next.yaml"
    predicted("--uki", one, "-o", base)
    base.write_text(base.read_text() + "interval: 30  # ours\n")
    spoken = predicted("--uki", other, "--onto", base, "--replace", "-o", output, "--json")
    changes = {change["claim"]: (change["added"], change["removed"]) for change in spoken.document["changes"]}
    assert (changes["loader"], changes["kernel-command-line"], changes["initrd"]) == ((1, 1), (2, 2), (0, 0))
    assert "interval: 30  # ours" in output.read_text()
    assert json.dumps(changes).count("null") == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "predict-nothing"),
        (("--uki", "text"), "image-header"),
        (("--uki", "empty"), "image-header"),
        (("--uki", "kernel"), "uki-kernel"),
        (("--disk", "text"), "gpt-absent"),
        (("--db", "text"), "key-file"),
        (("--uki", "uki", "--cmdline", "debug"), "predict-conflict"),
        (("--kernel", "kernel", "--loader", "kernel"), "predict-style"),
        (("--uki", "uki", "-o", "text"), "file-exists"),
        (("--uki", "uki", "--onto", "text"), "profile-malformed"),
        (("--uki", "uki", "--name", "No Name"), "label-malformed"),
        (("--kernel", "kernel", "--cmdline", "@latin"), "cmdline-text"),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"text": b"text", "empty": b"", "uki": made.gateway(), "kernel": made.kernel(), "latin": b"\xe9"}
    for name, data in files.items():
        file(tmp_path, name, data)
    spoken = predicted(*arguments)
    assert (spoken.exit_code, spoken.error) == (1, code)


@pytest.mark.parametrize(
    "arguments", [("--replace",), ("--disk", "a", "--gpt", "a"), ("--bank", "md5"), ("--secure-boot", "maybe")]
)
def test_wrong_usage_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "a", b"a")
    assert predicted(*arguments).exit_code == 2
