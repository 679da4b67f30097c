"""An initial ramdisk: a cpio archive in the "newc" format, the same bytes for the same files.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.
"""

import stat
from typing import Final

_MAGIC: Final = "070701"
_END: Final = "TRAILER!!!"


def archive(files: dict[str, bytes], directories: tuple[str, ...]) -> bytes:
    """Return an archive of directories and executable files, owned by root, with time 0."""
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in directories]
    entries += [(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    parts = [_entry(number, *entry) for number, entry in enumerate(entries, 1)]
    return b"".join((*parts, _entry(0, _END, 0, b"")))


def _entry(inode: int, name: str, mode: int, content: bytes) -> bytes:
    """Return one entry: thirteen fields of eight hexadecimal digits, the name, the content, each padded to four bytes."""
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = _MAGIC + "".join(f"{value:08X}" for value in fields) + name + "\0"
    return _padded(head.encode()) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4) * 4, b"\0")
