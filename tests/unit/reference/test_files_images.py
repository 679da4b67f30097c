"""Images that mke2fs made have the files that it was given; damaged ones end in the one error."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestd.reference.disk import root_partition
from attestd.reference.ext4 import image_members
from attestd.reference.extents import tree_map
from attestd.reference.files import ArtefactRefused, PlaceFiles
from file_trees import ELF, SCRIPT, Bytes, digests, image, listed, needs_mke2fs, tree

FILES = {
    "/usr/bin/app": SCRIPT,
    "/usr/bin/" + "n" * 255: ELF,
    "/usr/lib/libx.so.1": bytes(range(256)) * 2000,
    "/empty": b"",
    "/opt/Ärger": b"x" * 100,
    "/opt/exactly": b"y" * 4096,
    **{f"/many/file-with-a-rather-long-name-that-fills-blocks-{number:04}": b"%d" % number for number in range(400)},
}
WANTED = {path: listed(content) for path, content in FILES.items()}


def of_image(data):
    return digests(image_members(Bytes(data), PlaceFiles("x.img", "ext4")))


def code_of(data):
    with pytest.raises(ArtefactRefused) as refused:
        of_image(data)
    return refused.value.code


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> bytes:
    """A small image of ext4 as bytes."""
    at = tmp_path_factory.mktemp("image")
    return image(at / "x.img", tree(at / "tree", FILES), "-t", "ext4", "-b", "1024", size="4M").read_bytes()


@needs_mke2fs
@pytest.mark.parametrize(
    "options",
    [
        "-t ext4",
        "-t ext4 -b 1024",
        "-t ext4 -b 65536",
        "-t ext2",
        "-t ext3 -b 2048",
        "-t ext2 -b 1024 -r 0",
        "-t ext4 -O inline_data -I 256",
        "-t ext4 -O inline_data -I 1024",
        "-t ext4 -O meta_bg,^resize_inode -b 1024",
        "-t ext4 -O bigalloc",
        "-t ext4 -O ^64bit,^flex_bg",
        "-t ext4 -O ^filetype",
        "-t ext2 -O sparse_super2,meta_bg,^resize_inode -b 1024",
        "-t ext4 -O casefold,encrypt,verity,metadata_csum_seed,large_dir,ea_inode,mmp",
    ],
)
def test_an_image_has_the_files_of_its_tree(options, tmp_path):
    made = image(tmp_path / "x.img", tree(tmp_path / "tree", FILES), *options.split(), size="40M")

    assert of_image(made.read_bytes()) == WANTED


@needs_mke2fs
@pytest.mark.parametrize("kind", ["ext2", "ext4"])
def test_holes_of_a_file_are_zeros(kind, tmp_path):
    content = bytes(300_000) + b"in the middle" + bytes(9_000_000) + b"at the end"
    made = image(tmp_path / "x.img", tree(tmp_path / "tree", {"/sparse": content}), "-t", kind)

    assert of_image(made.read_bytes()) == {"/sparse": listed(content)}


@needs_mke2fs
def test_links_and_special_files_of_an_image_are_not_listed(tmp_path):
    made = tree(tmp_path / "tree", {"/a": SCRIPT})
    (made / "link").symlink_to("a")
    (made / "again").hardlink_to(made / "a")

    found = of_image(image(tmp_path / "x.img", made, "-t", "ext4").read_bytes())

    assert set(found) == {"/a", "/again"}


@needs_mke2fs
def test_an_image_whose_journal_was_not_replayed_is_refused(small):
    data = bytearray(small)
    data[1024 + 0x60] |= 0x4

    assert code_of(data) == "image-journal"


@needs_mke2fs
def test_an_image_with_a_feature_that_is_not_known_is_refused(small):
    data = bytearray(small)
    data[1024 + 0x63] |= 0x80

    assert code_of(data) == "image-features"


@needs_mke2fs
@pytest.mark.parametrize("part", [0.02, 0.4, 0.9999])
def test_an_image_that_was_cut_is_refused(small, part):
    assert code_of(small[: int(len(small) * part)]) == "image-short"


@pytest.mark.parametrize("data", [b"", bytes(5000), bytes(1080) + b"\x53\xef" + bytes(3000)])
def test_what_has_no_file_system_is_refused(data):
    assert code_of(data) == "image-malformed"


@needs_mke2fs
@pytest.mark.parametrize("name", [b"../../etc/cron", b"a/b/../../../x"])
def test_a_name_with_a_slash_in_a_directory_is_refused(small, name):
    wanted = b"exactly"
    entry = struct.pack("BB", len(wanted), 1) + wanted
    assert small.count(entry) == 1
    data = small.replace(entry, struct.pack("BB", len(wanted), 1) + name[: len(wanted)])

    assert code_of(data) == "image-malformed"


@needs_mke2fs
def test_a_directory_that_is_in_itself_is_refused(small):
    opt, usr = (small.index(struct.pack("BB", len(name), 2) + name) for name in (b"opt", b"usr"))
    data = bytearray(small)
    data[opt - 6 : opt - 2] = data[usr - 6 : usr - 2]

    assert code_of(data) == "image-malformed"


@needs_mke2fs
def test_files_larger_than_all_that_is_read_are_refused(small, monkeypatch):
    monkeypatch.setattr("attestd.reference.ext4.MAX_ARTEFACT_BYTES", 100_000)

    assert code_of(small) == "artefact-size"


@needs_mke2fs
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 255)), min_size=1, max_size=40))
def test_an_image_with_changed_bytes_gives_members_or_the_one_error(small, changes):
    data = bytearray(small)
    for at, value in changes:
        data[at] = value
    try:
        found = len(of_image(data))
    except ArtefactRefused as error:
        found = len(error.code)

    assert found >= 0


def node(depth: int, *entries: bytes) -> bytes:
    return (struct.pack("<HHHHI", 0xF30A, len(entries), 84, depth, 0) + b"".join(entries)).ljust(1024, b"\0")


@pytest.mark.parametrize(
    "root",
    [
        node(0, struct.pack("<IHHI", 0, 0, 0, 5)),
        node(0, struct.pack("<IHHI", 9, 2, 0, 5), struct.pack("<IHHI", 3, 1, 0, 9)),
        node(1, struct.pack("<IIHH", 0, 7, 0, 0)),
        node(6, struct.pack("<IIHH", 0, 7, 0, 0)),
        b"nothing".ljust(60, b"\0"),
    ],
    ids=["an extent of nothing", "one before the last", "an empty leaf", "too deep", "no tree"],
)
def test_a_tree_of_extents_that_leads_nowhere_is_refused(root):
    with pytest.raises(ArtefactRefused):
        list(tree_map(root, lambda _: node(0)))


def test_extents_that_were_never_written_are_zeros():
    extent = struct.pack("<IHHI", 4, 32768 + 3, 0, 99)

    assert list(tree_map(node(0, extent), lambda _: b"")) == [(4, None, 3)]


EXT = bytes(1080) + b"\x53\xef" + bytes(2048)


def mbr(*partitions: tuple[int, int, int]) -> bytes:
    """A disk with a table of the older kind: type, first sector, sectors."""
    entries = b"".join(struct.pack("<4xB3xII", *partition) for partition in partitions)
    return bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa"


def disk(table: bytes, *places: int) -> Bytes:
    data = bytearray(table.ljust(64 * 1024, b"\0"))
    for at in places:
        data[at : at + len(EXT)] = EXT
    return Bytes(bytes(data))


def test_the_one_partition_with_a_file_system_is_the_root():
    found = root_partition(disk(mbr((0x0C, 8, 8), (0x83, 32, 64)), 32 * 512))

    assert (found.number, found.start, found.size) == (2, 32 * 512, 64 * 512)


def test_of_several_partitions_one_has_to_be_chosen():
    two = disk(mbr((0x83, 8, 16), (0x83, 32, 64)), 8 * 512, 32 * 512)

    with pytest.raises(ArtefactRefused, match=r"1 \(0 MiB\), 2 \(0 MiB\)"):
        root_partition(two)
    assert root_partition(two, 2).start == 32 * 512


@pytest.mark.parametrize("table", [mbr(), mbr((0x0C, 8, 8)), mbr((0x83, 2**31, 5)), b""])
def test_a_disk_without_such_a_file_system_is_refused(table):
    with pytest.raises(ArtefactRefused, match="none of ext2"):
        root_partition(disk(table))


def test_a_damaged_partition_table_is_refused():
    with pytest.raises(ArtefactRefused) as refused:
        root_partition(Bytes(bytes(512) + b"EFI PART" + bytes(4000)))

    assert refused.value.code == "gpt-header"
