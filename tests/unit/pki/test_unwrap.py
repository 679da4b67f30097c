"""Wrappings of certificates, and everything that is none."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd_pki import bounds, der
from attestd_pki.errors import PkiError
from attestd_pki.unwrap import split_bundle, unwrap, unwrap_all
from cert_forge import INTERMEDIATE, LEAF, ROOT, make

CERTIFICATE = make(LEAF, INTERMEDIATE).der
SECOND = make(INTERMEDIATE, ROOT).der
BASE64 = base64.b64encode(CERTIFICATE)
BASE64URL = base64.urlsafe_b64encode(CERTIFICATE).rstrip(b"=")
SIZE = (len(CERTIFICATE) + 2).to_bytes(2, "big")
PEM = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(CERTIFICATE) + b"-----END CERTIFICATE-----\n"

WRAPPED = {
    "bare": CERTIFICATE,
    "zero padding": CERTIFICATE + bytes(600),
    "one padding": CERTIFICATE + b"\xff" * 600,
    "both paddings": CERTIFICATE + b"\xff" * 6 + bytes(6),
    "another octet as padding": CERTIFICATE + b"\x11" * 192,
    "the sequence octet as padding": CERTIFICATE + b"\x30" * 20,
    "two certificates": CERTIFICATE + SECOND + bytes(9),
    "octet string": der.encode(0x04, CERTIFICATE),
    "octet string, padded": der.encode(0x04, CERTIFICATE) + b"\xff" * 9,
    "TCG header": b"\x10\x01\x00" + SIZE + b"\x10\x02" + CERTIFICATE + b"\xff" * 30,
    "PEM": PEM,
    "PEM with text before": b"Subject: someone\n" + PEM,
    "PEM with a NUL after": PEM + b"\x00",
    "base64": BASE64,
    "base64 in lines": base64.encodebytes(CERTIFICATE),
    "base64url without padding": BASE64URL,
    "JSON": json.dumps({"pubhash": "x", "certificate": BASE64URL.decode()}).encode(),
    "JSON, percent-encoded": json.dumps(
        {"certificate": BASE64.decode().replace("+", "%2B").replace("=", "%3D")}
    ).encode(),
    "JSON over a TCG header": json.dumps(
        {"certificate": base64.b64encode(b"\x10\x01\x00" + SIZE + b"\x10\x02" + CERTIFICATE).decode()}
    ).encode(),
}

REFUSED = {
    "nothing": (b"", "unwrap-empty"),
    "an empty index": (b"\xff" * 1600, "unwrap-empty"),
    "a zeroed index": (bytes(1024), "unwrap-empty"),
    "an empty octet string": (b"\x04\x00", "unwrap-empty"),
    "a truncated certificate": (CERTIFICATE[:-1], "unwrap-truncated"),
    "a truncated length": (b"\x30\x82\x01", "unwrap-truncated"),
    "an indefinite length": (b"\x30\x80" + CERTIFICATE, "unwrap-not-a-certificate"),
    "a length of eight octets": (b"\x30\x88" + bytes(7) + b"\x01\x00", "unwrap-not-a-certificate"),
    "something after it": (CERTIFICATE + b"hello", "unwrap-trailing-data"),
    "a truncated second one": (CERTIFICATE + SECOND[:-5], "unwrap-truncated"),
    "nine certificates": (CERTIFICATE * 9, "unwrap-trailing-data"),
    "a partial certificate": (b"\x10\x01\x01" + SIZE + b"\x10\x02" + CERTIFICATE, "unwrap-partial"),
    "a TCG header that says too much": (b"\x10\x01\x00\xff\xff\x10\x02" + CERTIFICATE, "unwrap-truncated"),
    "a TCG header over nothing known": (b"\x10\x01\x00\x00\x04\x20\x20\x20\x20", "unwrap-not-a-certificate"),
    "a PEM key": (b"-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n", "unwrap-not-a-certificate"),
    "JSON without one": (b'{"error": "not found"}', "unwrap-not-a-certificate"),
    "JSON with a number": (b'{"certificate": 7}', "unwrap-not-a-certificate"),
    "nested JSON": (b'{"a":' * 6000, "unwrap-not-a-certificate"),
    "a web page": (b"<html><body>404</body></html>", "unwrap-not-a-certificate"),
    "base64 of nothing known": (base64.b64encode(b"\x02\x01\x01" * 9), "unwrap-not-a-certificate"),
    "one base64 digit too many": (
        BASE64.rstrip(b"=") + b"AAAAA"[: (1 - len(BASE64.rstrip(b"="))) % 4],
        "unwrap-not-a-certificate",
    ),
    "too much": (bytes(bounds.MAX_WRAPPED + 1), "unwrap-too-large"),
}


def octet_strings(count: int) -> bytes:
    data = CERTIFICATE
    for _ in range(count):
        data = der.encode(0x04, data)
    return data


@pytest.mark.parametrize("data", WRAPPED.values(), ids=WRAPPED.keys())
def test_a_certificate_is_found_inside(data: bytes) -> None:
    assert unwrap(data) == CERTIFICATE


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_e06_what_holds_no_certificate_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(PkiError) as caught:
        unwrap(data)
    assert caught.value.code == code


def test_certificates_after_the_first_are_kept_as_hints() -> None:
    assert unwrap_all(CERTIFICATE + SECOND + bytes(9)) == (CERTIFICATE, SECOND)


def test_e06_wrappings_inside_each_other_are_bounded() -> None:
    assert unwrap(octet_strings(bounds.MAX_LAYERS)) == CERTIFICATE
    with pytest.raises(PkiError) as caught:
        unwrap(octet_strings(bounds.MAX_LAYERS + 1))
    assert caught.value.code == "unwrap-too-deep"


def test_a_bundle_is_split_in_order() -> None:
    second = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(SECOND) + b"-----END CERTIFICATE-----\n"
    assert split_bundle(b"# roots\n" + PEM + b"\n" + second) == (CERTIFICATE, SECOND)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_or_begin_a_sequence(data: bytes) -> None:
    found = outcome(data)
    assert found[0] == der.SEQUENCE or found.startswith(b"unwrap-")


def outcome(data: bytes) -> bytes:
    """Return what was found, or the refusal's code."""
    try:
        return unwrap(data)
    except PkiError as error:
        return error.code.encode()


@pytest.mark.parametrize("data", [b"0", b"00", b"0" * 49])
def test_one_repeated_octet_that_looks_like_a_sequence_is_refused(data: bytes) -> None:
    with pytest.raises(PkiError) as refused:
        unwrap(data)
    assert refused.value.code.startswith("unwrap-")
