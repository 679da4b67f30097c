"""`attestd inspect quote` and `certify` on statements of real TPMs and on forgeries."""

import json

import pytest

from inspecting import identity, inspect, path_of
from testdata import manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

QUOTES = manifest_items("quote/tpm2", "quote/tpm2-nokey", "quote/tpm2-synthetic")
CERTIFICATIONS = manifest_items("quote/certify-webauthn", "quote/creation")
JUDGED = ("signature_valid", "nonce_match", "pcr_digest_match")
WHY = {
    "attest_trailing": "quote-malformed",
    "bad_magic": "quote-magic",
    "certify_not_quote": "quote-type",
    "time_not_quote": "quote-type",
    "forged_unrestricted": "ak-attributes",
    "pcr_changed": "quote-pcr-digest",
    "pcr_missing": "pcr-values-malformed",
    "wrong_nonce": "quote-binding",
    "rsassa1": "quote-scheme",
    "sigalg_null": "quote-scheme",
    "sig_trailing": "quote-malformed",
    "ecdsa_zero": "quote-signature",
    "empty_selection": "quote-selection",
}
"""A part of a forgery's name → the code that must be among the reasons."""


def checked(item, document):
    expected = item["expected"]
    return {name: document[name] for name in JUDGED if name in expected}, {
        name: expected[name] for name in JUDGED if name in expected
    }


@pytest.mark.parametrize("item", QUOTES, ids=identity)
def test_a_quote_has_the_expected_signature_nonce_and_digest(item):
    _, document = inspect("quote", path_of(item))

    found, expected = checked(item, document)
    assert found == expected


@pytest.mark.parametrize("item", [item for item in QUOTES if "verdict" in item["expected"]], ids=identity)
def test_a_forged_quote_is_refused_and_a_genuine_one_accepted(item):
    code, document = inspect("quote", path_of(item))

    accepted = item["expected"]["verdict"].startswith("accept")
    assert (code, document["outcome"]) == ((0, "accepted") if accepted else (1, "refused"))
    assert bool(document["reasons"]) is not accepted


@pytest.mark.parametrize(("part", "reason"), WHY.items())
def test_a_forgery_is_refused_for_what_is_forged(part, reason):
    items = [item for item in QUOTES if f"_{part}" in item["file"]]

    assert items
    assert all(reason in inspect("quote", path_of(item))[1]["reasons"] for item in items)


@pytest.mark.parametrize("item", CERTIFICATIONS, ids=identity)
def test_a_certification_has_the_expected_signature(item):
    code, document = inspect("certify", path_of(item))

    found, expected = checked(item, document)
    assert found == expected
    # SHA-1 is what old chips sign with: the mathematics holds, and it is refused all the same.
    weak = json.loads(path_of(item).read_text())["signature"]["hash"] == "sha1"
    assert (code, "quote-scheme" in document["reasons"]) == ((1, True) if weak else (0, False))


@pytest.mark.parametrize("item", manifest_items("quote/certify-webauthn"), ids=identity)
def test_a_certification_names_the_key_that_came_with_it(item):
    _, document = inspect("certify", path_of(item))

    assert document["name_match"] is json.loads(path_of(item).read_text())["pubArea_name_matches"]


@pytest.mark.parametrize("item", QUOTES + CERTIFICATIONS, ids=identity)
def test_what_a_statement_says_is_what_the_reference_reads(item):
    command = "quote" if item in QUOTES else "certify"
    decoded = json.loads(path_of(item).read_text())["attest_decoded"]

    _, document = inspect(command, path_of(item))

    if isinstance(decoded, str):  # what the reference says of bytes that it cannot read
        assert (document["attest"], document["outcome"]) == (None, "refused")
    else:
        decoded.pop("trailing")
        assert document["attest"] == decoded


@pytest.mark.parametrize("item", CERTIFICATIONS[:3], ids=identity)
def test_q02_a_certification_is_no_quote(item):
    code, document = inspect("quote", path_of(item))

    assert (code, "quote-type" in document["reasons"]) == (1, True)
