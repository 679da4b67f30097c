"""`attestd profile files` on trees, packages, archives and images that the real tools made."""

import gzip
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from attestd.appraisal.profile import parse_profile_yaml
from attestd.cli.artefacts import Progress, collect_files
from attestd.cli.failures import CommandFailed
from attestd.reference.files import PlaceFiles, Wish
from file_trees import ELF, SCRIPT, cpio, executable, image, listed, needs_mke2fs, texts, tree
from installation import attestd

FILES = {"/usr/bin/app": SCRIPT, "/usr/lib/x/libx.so": ELF, "/opt/ä b": b"#!x"}
ALLOWED = {path: listed(content) for path, content in FILES.items()}


PACKAGES = {"sfdisk": "fdisk", "objcopy": "binutils", "sha256sum": "coreutils"}


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"apt-get install {PACKAGES.get(program, program)}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with three programs, and a file of data."""
    made = tree(tmp_path / "tree", FILES)
    (made / "etc").mkdir()
    (made / "etc/passwd").write_text("root")
    (made / "bin").symlink_to("usr/bin")
    return made


def allowed(output: Path) -> dict[str, object]:
    return dict(parse_profile_yaml(output.read_text()).runtime.allow)


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def test_a_directory_becomes_an_allow_list(root, tmp_path):
    spoken = attestd("profile", "files", root, "-o", tmp_path / "gate.yaml", "--json")

    assert spoken.exit_code == 0, spoken.stderr
    assert allowed(tmp_path / "gate.yaml") == ALLOWED
    assert spoken.document["places"] == [
        {"place": str(root), "kind": "directory", "files": 4, "listed": 3, "bytes": sum(map(len, FILES.values()))}
    ]
    assert (spoken.document["profile"], spoken.document["version"], spoken.document["findings"]) == ("gate", 1, [])


def test_a_name_that_no_profile_can_have_is_shown_in_the_refusal_which_has_its_code_once(root, tmp_path):
    spoken = attestd("profile", "files", root, "-o", tmp_path / "Gate 1.yaml")

    assert (spoken.exit_code, spoken.error) == (1, "label-malformed")
    assert "'Gate 1' is no name" in spoken.stderr
    assert spoken.stderr.count("label-malformed") == 1


def test_what_comes_next_is_said_where_a_list_was_written(root, tmp_path):
    alone = attestd("profile", "files", root, "-o", tmp_path / "gate.yaml")
    base = tmp_path / "edge.yaml"
    accepted = f'digest: "sha256:{"11" * 32}"'
    base.write_text(
        f"profile: edge\nversion: 3\nclaims:\n  loader:\n    check: required\n    accept:\n      - {accepted}\n"
    )
    onto = attestd("profile", "files", root, "--onto", base, "-o", tmp_path / "edge-4.yaml")

    assert "put it onto a profile (--onto)" in alone.stdout
    assert f"Then: attestd profile add {tmp_path / 'edge-4.yaml'} -d DIRECTORY" in onto.stdout


def test_all_takes_what_is_only_read_too(root, tmp_path):
    attestd("profile", "files", root, "-o", tmp_path / "x.yaml", "--all")

    assert allowed(tmp_path / "x.yaml") == {**ALLOWED, "/etc/passwd": listed(b"root")}


def test_patterns_and_hashes_are_as_asked(root, tmp_path):
    options = ("--only", "/usr/*", "--exclude", "*.so", "--hash", "sha1", "--hash", "sha512")
    attestd("profile", "files", root, "-o", tmp_path / "x.yaml", *options)

    [(path, digests)] = allowed(tmp_path / "x.yaml").items()
    assert (path, [name for name, _ in digests]) == ("/usr/bin/app", ["sha1", "sha512"])


def test_a_part_of_a_tree_has_the_paths_of_the_tree(root, tmp_path):
    attestd("profile", "files", root / "bin", "--root", root, "-o", tmp_path / "x.yaml")

    assert set(allowed(tmp_path / "x.yaml")) == {"/usr/bin/app"}


def test_a_directory_outside_of_the_tree_is_refused(root, tmp_path):
    spoken = attestd("profile", "files", "/usr/bin", "--root", root, "-o", tmp_path / "x.yaml")

    assert (spoken.exit_code, spoken.error) == (1, "artefact-root")


def test_a_directory_that_is_no_root_is_a_finding(root, tmp_path):
    spoken = attestd("profile", "files", root / "usr/bin", "-o", tmp_path / "x.yaml", "--json")

    assert [one["code"] for one in spoken.document["findings"]] == ["no-root"]


def test_links_pipes_and_names_that_are_no_text_are_not_listed(root, tmp_path):
    os.mkfifo(root / "usr/bin/pipe")
    (root / "usr/bin/link").symlink_to("/etc/passwd")
    Path(os.fsdecode(os.fsencode(root / "usr/bin") + b"/\xff\x1b[2J")).write_bytes(SCRIPT)
    spoken = attestd("profile", "files", root, "-o", tmp_path / "x.yaml")

    assert allowed(tmp_path / "x.yaml") == ALLOWED
    assert "[path-not-utf8]" in spoken.stdout
    assert "\x1b" not in spoken.stdout


def test_what_may_not_be_read_is_a_finding(root, tmp_path, monkeypatch):
    opened = os.open

    def refusing(path, *arguments, **named):
        if os.fsencode(path).endswith(b"libx.so"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **named)

    monkeypatch.setattr("attestd.cli.artefacts.os.open", refusing)
    found = collect_files([root])

    assert [(one.code, one.path) for one in found.findings] == [("file-unreadable", "/usr/lib/x/libx.so")]
    assert "/usr/lib/x/libx.so" not in texts(found)


@pytest.mark.skipif(not os.path.ismount("/dev/pts"), reason="no file system in /dev on this machine")
def test_another_file_system_in_a_tree_is_not_entered():
    found = collect_files([Path("/dev")])

    assert "/pts" in [one.path for one in found.findings if one.code == "other-file-system"]


@needs("sha256sum")
def test_this_machines_programs_have_the_digests_that_sha256sum_says(tmp_path):
    found = collect_files(
        [Path("/usr/bin")], root=Path("/"), wish=Wish(everything=True, only=("/usr/bin/a*", "/usr/bin/s*"))
    )
    paths = [item.path for item in found.paths]
    said = subprocess.run(["sha256sum", "--", *paths], capture_output=True, text=True, check=True).stdout

    assert len(paths) > 5
    assert [f"{item.digests[0][1].hex()}  {item.path}" for item in found.paths] == said.splitlines()


@needs("dpkg-deb")
@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_a_package_that_dpkg_built_has_its_files(root, tmp_path, compression):
    (root / "bin").unlink()
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: X <x@example.org>\nDescription: x\n"
    )
    run("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", root, tmp_path / "x.deb")
    spoken = attestd("profile", "files", tmp_path / "x.deb", "-o", tmp_path / "x.yaml", "--json")

    assert spoken.document["places"][0]["kind"] == "package"
    assert allowed(tmp_path / "x.yaml") == ALLOWED


@needs("dpkg-deb")
@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ([], {"/bin/sh", "/usr/bin/sh"}),
        (["--merged-usr"], {"/usr/bin/sh"}),
        (["--no-merged-usr"], {"/bin/sh"}),
    ],
)
def test_the_layout_of_the_devices_decides_about_packages_of_before(tmp_path, options, paths):
    made = tree(tmp_path / "tree", {"/bin/sh": SCRIPT})
    (made / "DEBIAN").mkdir()
    (made / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: X <x@example.org>\nDescription: x\n"
    )
    run("dpkg-deb", "--root-owner-group", "--build", made, tmp_path / "x.deb")
    attestd("profile", "files", tmp_path / "x.deb", "-o", tmp_path / "x.yaml", *options)

    assert set(allowed(tmp_path / "x.yaml")) == paths


@needs("tar")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_an_archive_that_tar_wrote_has_its_files(root, tmp_path, form):
    (root / "usr/bin/again").hardlink_to(root / "usr/bin/app")
    run("tar", f"--format={form}", "-C", root, "-czf", tmp_path / "x.tgz", ".")
    attestd("profile", "files", tmp_path / "x.tgz", "-o", tmp_path / "x.yaml")

    assert allowed(tmp_path / "x.yaml") == {**ALLOWED, "/usr/bin/again": listed(SCRIPT)}


@needs_mke2fs
@needs("sfdisk")
@pytest.mark.parametrize(("label", "kind"), [("gpt", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"), ("dos", "83")])
def test_a_disk_image_has_the_files_of_its_root_partition(root, tmp_path, label, kind):
    made = image(tmp_path / "root.img", root, "-t", "ext4", size="8M")
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(12 << 20))
    first = "uefi" if label == "gpt" else "c"
    layout = f"label: {label}\nstart=2048, size=2048, type={first}\nstart=4096, size=16384, type={kind}\n"
    subprocess.run(["sfdisk", "-q", str(disk)], input=layout, text=True, check=True, capture_output=True)
    with disk.open("r+b") as file:
        file.seek(4096 * 512)
        file.write(made.read_bytes())
    spoken = attestd("profile", "files", disk, "-o", tmp_path / "x.yaml", "--json")

    assert spoken.exit_code == 0, spoken.stderr
    assert allowed(tmp_path / "x.yaml") == ALLOWED


@needs_mke2fs
def test_several_places_are_one_list(root, tmp_path):
    made = image(tmp_path / "root.img", root, "-t", "ext4", size="8M")
    (tmp_path / "initrd").write_bytes(gzip.compress(cpio([executable("init"), executable("usr/bin/app", b"other")])))
    attestd("profile", "files", made, tmp_path / "initrd", "-o", tmp_path / "x.yaml")

    assert allowed(tmp_path / "x.yaml") == {
        **ALLOWED,
        "/init": listed(SCRIPT),
        "/usr/bin/app": tuple(sorted([*listed(SCRIPT), *listed(b"other")])),
    }


@needs("objcopy")
def test_a_unified_kernel_image_has_the_files_of_its_initramfs(tmp_path):
    stub = next(Path("/usr/lib/systemd/boot/efi").glob("linux*.efi.stub"), None)
    if stub is None:
        pytest.skip("apt-get install systemd-boot-efi")
    (tmp_path / "initrd").write_bytes(gzip.compress(cpio([executable("init")])))
    section = f".initrd={tmp_path / 'initrd'}"
    run("objcopy", "--add-section", section, "--change-section-vma", ".initrd=0x3000000", stub, tmp_path / "x.efi")
    attestd("profile", "files", tmp_path / "x.efi", "-o", tmp_path / "x.yaml")

    assert allowed(tmp_path / "x.yaml") == {"/init": listed(SCRIPT)}


def test_an_image_for_uefi_without_an_initramfs_is_refused(tmp_path):
    (tmp_path / "x.efi").write_bytes(b"MZ" + bytes(4000))
    spoken = attestd("profile", "files", tmp_path / "x.efi", "-o", tmp_path / "x.yaml")

    assert (spoken.exit_code, spoken.error) == (1, "image-header")


def test_replacing_needs_a_profile(root, tmp_path):
    assert attestd("profile", "files", root, "--replace", "-o", tmp_path / "x.yaml").exit_code == 2


def test_a_profile_whose_files_are_replaced_lists_the_new_ones_alone(root, tmp_path):
    old = tree(tmp_path / "old", {"/usr/bin/gone": SCRIPT})
    attestd("profile", "files", old, "--name", "x", "-o", tmp_path / "1.yaml")
    attestd("profile", "files", root, "--replace", "--onto", tmp_path / "1.yaml", "-o", tmp_path / "2.yaml")

    assert allowed(tmp_path / "2.yaml") == ALLOWED


def test_the_same_places_give_the_same_document(root, tmp_path):
    for name in ("one", "two"):
        attestd("profile", "files", root, "--name", "x", "-o", tmp_path / f"{name}.yaml")

    assert (tmp_path / "one.yaml").read_bytes() == (tmp_path / "two.yaml").read_bytes()


def test_onto_a_profile_the_next_version_is_written_beside_it(root, tmp_path):
    before = "# Ours.\nprofile: gateway\nversion: 3\npcrs: {7: ignored}\n"
    (tmp_path / "gateway.yaml").write_text(before)
    spoken = attestd(
        "profile", "files", root, "--onto", tmp_path / "gateway.yaml", "-o", tmp_path / "next.yaml", "--json"
    )

    assert (spoken.document["profile"], spoken.document["version"]) == ("gateway", 4)
    assert (tmp_path / "gateway.yaml").read_text() == before
    assert (tmp_path / "next.yaml").read_text().startswith("# Ours.\nprofile: gateway\nversion: 4\n")
    assert allowed(tmp_path / "next.yaml") == ALLOWED


def test_onto_a_profile_its_name_and_version_are_not_for_choosing(root, tmp_path):
    (tmp_path / "x.yaml").write_text("profile: x\nversion: 1\n")
    spoken = attestd("profile", "files", root, "--onto", tmp_path / "x.yaml", "--name", "y", "-o", tmp_path / "y.yaml")

    assert (spoken.exit_code, (tmp_path / "y.yaml").exists()) == (2, False)


def test_nothing_is_overwritten(root, tmp_path):
    (tmp_path / "x.yaml").write_text("mine")
    spoken = attestd("profile", "files", root, "-o", tmp_path / "x.yaml")

    assert (spoken.error, (tmp_path / "x.yaml").read_text()) == ("file-exists", "mine")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a text", "artefact-unknown"),
        (b"", "artefact-unknown"),
        (gzip.compress(b"070701" + b"z" * 200), "archive-malformed"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, content, code):
    (tmp_path / "thing").write_bytes(content)
    spoken = attestd("profile", "files", tmp_path / "thing", "-o", tmp_path / "x.yaml")

    assert (spoken.exit_code, spoken.error) == (1, code)
    assert str(tmp_path / "thing") in spoken.stderr


def test_a_tree_without_code_is_refused(tmp_path):
    spoken = attestd("profile", "files", tree(tmp_path / "t", {"/etc/x": b"x"}, mode=0o644), "-o", tmp_path / "x.yaml")

    assert (spoken.exit_code, spoken.error) == (1, "allow-list-empty")


def test_progress_is_for_terminals_and_for_what_takes_longer_than_a_moment(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now = [0.0]
    monkeypatch.setattr("attestd.cli.artefacts.clock.monotonic", lambda: now[0])
    shown, piped = Terminal(), io.StringIO()
    place = PlaceFiles("a\x1b[2Jplace", "directory", files=7, size=5 << 20)
    for progress in (Progress(shown), Progress(piped)):
        for now[0] in (0.5, 2.0, 2.1):
            progress.tell(place)
        progress.end()
        now[0] = 0.0

    assert piped.getvalue() == ""
    assert shown.getvalue() == "\r\x1b[Ka\\x1b[2Jplace: 7 files, 5 MiB\r\x1b[K"


def test_what_is_refused_says_of_which_place(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"a\nb" * 2000)

    with pytest.raises(CommandFailed, match=r"x\.tar"):
        collect_files([tmp_path / "x.tar"])
