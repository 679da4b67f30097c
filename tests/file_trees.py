"""Packages, archives and initramfs images for tests, written by the rules of their formats; images come from mke2fs itself."""

import gzip
import io
import lzma
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from attestd.reference.files import AllowList, Members, PlaceFiles, Wish, collect

SCRIPT: Final = b"#!/bin/sh\nexit 0\n"
ELF: Final = b"\x7fELF\x02\x01\x01" + bytes(57)
EVERYTHING: Final = Wish(everything=True)

needs_mke2fs = pytest.mark.skipif(shutil.which("mke2fs") is None, reason="no mke2fs (apt-get install e2fsprogs)")


def listed(content: bytes, algorithm: str = "sha256") -> tuple[tuple[str, bytes], ...]:
    """The digests of an allow-list for one content."""
    assert algorithm == "sha256"
    return ((algorithm, sha256(content).digest()),)


def digests(members: Members, wish: Wish = EVERYTHING) -> dict[str, tuple[tuple[str, bytes], ...]]:
    """What members come to, as path and digests."""
    place = collect(members, PlaceFiles("a place", "kind"), wish=wish)
    return {path.decode(): found for path, found in place.digests.items()}


def texts(found: AllowList) -> list[str]:
    return [item.path for item in found.paths]


@dataclass(frozen=True, slots=True)
class Node:
    """A member: a file with content, or a link (`kind`: a letter of tar) to a target."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""


def tar(nodes: Iterable[Node], *, form: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for node in nodes:
            info = tarfile.TarInfo(node.path)
            info.mode, info.type, info.linkname, info.size = node.mode, node.kind, node.target, len(node.content)
            archive.addfile(info, io.BytesIO(node.content))
    return made.getvalue()


def ar(members: Mapping[str, bytes]) -> bytes:
    made = b"!<arch>\n"
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(content):<10}`\n".encode()
        made += header + content + b"\n" * (len(content) % 2)
    return made


def package(nodes: Iterable[Node], *, data: str = "data.tar", conffiles: str = "") -> bytes:
    """A .deb whose data archive has no compression, or that of its name."""
    control = gzip.compress(tar([Node("./conffiles", conffiles.encode())]))
    return ar({"debian-binary": b"2.0\n", "control.tar.gz": control, data: compressed(tar(nodes), data)})


def compressed(content: bytes, name: str) -> bytes:
    if name.endswith(".xz"):
        return lzma.compress(content)
    if name.endswith(".zst"):
        return pytest.importorskip("backports.zstd").compress(content)
    if name.endswith(".gz"):
        return gzip.compress(content)
    return content


def cpio(entries: Iterable[tuple[str, int, bytes]], *, inode: int = 1, links: int = 1) -> bytes:
    """An archive of (name, mode, content); with `links`, its files are names of one inode."""
    made = b"".join(_cpio(name, mode, content, inode if links > 1 else inode + at, links)
                    for at, (name, mode, content) in enumerate(entries))  # fmt: skip
    return made + _cpio("TRAILER!!!", 0, b"", 0, 1)


def _cpio(name: str, mode: int, content: bytes, inode: int, links: int) -> bytes:
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
    head = b"070701" + "".join(f"{value:08x}" for value in fields).encode() + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def executable(name: str, content: bytes = SCRIPT) -> tuple[str, int, bytes]:
    return name, stat.S_IFREG | 0o755, content


def tree(at: Path, files: Mapping[str, bytes], *, mode: int = 0o755) -> Path:
    """Write a tree of files with one mode."""
    for name, content in files.items():
        place = at / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(mode)
    return at


def image(at: Path, content: Path, *options: str, size: str = "16M") -> Path:
    """Make an image of a file system of the ext family with a tree in it, without root."""
    made = subprocess.run(
        ["mke2fs", "-q", "-F", *options, "-d", str(content), str(at), size], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"this mke2fs cannot make {options}: {made.stderr.strip()[:200]}")
    return at


class Bytes:
    """Bytes that can be read at any place."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_at(self, offset: int, size: int, /) -> bytes:
        return self.data[offset : offset + size]
