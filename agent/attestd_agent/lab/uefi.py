"""UEFI structures that firmware puts into its event log. FOR LABORATORIES ONLY.

Encoders only, for values that the laboratory chooses itself. Layouts: TCG PC Client Platform Firmware Profile 1.06,
10.2 and 10.4, and UEFI 2.10, 10 (device paths), 5.3 (GPT) and 32.4.1 (signature databases).
"""

import datetime
import hashlib
import struct
import uuid
import zlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

GLOBAL_VARIABLE: Final = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHIM_LOCK: Final = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
_CERT_X509: Final = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_CERT_SHA256: Final = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
_EFI_SYSTEM_PARTITION: Final = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_LINUX_FILESYSTEM: Final = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_END_OF_PATH: Final = bytes.fromhex("7fff0400")


def lab_uuid(label: str) -> uuid.UUID:
    """Return an identifier that the label alone decides, so that a boot can be simulated again to the same bytes."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:laboratory:{label}")


def variable(namespace: uuid.UUID, name: str, value: bytes) -> bytes:
    """Return a UEFI_VARIABLE_DATA (10.2.6)."""
    text = name.encode("utf-16le")
    return namespace.bytes_le + struct.pack("<QQ", len(name), len(value)) + text + value


def lab_certificate(name: str) -> bytes:
    """Return a self-signed certificate (DER) that its name alone decides, for signature databases."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC))
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.DER)


def certificate_list(*certificates: bytes) -> bytes:
    """Return a signature database of X.509 certificates: one EFI_SIGNATURE_LIST each, as real platforms have them."""
    return b"".join(_signature_list(_CERT_X509, (der,)) for der in certificates)


def digest_list(*digests: bytes) -> bytes:
    """Return a signature database of SHA-256 digests, the usual form of dbx."""
    return _signature_list(_CERT_SHA256, digests)


def _signature_list(kind: uuid.UUID, items: tuple[bytes, ...]) -> bytes:
    owner = lab_uuid("signature owner").bytes_le
    size = 16 + len(items[0])
    head = kind.bytes_le + struct.pack("<III", 28 + size * len(items), 0, size)
    return head + b"".join(owner + item for item in items)


def first_signature(database: bytes) -> bytes:
    """Return the first EFI_SIGNATURE_DATA of a database, or nothing where it is empty."""
    if len(database) < 28:
        return b""
    _, header, size = struct.unpack_from("<III", database, 16)
    return database[28 + header : 28 + header + size]


def file_path(path: str) -> bytes:
    """Return the device path node of a file, with the end node (UEFI 2.10, 10.3.5.4)."""
    text = (path + "\0").encode("utf-16le")
    return struct.pack("<BBH", 4, 4, 4 + len(text)) + text + _END_OF_PATH


def pci_path(device: int, function: int) -> bytes:
    """Return the path of a function on the first PCI root, with the end node (10.3.2.1, 10.3.3)."""
    root = struct.pack("<BBHII", 2, 1, 12, 0x0A0341D0, 0)
    return root + struct.pack("<BBHBB", 1, 1, 6, function, device) + _END_OF_PATH


def hard_drive_path(file: str, *, partition: uuid.UUID, start: int, sectors: int) -> bytes:
    """Return the path of a file on a GPT partition (10.3.5.1)."""
    drive = struct.pack("<BBHIQQ16sBB", 4, 1, 42, 1, start, sectors, partition.bytes_le, 2, 2)
    return drive + file_path(file)


def load_option(description: str, path: bytes) -> bytes:
    """Return an active EFI_LOAD_OPTION (UEFI 2.10, 3.1.3), the value of Boot####."""
    return struct.pack("<IH", 1, len(path)) + (description + "\0").encode("utf-16le") + path


def image_load(image: bytes, path: bytes, *, address: int) -> bytes:
    """Return a UEFI_IMAGE_LOAD_EVENT (10.2.3)."""
    return struct.pack("<QQQQ", address, len(image), 0, len(path)) + path


def firmware_blob(description: str, blob: bytes, *, address: int) -> bytes:
    """Return a UEFI_PLATFORM_FIRMWARE_BLOB2 (10.2.5)."""
    name = description.encode("ascii")
    return struct.pack("<B", len(name)) + name + struct.pack("<QQ", address, len(blob))


def gpt(disk: uuid.UUID) -> bytes:
    """Return a UEFI_GPT_DATA with a system and a root partition (10.2.8)."""
    entries = (
        _partition(_EFI_SYSTEM_PARTITION, lab_uuid(f"{disk} esp"), 2048, 1_050_623, "EFI System Partition"),
        _partition(_LINUX_FILESYSTEM, lab_uuid(f"{disk} root"), 1_050_624, 16_777_182, "root"),
    )
    array = b"".join(entries).ljust(128 * 128, b"\0")
    header = struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, 16_777_215, 34, 16_777_182, disk.bytes_le, 2, 128, 128,
        zlib.crc32(array),
    )  # fmt: skip
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    return header + struct.pack("<Q", len(entries)) + b"".join(entries)


def _partition(kind: uuid.UUID, identifier: uuid.UUID, first: int, last: int, name: str) -> bytes:
    label = name.encode("utf-16le").ljust(72, b"\0")
    return kind.bytes_le + identifier.bytes_le + struct.pack("<QQQ", first, last, 0) + label
