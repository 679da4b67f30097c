"""Artefacts that profiles are made from: images, unified kernels, disks, packages, archives, file systems, key files."""

import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final
from uuid import UUID
from zlib import crc32

import cert_forge
from attestd.appraisal.document import ProfileError
from attestd.appraisal.profile import parse_profile_yaml
from attestd.evidence.types import Component
from attestd.inspection.authority import Authorities
from attestd.inspection.refused import InspectionRefused
from attestd.reference.allowlist import onto
from attestd.reference.archive import ar_members, initramfs_members, tar_members
from attestd.reference.authenticode import image_digest
from attestd.reference.debian import package_members
from attestd.reference.disk import root_partition
from attestd.reference.draft import next_version
from attestd.reference.ext4 import image_members
from attestd.reference.files import ArtefactRefused, Member, PlaceFiles, Readable, Wish, collect, combine
from attestd.reference.gpt import partition_table
from attestd.reference.imageauthority import authority, signatures, signed_digest
from attestd.reference.manifest import ManifestRefused, Trust, read_manifest
from attestd.reference.manifest_profile import draft
from attestd.reference.manifest_values import Reading, values_of
from attestd.reference.manifest_yaml import new_text, next_text
from attestd.reference.pe import parse_image
from attestd.reference.places import kind_of, ramdisk
from attestd.reference.predict import Foreseen, Prediction
from attestd.reference.signaturedatabase import signature_database
from attestd.reference.streams import Source, inflated
from attestd.reference.uki import is_unified, unified_kernel
from attestd_agent.lab.authenticode import pe_image
from attestd_agent.lab.firmware import BootImage
from attestd_pki import der
from attestd_pki.chain import TrustStore
from fuzz.of_inspection import manifests
from fuzz.of_policy import yamls
from fuzz.of_tpm import each
from fuzz.target import Target

_MOST_UNPACKED: Final = 8 << 20
"""Of what an input unpacks to, no more is looked at: here the work is held against the size of the input."""
_PROFILE: Final = next(yamls()).decode()
_OWNER: Final = UUID(int=7)


# --- Seeds ----------------------------------------------------------------------------------------------------------------


def image(sections: dict[str, bytes], signature: bytes = b"") -> bytes:
    """Return a PE32+ image with these sections, and a signature behind them."""
    at = 0x400
    table = body = b""
    for name, content in sections.items():
        stored = content.ljust(-(-len(content) // 512) * 512, b"\0")
        table += struct.pack(
            "<8sIIIIIIHHI", name.encode(), len(content), 0x1000, len(stored), at + len(body), 0, 0, 0, 0, 0
        )
        body += stored
    entry = struct.pack("<IHH", 8 + len(signature), 0x0200, 2) + signature if signature else b""
    entry = entry.ljust(-(-len(entry) // 8) * 8, b"\0")
    made = bytearray(pe_image(b""))[: 0x40 + 24 + 240]
    struct.pack_into("<H", made, 0x40 + 6, len(sections))
    struct.pack_into("<I", made, 0x40 + 24 + 60, at)
    if entry:
        struct.pack_into("<II", made, 0x40 + 24 + 112 + 4 * 8, at + len(body), len(entry))
    return bytes(made + table).ljust(at, b"\0") + body + entry


def signed_data(digest: bytes = bytes(32)) -> bytes:
    """Return a SignedData over SpcIndirectDataContent, by nobody."""

    def oid(text: str) -> bytes:
        return der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex(text))

    def sequence(*parts: bytes) -> bytes:
        return der.encode(der.SEQUENCE, b"".join(parts))

    root = cert_forge.make(cert_forge.ROOT)
    sha256 = sequence(oid("608648016503040201"), b"\x05\x00")
    indirect = sequence(sequence(oid("2b060104018237020104")), sequence(sha256, der.encode(der.OCTET_STRING, digest)))
    content = sequence(oid("2b060104018237020104"), der.encode(0xA0, indirect))
    subject = der.elements(der.only(root.tbs, der.SEQUENCE).content)[3].raw
    signer = sequence(der.encode(2, b"\1"), sequence(subject, der.encode(2, bytes((77,)))), sha256)
    fields = (
        der.encode(2, b"\1"),
        der.encode(0x31, sha256),
        content,
        der.encode(0xA0, root.der),
        der.encode(0x31, signer),
    )
    return sequence(oid("2a864886f70d010702"), der.encode(0xA0, sequence(*fields)))


def _images() -> Iterator[bytes]:
    yield pe_image(b"a loader" * 99)
    stub = b"#### LoaderInfo: systemd-stub 252.39 ####\0.osrel\0.cmdline\0.linux\0.initrd\0.uname\0.sbat\0"
    parts = {
        ".text": stub,
        ".osrel": b"ID=debian\n",
        ".cmdline": b"ro quiet\0",
        ".linux": pe_image(b"k"),
        ".initrd": b"i" * 600,
    }
    yield image(parts)
    whole = image({".text": b"x" * 700})
    yield image({".text": b"x" * 700}, signed_data(image_digest(parse_image(whole), "sha256")))


def _disks() -> Iterator[bytes]:
    name = "EFI".encode("utf-16-le").ljust(72, b"\0")
    entries = (bytes(range(32)) + struct.pack("<QQQ", 34, 99, 0) + name).ljust(4 * 128, b"\0")
    head = struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 99, 34, 90, bytes(16), 2, 4, 128, crc32(entries)
    )
    yield bytes(512) + head[:16] + struct.pack("<I", crc32(head)) + head[20:] + bytes(420) + entries


def _tar(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.mode, member.size = 0o755, 5
            archive.addfile(member, io.BytesIO(b"#!/a\n"))
        link = tarfile.TarInfo("usr/l")
        link.type, link.linkname = tarfile.SYMTYPE, "../bin"
        archive.addfile(link)
        hard = tarfile.TarInfo("usr/h")
        hard.type, hard.linkname = tarfile.LNKTYPE, names[0]
        archive.addfile(hard)
    return out.getvalue()


def _ar(**members: bytes) -> bytes:
    made = b"!<arch>\n"
    for name, content in members.items():
        made += f"{name.replace('_', '.'):<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        made += b"\n" if len(content) % 2 else b""
    return made


def _cpio(*names: str, inode: int = 1) -> bytes:
    made = b""
    for name in (*names, "TRAILER!!!"):
        content = b"" if name == "TRAILER!!!" else b"\x7fELF" + name.encode()
        numbers = (inode, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name.encode() + b"\0"
        made += head.ljust(-(-len(head) // 4) * 4, b"\0") + content.ljust(-(-len(content) // 4) * 4, b"\0")
        inode += 1
    return made


def _packages() -> Iterator[bytes]:
    data, control = _tar("./bin/a", "./usr/lib/b.so"), _tar("./control", "./conffiles")
    yield _ar(
        debian_binary=b"2.0\n", control_tar_gz=gzip.compress(control, mtime=0), data_tar_xz=lzma.compress(data)
    ).replace(b"debian.binary", b"debian-binary")
    yield _ar(debian_binary=b"2.0\n", control_tar=control, data_tar=data).replace(b"debian.binary", b"debian-binary")


def _archives() -> Iterator[bytes]:
    yield _tar("./bin/a", "usr/lib/" + "b" * 120)
    yield gzip.compress(_tar("bin/a"), mtime=0)
    yield _cpio("init", "bin/sh")
    yield _cpio("kernel/x86") + bytes(512) + gzip.compress(_cpio("init"), mtime=0)
    yield _ar(a=b"b")


@cache
def _file_systems() -> tuple[bytes, ...]:
    """Return small images of the ext family, made by the tool that makes them; none where it is missing."""
    tool = shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin:/bin")
    made = []
    for kind in ("ext2", "ext4") if tool else ():
        with tempfile.TemporaryDirectory(prefix="attestd-fuzz-") as place:
            tree = Path(place) / "tree"
            (tree / "bin").mkdir(parents=True)
            (tree / "bin" / "sh").write_bytes(b"\x7fELF" * 500)
            (tree / "link").symlink_to("bin/sh")
            target = Path(place) / "image"
            options = [
                "-q",
                "-F",
                "-t",
                kind,
                "-b",
                "1024",
                "-N",
                "16",
                "-O",
                "^has_journal,^resize_inode,^metadata_csum,^flex_bg",
                "-d",
                str(tree),
            ]
            subprocess.run([str(tool), *options, str(target), "63"], check=True, capture_output=True)
            made.append(target.read_bytes().ljust(63 << 10, b"\0"))
    return tuple(made)


def _key_files() -> Iterator[bytes]:
    yield from (BootImage().db, b"\7\0\0\0" + BootImage().dbx, cert_forge.make(cert_forge.ROOT).der)
    yield b"# revoked\n" + b"ab" * 32 + b"  shim\n"
    yield (
        bytes(16)
        + struct.pack("<IHH", 24, 0x0200, 0x0EF1)
        + UUID("4aafd29d-68df-49ee-8aa9-347d375665a7").bytes_le
        + BootImage().dbx
    )


# --- What is done with the bytes ----------------------------------------------------------------------------------------------


class _Positioned:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, offset: int, size: int, /) -> bytes:
        return self._data[offset : offset + size]


class _Bounded:
    """A stream that ends after so many bytes of whatever it gives."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = _MOST_UNPACKED

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def _image(data: bytes) -> None:
    each(lambda: ramdisk(data), own=ArtefactRefused)
    found = parse_image(data)
    for bank in ("sha1", "sha256"):
        each(lambda bank=bank: image_digest(found, bank), own=ArtefactRefused)  # type: ignore[misc]
    each(lambda: [signed_digest(one) for one in signatures(found)], own=ArtefactRefused)
    each(lambda: authority(found, _database()), own=ArtefactRefused)
    for section in found.sections:
        each(lambda section=section: found.content(section), own=ArtefactRefused)  # type: ignore[misc]
    if is_unified(found):
        unified_kernel(found)


@cache
def _database() -> bytes:
    return signature_database(cert_forge.make(cert_forge.ROOT).der, owner=_OWNER)


def _files(members: Callable[[PlaceFiles], Iterable[tuple[Member, Readable]]]) -> None:
    place = PlaceFiles("it", "archive")
    bounded = ((member, _Bounded(content)) for member, content in members(place))
    collect(bounded, place, wish=Wish(everything=True))


def _archive(data: bytes) -> None:
    each(
        lambda: kind_of(io.BytesIO(data)),
        lambda: _files(lambda place: tar_members(_Bounded(inflated(Source(io.BytesIO(data)))))),
        lambda: _files(lambda place: initramfs_members(io.BytesIO(data))),
        lambda: [content.drain() for _, content in ar_members(io.BytesIO(data))],
        own=ArtefactRefused,
    )


def _disk(data: bytes) -> None:
    each(lambda: root_partition(_Positioned(data)), own=ArtefactRefused)
    partition_table(data)


def _edited(data: bytes) -> None:
    """What is written into a profile of somebody's is a profile again, and a later one."""
    text = data.decode("utf-8", "surrogateescape")
    place = PlaceFiles("it", "archive", digests={b"/bin/a b": (("sha256", bytes(32)),)})
    each(lambda: _later(text, onto(text, combine((place,)))), own=(ArtefactRefused, ProfileError))
    _later(text, next_version(text, _foretold()).text)


def _foretold() -> Prediction:
    """Return two claims of a boot to come."""
    made = [Component(claim, 4, 7, bytes(32), "a value", "a label") for claim in ("loader", "kernel-command-line")]
    return Prediction(
        "sha256",
        None,
        tuple(Foreseen(one, "a file", True, "what it stands for: # a\nb") for one in made),
        (),
        (),
        frozenset(),
    )


def _later(old: str, new: str) -> None:
    assert parse_profile_yaml(new).version > parse_profile_yaml(old).version


def _manifest(data: bytes) -> None:
    authorities = Authorities(store=TrustStore.of((cert_forge.make(cert_forge.ROOT),)))
    refusals = (ManifestRefused, InspectionRefused)
    each(
        lambda: read_manifest(data, file="f", authorities=authorities, trust=Trust.AUTHORITIES, at=cert_forge.NOW),
        own=refusals,
    )
    found = read_manifest(data, file="f", authorities=Authorities(), trust=Trust.ANYBODY, at=cert_forge.NOW)
    values = values_of([found], {}, Reading(numbers_are_registers=True))
    if not values.empty:
        text = new_text(draft(values, None), values, [found], name="imported", version=1)
        assert parse_profile_yaml(text).name == "imported"
        onto_this = parse_profile_yaml(_PROFILE)
        made = draft(values, onto_this)
        _later(_PROFILE, next_text(_PROFILE, onto_this, made, values, [found], name="edge", version=9))


def _keys(data: bytes) -> None:
    each(lambda: signature_database(data), own=ArtefactRefused)
    signature_database(data, owner=_OWNER)


_OWN: Final = (ArtefactRefused,)

TARGETS: Final = {
    "image": Target(
        _image,
        _OWN,
        _images,
        (parse_image, ramdisk, image_digest, unified_kernel, signatures, signed_digest, authority),
        form="places",
    ),
    "spcdata": Target(lambda data: signed_digest(data), _OWN, lambda: [signed_data()], (signed_digest,), form="der"),
    "gpt": Target(_disk, _OWN, _disks, (partition_table, root_partition), form="disk"),
    "profileedit": Target(_edited, (ArtefactRefused, ProfileError), yamls, (onto, next_version)),
    "manifest": Target(
        _manifest,
        (ManifestRefused, InspectionRefused),
        manifests,
        (read_manifest, next_text),
        ("rim/*/*", "corim/*/*"),
        "cbor",
    ),
    "keyfiles": Target(_keys, _OWN, _key_files, (signature_database,), ("uefi/**/*", "cert/ek/*"), "der"),
    "package": Target(
        lambda data: _files(lambda place: package_members(io.BytesIO(data), place)), _OWN, _packages, (package_members,)
    ),
    "archive": Target(
        _archive, (), _archives, (kind_of, tar_members, initramfs_members, ar_members, inflated), form="tar"
    ),
    "ext4": Target(
        lambda data: _files(lambda place: image_members(_Positioned(data), place)),
        _OWN,
        _file_systems,
        (image_members,),
    ),
}
