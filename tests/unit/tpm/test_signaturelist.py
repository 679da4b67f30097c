import struct
from uuid import UUID

import pytest

from attestd.protocol.limits import MAX_SIGNATURES
from attestd.tpm.errors import Malformed
from attestd.tpm.signaturelist import SignatureEntry, parse_authority, parse_signature_lists

SHA256 = UUID("c1c41626-504c-4092-aca9-41f936934328")
OWNER = UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")


def signature_list(
    entries: list[bytes],
    *,
    kind: UUID = SHA256,
    header: bytes = b"",
    list_size: int | None = None,
    entry_size: int | None = None,
    header_size: int | None = None,
) -> bytes:
    body = header + b"".join(entries)
    return (
        kind.bytes_le
        + struct.pack(
            "<III",
            28 + len(body) if list_size is None else list_size,
            len(header) if header_size is None else header_size,
            (len(entries[0]) if entries else 48) if entry_size is None else entry_size,
        )
        + body
    )


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parse_signature_lists(data)
    return caught.value.code


def test_lists_and_their_entries_are_read():
    entries = [OWNER.bytes_le + bytes((value,)) * 32 for value in (1, 2)]
    unknown = UUID(int=5)

    lists = parse_signature_lists(signature_list(entries) + signature_list(entries[:1], kind=unknown, header=b"head"))

    assert [(found.type, len(found.signatures)) for found in lists] == [("sha256", 2), (str(unknown), 1)]
    assert lists[0].signatures[1] == SignatureEntry(str(OWNER), b"\x02" * 32)


def test_an_empty_database_has_no_lists():
    assert parse_signature_lists(b"") == ()


ENTRY = OWNER.bytes_le + bytes(32)


@pytest.mark.parametrize(
    "options",
    [
        {"list_size": 0},
        {"list_size": 27},
        {"list_size": 28 + 48 + 1},
        {"list_size": 0xFFFFFFFF},
        {"header_size": 0xFFFFFFFF},
        {"header_size": 49},
        {"entry_size": 0},
        {"entry_size": 16},
        {"entry_size": 47},
        {"entry_size": 0xFFFFFFFF},
    ],
    ids=str,
)
def test_e06_sizes_that_underflow_are_refused(options):
    assert refused(signature_list([ENTRY], **options)) == "eventdata-size"


def test_a_list_cut_in_its_header_is_refused():
    assert refused(signature_list([ENTRY])[:20]) == "structure-truncated"


def test_e06_more_entries_than_the_bound_are_refused():
    tiny = bytes(17)

    assert refused(signature_list([tiny] * (MAX_SIGNATURES + 1))) == "eventdata-count"


def test_an_authority_has_an_owner_and_a_certificate():
    assert parse_authority(OWNER.bytes_le + b"certificate") == SignatureEntry(str(OWNER), b"certificate")


def test_an_authority_may_be_a_bare_certificate():
    certificate = b"\x30\x82\x01\x00" + bytes(256)

    assert parse_authority(certificate) == SignatureEntry(None, certificate)


@pytest.mark.parametrize("data", [b"", bytes(16)])
def test_an_authority_without_a_certificate_is_refused(data):
    with pytest.raises(Malformed) as caught:
        parse_authority(data)

    assert caught.value.code == "eventdata-size"
