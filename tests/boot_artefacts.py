"""Boot artefacts for tests: executable images, unified kernels, signatures and partition tables, as odd as asked for."""

import datetime
import struct
import zlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestd_pki import der

OWNER = UUID("a0baa8a3-041d-48a8-bc87-c36d121b5e3d")
ALIGNMENT = 512
HEADERS = 1024
STUB_NAMES = (".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrsig", ".pcrpkey")
"""What the stub of systemd 252 looks for."""


@dataclass(frozen=True)
class Part:
    """One section: its content, and how its header departs from what follows from that."""

    name: str
    content: bytes
    size: int | None = None
    offset: int | None = None
    stored: int | None = None


def image(
    *parts: Part,
    plus: bool = True,
    directories: int = 16,
    certificates: bytes = b"",
    tail: bytes = b"",
    checksum: int = 0,
    headers: int = HEADERS,
) -> bytes:
    """Return an executable image. `tail` lies behind the sections, `certificates` behind that, at a multiple of eight."""
    body, table, address = b"", b"", 0x1000
    for part in parts:
        content = part.content.ljust(up(len(part.content)), b"\0")
        size = len(part.content) if part.size is None else part.size
        offset = headers + len(body) if part.offset is None else part.offset
        stored = len(content) if part.stored is None else part.stored
        name = part.name.encode().ljust(8, b"\0")
        table += struct.pack("<8sIIIIIIHHI", name, size, address, stored, offset, 0, 0, 0, 0, 0x40000040)
        body += content
        address += up(max(size, 1), 0x1000)
    body += tail
    if certificates:
        body = body.ljust(up(headers + len(body), 8) - headers, b"\0")
    place = (headers + len(body), len(certificates)) if certificates else (0, 0)
    ranges = [(0, 0)] * directories
    if directories > 4:
        ranges[4] = place
    listed = b"".join(struct.pack("<II", *one) for one in ranges)
    fixed = 112 if plus else 96
    optional = bytearray(fixed)
    struct.pack_into("<H", optional, 0, 0x20B if plus else 0x10B)
    struct.pack_into("<II", optional, 60, headers, checksum)
    struct.pack_into("<I", optional, fixed - 4, directories)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(parts), 0, 0, 0, fixed + len(listed), 0x0206)
    return (dos + coff + bytes(optional) + listed + table).ljust(headers, b"\0") + body + certificates


def up(value: int, step: int = ALIGNMENT) -> int:
    """Round up."""
    return -(-value // step) * step


def kernel(text: bytes = b"a kernel") -> bytes:
    """Return an image that stands for a kernel."""
    return image(Part(".text", text * 64))


def stub_part(version: str = "252.39-1", names: tuple[str, ...] = STUB_NAMES, extra: bytes = b"") -> tuple[Part, Part]:
    """Return the sections of a stub that looks for `names`."""
    code = b"\x90" * 32 + b"".join(b"\0" + name.encode() for name in names) + b"\0" + extra
    return Part(".text", code), Part(".sdmagic", f"#### LoaderInfo: systemd-stub {version} ####".encode() + b"\0")


def unified(
    *parts: tuple[str, bytes], version: str = "252.39-1", names: tuple[str, ...] = STUB_NAMES, **more: Any
) -> bytes:
    """Return a unified kernel image with these sections."""
    extra = more.pop("extra", b"")
    stub = stub_part(version, names, extra)
    return image(*stub, *(Part(name, content) for name, content in parts), **more)


def gateway(line: str = "root=/dev/vda2 ro quiet", *, initrd: bytes = b"an initial ramdisk" * 99, **more: Any) -> bytes:
    """Return a unified kernel image such as a distribution makes it."""
    parts = ((".osrel", b"ID=debian\n"), (".cmdline", line.encode()), (".linux", kernel()), (".initrd", initrd))
    return unified(*parts, **more)


def loader(name: str = "shim") -> bytes:
    """Return an image that stands for a boot loader: shim, grub or systemd-boot."""
    parts = [Part(".text", f"{name} ".encode() * 64)]
    if name == "systemd-boot":
        parts.append(Part(".sdmagic", b"#### LoaderInfo: systemd-boot 252.39-1 ####\0"))
    generations = f"sbat,1,SBAT Version,sbat,1,https://example\n{name},4,Maker,{name},1,https://example\n"
    return image(*parts, Part(".sbat", generations.encode()))


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE of encoded elements."""
    return der.encode(der.SEQUENCE, b"".join(parts))


class Authority:
    """A key with a certificate, self-signed or by another, that can sign images and certificates."""

    def __init__(self, name: str, issuer: "Authority | None" = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = issuer or self
        self.certificate: x509.Certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(above.key, hashes.SHA256())
        )
        self.der = self.certificate.public_bytes(Encoding.DER)

    def signature(self, digest: bytes, *with_certificates: bytes) -> bytes:
        """Return a table entry (WIN_CERTIFICATE) that says that this authority signed an image's SHA-256."""
        sha256 = sequence(bytes.fromhex("0609608648016503040201"), bytes.fromhex("0500"))
        indirect = sequence(
            sequence(bytes.fromhex("060a2b06010401823702010f")), sequence(sha256, der.encode(4, digest))
        )
        content = sequence(bytes.fromhex("060a2b060104018237020104"), der.encode(0xA0, indirect))
        serial = self.certificate.serial_number.to_bytes(20, "big").lstrip(b"\0")
        number = der.encode(der.INTEGER, serial if serial[0] < 0x80 else b"\0" + serial)
        signer = sequence(b"\x02\x01\x01", sequence(self.certificate.issuer.public_bytes(), number), sha256)
        signed = sequence(
            b"\x02\x01\x01",
            der.encode(der.SET, sha256),
            content,
            der.encode(0xA0, b"".join((self.der, *with_certificates))),
            der.encode(der.SET, signer),
        )
        data = sequence(bytes.fromhex("06092a864886f70d010702"), der.encode(0xA0, signed))
        padded = data.ljust(up(len(data), 8), b"\0")
        return struct.pack("<IHH", 8 + len(padded), 0x0200, 0x0002) + padded


def disk(
    *, sector: int = 512, names: tuple[str, ...] = ("esp", "root"), count: int = 128, backup: bool = False
) -> bytes:
    """Return the beginning of a disk with a partition table, or what sgdisk writes as its backup."""
    kind, owner = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"), UUID("11111111-2222-4333-8444-555555555555")
    entries = b"".join(
        kind.bytes_le
        + UUID(int=number + 1).bytes_le
        + struct.pack("<QQQ", 2048 * (number + 1), 2048 * (number + 2) - 1, 0)
        + name.encode("utf-16-le").ljust(72, b"\0")
        for number, name in enumerate(names)
    ).ljust(128 * count, b"\0")

    def header(own: int, other: int) -> bytes:
        fields = (
            b"EFI PART",
            0x10000,
            92,
            0,
            0,
            own,
            other,
            34,
            99_000,
            owner.bytes_le,
            2,
            count,
            128,
            zlib.crc32(entries),
        )
        made = struct.pack("<8sIIIIQQQQ16sQIII", *fields)
        return (made[:16] + struct.pack("<I", zlib.crc32(made)) + made[20:]).ljust(sector, b"\0")

    mbr = bytes(sector - 2) + b"\x55\xaa"
    return mbr + header(1, 99_999) + (header(99_999, 1) if backup else b"") + entries + bytes(4096)
