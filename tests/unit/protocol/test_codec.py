"""Messages in both encodings: what is written is read as it was, and what is not a message is refused as malformed only."""

import contextlib
import dataclasses
import json
import string
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestd.protocol import codec, limits, messages
from attestd.protocol.codec import CBOR, JSON, SHAPES, MessageMalformed, decode, encode

MEDIA = (CBOR, JSON)
RELAXED = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

# --- Every message ------------------------------------------------------------------------------------------------------

PRINTABLE = string.ascii_letters + string.digits + " -._:/ÄŒ漢"


def octets(least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=least, max_size=min(most, least + 40))


def text(most: int, least: int = 1) -> st.SearchStrategy[str]:
    return st.text(PRINTABLE, min_size=least, max_size=min(most, 20))


def tuples(items: st.SearchStrategy[Any], most: int, least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, min_size=least, max_size=min(most, 3)).map(tuple)


def pairs(values: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    return st.dictionaries(text(32), values, max_size=min(most, 3)).map(lambda found: tuple(sorted(found.items())))


STRUCTURE, NONCE, DIGEST = octets(2, 4096), octets(16, 64), octets(20, 64)
INTEGER = st.integers(0, 2**64 - 1)
SIGNED = st.builds(messages.SignedAttest, STRUCTURE, STRUCTURE)
PCRS = tuples(st.builds(messages.PcrValue, st.integers(0, 23), DIGEST), 24)
RUNTIME = st.builds(messages.RuntimeList, st.integers(0, 1000), octets(0, 50))
MAYBE_RUNTIME = st.none() | RUNTIME
CHALLENGE = st.builds(messages.Challenge, text(32), NONCE, STRUCTURE, STRUCTURE)
QUOTE = st.builds(messages.QuoteRequest, text(32), tuples(st.integers(0, 23), 24, 1))
ACTIVATION = st.builds(messages.Activation, text(32), NONCE, octets(0, 64))
PEER = st.builds(messages.VpnPeer, text(64), text(300), tuples(text(64), 64), st.integers(0, 65535))
VPN = st.builds(
    messages.VpnCredential, text(32), octets(16, 256), tuples(text(64), 8), tuples(PEER, 64), st.text(max_size=20)
)
FINDING = st.builds(
    messages.Finding,
    text(64),
    text(128),
    text(1024, 0),
    text(1024, 0),
    st.none() | st.integers(0, 23),
    st.none() | st.integers(0, 8192),
)
NEXT = st.builds(messages.Next, NONCE, st.integers(1, 9), INTEGER.filter(bool))
CHAIN = tuples(octets(1, 8192), 6)

EVERY: dict[type, st.SearchStrategy[Any]] = {
    messages.SignedAttest: SIGNED,
    messages.PcrValue: st.builds(messages.PcrValue, st.integers(0, 23), DIGEST),
    messages.RuntimeList: RUNTIME,
    messages.EnrolRequest: st.builds(
        messages.EnrolRequest,
        text(255),
        STRUCTURE,
        STRUCTURE,
        STRUCTURE,
        pairs(octets(16, 256), 4),
        tuples(octets(1, 8192), 8),
        pairs(text(1024), 16),
    ),
    messages.Challenge: CHALLENGE,
    messages.QuoteRequest: QUOTE,
    messages.EnrolChallenge: st.builds(messages.EnrolChallenge, tuples(CHALLENGE, 16, 1), QUOTE, st.integers(0, 3600)),
    messages.Activation: ACTIVATION,
    messages.EnrolProof: st.builds(
        messages.EnrolProof,
        octets(1, 32768),
        tuples(ACTIVATION, 16, 1),
        SIGNED,
        SIGNED,
        PCRS,
        octets(0, 100),
        MAYBE_RUNTIME,
    ),
    messages.VpnPeer: PEER,
    messages.VpnCredential: VPN,
    messages.Finding: FINDING,
    messages.Next: NEXT,
    messages.Enrolled: st.builds(
        messages.Enrolled, text(64), text(32), text(65536), CHAIN, NEXT, tuples(VPN, 4), tuples(FINDING, 256)
    ),
    messages.AttestRequest: st.builds(
        messages.AttestRequest,
        text(64),
        text(255),
        NONCE,
        SIGNED,
        octets(32, 32).map(lambda b: b[:32]),
        PCRS,
        st.none() | octets(0, 100),
        MAYBE_RUNTIME,
        st.booleans(),
    ),
    messages.Attested: st.builds(
        messages.Attested, text(32), text(65536), NEXT, tuples(text(256), 64), tuples(FINDING, 256), CHAIN
    ),
}


def test_every_message_of_the_protocol_is_tried_here() -> None:
    assert set(EVERY) == set(SHAPES)


@pytest.mark.parametrize("media_type", MEDIA)
@pytest.mark.parametrize("message", EVERY, ids=lambda kind: kind.__name__)
def test_a_message_is_read_as_it_was_written(message: type, media_type: str) -> None:
    @RELAXED
    @given(EVERY[message])
    def holds(value: Any) -> None:
        assert decode(message, encode(value, media_type), media_type) == value

    holds()


@pytest.mark.parametrize("message", EVERY, ids=lambda kind: kind.__name__)
def test_both_encodings_say_the_same(message: type) -> None:
    @RELAXED
    @given(EVERY[message])
    def holds(value: Any) -> None:
        assert decode(message, encode(value, CBOR), CBOR) == decode(message, encode(value, JSON), JSON)

    holds()


# --- What is not a message ----------------------------------------------------------------------------------------------

LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
)
FIELD_NAMES = sorted({field.name for message in SHAPES for field in dataclasses.fields(message)})
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


def only_malformed(message: type, body: bytes, media_type: str) -> None:
    """Decode, and let nothing out but MessageMalformed; what is read must be of the type."""
    with contextlib.suppress(MessageMalformed):
        assert type(decode(message, body, media_type)) is message


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(EVERY, key=str)), st.binary(max_size=200), st.sampled_from(MEDIA))
def test_t03_bytes_are_a_message_or_malformed(message: type, body: bytes, media_type: str) -> None:
    only_malformed(message, body, media_type)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(EVERY, key=str)), TREES)
def test_t03_any_cbor_is_a_message_or_malformed(message: type, tree: Any) -> None:
    only_malformed(message, cbor2.dumps(tree), CBOR)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(EVERY, key=str)), TREES)
def test_t03_any_json_is_a_message_or_malformed(message: type, tree: Any) -> None:
    only_malformed(message, json.dumps(tree, default=lambda value: value.hex(), skipkeys=True).encode(), JSON)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_t03_a_message_with_one_byte_changed_is_a_message_or_malformed(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(sorted(EVERY, key=str)))
    media_type = data.draw(st.sampled_from(MEDIA))
    body = bytearray(encode(data.draw(EVERY[message]), media_type))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    only_malformed(message, bytes(body), media_type)


REQUEST = messages.EnrolRequest("localhost", b"ek", b"ak", b"dk", (("wireguard", bytes(32)),))


def bent(**changes: Any) -> bytes:
    """Return an enrolment request in CBOR with these fields replaced or added."""
    return cbor2.dumps({**cbor2.loads(encode(REQUEST, CBOR)), **changes})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (bent(csr=b""), "'csr'"),
        (bent(server=1), "server"),
        (bent(server=""), "server"),
        (bent(server="a\nb"), "server"),
        (bent(server="a" * 256), "server"),
        (bent(ek_public="ek"), "ek_public"),
        (bent(ek_public=b"e"), "ek_public"),
        (bent(ek_public=bytes(4097)), "ek_public"),
        (bent(vpn_keys=[]), "vpn_keys"),
        (bent(vpn_keys={1: bytes(32)}), ""),
        (bent(vpn_keys={"wireguard": bytes(15)}), "vpn_keys.wireguard"),
        (bent(vpn_keys={f"k{n}": bytes(32) for n in range(5)}), "vpn_keys"),
        (bent(ek_certificates=[b"a"] * 9), "ek_certificates"),
        (bent(ek_certificates=[b""]), "ek_certificates[0]"),
        (bent(ek_certificates=[b"a", "b"]), "ek_certificates[1]"),
        (bent(labels={"a": "\x00"}), "labels.a"),
        (cbor2.dumps({}), "server"),
        (cbor2.dumps([]), ""),
        (cbor2.dumps(None), ""),
    ],
)
def test_the_offending_field_is_named(body: bytes, where: str) -> None:
    with pytest.raises(MessageMalformed) as refused:
        decode(messages.EnrolRequest, body, CBOR)
    assert refused.value.where == where


@pytest.mark.parametrize("value", [True, 1.0, -1, 2**64, "1", None, b"1"])
def test_an_integer_is_an_integer_within_its_bounds(value: object) -> None:
    body = cbor2.dumps({"nonce": bytes(16), "interval": 1, "deadline": value})
    with pytest.raises(MessageMalformed):
        decode(messages.Next, body, CBOR)


@pytest.mark.parametrize("text_", ["AA==", "AA=", "AA A", "A", "A+", "AB", "é", "A" * 33])
def test_bytes_in_json_have_one_spelling(text_: str) -> None:
    body = json.dumps({"attest": "AAAA", "signature": text_}).encode()
    with pytest.raises(MessageMalformed) as refused:
        decode(messages.SignedAttest, body, JSON)
    assert refused.value.where == "signature"


def test_another_media_type_is_no_message() -> None:
    with pytest.raises(MessageMalformed, match="media type"):
        decode(messages.Next, b"", "text/plain")


def test_a_json_message_is_smaller_than_its_bound() -> None:
    with pytest.raises(MessageMalformed, match=str(limits.MAX_JSON_BODY)):
        decode(messages.Next, b" " * (limits.MAX_JSON_BODY + 1), JSON)


def test_absent_fields_are_not_written() -> None:
    assert set(cbor2.loads(encode(REQUEST, CBOR))) == {"server", "ek_public", "ak_public", "device_key", "vpn_keys"}


def test_a_shape_has_exactly_the_fields_of_its_class() -> None:
    @dataclasses.dataclass
    class Odd:
        one: int

    check: Callable[..., Any] = codec.integer()
    for fields in ({}, {"one": check, "two": check}, {"two": check}):
        with pytest.raises(TypeError, match="fields and shape differ"):
            codec.shape(Odd, fields)
    assert Odd not in SHAPES
