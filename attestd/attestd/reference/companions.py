"""Files that systemd's stub puts beside the initial ramdisk: archives of one file each, behind it (systemd-stub(7)).

Proves nothing. What is written here is what the stubs of systemd 252 and 257 were seen to hand to a kernel, byte for byte.
"""

from typing import Final

_DIRECTORY: Final = ".extra"
_DIRECTORY_MODE, _FILE_MODE = 0o40555, 0o100444
_TRAILER: Final = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!" + bytes(4)


def archive(name: str, content: bytes) -> bytes:
    """Return an archive (cpio, newc) with one file in the directory that the stub uses."""
    folder = _member(1, _DIRECTORY, _DIRECTORY_MODE, b"")
    return folder + _member(2, f"{_DIRECTORY}/{name}", _FILE_MODE, content) + _TRAILER


def _member(number: int, name: str, mode: int, content: bytes) -> bytes:
    path = name.encode("ascii") + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return padded(head) + padded(content)


def padded(data: bytes) -> bytes:
    """Return bytes filled up to a multiple of four."""
    return data + padding(len(data))


def padding(size: int) -> bytes:
    """Return what fills so many bytes up to a multiple of four."""
    return bytes(-size % 4)
