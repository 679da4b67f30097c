"""docs/protocol-vectors.json can be checked off line, by what docs/protocol.md says and without a line of this project."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from activation import activate

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "docs/protocol-vectors.json").read_text())
ENCODINGS = ("in_cbor", "in_json")


def message(encoding: str, name: str) -> dict[str, Any]:
    """Return one message as a map."""
    text = VECTORS[encoding]["messages"][name]
    document = cbor2.loads(bytes.fromhex(text)) if encoding == "in_cbor" else json.loads(text)
    assert isinstance(document, dict)
    return document


def octets(value: Any) -> bytes:
    """Return a byte string of either encoding."""
    return value if isinstance(value, bytes) else base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


def private(name: str) -> ec.EllipticCurvePrivateKey:
    """Return one of the example's P-256 keys."""
    return ec.derive_private_key(int(VECTORS["private_keys"][name], 16), ec.SECP256R1())


def signed_by(name: str, structure: Any) -> bytes:
    """Return the extraData of a signed TPMS_ATTEST; its TPMT_SIGNATURE is ECDSA with SHA-256."""
    attest, signature = octets(structure["attest"]), octets(structure["signature"])
    assert signature[:4] == bytes.fromhex("0018000b")
    size = int.from_bytes(signature[4:6], "big")
    r, s = (int.from_bytes(part, "big") for part in (signature[6 : 6 + size], signature[8 + size :]))
    private(name).public_key().verify(encode_dss_signature(r, s), attest, ec.ECDSA(hashes.SHA256()))
    signer = 8 + int.from_bytes(attest[6:8], "big")
    return attest[signer + 2 : signer + 2 + int.from_bytes(attest[signer : signer + 2], "big")]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_endorsement_key_opens_the_secret_for_the_attestation_keys_name(encoding: str) -> None:
    (challenge,) = message(encoding, "EnrolChallenge")["challenges"]

    secret = activate(
        private("endorsement_key"),
        bytes.fromhex(VECTORS["ak_name"]),
        octets(challenge["credential_blob"]),
        octets(challenge["encrypted_secret"]),
        digest=hashes.SHA256(),
        aes_bits=128,
    )

    (activation,) = message(encoding, "EnrolProof")["activations"]
    assert secret.hex() == octets(activation["secret"]).hex() == VECTORS[encoding]["activation_secret"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_proof_repeats_the_first_message_byte_for_byte(encoding: str) -> None:
    sent = VECTORS[encoding]["messages"]["EnrolRequest"]

    assert octets(message(encoding, "EnrolProof")["request"]) == (
        bytes.fromhex(sent) if encoding == "in_cbor" else sent.encode()
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_the_attestation_key_signed_is_over_the_bindings(encoding: str) -> None:
    proof, attest = message(encoding, "EnrolProof"), message(encoding, "AttestRequest")
    signed = [signed_by("attestation_key", one) for one in (proof["certify"], proof["quote"], attest["quote"])]

    names = ("enrol_certify_binding", "enrol_quote_binding", "attest_quote_binding")
    assert [one.hex() for one in signed] == [VECTORS[encoding][name] for name in names]


@pytest.mark.parametrize("name", VECTORS["bindings"])
def test_a_binding_is_the_digest_of_its_array(name: str) -> None:
    case = VECTORS["bindings"][name]
    array = [
        "attestd binding v1",
        case["purpose"],
        case["server"],
        [bytes.fromhex(nonce) for nonce in case["nonces"]],
        case["device_id"],
        bytes.fromhex(case["device_key_name"]),
        [[kind, bytes.fromhex(key)] for kind, key in sorted(case["vpn_keys"].items())],
    ]

    encoded = cbor2.dumps(array, canonical=True)
    assert (encoded.hex(), hashlib.sha256(encoded).hexdigest()) == (case["cbor"], case["sha256"])


def test_the_private_keys_are_those_of_the_messages() -> None:
    request = message("in_cbor", "EnrolRequest")
    tunnel = x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private_keys"]["tunnel_key"]))
    points = {field: request[field][-66:] for field in ("ek_public", "ak_public", "device_key")}

    assert tunnel.public_key().public_bytes_raw() == request["vpn_keys"]["wireguard"]
    for field, name in (
        ("ek_public", "endorsement_key"),
        ("ak_public", "attestation_key"),
        ("device_key", "device_key"),
    ):
        numbers = private(name).public_key().public_numbers()
        sized = b"".join(b"\0\x20" + part.to_bytes(32, "big") for part in (numbers.x, numbers.y))
        assert points[field] == sized[-66:]


@pytest.mark.parametrize("name", ["Enrolled", "Attested"])
def test_the_result_is_signed_with_the_result_key_and_nothing_else(name: str) -> None:
    result = message("in_cbor", name)["result"]
    head, _, signature = result.rpartition(".")

    for label, fits in (("result_key", True), ("authority", False)):
        key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private_keys"][label])).public_key()
        try:
            key.verify(octets(signature), head.encode())
        except InvalidSignature:
            assert not fits
        else:
            assert fits


def test_the_templates_differ_from_each_other() -> None:
    templates = [VECTORS["ak_template"], *VECTORS["ek_templates"].values()]

    assert len(set(templates)) == len(templates) == 7
    assert all(int(template[:4], 16) * 2 == len(template) - 4 for template in templates)
