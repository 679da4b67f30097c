"""What kind of thing a file with files in it is: told by its first bytes, never by its name.

What is none of them is refused with what to do instead.
"""

from typing import Final, Literal

from attestd.reference.archive import AR, CPIO
from attestd.reference.files import ArtefactRefused, Readable
from attestd.reference.pe import Bytes, parse_image
from attestd.reference.streams import Source, inflated, is_compressed

Place = Literal["package", "initramfs", "archive", "ext4", "disk", "uki"]
_LOOK: Final = 4096
_INSTEAD: Final = (
    (b"hsqs", "it is a squashfs image: unpack it (unsquashfs, no root needed) and name the directory"),
    (b"\xed\xab\xee\xdb", "it is an RPM package: unpack it (rpm2archive) and name the archive"),
    (b"PK", "it is a ZIP archive: unpack it and name the directory"),
)

_UEFI: Final = b"MZ"


def kind_of(stream: Readable) -> Place:
    """Return what a file is, reading its beginning. *Raises* `ArtefactRefused` ("artefact-unknown", and of its compression)."""
    source = Source(stream)
    head = source.peek(_LOOK)
    for magic, advice in _INSTEAD:
        if head.startswith(magic):
            raise ArtefactRefused("artefact-unknown", advice)
    if head.startswith(AR):
        return "package"
    if head.startswith(_UEFI):
        return "uki"
    if head[1080:1082] == b"\x53\xef":
        return "ext4"
    if head[512:520] == b"EFI PART" or head[4096:4104] == b"EFI PART":
        return "disk"
    if is_compressed(source):
        head = inflated(source).peek(_LOOK)
    if head.startswith(CPIO):
        return "initramfs"
    if head[257:262] == b"ustar":
        return "archive"
    if head[510:512] == b"\x55\xaa":
        return "disk"
    raise ArtefactRefused(
        "artefact-unknown",
        "it is no package (.deb), archive (tar), initramfs (cpio), ext4 image or disk image: name the directory it unpacks to",
    )


def ramdisk(data: Bytes) -> Bytes:
    """Return the initramfs in a unified kernel image. *Raises* `ArtefactRefused` ("image-…", "artefact-unknown")."""
    image = parse_image(data)
    section = image.section(".initrd")
    if section is None:
        raise ArtefactRefused(
            "artefact-unknown", "it is an image for UEFI without an initramfs, so there are no files in it"
        )
    return image.content(section)
