"""docs/protocol-vectors.json: the worked exchange in both encodings, its private keys, and bindings that it does not need."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import cbor2

from architecture.worked_exchange import SERVER, Exchange, worked_exchange
from architecture.worked_keys import PRIVATE, seed
from attestd.protocol import codec
from attestd.protocol.binding import BINDING_LABEL, Purpose
from attestd.tpm.public import spki
from attestd_agent.tpm_templates import ATTESTATION_KEY, EK_TEMPLATES, to_2b


@dataclass(frozen=True, slots=True)
class Case:
    """What a binding is made of."""

    purpose: Purpose
    server: str
    nonces: tuple[bytes, ...]
    device_id: str
    device_key_name: bytes
    vpn_keys: tuple[tuple[str, bytes], ...]


def binding_cases(exchange: Exchange) -> dict[str, Case]:
    """Return name → case: the three of the exchange, two challengers, and a device without a tunnel key."""
    nonce = tuple(challenge.nonce for challenge in exchange.challenge.challenges)
    device = exchange.device_id, exchange.device_key.name
    keys = exchange.request.vpn_keys
    return {
        "enrol-certify": Case(Purpose.ENROL_CERTIFY, SERVER, nonce, *device, keys),
        "enrol-quote": Case(Purpose.ENROL_QUOTE, SERVER, nonce, *device, keys),
        "attest-quote": Case(Purpose.ATTEST_QUOTE, SERVER, (exchange.attest.nonce,), *device, keys),
        "two challengers": Case(Purpose.ENROL_QUOTE, SERVER, (*nonce, seed("second challenger")), *device, keys),
        "no tunnel key": Case(Purpose.ENROL_QUOTE, SERVER, nonce, *device, ()),
        "an address for a name": Case(Purpose.ENROL_QUOTE, "2001:db8::17", nonce, *device, keys),
    }


def encoded_binding(case: Case) -> tuple[list[Any], bytes, bytes]:
    """Return the array, its deterministic CBOR and the SHA-256 of that."""
    array = [
        BINDING_LABEL,
        case.purpose.value,
        case.server,
        list(case.nonces),
        case.device_id,
        case.device_key_name,
        [[kind, value] for kind, value in case.vpn_keys],
    ]
    encoded = cbor2.dumps(array, canonical=True)
    return array, encoded, hashlib.sha256(encoded).digest()


def vectors() -> str:
    """Return the document."""
    exchange = worked_exchange()
    document: dict[str, Any] = {
        "about": "The worked exchange of docs/protocol.md, whole. Bytes are hexadecimal. The keys are public: use them nowhere.",
        "private_keys": {label.replace(" ", "_"): number.hex() for label, number in PRIVATE.items()},
        "device_id": exchange.device_id,
        "ek_spki": spki(exchange.ek).hex(),
        "ek_name": exchange.ek.name.hex(),
        "ak_name": exchange.ak.name.hex(),
        "device_key_name": exchange.device_key.name.hex(),
        "ak_template": to_2b(ATTESTATION_KEY).hex(),
        "ek_templates": {row.name: to_2b(row.public).hex() for row in EK_TEMPLATES},
        "bindings": {name: _binding(case) for name, case in binding_cases(exchange).items()},
        "in_cbor": _exchange(worked_exchange(codec.CBOR)),
        "in_json": _exchange(worked_exchange(codec.JSON)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _binding(case: Case) -> dict[str, Any]:
    _, encoded, digest = encoded_binding(case)
    return {
        "purpose": case.purpose.value,
        "server": case.server,
        "nonces": [nonce.hex() for nonce in case.nonces],
        "device_id": case.device_id,
        "device_key_name": case.device_key_name.hex(),
        "vpn_keys": {kind: value.hex() for kind, value in case.vpn_keys},
        "cbor": encoded.hex(),
        "sha256": digest.hex(),
    }


def _exchange(exchange: Exchange) -> dict[str, Any]:
    def shown(message: object) -> str:
        encoded = codec.encode(message, exchange.media_type)
        return encoded.hex() if exchange.media_type == codec.CBOR else encoded.decode()

    return {
        "activation_secret": exchange.secret.hex(),
        "enrol_certify_binding": exchange.certify_binding.hex(),
        "enrol_quote_binding": exchange.quote_binding.hex(),
        "attest_quote_binding": exchange.attest_binding.hex(),
        "messages": {name: shown(message) for name, message in exchange.by_name()},
    }
