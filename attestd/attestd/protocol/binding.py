"""What a quote and a certification are bound to: one function for both sides.

The qualifying data of every TPM2_Quote and TPM2_Certify is SHA-256 over the deterministic CBOR (RFC 8949, 4.2.1) of one
array. Whoever changes a nonce, a key, the server or the purpose gets another digest, so a proof made for one exchange
says nothing in another. Assumes that the TPM signs `extraData` as given (TPM 2.0 Part 3, 18.4). Does not prove
freshness: that is the nonce's affair.
"""

import hashlib
from collections.abc import Sequence
from enum import StrEnum

import cbor2

BINDING_LABEL = "attestd binding v1"
"""First element of the array: no other use of SHA-256 in the system starts like this."""


class Purpose(StrEnum):
    """Why the TPM signs: a proof for one purpose is refused for another."""

    ENROL_QUOTE = "enrol-quote"
    ENROL_CERTIFY = "enrol-certify"
    ATTEST_QUOTE = "attest-quote"


def qualifying_data(
    purpose: Purpose,
    *,
    server: str,
    nonces: Sequence[bytes],
    device_id: str,
    device_key_name: bytes,
    vpn_keys: Sequence[tuple[str, bytes]],
) -> bytes:
    """Return the 32 bytes that a TPM signs for one exchange.

    `server` is the name under which the device verified the server's TLS certificate, in lower case and without a port;
    `nonces` are the challengers' nonces in the order of the challenges; `device_id` is derived from the endorsement key
    (docs/protocol.md, "Device identity"); `device_key_name` is the TPM name of the device key (2 bytes of algorithm, then the
    digest); `vpn_keys` are (kind, public key) pairs and are sorted by kind here.

    >>> qualifying_data(
    ...     Purpose.ATTEST_QUOTE, server="verifier.example", nonces=[bytes(16)], device_id="x", device_key_name=b"n", vpn_keys=[]
    ... ).hex()[:16]
    '463bfd272e61d53a'
    """
    array = [
        BINDING_LABEL,
        purpose.value,
        server,
        [bytes(nonce) for nonce in nonces],
        device_id,
        bytes(device_key_name),
        [[kind, bytes(key)] for kind, key in sorted(vpn_keys)],
    ]
    return hashlib.sha256(cbor2.dumps(array, canonical=True)).digest()
