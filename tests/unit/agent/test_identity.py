"""Names derived from public areas: the same as the verifier's, from real chips' areas too."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

import tpm_structures as structures
from attestd.tpm.public import parse_public
from attestd.tpm.public import spki as verifiers_spki
from attestd_agent import identity
from attestd_agent.errors import StateDamaged
from attestd_pki import names
from testdata import TESTDATA, needs_testdata


def der(key: RSAPrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1", "secp521r1"])
def test_elliptic_curve_key_becomes_its_spki(curve: str) -> None:
    key = structures.ecc_key(curve)
    assert identity.spki(structures.sized(structures.ek_area(key))) == der(key)


@pytest.mark.parametrize("bits", [2048, 3072])
def test_rsa_key_becomes_its_spki(bits: int) -> None:
    key = structures.rsa_key(bits)
    assert identity.spki(structures.sized(structures.ek_area(key))) == der(key)


def test_signing_key_with_a_scheme_becomes_its_spki() -> None:
    rsa, ecc = structures.rsa_key(), structures.ecc_key()
    assert identity.spki(structures.sized(structures.rsa_area(rsa))) == der(rsa)
    assert identity.spki(structures.sized(structures.ecc_area(ecc))) == der(ecc)


def test_exponent_is_read_where_it_is_given() -> None:
    area = structures.rsa_area(structures.rsa_key(), exponent=65537)
    assert identity.spki(structures.sized(area)) == der(structures.rsa_key())


def test_device_id_is_the_verifiers() -> None:
    key = structures.ecc_key("secp384r1")
    ek = structures.sized(structures.ek_area(key))
    assert identity.device_id(ek) == names.device_id(der(key))
    assert names.device_id_of_digest(identity.ek_digest(ek)) == identity.device_id(ek)


def test_name_of_a_key_is_the_verifiers() -> None:
    area = structures.ecc_area(structures.ecc_key())
    assert identity.name_of(structures.sized(area)) == parse_public(structures.sized(area)).name


def test_name_with_another_algorithm_is_refused() -> None:
    area = structures.ecc_area(structures.ecc_key(), name_algorithm=0x000C)
    with pytest.raises(StateDamaged):
        identity.name_of(structures.sized(area))


def test_reset_count_is_read_out_of_an_attestation() -> None:
    assert identity.reset_count(structures.quote(resets=4711)) == 4711


GOOD = structures.sized(structures.ek_area(structures.ecc_key()))


@pytest.mark.parametrize(
    "area",
    [b"", b"\x00", b"\x00\x00", GOOD[:-1], GOOD + b"\x00", b"\x00\x04\x00\x25\x00\x0b", bytes(1000)],
)
def test_damaged_public_area_is_refused(area: bytes) -> None:
    with pytest.raises(StateDamaged):
        identity.spki(area)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_flipped_byte_raises_anything_else(position: int, mask: int) -> None:
    changed = bytearray(GOOD)
    changed[position] ^= mask
    try:
        identity.spki(bytes(changed))
    except StateDamaged:
        return
    assert bytes(changed) != GOOD


@needs_testdata
@pytest.mark.testdata
def test_real_areas_give_the_verifiers_spki() -> None:
    found = sorted((TESTDATA / "vm").glob("*/*.tpm2b_public"))
    assert found
    for path in found:
        area = path.read_bytes()
        assert identity.spki(area) == verifiers_spki(parse_public(area)), path
