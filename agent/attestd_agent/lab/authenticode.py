"""PE images and their Authenticode digest, as firmware measures them. FOR LABORATORIES ONLY.

The digest follows the "Windows Authenticode Portable Executable Signature Format", 1.0. It trusts its input: images
come from the laboratory itself, never from a network.
"""

import hashlib
import struct
from typing import Final

_PE32_PLUS: Final = 0x20B
_CERTIFICATE_TABLE: Final = 4
_FILE_ALIGNMENT: Final = 512


def image_digest(image: bytes, algorithm: str) -> bytes:
    """Return the Authenticode digest of a PE image, or the plain digest of anything else."""
    layout = _layout(image)
    if layout is None:
        return hashlib.new(algorithm, image).digest()
    checksum, directory, certificates = layout
    # Everything but the checksum, the directory entry of the certificates, and the certificates.
    parts = (image[:checksum], image[checksum + 4 : directory], image[directory + 8 : len(image) - certificates])
    return hashlib.new(algorithm, b"".join(parts)).digest()


def _layout(image: bytes) -> tuple[int, int, int] | None:
    """Return (offset of the checksum, offset of the certificate directory, bytes of certificates), None if not a PE."""
    if len(image) < 0x40 or image[:2] != b"MZ":
        return None
    header = int.from_bytes(image[0x3C:0x40], "little")
    if image[header : header + 4] != b"PE\0\0":
        return None
    optional = header + 24
    magic = int.from_bytes(image[optional : optional + 2], "little")
    directory = optional + (112 if magic == _PE32_PLUS else 96) + 8 * _CERTIFICATE_TABLE
    _, size = struct.unpack_from("<II", image, directory)
    return optional + 64, directory, size


def pe_image(content: bytes) -> bytes:
    """Return a minimal PE32+ image with one section that holds ``content``: a stand-in for a boot loader or kernel."""
    body = content.ljust(-(-len(content) // _FILE_ALIGNMENT) * _FILE_ALIGNMENT, b"\0")
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x0206)
    optional = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        _PE32_PLUS, 2, 20, 0, len(body), 0, 0x1000, 0x1000, 0, 0x1000, _FILE_ALIGNMENT, 0, 0, 0, 0, 0, 0, 0,
        0x1000 + len(body), _FILE_ALIGNMENT, 0, 10, 0, 0, 0, 0, 0, 0, 16,
    ) + bytes(16 * 8)  # fmt: skip
    section = struct.pack(
        "<8sIIIIIIHHI", b".text", len(content), 0x1000, len(body), _FILE_ALIGNMENT, 0, 0, 0, 0, 0x60000020
    )
    return (dos + coff + optional + section).ljust(_FILE_ALIGNMENT, b"\0") + body
