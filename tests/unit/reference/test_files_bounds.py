"""Images and archives that name more than they have: places behind every file, maps without an end, links without number (E06)."""

import io
import struct
import tarfile
from pathlib import Path

import pytest

from attestd.cli.artefacts import Image, collect_files
from attestd.cli.failures import CommandFailed
from attestd.reference.archive import initramfs_members, tar_members
from attestd.reference.extents import indirect_map
from attestd.reference.files import ArtefactRefused, Kind, Member, PlaceFiles, Wish, collect, follow
from file_trees import SCRIPT, image, needs_mke2fs, tree

BLOCK = 1024
_SUPERBLOCK, _FEATURES, _BLOCKS_HIGH, _DESCRIPTOR = 1024, 1024 + 0x60, 1024 + 0x150, 1024 + 0xFE


def test_e06_a_map_whose_indirect_blocks_name_one_another_is_walked_as_far_as_the_file_goes() -> None:
    """Three levels of 256 numbers each would be 16 million steps for a file of 300 KiB, and billions with larger blocks."""
    asked: list[int] = []

    def block(number: int) -> bytes:
        asked.append(number)
        return struct.pack("<256I", *[8 if number == 9 else 7] * 256) if number > 7 else bytes(BLOCK)

    root = struct.pack("<15I", *[0] * 13, 8, 9)
    assert list(indirect_map(root, block, BLOCK, length=300 * BLOCK)) == []
    assert asked == [8, 7]


def test_e06_a_map_is_read_to_the_files_last_block() -> None:
    root = struct.pack("<15I", *range(100, 112), 8, 0, 0)
    found = list(indirect_map(root, lambda _: struct.pack("<256I", *range(112, 368)), BLOCK, length=13 * BLOCK - 5))
    assert found == [(0, 100, 13)]


@needs_mke2fs
def test_e06_an_image_that_says_it_is_larger_than_any_file_is_refused_and_not_looked_at_there(tmp_path: Path) -> None:
    data = bytearray(image(tmp_path / "small.img", tree(tmp_path / "tree", {"bin/sh": SCRIPT})).read_bytes())
    struct.pack_into("<I", data, _FEATURES, struct.unpack_from("<I", data, _FEATURES)[0] | 0x80)
    struct.pack_into("<H", data, _DESCRIPTOR, 64)
    struct.pack_into("<I", data, _BLOCKS_HIGH, 0x7FFF_FFFF)
    path = tmp_path / "large.img"
    path.write_bytes(data)
    with pytest.raises(CommandFailed) as refusal:
        collect_files([path])
    assert refusal.value.failure.code == "image-short"


@pytest.mark.parametrize("start", [0, 2**62, 2**63, 2**80])
def test_e06_there_is_nothing_at_a_place_that_no_file_has(start: int, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        assert Image(file, start).read_at(2**62, 4096) == b""


def test_e06_symbolic_links_are_counted_like_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestd.reference.files.MAX_ARTEFACT_FILES", 2)
    nothing = io.BytesIO()
    links = [(Member(b"/l%d" % number, Kind.SYMLINK, target=b"t"), nothing) for number in range(3)]
    with pytest.raises(ArtefactRefused) as refusal:
        collect(links, PlaceFiles("place", "tar"), wish=Wish())
    assert refusal.value.code == "artefact-files"


def test_e06_links_that_lead_far_and_back_lead_nowhere() -> None:
    links = {b"/l": b"a/" * 600 + b"../" * 600 + b"l"}
    assert follow(b"/l/d", links) is None
    assert follow(b"/l/d", {b"/l": b"a/" * 400 + b"../" * 400 + b"m"}) == b"/m/d"
    assert follow(b"/l", {b"/l": b"a/" * 520 + b"../" * 520 + b"m"}) is None


def test_e10_a_file_that_a_later_member_replaces_by_one_that_is_not_wanted_is_in_no_list() -> None:
    members = [
        (Member(b"/bin/x", Kind.FILE, 0o755), io.BytesIO(b"an old program")),
        (Member(b"/bin/x", Kind.FILE, 0o644), io.BytesIO(b"a text")),
        (Member(b"/bin/y", Kind.HARDLINK, target=b"/bin/x"), io.BytesIO()),
    ]
    assert collect(members, PlaceFiles("place", "tar"), wish=Wish()).digests == {}


@pytest.mark.parametrize("key", ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.name"])
def test_a_sparse_member_of_a_pax_archive_is_not_taken_for_a_plain_file(key: str) -> None:
    """Its content begins with a map of its holes, and its name is not the file's: its digest would be that of no file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("bin/x")
        member.size, member.pax_headers = 4, {key: "1"}
        archive.addfile(member, io.BytesIO(b"#!/a"))
    packed.seek(0)
    with pytest.raises(ArtefactRefused) as refusal:
        list(tar_members(packed))
    assert refusal.value.code == "archive-sparse"


def newc(name: bytes, *, length: int | None = None) -> bytes:
    """Return one member of a cpio archive without content, whose name is as long as is said."""
    fields = [1, 0o100755, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name) + 1 if length is None else length, 0]
    head = b"070701" + b"".join(b"%08X" % one for one in fields) + name + b"\0"
    return head + bytes(-len(head) % 4)


@pytest.mark.parametrize("length", [0, 4098, 0xFFFF_FFFF])
def test_e06_a_name_of_a_cpio_archive_has_a_length_that_a_path_can_have(length: int) -> None:
    with pytest.raises(ArtefactRefused) as refusal:
        list(initramfs_members(io.BytesIO(newc(b"a" * 4100, length=length) + bytes(8192))))
    assert refusal.value.code == "archive-malformed"


def test_e06_a_cpio_archive_of_too_many_members_is_refused_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestd.reference.archive.MAX_ARTEFACT_FILES", 2)
    with pytest.raises(ArtefactRefused) as refusal:
        list(initramfs_members(io.BytesIO(b"".join(newc(b"f%d" % number) for number in range(3)))))
    assert refusal.value.code == "artefact-files"


def test_e06_a_tar_archive_whose_member_is_larger_than_all_that_is_read_is_refused_at_its_header() -> None:
    header = bytearray(tarfile.TarInfo("bin/x").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (2**60).to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    with pytest.raises(ArtefactRefused) as refusal:
        list(tar_members(io.BytesIO(bytes(header))))
    assert refusal.value.code == "archive-malformed"


@needs_mke2fs
def test_an_encrypted_file_of_an_image_is_a_finding_and_in_no_list(tmp_path: Path) -> None:
    path = image(tmp_path / "x.img", tree(tmp_path / "tree", {"bin/sh": SCRIPT}), "-t", "ext2", "-b", "1024", size="2M")
    data = bytearray(path.read_bytes())
    table, size = struct.unpack_from("<I", data, 2048 + 8)[0] * BLOCK, struct.unpack_from("<H", data, 1024 + 0x58)[0]
    places = [table + number * size for number in range(11, 40)]
    (place,) = [at for at in places if struct.unpack_from("<H", data, at)[0] & 0xF000 == 0x8000]
    assert [one.path for one in collect_files([path]).paths] == ["/bin/sh"]
    struct.pack_into("<I", data, place + 0x20, struct.unpack_from("<I", data, place + 0x20)[0] | 0x800)
    path.write_bytes(data)
    found = collect_files([path])
    assert found.paths == ()
    assert [(one.code, one.path) for one in found.findings] == [("file-encrypted", "/bin/sh")]
