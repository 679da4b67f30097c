import base64
import datetime
import json
import os
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc5280

from attestd.changes import bounds, canonical
from attestd.changes.errors import ChangeRefused
from attestd.changes.inventory import InventoryEntry, inventory_document, parse_csv, parse_json, read_inventory
from attestd.protocol import limits
from attestd_pki.names import device_id, device_id_of_digest
from changes_world import device, entry
from testdata import TESTDATA, manifest_items, needs_testdata

DIGESTS = [bytes([number]) * 32 for number in range(3)]
IDS = [device_id_of_digest(digest) for digest in DIGESTS]


def spki_by_another_reader(der: bytes) -> bytes:
    """Return the canonical key of a certificate as pyasn1 finds it; OAEP keys (RFC 4055) too, which the library refuses."""
    parsed, _ = decoder.decode(der, asn1Spec=rfc5280.Certificate())
    info = parsed["tbsCertificate"]["subjectPublicKeyInfo"]
    try:
        key = serialization.load_der_public_key(encoder.encode(info))
    except UnsupportedAlgorithm:
        key = serialization.load_der_public_key(info["subjectPublicKey"].asOctets())
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# Those in plain DER, so that there is somebody to agree with.
REAL_CHIPS = [item for item in manifest_items("cert/ek") if item["expected"].get("pyca50_load") == "ok"]


def refused(code: str, text: str, *, row: int | None = None, column: str | None = None) -> ChangeRefused:
    with pytest.raises(ChangeRefused) as caught:
        parse_csv(text)
    assert (caught.value.code, caught.value.row, caught.value.column) == (code, row, column)
    return caught.value


def certificate() -> tuple[bytes, bytes]:
    """Return a certificate (DER) and the public key in it (DER SubjectPublicKeyInfo)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ek")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 2**70, start, start + datetime.timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return made.public_bytes(serialization.Encoding.DER), spki


# --- CSV --------------------------------------------------------------------------------------------------------------------


def test_a_csv_file_names_devices_by_the_digest_of_their_key() -> None:
    text = f"ek_public_sha256,name,site,profile\n{DIGESTS[0].hex()},edge-1,berlin,edge\n"
    assert parse_csv(text) == (InventoryEntry(IDS[0], "edge-1", "berlin", "edge"),)


def test_columns_come_in_any_order_with_spaces_empty_lines_quotes_notes_and_a_byte_order_mark() -> None:
    text = f'\ufeffnote, profile,site,name,device_id\r\n\r\n"rack 3, left", edge ,berlin,edge-1,{IDS[0]}\r\n'
    assert parse_csv(text) == (InventoryEntry(IDS[0], "edge-1", "berlin", "edge", "rack 3, left"),)


def test_each_row_may_name_its_device_in_its_own_way() -> None:
    der, spki = certificate()
    text = (
        "ek_public_sha256,device_id,ek_certificate,name,site,profile\n"
        f"{DIGESTS[0].hex().upper()},,,a,s,edge\n"
        f",{IDS[1]},,b,s,edge\n"
        f",,{base64.b64encode(der).decode()},c,s,edge\n"
    )
    assert {found.name: found.device_id for found in parse_csv(text)} == {
        "a": IDS[0],
        "b": IDS[1],
        "c": device_id(spki),
    }


@pytest.mark.parametrize("form", ["der", "pem"])
def test_a_certificate_may_be_a_file_that_the_caller_read(form: str) -> None:
    der, spki = certificate()
    pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    files = {"eks/1.crt": der if form == "der" else pem}
    (found,) = parse_csv("ek_certificate,name,site,profile\neks/1.crt,a,s,edge\n", certificates=files)
    assert found.device_id == device_id(spki)


def test_a_certificate_may_stand_in_a_cell_as_pem() -> None:
    der, spki = certificate()
    pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()
    (found,) = parse_csv(f'name,ek_certificate,site,profile\na,"{pem}",s,edge\n')
    assert found.device_id == device_id(spki)


def test_a_path_that_nobody_read_is_not_a_certificate() -> None:
    refused(
        "inventory-malformed", "ek_certificate,name,site,profile\neks/1.crt,a,s,edge\n", row=1, column="ek_certificate"
    )


@needs_testdata
@pytest.mark.testdata
@pytest.mark.parametrize("item", REAL_CHIPS, ids=lambda item: item["file"][8:60])
def test_the_endorsement_certificate_of_a_real_chip_can_be_announced(item: dict[str, Any]) -> None:
    der = (TESTDATA / item["file"]).read_bytes()
    (found,) = parse_csv("ek_certificate,name,site,profile\nek.crt,a,s,edge\n", certificates={"ek.crt": der})
    assert found.device_id == device_id(spki_by_another_reader(der))


def test_entries_come_out_by_device_id() -> None:
    rows = "".join(f"{digest.hex()},n{number},s,edge\n" for number, digest in enumerate(DIGESTS))
    found = [item.device_id for item in parse_csv("ek_public_sha256,name,site,profile\n" + rows)]
    assert found == sorted(IDS)


def test_k11_one_key_twice_is_refused_with_both_rows() -> None:
    text = f"ek_public_sha256,device_id,name,site,profile\n{DIGESTS[0].hex()},,a,s,edge\n,{IDS[0]},b,s,edge\n"
    assert "row 1" in str(refused("inventory-duplicate", text, row=2, column="device_id"))


def test_c04_one_name_twice_is_refused() -> None:
    text = f"device_id,name,site,profile\n{IDS[0]},a,s,edge\n{IDS[1]},a,s,edge\n"
    refused("inventory-duplicate", text, row=2, column="name")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("ek_public_sha256", "00"),
        ("ek_public_sha256", "zz" * 32),
        ("name", ""),
        ("name", "a b"),
        ("name", "../x"),
        ("name", "<b>"),
        ("name", "Ä"),
        ("name", "a" * 64),
        ("site", ""),
        ("site", "a/b"),
        ("profile", ""),
        ("profile", "=cmd()"),
        ("note", "\x1b[2J"),
        ("note", "n" * (bounds.MAX_NOTE + 1)),
    ],
)
def test_e11_a_cell_that_is_not_safe_to_show_is_refused_by_row_and_column(column: str, value: str) -> None:
    cells = {"ek_public_sha256": DIGESTS[1].hex(), "name": "a", "site": "s", "profile": "edge", "note": ""}
    good = {**cells, "ek_public_sha256": DIGESTS[0].hex(), "name": "first"}
    rows = [",".join(cells), ",".join(good.values()), ",".join({**cells, column: value}.values())]
    refused("inventory-malformed", "\n".join(rows), row=2, column=column)


@pytest.mark.parametrize("given", [(), ("ek_public_sha256", "device_id")])
def test_a_row_names_its_device_exactly_once(given: tuple[str, ...]) -> None:
    cells = {"ek_public_sha256": DIGESTS[0].hex(), "device_id": IDS[0]}
    row = ",".join(cells[column] if column in given else "" for column in cells)
    refused("inventory-malformed", f"ek_public_sha256,device_id,name,site,profile\n{row},a,s,edge\n", row=1)


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("device_id,name,site", "profile"),
        ("device_id,name,site,profil", "profil"),
        ("device_id,name,name,site,profile", "name"),
        ("", "name"),
    ],
)
def test_an_unknown_double_or_missing_column_is_refused(header: str, column: str) -> None:
    refused("inventory-malformed", f"{header}\n", column=column)


def test_a_row_of_another_length_is_refused() -> None:
    refused("inventory-malformed", f"device_id,name,site,profile\n{IDS[0]},a,s\n", row=1)


def test_a_quote_that_does_not_end_is_refused() -> None:
    refused("inventory-malformed", f'device_id,name,site,profile\n"{IDS[0]},a,s,edge\n')


def test_k09_a_second_spelling_of_a_device_id_is_refused() -> None:
    text = f"device_id,name,site,profile\n{IDS[0][:-1]}b,a,s,edge\n"
    refused("inventory-malformed", text, row=1, column="device_id")


def test_an_empty_file_has_no_entries() -> None:
    assert parse_csv("device_id,name,site,profile\n") == ()


def test_the_number_of_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_INVENTORY_ROWS", 2)
    rows = "".join(f"{device(number)},n{number},s,edge\n" for number in range(3))
    refused("inventory-malformed", "device_id,name,site,profile\n" + rows, row=3)


# --- JSON -------------------------------------------------------------------------------------------------------------------


def test_a_json_file_says_the_same() -> None:
    rows = [{"device_id": IDS[0], "name": "a", "site": "s", "profile": "edge", "note": "n"}]
    assert parse_json(json.dumps(rows)) == (InventoryEntry(IDS[0], "a", "s", "edge", "n"),)


@pytest.mark.parametrize(
    ("rows", "row", "column"),
    [
        ([{"device_id": IDS[0], "name": 7, "site": "s", "profile": "edge"}], 1, "name"),
        ([{"device_id": IDS[0], "site": "s", "profile": "edge"}], 1, "name"),
        ([{"device_id": IDS[0], "name": "a", "site": "s", "profile": "edge", "golden": "x"}], 1, "golden"),
        (["text"], 1, None),
        ({"add": []}, None, None),
    ],
)
def test_json_of_another_form_is_refused(rows: Any, row: int | None, column: str | None) -> None:
    with pytest.raises(ChangeRefused) as caught:
        parse_json(json.dumps(rows))
    assert (caught.value.code, caught.value.row, caught.value.column) == ("inventory-malformed", row, column)


@pytest.mark.parametrize(
    "text", ["", "[", "[" * 100_000, '[{"name":"a","name":"b"}]', '[{"ek_certificate":"\\ud800"}]']
)
def test_t03_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ChangeRefused) as caught:
        parse_json(text)
    assert caught.value.code == "inventory-malformed"


# --- The document -------------------------------------------------------------------------------------------------------------


def test_a_document_is_read_back_as_it_was_written() -> None:
    entries = [entry(number) for number in range(5)]
    told = read_inventory(inventory_document(entries, [device(9), device(8)]))
    assert told.add == tuple(sorted(entries, key=lambda item: item.device_id))
    assert told.withdraw == tuple(sorted([device(8), device(9)]))


def test_one_inventory_has_one_document() -> None:
    assert inventory_document([entry(1), entry(2)]) == inventory_document([entry(2), entry(1)])


@pytest.mark.parametrize(
    ("add", "withdraw"),
    [
        ([entry(1), entry(1, name="other")], []),
        ([entry(1, name="x"), entry(2, name="x")], []),
        ([entry(1)], [device(1)]),
    ],
)
def test_k11_a_document_with_a_device_or_name_twice_is_refused(add: list[InventoryEntry], withdraw: list[str]) -> None:
    with pytest.raises(ChangeRefused) as caught:
        inventory_document(add, withdraw)
    assert caught.value.code == "inventory-duplicate"


GOOD = {"device_id": device(1), "name": "a", "site": "s", "profile": "edge", "note": ""}


@pytest.mark.parametrize(
    "document",
    [
        {"add": [], "withdraw": []},
        {"add": [GOOD]},
        {"add": [GOOD], "withdraw": [], "more": 1},
        {"add": {}, "withdraw": []},
        {"add": ["x"], "withdraw": []},
        {"add": [{**GOOD, "name": 1}], "withdraw": []},
        {"add": [{**GOOD, "name": "<b>"}], "withdraw": []},
        {"add": [{**GOOD, "more": "x"}], "withdraw": []},
        {"add": [{key: value for key, value in GOOD.items() if key != "note"}], "withdraw": []},
        {"add": [{**GOOD, "device_id": "x"}], "withdraw": []},
        {"add": [], "withdraw": [7]},
        {"add": [], "withdraw": sorted([device(1), device(2)], reverse=True)},
        {"add": [], "withdraw": [device(1), device(1)]},
    ],
    ids=str,
)
def test_a_document_of_another_form_is_refused(document: Any) -> None:
    with pytest.raises(ChangeRefused) as caught:
        read_inventory(canonical.write(document))
    assert caught.value.code == "inventory-malformed"


@pytest.mark.parametrize(
    "body",
    [
        b'{"add": [], "withdraw": []}',
        b'{"withdraw":[],"add":[]}',
        b'{"add":[],"add":[],"withdraw":[]}',
        b"[]",
        b"{",
        b"\xff",
    ],
)
def test_another_encoding_of_a_document_is_refused(body: bytes) -> None:
    with pytest.raises(ChangeRefused) as caught:
        read_inventory(body)
    assert caught.value.code == "change-malformed"


def test_random_text_never_raises_anything_else() -> None:
    for _ in range(300):
        text = os.urandom(60).decode("latin-1")
        for parse in (parse_csv, parse_json):
            with pytest.raises(ChangeRefused):
                parse(text)
