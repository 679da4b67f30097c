"""Key files of Secure Boot and partition tables: what firmware will measure of them."""

import struct
from hashlib import sha256
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

import boot_artefacts as made
from attestd.reference.files import ArtefactRefused
from attestd.reference.gpt import partition_table
from attestd.reference.signaturedatabase import signature_database
from attestd.tpm.eventdata import parse_gpt
from attestd.tpm.signaturelist import parse_signature_lists
from testdata import TESTDATA, needs_testdata

KEY = made.Authority("a key")
LISTS = signature_database(KEY.der, owner=made.OWNER)
UPDATE_GUID = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7").bytes_le


def update(lists: bytes, signature: bytes = b"s" * 99) -> bytes:
    """Return EFI_VARIABLE_AUTHENTICATION_2 and what it signs."""
    return bytes(16) + struct.pack("<IHH", 24 + len(signature), 0x0200, 0x0EF1) + UPDATE_GUID + signature + lists


def refused(data: bytes, owner: UUID | None = None) -> str:
    with pytest.raises(ArtefactRefused) as caught:
        signature_database(data, owner=owner)
    return caught.value.code


def test_a_certificate_becomes_a_list_of_its_own() -> None:
    (found,) = parse_signature_lists(LISTS)
    assert (found.type, found.signatures[0].owner, found.signatures[0].data) == ("x509", str(made.OWNER), KEY.der)


def test_certificates_in_pem_become_the_same_lists() -> None:
    text = KEY.certificate.public_bytes(Encoding.PEM)
    assert signature_database(text * 2, owner=made.OWNER) == LISTS * 2


@pytest.mark.parametrize(
    "data", [LISTS, update(LISTS), b"\x27\0\0\0" + LISTS], ids=["lists", "signed update", "efivarfs"]
)
def test_lists_in_any_wrapping_are_the_same_lists(data: bytes) -> None:
    assert signature_database(data) == LISTS


def test_an_empty_file_is_an_empty_variable() -> None:
    assert signature_database(b"") == b""


def test_lines_of_digests_become_one_list() -> None:
    digests = [sha256(name).digest() for name in (b"a", b"b")]
    text = "# what may not boot\n" + "".join(f"{one.hex()}  image.efi\n" for one in digests)
    (found,) = parse_signature_lists(signature_database(text.encode(), owner=made.OWNER))
    assert (found.type, [one.data for one in found.signatures]) == ("sha256", digests)


@pytest.mark.parametrize(
    ("data", "owner", "code"),
    [
        (KEY.der, None, "key-owner"),
        (LISTS, made.OWNER, "key-owner"),
        (LISTS[:-1], None, "key-file"),
        (KEY.der[:-1], made.OWNER, "key-file"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", made.OWNER, "key-file"),
        (b"a key\n", made.OWNER, "key-file"),
        (b"ab" * 20, made.OWNER, "key-file"),
        (b"# nothing\n", made.OWNER, "key-file"),
        (bytes(3 << 20), None, "key-file"),
        (bytes(16) + bytes(28 + 17), None, "key-file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_understood_is_refused(data: bytes, owner: UUID | None, code: str) -> None:
    assert refused(data, owner) == code


@given(st.binary(max_size=400), st.sampled_from([b"", LISTS[:40], update(b"")[:60], KEY.der[:40]]))
def test_any_file_is_lists_or_refused(tail: bytes, head: bytes) -> None:
    try:
        found = signature_database(head + tail, owner=None)
    except ArtefactRefused as error:
        found = error.code.encode()[:0]
    assert parse_signature_lists(found) is not None


@needs_testdata
@pytest.mark.parametrize(
    ("name", "entries"),
    [("dbxupdate-2014-08-11.bin", 13), ("dbxupdate_x64-2020-10-12.bin", 186), ("dbxupdate_x64-2021-04-29.bin", 211)],
)
def test_published_revocation_lists_are_read(name: str, entries: int) -> None:
    data = (TESTDATA / "uefi/secureboot" / f"go-eventlog__secure-boot__{name}").read_bytes()
    assert sum(len(found.signatures) for found in parse_signature_lists(signature_database(data))) == entries


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_partition_table_has_its_used_entries(sector: int) -> None:
    found = parse_gpt(partition_table(made.disk(sector=sector)))
    assert found.disk_guid == "11111111-2222-4333-8444-555555555555"
    assert [(one.name, one.first, one.last) for one in found.partitions] == [("esp", 2048, 4095), ("root", 4096, 6143)]


def test_a_backup_has_the_table_of_its_disk() -> None:
    assert partition_table(made.disk(backup=True)) == partition_table(made.disk())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes(8192), "gpt-absent"),
        (b"", "gpt-absent"),
        (made.disk()[:600], "gpt-header"),
        (made.disk()[:560] + b"\1" + made.disk()[561:], "gpt-header"),
        (made.disk()[:1100] + b"\1" + made.disk()[1101:], "gpt-entries"),
        (made.disk()[:4096], "gpt-entries"),
        (made.disk(count=512), "gpt-entries"),
    ],
    ids=["no table", "empty", "cut header", "altered header", "altered entry", "cut entries", "too many"],
)
def test_a_damaged_partition_table_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(ArtefactRefused) as caught:
        partition_table(data)
    assert caught.value.code == code
