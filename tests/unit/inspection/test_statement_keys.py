"""Quotes whose tuple has the key twice: as a public area, and bare beside it."""

import json
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestd.inspection.statements import inspect_quote
from tpm_structures import ecc_area, ecc_key, ecdsa_signature, quote


def spki(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()


def inspected(**fields: str) -> dict[str, Any]:
    message = quote()
    document = {
        "attest": message.hex(),
        "signature_tpmt": ecdsa_signature(ecc_key(), message).hex(),
        "ak_tpmt_public": ecc_area(ecc_key()).hex(),
        "nonce": (b"n" * 32).hex(),
        **fields,
    }
    return inspect_quote(json.dumps(document).encode()).document()


def test_the_same_key_twice_is_one_key():
    assert inspected(ak_spki_der=spki(ecc_key()))["outcome"] == "accepted"


def test_two_keys_that_differ_are_refused_though_one_of_them_signed():
    report = inspected(ak_spki_der=spki(ecc_key("secp384r1")))

    assert (report["outcome"], report["reasons"], report["signature_valid"]) == ("refused", ["ak-malformed"], True)


def test_a_key_beside_it_that_cannot_be_read_is_not_looked_at():
    assert inspected(ak_spki_der="3000")["outcome"] == "accepted"
