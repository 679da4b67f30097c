"""Files that nobody else may read, written so that a power cut leaves the whole file or none.

Proves, of `create`, that it replaced nothing: the name was free and now holds exactly these bytes with exactly this mode,
whatever the umask is. Assumes a local POSIX file system. Does not choose names.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from attestd import clock

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
DIRECTORY: Final = 0o700


class FileExists(Exception):
    """There is a file of this name already, and it was left as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already")
        self.path = path


def create(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Write a new file. Its directory is made (0700) where it is missing. *Raises* FileExists, OSError."""
    path.parent.mkdir(mode=DIRECTORY, parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{clock.random_bytes(4).hex()}"
    try:
        _write(temporary, data, mode)
        try:
            os.link(temporary, path)  # unlike rename(2), link(2) fails where the name is taken
        except FileExistsError:
            raise FileExists(path) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    _sync(path.parent)


def replace(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Write a file over whatever has its name. *Raises* OSError, and then the old file is untouched."""
    temporary = path.parent / f".{path.name}.{clock.random_bytes(4).hex()}"
    try:
        _write(temporary, data, mode)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync(path.parent)


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)  # the umask does not apply here
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
