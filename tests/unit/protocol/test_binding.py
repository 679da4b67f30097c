"""What a TPM signs for one exchange: every part of it changes the digest, and nothing can be moved from one part to another."""

import hashlib
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd.protocol.binding import BINDING_LABEL, Purpose, qualifying_data

HONEST: dict[str, Any] = {
    "server": "verifier.example",
    "nonces": (bytes(16), bytes(range(40))),
    "device_id": "a" * 52,
    "device_key_name": b"\x00\x0b" + bytes(32),
    "vpn_keys": (("openvpn", bytes(range(32))), ("wireguard", bytes(32))),
}

OTHERS: dict[str, dict[str, Any]] = {
    "server": {"server": "verifier.example."},
    "server's case": {"server": "Verifier.example"},
    "a nonce less": {"nonces": HONEST["nonces"][:1]},
    "a nonce more": {"nonces": (*HONEST["nonces"], b"")},
    "nonces in another order": {"nonces": HONEST["nonces"][::-1]},
    "nonces joined": {"nonces": (b"".join(HONEST["nonces"]),)},
    "a nonce cut": {"nonces": (bytes(15), HONEST["nonces"][1])},
    "device": {"device_id": "b" * 52},
    "device key": {"device_key_name": b"\x00\x0b" + bytes(31) + b"\x01"},
    "device key's hash": {"device_key_name": b"\x00\x0c" + bytes(32)},
    "no tunnel key": {"vpn_keys": ()},
    "another tunnel key": {"vpn_keys": (("openvpn", bytes(range(32))), ("wireguard", b"\x01" * 32))},
    "tunnel keys exchanged": {"vpn_keys": (("openvpn", bytes(32)), ("wireguard", bytes(range(32))))},
    "another kind": {"vpn_keys": (("openvpn", bytes(range(32))), ("wireguard2", bytes(32)))},
}


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_q07_every_part_of_an_exchange_changes_what_is_signed(purpose: Purpose, changes: dict[str, Any]) -> None:
    assert qualifying_data(purpose, **HONEST) != qualifying_data(purpose, **{**HONEST, **changes})


def test_q02_each_purpose_signs_something_else() -> None:
    assert len({qualifying_data(purpose, **HONEST) for purpose in Purpose}) == len(Purpose)


def test_the_order_in_which_tunnel_keys_are_named_means_nothing() -> None:
    turned = {**HONEST, "vpn_keys": HONEST["vpn_keys"][::-1]}
    assert qualifying_data(Purpose.ATTEST_QUOTE, **turned) == qualifying_data(Purpose.ATTEST_QUOTE, **HONEST)


def test_the_digest_is_over_the_documented_array() -> None:
    array = [
        BINDING_LABEL,
        "enrol-quote",
        HONEST["server"],
        list(HONEST["nonces"]),
        HONEST["device_id"],
        HONEST["device_key_name"],
        [list(pair) for pair in HONEST["vpn_keys"]],
    ]
    expected = hashlib.sha256(cbor2.dumps(array, canonical=True)).digest()
    assert qualifying_data(Purpose.ENROL_QUOTE, **HONEST) == expected


TEXT, DATA = st.text(max_size=8), st.binary(max_size=8)
EXCHANGE = st.tuples(
    st.sampled_from(Purpose),
    TEXT,
    st.lists(DATA, max_size=3).map(tuple),
    TEXT,
    DATA,
    st.dictionaries(TEXT, DATA, max_size=3).map(lambda found: tuple(sorted(found.items()))),
)


def bound(exchange: tuple[Any, ...]) -> bytes:
    purpose, server, nonces, device, name, keys = exchange
    return qualifying_data(purpose, server=server, nonces=nonces, device_id=device, device_key_name=name, vpn_keys=keys)


@given(EXCHANGE, EXCHANGE)
def test_q07_two_exchanges_are_bound_alike_only_if_they_are_the_same(
    first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    assert (bound(first) == bound(second)) == (first == second)
