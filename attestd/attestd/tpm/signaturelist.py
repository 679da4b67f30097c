"""Secure Boot databases: EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1).

Proves that lists and their entries fill the bytes exactly. Whether an entry's certificate parses, or may be trusted, is
decided elsewhere.
"""

from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from attestd.protocol.limits import MAX_SIGNATURES
from attestd.tpm.errors import Malformed
from attestd.tpm.guid import guid_text

_HEADER: Final = Struct("<16sIII")
_OWNER_SIZE: Final = 16

SIGNATURE_TYPES: Final = {
    "c1c41626-504c-4092-aca9-41f936934328": "sha256",
    "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": "sha384",
    "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": "sha512",
    "826ca512-cf10-4ac9-b187-be01496631bd": "sha1",
    "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "x509",
    "3bd2a492-96c0-4079-b420-fcf98ef103ed": "x509-sha256",
    "7076876e-80c2-4ee6-aad2-28b349a6865b": "x509-sha384",
    "446dbf63-2502-4cda-bcfa-2465d2b0fe9d": "x509-sha512",
    "3c5766e8-269c-4e34-aa14-ed776e85b3b6": "rsa2048",
    "e2b36190-879b-4a3d-ad8d-f2e7bba32784": "rsa2048-sha256",
    "67f8444f-8743-48f1-a328-1eaab8736080": "rsa2048-sha1",
    "0b6e5233-a65c-44c9-9407-d9ab83bfc8bd": "sha224",
    "4aafd29d-68df-49ee-8aa9-347d375665a7": "pkcs7",
    "452e8ced-dfff-4b8c-ae01-5118862e682c": "external",
}


@dataclass(frozen=True, slots=True)
class SignatureEntry:
    """One EFI_SIGNATURE_DATA. `owner` is a GUID, or None where firmware logged the bare certificate."""

    owner: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class SignatureList:
    """Entries of one type; `type` is a name of `SIGNATURE_TYPES`, or the GUID itself."""

    type: str
    signatures: tuple[SignatureEntry, ...]


def parse_signature_lists(data: bytes) -> tuple[SignatureList, ...]:
    """Read all lists of a database variable; an empty variable has none.

    *Raises* `Malformed`: sizes that do not add up ("eventdata-size"), too many entries ("eventdata-count").
    """
    lists: list[SignatureList] = []
    position = entries = 0
    while position < len(data):
        try:
            kind, list_size, header_size, entry_size = _HEADER.unpack_from(data, position)
        except error:
            raise Malformed("structure-truncated", "a signature list ends early", where=position) from None
        first = position + _HEADER.size + header_size
        end = position + list_size
        # The subtraction list - header - fixed part is where implementations underflow.
        if end > len(data) or first > end or entry_size <= _OWNER_SIZE or (end - first) % entry_size:
            raise Malformed("eventdata-size", f"a signature list of {list_size} bytes", where=position)
        entries += (end - first) // entry_size
        if entries > MAX_SIGNATURES:
            raise Malformed("eventdata-count", f"{entries} signatures", where=position)
        guid = guid_text(kind)
        found = tuple(_entry(data[start : start + entry_size]) for start in range(first, end, entry_size))
        lists.append(SignatureList(SIGNATURE_TYPES.get(guid, guid), found))
        position = end
    return tuple(lists)


def _entry(data: bytes) -> SignatureEntry:
    return SignatureEntry(guid_text(data[:_OWNER_SIZE]), data[_OWNER_SIZE:])


def parse_authority(data: bytes) -> SignatureEntry:
    """Read the value of an EV_EFI_VARIABLE_AUTHORITY: what let an image start (firmware profile 1.06, 10.4.4).

    The profile asks for an EFI_SIGNATURE_DATA; older firmware and shim log the certificate without its owner, which is
    recognised by a DER SEQUENCE that fills the bytes.
    *Raises* `Malformed` ("eventdata-size").
    """
    if len(data) > 4 and data[:2] == b"\x30\x82" and int.from_bytes(data[2:4], "big") + 4 == len(data):
        return SignatureEntry(None, data)
    if len(data) <= _OWNER_SIZE:
        raise Malformed("eventdata-size", f"an authority of {len(data)} bytes")
    return _entry(data)
