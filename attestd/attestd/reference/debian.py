"""Debian packages: the files that dpkg will unpack, out of the package itself (deb(5)).

Proves nothing of who made a package: its signature is the archive's, over an index that names the package's digest. Does not run a
package's scripts, so what these write (caches, compiled modules, configuration) is in no list; nor does it know diversions.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from attestd.protocol.limits import MIB
from attestd.reference.archive import ar_members, malformed, tar_members
from attestd.reference.files import ArtefactRefused, Member, PlaceFiles, Readable
from attestd.reference.streams import Slice, Source, inflated, limited

MERGED: Final = (b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/", b"/libo32/")
"""Directories that are links into /usr since Debian 12 (usrmerge); packages of before still name files under them."""
_CONFFILES: Final = MIB


class Layout(Enum):
    """Whether the device's /bin, /sbin and /lib… are links into /usr; `EITHER` where that is not known."""

    MERGED = "merged"
    APART = "apart"
    EITHER = "either"

    def spellings(self, path: bytes) -> Sequence[bytes]:
        """Return the paths under which a kernel names what a package ships at `path`."""
        if self is Layout.APART or not path.startswith(MERGED):
            return (path,)
        merged = b"/usr" + path
        return (merged,) if self is Layout.MERGED else (path, merged)


def package_members(stream: Readable, place: PlaceFiles) -> Iterator[tuple[Member, Readable]]:
    """Yield the members of a package's data archive; `place` hears of configuration files.

    *Raises* `ArtefactRefused` ("archive-…", "artefact-path", "package-format", "zstd-missing").
    """
    seen: list[bytes] = []
    for name, content in ar_members(stream):
        if not seen and (name != b"debian-binary" or not _version(content).startswith(b"2.")):
            raise ArtefactRefused("package-format", "it is an ar archive, and no Debian package of format 2")
        if name.startswith(b"control.tar"):
            _note_conffiles(content, place)
        elif name.startswith(b"data.tar"):
            yield from tar_members(inflated(Source(content)))
            content.drain()  # refuses a package that was cut behind its last file
            return
        seen.append(name)
    raise malformed("no data.tar in the package")


def _version(content: Slice) -> bytes:
    return limited(content, 4)


def _note_conffiles(control: Slice, place: PlaceFiles) -> None:
    """Say which files an administrator may change, so that a device has another content than the package."""
    for member, content in tar_members(inflated(Source(control))):
        if member.path == b"/conffiles":
            listed = limited(content, _CONFFILES)
            place.conffiles |= {line.strip() for line in listed.split(b"\n") if line.startswith(b"/")}
