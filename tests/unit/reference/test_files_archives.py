"""Archives, packages and initramfs images: what unpacks from them is what is listed, and nothing else comes of any bytes."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attestd.protocol.limits import MAX_ARTEFACT_BYTES
from attestd.reference.archive import ar_members, initramfs_members, tar_members
from attestd.reference.debian import Layout, package_members
from attestd.reference.files import ArtefactRefused, PlaceFiles, collect
from attestd.reference.places import kind_of
from attestd.reference.streams import Source, inflated
from file_trees import (
    ELF,
    EVERYTHING,
    SCRIPT,
    Node,
    ar,
    compressed,
    cpio,
    digests,
    executable,
    listed,
    package,
    tar,
)


def of_tar(data):
    return digests(tar_members(io.BytesIO(data)))


def of_initramfs(data):
    return digests(initramfs_members(io.BytesIO(data)))


def of_package(data, layout=Layout.APART):
    place = PlaceFiles("x.deb", "package")
    members = package_members(io.BytesIO(data), place)
    collect(members, place, wish=EVERYTHING, spellings=layout.spellings)
    return {path.decode(): found for path, found in place.digests.items()}


def code_of(read, data):
    with pytest.raises(ArtefactRefused) as refused:
        read(data)
    return refused.value.code


def members_or_error(read, data):
    """Whatever else is raised is what these tests look for."""
    try:
        read(data)
    except ArtefactRefused as error:
        return error.code
    return "members"


LONG = "usr/share/" + "long-name/" * 20 + "file"
ROOT = [
    Node("bin", kind=tarfile.SYMTYPE, target="usr/bin"),
    Node("usr/", kind=tarfile.DIRTYPE),
    Node("usr/bin/app", SCRIPT, 0o755),
    Node("usr/bin/again", kind=tarfile.LNKTYPE, target="usr/bin/app"),
    Node("dev/null", kind=tarfile.CHRTYPE),
    Node(LONG, ELF),
]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_archive_has_its_files_whatever_the_dialect(form):
    wanted = {"/usr/bin/app": SCRIPT, "/usr/bin/again": SCRIPT, f"/{LONG}": ELF}

    assert of_tar(tar(ROOT, form=form)) == {path: listed(content) for path, content in wanted.items()}


def test_a_name_outside_ascii_is_read_from_its_pax_header():
    assert set(of_tar(tar([Node("opt/Ärger", SCRIPT)], form=tarfile.PAX_FORMAT))) == {"/opt/Ärger"}


@pytest.mark.parametrize("end", [0, 100, 512, 700])
def test_a_tar_archive_that_ends_in_a_member_is_refused(end):
    data = tar([Node("a", b"x" * 2000)])[: 512 + end]

    assert code_of(of_tar, data) == "archive-short"


def test_a_tar_archive_without_its_end_is_read_to_where_it_ends():
    data = tar([Node("a", SCRIPT)])[:1024]

    assert set(of_tar(data)) == {"/a"}


def test_a_header_of_tar_whose_checksum_is_wrong_is_refused():
    data = bytearray(tar([Node("a", SCRIPT)]))
    data[0] ^= 1

    assert code_of(of_tar, bytes(data)) == "archive-malformed"


def test_sparse_members_are_refused_since_their_content_is_not_what_is_stored():
    data = tar([Node("a", SCRIPT, kind=tarfile.GNUTYPE_SPARSE)])

    assert code_of(of_tar, data) == "archive-sparse"


def test_a_member_of_an_unknown_type_is_refused():
    assert code_of(of_tar, tar([Node("a", kind=b"Z")])) == "archive-malformed"


@pytest.mark.parametrize("name", ["../x", "usr/../../x"])
def test_a_member_with_a_path_that_climbs_is_refused(name):
    assert code_of(of_tar, tar([Node(name, SCRIPT)])) == "artefact-path"


def test_an_absolute_name_is_a_path_in_the_tree():
    assert set(of_tar(tar([Node("/usr/bin/x", SCRIPT)]))) == {"/usr/bin/x"}


@pytest.mark.parametrize("data", ["data.tar", "data.tar.gz", "data.tar.xz", "data.tar.zst"])
def test_a_package_has_the_files_of_its_data_archive(data):
    assert of_package(package([Node("./usr/bin/app", SCRIPT, 0o755)], data=data)) == {"/usr/bin/app": listed(SCRIPT)}


@pytest.mark.parametrize(
    ("layout", "paths"),
    [
        (Layout.APART, {"/bin/sh", "/usr/bin/x"}),
        (Layout.MERGED, {"/usr/bin/sh", "/usr/bin/x"}),
        (Layout.EITHER, {"/bin/sh", "/usr/bin/sh", "/usr/bin/x"}),
    ],
)
def test_a_package_that_ships_files_in_bin_has_the_paths_of_the_devices_layout(layout, paths):
    assert set(of_package(package([Node("./bin/sh", ELF), Node("./usr/bin/x", ELF)]), layout)) == paths


def test_files_that_administrators_change_are_known_from_the_control_archive():
    place = PlaceFiles("x.deb", "package")
    list(package_members(io.BytesIO(package([], conffiles="/etc/default/x\nremove-on-upgrade /etc/y\n")), place))

    assert place.conffiles == {b"/etc/default/x"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (ar({"hello": b"x"}), "package-format"),
        (ar({"debian-binary": b"3.0\n"}), "package-format"),
        (ar({"debian-binary": b"2.0\n"}), "archive-malformed"),
        (ar({"debian-binary": b"2.0\n", "data.tar.xz": b"\xfd7zXZ\0garbage"}), "archive-compression"),
        (package([Node("./a", SCRIPT)])[:-600], "archive-short"),
        (package([Node("./../a", SCRIPT)]), "artefact-path"),
        (b"!<arch>\n" + b"x" * 60, "archive-malformed"),
    ],
)
def test_what_is_no_package_is_refused(data, code):
    assert code_of(of_package, data) == code


def test_ar_members_lie_at_even_places():
    read = [(name, content.read(9)) for name, content in ar_members(io.BytesIO(ar({"a": b"x", "b": b"yy"})))]

    assert read == [(b"a", b"x"), (b"b", b"yy")]


def test_archives_behind_one_another_are_one_initramfs():
    early, late = cpio([executable("early/microcode.sh")]), cpio([executable("init")])
    data = early + bytes(512) + gzip.compress(late) + bytes(16) + lzma.compress(cpio([executable("bin/x")]))

    assert set(of_initramfs(data)) == {"/early/microcode.sh", "/init", "/bin/x"}


def test_archives_behind_one_another_inside_of_one_compression_are_read_too():
    data = gzip.compress(cpio([executable("a")]) + bytes(8) + cpio([executable("b")])) + gzip.compress(
        cpio([executable("c")])
    )

    assert set(of_initramfs(data)) == {"/a", "/b", "/c"}


def test_a_later_archive_of_an_initramfs_replaces_files_of_an_earlier_one():
    data = cpio([executable("init", b"old")]) + cpio([executable("init", b"new")])

    assert of_initramfs(data) == {"/init": listed(b"new")}


def test_an_initramfs_with_a_merged_usr_has_the_paths_behind_its_links():
    data = cpio([("bin", stat.S_IFLNK | 0o777, b"usr/bin"), executable("bin/kmod")])

    assert set(of_initramfs(data)) == {"/usr/bin/kmod"}


@pytest.mark.parametrize("contents", [(b"", b"", SCRIPT), (SCRIPT, b"", b""), (b"", SCRIPT, b"")])
def test_all_names_of_one_inode_have_the_content_that_one_of_them_carries(contents):
    data = cpio([executable(name, content) for name, content in zip("abc", contents, strict=True)], links=3)

    assert of_initramfs(data) == dict.fromkeys(["/a", "/b", "/c"], listed(SCRIPT))


def test_an_inode_of_which_no_name_has_content_is_empty():
    assert of_initramfs(cpio([executable("a", b""), executable("b", b"")], links=2)) == dict.fromkeys(
        ["/a", "/b"], listed(b"")
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (cpio([executable("a")])[:-1], "archive-short"),
        (cpio([executable("a")])[:60], "archive-short"),
        (cpio([executable("../a")]), "artefact-path"),
        (cpio([executable("a")]).replace(b"070701", b"070707", 1), "archive-malformed"),
        (cpio([executable("a")]).replace(b"070701000", b"070701+0x", 1), "archive-malformed"),
        (cpio([("TRAILER!!!", 0, bytes(70_000))]), "archive-malformed"),
        (b"\x02\x21\x4c\x18" + bytes(16), "archive-compression"),
        (gzip.compress(gzip.compress(cpio([executable("a")]))), "archive-malformed"),
    ],
)
def test_what_is_no_initramfs_is_refused(data, code):
    assert code_of(of_initramfs, data) == code


def of_compressed(data):
    return digests(tar_members(inflated(Source(io.BytesIO(data)))))


PACKERS = (gzip.compress, lzma.compress, bz2.compress, lambda data: compressed(data, ".zst"))


@pytest.mark.parametrize("pack", PACKERS)
def test_a_compressed_archive_has_the_files_of_the_archive(pack):
    assert of_compressed(pack(tar(ROOT))) == of_tar(tar(ROOT))


@pytest.mark.parametrize("pack", PACKERS)
def test_a_compressed_archive_that_was_cut_behind_its_last_file_is_refused(pack):
    assert code_of(of_compressed, pack(tar(ROOT))[:-5]) == "archive-short"


def test_compressed_data_whose_checksum_is_wrong_is_refused():
    data = bytearray(gzip.compress(tar(ROOT)))
    data[-8] ^= 1

    assert code_of(of_compressed, bytes(data)) == "archive-compression"


def test_a_stream_that_unpacks_to_too_much_is_refused_before_it_does(monkeypatch):
    assert MAX_ARTEFACT_BYTES > 1 << 30
    monkeypatch.setattr("attestd.reference.streams.MAX_ARTEFACT_BYTES", 1000)
    source = inflated(Source(io.BytesIO(gzip.compress(bytes(100_000)))))

    with pytest.raises(ArtefactRefused) as refused:
        source.read(100_000)

    assert refused.value.code == "artefact-size"


def test_without_a_reader_of_zstd_the_error_names_what_brings_one(monkeypatch):
    data = compressed(b"x", ".zst")
    monkeypatch.setattr("attestd.reference.streams._ZSTD", ("a.module.that.is.not.there",))

    with pytest.raises(ArtefactRefused, match=r"attestd\[authoring\]") as refused:
        inflated(Source(io.BytesIO(data)))

    assert refused.value.code == "zstd-missing"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (package([]), "package"),
        (tar(ROOT), "archive"),
        (gzip.compress(tar(ROOT)), "archive"),
        (cpio([executable("init")]), "initramfs"),
        (lzma.compress(cpio([executable("init")])), "initramfs"),
        (b"MZ" + bytes(4000), "uki"),
        (bytes(1080) + b"\x53\xef" + bytes(4000), "ext4"),
        (bytes(512) + b"EFI PART" + bytes(4000), "disk"),
        (bytes(510) + b"\x55\xaa" + bytes(4000), "disk"),
    ],
)
def test_a_files_kind_is_told_by_its_bytes(data, kind):
    assert kind_of(io.BytesIO(data)) == kind


@pytest.mark.parametrize("data", [b"", b"hello", b"hsqs" + bytes(99), b"PK\3\4", gzip.compress(b"a text"), b"BZ"])
def test_a_file_of_another_kind_is_refused(data):
    assert code_of(lambda x: kind_of(io.BytesIO(x)), data) == "artefact-unknown"


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120).filter(
    lambda name: name not in (".", "..")
)


@settings(max_examples=150, deadline=None)
@given(
    files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=1100), max_size=6),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_whatever_tar_can_store_is_read_as_it_was(files, form):
    data = tar([Node(f"./{path}", content) for path, content in files.items()], form=form)

    assert of_tar(data) == {f"/{path}": listed(content) for path, content in files.items()}


@settings(max_examples=100, deadline=None)
@given(
    files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=1100), max_size=6)
)
def test_whatever_cpio_can_store_is_read_as_it_was(files):
    data = cpio([executable(path, content) for path, content in files.items()])

    assert of_initramfs(data) == {f"/{path}": listed(content) for path, content in files.items()}


READERS = {
    "tar": (tar(ROOT), of_tar),
    "pax": (tar(ROOT, form=tarfile.PAX_FORMAT), of_tar),
    "package": (package(ROOT, data="data.tar.gz", conffiles="/etc/x"), of_package),
    "cpio": (cpio([executable("a"), ("l", stat.S_IFLNK, b"a"), executable("b")], links=2), of_initramfs),
    "zstd": (compressed(cpio([executable("a")]), ".zst"), of_initramfs),
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_bytes_that_were_changed_anywhere_give_members_or_the_one_error(name, data):
    whole, read = READERS[name]
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(0, len(changed)))])
    assert members_or_error(read, cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from([of_tar, of_initramfs, of_package, lambda x: kind_of(io.BytesIO(x))]))
@example(b"", of_tar)
def test_bytes_of_any_kind_give_members_or_the_one_error(data, read):
    assert members_or_error(read, data)
