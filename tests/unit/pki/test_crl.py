"""Revocation lists: what is built is what is read, and nothing else is."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from attestd_pki.crl import build_crl, verify_crl
from attestd_pki.errors import PkiError
from attestd_pki.profiles import instant
from attestd_pki.revocation import REASONS, Revocation, RevocationList
from pki_world import CA_KEY, NOW, OTHER_CA_KEY, SERIAL, an_issuer

ENTRY = (SERIAL, NOW - 5, "keyCompromise")


def a_list(*revoked: tuple[int, int, str], **changes: Any) -> bytes:
    arguments: dict[str, Any] = {"number": 7, "this_update": NOW, "next_update": NOW + 3600, **changes}
    return build_crl(an_issuer(), revoked, **arguments)


def read(data: bytes, now: int = NOW) -> RevocationList:
    return verify_crl(data, issuer=an_issuer().identity, now=now)


def code_of(function: Any, *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(PkiError) as caught:
        function(*arguments, **keywords)
    return caught.value.code


def foreign(key: Ed25519PrivateKey = CA_KEY, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """Return a list of the authority's name, made without this package."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(an_issuer().identity.authority.subject)
        .last_update(instant(NOW))
        .next_update(instant(NOW + 60))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def test_a_list_says_what_was_put_on_it() -> None:
    second = (SERIAL + 1, NOW - 50, "unspecified")
    content = read(a_list(second, ENTRY))
    assert content == RevocationList(7, NOW, NOW + 3600, (Revocation(*ENTRY), Revocation(*second)))
    assert content.revokes(SERIAL)
    assert not content.revokes(SERIAL + 2)


def test_an_empty_list_revokes_nobody() -> None:
    assert read(a_list()).entries == ()


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_is_read_back(reason: str) -> None:
    assert read(a_list((SERIAL, NOW, reason))).entries[0].reason == reason


def test_the_order_of_revocations_does_not_change_a_list() -> None:
    other = (SERIAL + 1, NOW, "superseded")
    assert a_list(ENTRY, other) == a_list(other, ENTRY)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ((SERIAL, NOW, "certificateHold"), "crl-reason"),
        ((SERIAL, NOW, "removeFromCRL"), "crl-reason"),
        ((0, NOW, "superseded"), "crl-serial"),
        ((2**160, NOW, "superseded"), "crl-serial"),
        ((SERIAL, NOW + 1, "superseded"), "crl-time"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(entry: tuple[int, int, str], code: str) -> None:
    assert code_of(a_list, entry) == code


def test_a_serial_on_the_list_twice_is_refused() -> None:
    assert code_of(a_list, ENTRY, (SERIAL, NOW, "superseded")) == "crl-duplicate"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"number": 0}, "crl-number"),
        ({"number": 2**159}, "crl-number"),
        ({"next_update": NOW}, "crl-time"),
        ({"next_update": NOW + 8 * 86_400}, "crl-time"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(change: dict[str, int], code: str) -> None:
    assert code_of(a_list, **change) == code


@pytest.mark.parametrize(("now", "code"), [(NOW - 1, "crl-not-yet-valid"), (NOW + 3601, "crl-expired")])
def test_a_list_outside_its_time_is_refused(now: int, code: str) -> None:
    assert code_of(read, a_list(), now) == code


def test_a_list_of_another_authority_under_the_same_name_is_refused() -> None:
    assert code_of(read, foreign(OTHER_CA_KEY)) == "crl-signature"


def test_a_flipped_bit_is_refused() -> None:
    data = bytearray(a_list(ENTRY))
    data[data.index(SERIAL.to_bytes(17, "big")) + 9] ^= 1
    assert code_of(read, bytes(data)) == "crl-signature"


@pytest.mark.parametrize("data", [b"", b"\x30\x00", a_list()[:-1], a_list() + b"\x00"])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    assert code_of(read, data) == "crl-malformed"


NUMBER = (x509.CRLNumber(7), False)
KEY_ID = (x509.AuthorityKeyIdentifier(b"x", None, None), False)


def test_the_foreign_list_is_read_when_it_is_as_ours() -> None:
    assert read(foreign(CA_KEY, NUMBER, KEY_ID)).number == 7


@pytest.mark.parametrize(
    "extension",
    [
        (x509.DeltaCRLIndicator(3), True),
        (x509.IssuingDistributionPoint(None, None, True, False, None, False, False), True),
    ],
    ids=["delta", "only user certificates"],
)
def test_a_list_that_covers_less_than_everything_is_refused(extension: tuple[x509.ExtensionType, bool]) -> None:
    assert code_of(read, foreign(CA_KEY, NUMBER, KEY_ID, extension)) == "crl-extension"


def test_a_list_without_a_number_is_refused() -> None:
    assert code_of(read, foreign(CA_KEY, KEY_ID)) == "crl-extension"
