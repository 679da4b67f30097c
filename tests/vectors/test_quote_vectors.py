"""Quotes and certifications by real TPMs, and forgeries: structure, digest, signature."""

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestd.tpm.attest import Attest, CertifyBody, QuoteBody, parse_attest
from attestd.tpm.errors import Malformed
from attestd.tpm.pcr import pcr_digest, selected_values
from attestd.tpm.public import Attribute, Public, parse_public, parse_public_area, spki
from attestd.tpm.signature import BadSignature, Signature, parse_pkcs1, parse_signature, verify, verify_with_key
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

Item = dict[str, Any]

QUOTES = manifest_items("quote/tpm2", "quote/tpm2-nokey", "quote/tpm2-synthetic")
CERTIFICATIONS = manifest_items("quote/certify-webauthn", "quote/creation")
SIGNED = [item for item in QUOTES + CERTIFICATIONS if item["expected"].get("signature_valid") is not None]
MACHINES = ["good-1", "tampered-cmdline", "tampered-file"]

NO_STRUCTURE = {
    "own__swtpm_s_attest_trailing.json": "structure-trailing",
    "own__swtpm_s_attest_truncated.json": "structure-truncated",
    "own__swtpm_s_selection_count_huge.json": "pcr-selection-count",
}
NO_SIGNATURE = {
    "own__swtpm_s_sig_trailing.json": "structure-trailing",
    "own__swtpm_s_sigalg_hmac.json": "scheme-unknown",
    "own__swtpm_s_sigalg_null.json": "signature-scheme-null",
}
WRONG_SCHEME = {"own__swtpm_s_rsa_key_for_ecdsa.json", "own__swtpm_s_wrong_key.json"}


def name(item: Item) -> str:
    return str(item["file"].rsplit("/", 1)[-1])


def identity(item: Item) -> str:
    return str(item["file"])


def read(item: Item) -> Item:
    loaded: Item = json.loads((TESTDATA / item["file"]).read_text())
    return loaded


def attest_of(vector: Item) -> Attest:
    return parse_attest(bytes.fromhex(vector["attest"]))


def key_of(vector: Item) -> Public | None:
    """Return the AK's public area; the vectors hold it bare or sized, and some have no more than an SPKI."""
    if "ak_tpmt_public" not in vector:
        return None
    data = bytes.fromhex(vector["ak_tpmt_public"])
    return parse_public(data) if int.from_bytes(data[:2], "big") == len(data) - 2 else parse_public_area(data)


def signature_of(vector: Item) -> Signature:
    if "signature_raw" in vector:
        return parse_pkcs1(bytes.fromhex(vector["signature_raw"]), digest=vector["signature"]["hash"])
    return parse_signature(bytes.fromhex(vector["signature_tpmt"]))


def check(vector: Item) -> None:
    """Verify as the product does: against the public area where there is one, else against the bare key."""
    message = bytes.fromhex(vector["attest"])
    public = key_of(vector)
    if public is not None:
        verify(public, signature_of(vector), message)
    else:
        key = load_der_public_key(bytes.fromhex(vector["ak_spki_der"]))
        verify_with_key(key, signature_of(vector), message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "item", [item for item in QUOTES + CERTIFICATIONS if name(item) not in NO_STRUCTURE], ids=identity
)
def test_a_real_attestation_is_read_as_the_reference_reads_it(item):
    vector = read(item)
    decoded = vector["attest_decoded"]

    attest = attest_of(vector)

    assert f"0x{attest.magic:08x}" == decoded["magic"]
    assert attest.qualified_signer.hex() == decoded["qualifiedSigner"]
    assert attest.extra_data.hex() == decoded["extraData"]
    clock = attest.clock
    assert (clock.clock, clock.reset_count, clock.restart_count, int(clock.safe)) == tuple(
        decoded[field] for field in ("clock", "resetCount", "restartCount", "safe")
    )
    assert attest.firmware_version == int(decoded["firmwareVersion"], 16)


@pytest.mark.parametrize(
    "item",
    [item for item in QUOTES if name(item) not in NO_STRUCTURE and "pcr_digest_match" in item["expected"]],
    ids=identity,
)
def test_the_digest_covers_exactly_the_selected_registers(item):
    vector = read(item)
    body = attest_of(vector).body
    assert isinstance(body, QuoteBody)
    held = {
        bank: {int(pcr): bytes.fromhex(value) for pcr, value in values.items()}
        for bank, values in vector["pcrs"].items()
    }

    if "pcr_missing" in name(item):
        with pytest.raises(Malformed) as caught:
            selected_values(body.selections, held)
        assert caught.value.code == "pcr-value-missing"
        return

    values = selected_values(body.selections, held)

    matching = [bank for bank in ("sha1", "sha256", "sha384") if pcr_digest(values, bank) == body.pcr_digest]
    assert matching == item["expected"]["pcr_digest_hash"]


@pytest.mark.parametrize(
    "item", [item for item in QUOTES if item["expected"].get("nonce_match") is not None], ids=identity
)
def test_q06_the_nonce_matches_where_it_should_and_only_there(item):
    if name(item) in NO_STRUCTURE:
        pytest.skip("no structure to take a nonce from; see the test of refused structures")
    vector = read(item)

    assert (attest_of(vector).extra_data == bytes.fromhex(vector.get("nonce", ""))) is item["expected"]["nonce_match"]


def accepted(item: Item) -> bool:
    return bool(item["expected"]["signature_valid"]) and name(item) not in NO_SIGNATURE


@pytest.mark.parametrize("item", [item for item in SIGNED if accepted(item)], ids=identity)
def test_a_genuine_signature_is_accepted_unless_it_is_sha1(item):
    vector = read(item)
    if signature_of(vector).hash != "sha1":
        check(vector)
        assert "ak_spki_der" in vector
        return

    with pytest.raises(BadSignature) as caught:
        check(vector)

    assert caught.value.code == "signature-scheme"
    # It is refused for its hash alone: the mathematics is right.
    key = load_der_public_key(bytes.fromhex(vector["ak_spki_der"]))
    assert isinstance(key, RSAPublicKey)
    octets = signature_of(vector).rsa
    assert octets is not None
    key.verify(octets, bytes.fromhex(vector["attest"]), padding.PKCS1v15(), SHA1())


@pytest.mark.parametrize(
    "item",
    [item for item in SIGNED if not item["expected"]["signature_valid"] and name(item) not in NO_STRUCTURE],
    ids=identity,
)
def test_q08_a_wrong_signature_is_refused(item):
    with pytest.raises(BadSignature) as caught:
        check(read(item))

    assert caught.value.code == ("signature-scheme" if name(item) in WRONG_SCHEME else "signature-invalid")


@pytest.mark.parametrize("item", [item for item in QUOTES if name(item) in NO_STRUCTURE], ids=identity)
def test_q09_a_quote_that_is_no_structure_is_refused(item):
    with pytest.raises(Malformed) as caught:
        attest_of(read(item))

    assert caught.value.code == NO_STRUCTURE[name(item)]


@pytest.mark.parametrize("item", [item for item in QUOTES if name(item) in NO_SIGNATURE], ids=identity)
def test_q08_a_signature_that_is_no_structure_is_refused(item):
    with pytest.raises(Malformed) as caught:
        signature_of(read(item))

    assert caught.value.code == NO_SIGNATURE[name(item)]


@pytest.mark.parametrize(
    "item", [item for item in QUOTES + CERTIFICATIONS if "ak_tpmt_public" in read(item)], ids=identity
)
def test_a_real_attestation_keys_name_and_key_are_computed(item):
    vector = read(item)
    public = key_of(vector)
    assert public is not None

    assert public.name.hex() == vector["ak_info"]["name"]
    assert spki(public).hex() == vector["ak_spki_der"]
    assert bool(public.attributes & Attribute.RESTRICTED) is vector["ak_info"]["restricted"]
    assert bool(public.attributes & Attribute.FIXED_TPM) is vector["ak_info"]["fixedTPM"]


@pytest.mark.parametrize("item", [item for item in QUOTES if "forged_unrestricted" in name(item)], ids=identity)
def test_q01_a_valid_signature_by_an_unrestricted_key_is_told_by_its_attributes(item):
    vector = read(item)
    public = key_of(vector)
    assert public is not None

    check(vector)

    assert not public.attributes & Attribute.RESTRICTED


@pytest.mark.parametrize(
    ("file", "kind"),
    [("own__swtpm_s_certify_not_quote.json", "certify"), ("own__swtpm_s_time_not_quote.json", "time")],
)
def test_q02_a_signed_statement_that_is_no_quote_is_told_by_its_type(file, kind):
    (item,) = (item for item in QUOTES if name(item) == file)
    vector = read(item)

    check(vector)

    assert attest_of(vector).kind == kind


@pytest.mark.parametrize("item", manifest_items("quote/certify-webauthn"), ids=identity)
def test_a_real_certification_names_the_key_that_came_with_it(item):
    vector = read(item)
    body = attest_of(vector).body
    assert isinstance(body, CertifyBody)

    assert (parse_public_area(bytes.fromhex(vector["pubArea"])).name == body.name) is vector["pubArea_name_matches"]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_measured_boots_quote_is_genuine(machine):
    folder = TESTDATA / "vm" / machine
    message = (folder / "quote.attest").read_bytes()
    held = json.loads((folder / "pcrs.json").read_text())
    values = {bank: {int(pcr): bytes.fromhex(value) for pcr, value in pcrs.items()} for bank, pcrs in held.items()}

    public = parse_public((folder / "ak.tpm2b_public").read_bytes())
    signature = parse_signature((folder / "quote.sig").read_bytes())
    attest = parse_attest(message)
    verify(public, signature, message)

    assert isinstance(attest.body, QuoteBody)
    assert attest.extra_data == (folder / "nonce.bin").read_bytes()
    assert attest.body.pcr_digest == pcr_digest(selected_values(attest.body.selections, values), signature.hash)
    with pytest.raises((BadSignature, InvalidSignature)):
        verify(public, signature, message[:-1] + bytes((message[-1] ^ 1,)))
