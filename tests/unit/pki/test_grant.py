"""A grant has one encoding, and decoding accepts nothing else."""

import hashlib
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd_pki import bounds, names
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant
from pki_world import NOW, a_grant, grant_fields


def body_of(grant: Grant) -> dict[str, Any]:
    decoded = cbor2.loads(grant.encode())
    assert isinstance(decoded, dict)
    return dict(decoded)


def refusal(data: bytes) -> str:
    with pytest.raises(PkiError) as caught:
        Grant.decode(data)
    return caught.value.code


def changed(**fields: Any) -> bytes:
    return cbor2.dumps({**body_of(a_grant()), **fields}, canonical=True)


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    """Any grant that the format allows."""
    ek_digest = draw(st.binary(min_size=32, max_size=32))
    device = names.device_id_of_digest(ek_digest)
    minted = draw(st.integers(min_value=bounds.BACKDATE_SECONDS, max_value=4_000_000_000))
    not_before = minted - draw(st.integers(min_value=0, max_value=bounds.BACKDATE_SECONDS))
    kinds = draw(st.sets(st.sampled_from(["ikev2", "openvpn", "ssh", "wireguard"])))
    return a_grant(
        grant_id=draw(st.binary(min_size=16, max_size=16)),
        device_id=device,
        ek_digest=ek_digest,
        ak_name=draw(st.binary(min_size=22, max_size=66)),
        subject_public_key=draw(st.binary(min_size=1, max_size=200)),
        uri=names.spiffe_id("fleet.example", device),
        dns_name=names.dns_name(device, "fleet.example"),
        vpn_keys=tuple((kind, draw(st.binary(min_size=1, max_size=64))) for kind in sorted(kinds)),
        not_before=not_before,
        not_after=not_before + draw(st.integers(min_value=1, max_value=bounds.CERTIFICATE_SECONDS)),
        profile_version=draw(st.integers(min_value=0, max_value=2**31 - 1)),
        result_id=draw(st.binary(min_size=1, max_size=64)),
        minted_at=minted,
        expires_at=minted + draw(st.integers(min_value=1, max_value=bounds.GRANT_SECONDS)),
    )


@given(grants())
def test_a_grant_is_read_back_as_it_was(grant: Grant) -> None:
    assert Grant.decode(grant.encode()) == grant


@given(grants())
def test_equal_grants_have_one_encoding_and_one_digest(grant: Grant) -> None:
    again = Grant.decode(grant.encode())
    assert again.encode() == grant.encode()
    assert again.digest() == hashlib.sha256(grant.encode()).digest()


@given(grants(), st.data())
def test_a_flipped_bit_never_passes_for_the_same_grant(grant: Grant, data: st.DataObject) -> None:
    encoded = bytearray(grant.encode())
    position = data.draw(st.integers(min_value=0, max_value=len(encoded) - 1))
    encoded[position] ^= 1 << data.draw(st.integers(min_value=0, max_value=7))
    try:
        other = Grant.decode(bytes(encoded))
    except PkiError:
        return
    assert other != grant
    assert other.digest() != grant.digest()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_with_a_code(data: bytes) -> None:
    assert refusal(data).startswith("grant-")


def test_the_encoding_does_not_change_between_releases() -> None:
    assert a_grant().digest().hex() == "0a888b3f906602870868fd5a2a26e8bc1f66fad90bca2a9c14393bb3fbbf265a"


def test_keys_in_another_order_are_refused() -> None:
    reversed_body = dict(reversed(list(body_of(a_grant()).items())))
    assert refusal(cbor2.dumps(reversed_body)) == "grant-not-deterministic"


def test_trailing_bytes_are_refused() -> None:
    assert refusal(a_grant().encode() + b"\x00") in {"grant-not-cbor", "grant-not-deterministic"}


def test_a_longer_spelling_of_a_number_is_refused() -> None:
    encoded = a_grant().encode()
    short = cbor2.dumps("version") + b"\x01"
    assert short in encoded
    assert refusal(encoded.replace(short, short[:-1] + b"\x18\x01")) == "grant-not-deterministic"


def test_an_indefinite_map_is_refused() -> None:
    assert refusal(b"\xbf" + a_grant().encode()[1:] + b"\xff") in {"grant-not-cbor", "grant-malformed"}


def test_a_field_twice_is_refused() -> None:
    encoded = a_grant().encode()
    assert encoded[0] == 0xB1
    assert refusal(b"\xb2" + encoded[1:] + cbor2.dumps("version") + b"\x01") == "grant-not-cbor"


def test_l02_an_unknown_field_is_refused() -> None:
    assert refusal(changed(ca=True)) == "grant-malformed"


@pytest.mark.parametrize("field", sorted(grant_fields()))
def test_a_missing_field_is_refused(field: str) -> None:
    body = body_of(a_grant())
    del body[field]
    assert refusal(cbor2.dumps(body, canonical=True)) == "grant-malformed"


@pytest.mark.parametrize("field", sorted(grant_fields()))
@pytest.mark.parametrize(
    "value", [None, True, 1.5, {}, [[]], "\x1b[2J"], ids=["null", "true", "float", "map", "list", "escape"]
)
def test_a_field_of_another_type_is_refused(field: str, value: object) -> None:
    assert refusal(changed(**{field: value})) == "grant-malformed"


def test_a_tag_that_makes_another_type_is_refused() -> None:
    assert refusal(changed(minted_at=cbor2.CBORTag(1, NOW))) == "grant-malformed"


def test_an_oversized_grant_is_refused_before_it_is_read() -> None:
    assert refusal(bytes(bounds.MAX_GRANT + 1)) == "grant-too-large"


def test_deep_nesting_is_refused() -> None:
    assert refusal(b"\x81" * 4000) == "grant-not-cbor"


OTHER = names.device_id(b"another key")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"version": 2}, "grant-malformed"),
        ({"grant_id": bytes(15)}, "grant-malformed"),
        ({"ek_digest": bytes(32)}, "grant-device-id"),
        ({"device_id": OTHER}, "grant-device-id"),
        ({"uri": names.spiffe_id("fleet.example", OTHER)}, "grant-uri"),
        ({"uri": a_grant().uri + "/admin"}, "grant-uri"),
        ({"uri": a_grant().uri.replace("spiffe", "http")}, "trust-domain-malformed"),
        ({"dns_name": names.dns_name(OTHER, "fleet.example")}, "grant-dns-name"),
        ({"dns_name": "*.fleet.example"}, "grant-dns-name"),
        ({"not_after": NOW - 300 + 86_401}, "grant-validity"),
        ({"not_after": NOW - 300}, "grant-validity"),
        ({"not_before": NOW - 301}, "grant-backdated"),
        ({"not_before": NOW + 1}, "grant-backdated"),
        ({"expires_at": NOW}, "grant-lifetime"),
        ({"expires_at": NOW + 301}, "grant-lifetime"),
        ({"profile": "../edge"}, "label-malformed"),
        ({"vpn_keys": (("wireguard", b"a"), ("ikev2", b"b"))}, "grant-malformed"),
        ({"vpn_keys": (("wireguard", b"a"), ("wireguard", b"b"))}, "grant-malformed"),
        ({"vpn_keys": (("wireguard", b""),)}, "grant-malformed"),
        ({"vpn_keys": tuple((f"kind{number}", b"a") for number in range(5))}, "grant-malformed"),
        ({"vpn_keys": [("wireguard", b"a")]}, "grant-malformed"),
    ],
)
def test_c01_a_grant_that_says_what_it_may_not_cannot_be_made(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(PkiError) as caught:
        a_grant(**fields)
    assert caught.value.code == code


def test_a_grant_cannot_be_changed_after_it_was_made() -> None:
    with pytest.raises(AttributeError):
        a_grant().not_after = NOW + 10**6  # type: ignore[misc]
