"""Images and archives that name more than they have: places behind every file, maps without an end, links without number (E06)."""

import io
import struct
import tarfile
from pathlib import Path

import pytest

from attestd.cli.artefacts import Image, collect_files
from attestd.cli.failures import CommandFailed
from attestd.reference.archive import tar_members
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
