"""Key files of Secure Boot become signature databases: the content of PK, KEK, db and dbx (UEFI 2.10, 32.4.1).

Proves that what is returned reads as signature lists that fill their bytes. Understood are signature lists (.esl), updates
signed for SetVariable (.auth, dbxupdate.bin), files of efivarfs, certificates in DER and PEM, and digests of images as
hexadecimal lines. Assumes that whoever names a file believes in it: the signature over an update is firmware's to check.
"""

from collections.abc import Sequence
from struct import Struct, pack
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestd.protocol.limits import MAX_KEY_FILE
from attestd.reference.files import ArtefactRefused
from attestd.tpm.errors import Malformed
from attestd.tpm.signaturelist import SIGNATURE_TYPES, parse_signature_lists

NOBODY: Final = UUID(int=0)
_GUIDS: Final = {name: UUID(guid) for guid, name in SIGNATURE_TYPES.items()}
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
_UPDATE: Final = Struct("<16xIHH16s")
_UPDATE_TYPE: Final = (0x0200, 0x0EF1, UUID("4aafd29d-68df-49ee-8aa9-347d375665a7").bytes_le)
_TIME: Final = 16
_ATTRIBUTES: Final = 4
_DIGEST: Final = 32


def signature_database(data: bytes, *, owner: UUID | None = None) -> bytes:
    """Return what a variable holds into which a key file was written: signature lists, none for an empty file.

    `owner` is the GUID under which certificates and digests are listed. *Raises* `ArtefactRefused`: "key-file" (not understood),
    "key-owner" (certificates and digests have no owner of their own, so one is needed; lists have theirs).
    """
    if len(data) > MAX_KEY_FILE:
        raise ArtefactRefused("key-file", f"{len(data)} bytes, and at most {MAX_KEY_FILE} are read")
    lists = _lists(data)
    if lists is not None:
        if owner is not None:
            raise ArtefactRefused("key-owner", "the file has owners in it: name none")
        return lists
    certificates = _certificates(data)
    digests = [] if certificates else _digests(data)
    if not certificates and not digests:
        raise ArtefactRefused(
            "key-file", "neither signature lists, an update, certificates, nor lines of SHA-256 digests"
        )
    if owner is None:
        raise ArtefactRefused(
            "key-owner", "a certificate or digest does not say under which owner it is listed: GUID:FILE"
        )
    # Each certificate is a list of its own, since a list's entries have one size; so do sbsiglist, efitools and EDK2.
    return b"".join(_list("x509", [der], owner) for der in certificates) + (
        _list("sha256", digests, owner) if digests else b""
    )


def _lists(data: bytes) -> bytes | None:
    """Return the signature lists in a file of lists, of efivarfs or of an update, or None."""
    if len(data) >= _UPDATE.size:
        length, *kind = _UPDATE.unpack_from(data)
        if tuple(kind) == _UPDATE_TYPE and _UPDATE.size - _TIME <= length <= len(data) - _TIME:
            return data[_TIME + length :] if _reads(data[_TIME + length :]) else None
    if _reads(data):
        return data
    return (
        data[_ATTRIBUTES:] if len(data) >= _ATTRIBUTES and not any(data[1:4]) and _reads(data[_ATTRIBUTES:]) else None
    )


def _reads(data: bytes) -> bool:
    try:
        found = parse_signature_lists(data)
    except Malformed:
        return False
    return all(entry.type in _GUIDS for entry in found)


def _certificates(data: bytes) -> list[bytes]:
    try:
        if _PEM in data:
            return [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(data)]
        if data[:1] == b"\x30":
            x509.load_der_x509_certificate(data)
            return [data]
    except (ValueError, x509.InvalidVersion):
        raise ArtefactRefused("key-file", "a certificate that cannot be read") from None
    return []


def _digests(data: bytes) -> list[bytes]:
    """Return the digests of lines such as sha256sum writes; what follows the digest and lines that begin with # are for people."""
    try:
        lines = [
            line.split()[0] for line in data.decode("ascii").splitlines() if line.strip() and not line.startswith("#")
        ]
        found = [bytes.fromhex(line) for line in lines]
    except ValueError:
        return []
    return found if all(len(digest) == _DIGEST for digest in found) else []


def _list(kind: str, items: Sequence[bytes], owner: UUID) -> bytes:
    """Return one EFI_SIGNATURE_LIST of items of one size."""
    size = len(owner.bytes_le) + len(items[0])
    head = _GUIDS[kind].bytes_le + pack("<III", 28 + size * len(items), 0, size)
    return head + b"".join(owner.bytes_le + item for item in items)
