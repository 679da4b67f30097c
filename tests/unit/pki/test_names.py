"""One name, one spelling."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestd_pki import names
from attestd_pki.errors import PkiError

DEVICE = names.device_id(b"a public key")


def refusal(function: object, *arguments: str) -> str:
    with pytest.raises(PkiError) as caught:
        function(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_a_device_id_is_base32_of_the_hash_of_its_key() -> None:
    padded = base64.b32encode(hashlib.sha256(b"a public key").digest()).decode()
    assert padded.lower() == f"{DEVICE}===="
    assert len(DEVICE) == names.DEVICE_ID_CHARACTERS


def test_k09_an_id_needs_a_key() -> None:
    assert refusal(names.device_id, b"") == "device-key-empty"  # type: ignore[arg-type]


@given(st.binary(min_size=1, max_size=64))
def test_every_device_id_is_read_back_and_is_a_dns_label(key: bytes) -> None:
    device = names.device_id(key)
    assert names.parse_device_id(device) == device
    assert names.dns_name(device, "example") == f"{device}.example"


def test_k09_a_second_spelling_of_a_device_id_is_refused() -> None:
    last = {"a": "b", "q": "r"}[DEVICE[-1]]
    assert refusal(names.parse_device_id, DEVICE[:-1] + last) == "device-id-malformed"


@pytest.mark.parametrize(
    "text",
    ["", DEVICE[:-1], DEVICE + "a", DEVICE.upper(), f"{DEVICE}\n", "1" * 52, DEVICE[:-1] + "ａ", f"{DEVICE}===="],
    ids=["empty", "short", "long", "upper case", "newline", "digit one", "full width", "padded"],
)
def test_k09_what_is_no_device_id_is_refused(text: str) -> None:
    assert refusal(names.parse_device_id, text) == "device-id-malformed"


def test_a_spiffe_id_holds_trust_domain_and_device() -> None:
    assert names.spiffe_id("fleet.example", DEVICE) == f"spiffe://fleet.example/device/{DEVICE}"


@pytest.mark.parametrize(
    "domain", ["", "Fleet.example", "a..b", "-a.b", "a_b", "a/b", "a b", "a.b.", "a\n", "x" * 64, "a." * 101 + "b"]
)
def test_what_is_no_trust_domain_is_refused(domain: str) -> None:
    assert refusal(names.spiffe_id, domain, DEVICE) == "trust-domain-malformed"


@pytest.mark.parametrize(
    "suffix", ["", ".example", "example.", "EXAMPLE", "10.0.0.1", "*.example", "a\x00b", "ex ample"]
)
def test_what_is_no_dns_suffix_is_refused(suffix: str) -> None:
    assert refusal(names.dns_name, DEVICE, suffix) == "dns-suffix-malformed"


def test_the_longest_suffix_makes_a_name_of_253_characters() -> None:
    suffix = "abcdefgh." * 22 + "ab"
    assert len(names.dns_name(DEVICE, suffix)) == 253
    assert refusal(names.dns_name, DEVICE, f"{suffix}c") == "dns-suffix-malformed"


@pytest.mark.parametrize("label", ["edge", "site-12", "rev_2.1", "7", "x" * 63])
def test_a_label_that_people_give_is_accepted(label: str) -> None:
    assert names.parse_label(label) == label


@pytest.mark.parametrize(
    "label",
    ["", "x" * 64, "-a", "a-", "../etc", "a/b", "<b>", "a b", "Edge", "é", "a\x1b[2J", "a\n", "a\u202eb", "аdmin"],
)
def test_t08_a_label_that_could_do_something_on_a_console_is_refused(label: str) -> None:
    assert refusal(names.parse_label, label) == "label-malformed"
