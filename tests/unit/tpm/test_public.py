import hashlib
from dataclasses import FrozenInstanceError

import pytest
from cryptography.hazmat.primitives import serialization

import tpm_structures as made
from attestd.protocol.limits import MAX_TPM_STRUCTURE
from attestd.tpm.errors import Malformed
from attestd.tpm.public import KNOWN_ATTRIBUTES, Attribute, parse_public, parse_public_area, public_key, spki
from tpm_structures import sized, u16, u32


def refused(area: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parse_public_area(area)
    return caught.value.code


def test_an_rsa_attestation_key_is_read():
    key = made.rsa_key()

    public = parse_public(sized(made.rsa_area(key)))

    assert (public.kind, public.name_algorithm, public.key_bits, public.exponent) == ("rsa", "sha256", 2048, 65537)
    assert (public.scheme, public.scheme_hash, public.symmetric, public.curve) == ("rsassa", "sha256", None, None)
    assert public.unique == key.public_key().public_numbers().n.to_bytes(256, "big")


@pytest.mark.parametrize(("curve", "name"), [("secp256r1", "P-256"), ("secp384r1", "P-384"), ("secp521r1", "P-521")])
def test_an_ecc_attestation_key_is_read(curve, name):
    key = made.ecc_key(curve)

    public = parse_public_area(made.ecc_area(key, scheme_hash=made.SHA384_ID))

    assert (public.kind, public.curve, public.key_bits) == ("ecc", name, key.curve.key_size)
    assert (public.scheme, public.scheme_hash) == ("ecdsa", "sha384")
    assert public_key(public).public_numbers() == key.public_key().public_numbers()


def test_the_name_is_the_digest_of_the_exact_area():
    area = made.ecc_area(made.ecc_key())

    public = parse_public_area(area)

    assert public.area == area
    assert public.name == b"\x00\x0b" + hashlib.sha256(area).digest()


@pytest.mark.parametrize(("number", "name"), [(made.SHA1_ID, "sha1"), (made.SHA384_ID, "sha384")])
def test_the_name_uses_the_keys_own_name_algorithm(number, name):
    area = made.ecc_area(made.ecc_key(), name_algorithm=number)

    assert parse_public_area(area).name == u16(number) + hashlib.new(name, area).digest()


@pytest.mark.parametrize("bit", [bit for bit in range(32) if KNOWN_ATTRIBUTES >> bit & 1])
def test_k02_every_attribute_bit_changes_the_name(bit):
    key = made.ecc_key()

    one = parse_public_area(made.ecc_area(key, attributes=0))
    other = parse_public_area(made.ecc_area(key, attributes=1 << bit))

    assert one.name != other.name
    assert Attribute(1 << bit) in Attribute(other.attributes)


@pytest.mark.parametrize("bit", [bit for bit in range(32) if not KNOWN_ATTRIBUTES >> bit & 1])
def test_k01_a_reserved_attribute_bit_is_refused(bit):
    assert refused(made.ecc_area(made.ecc_key(), attributes=1 << bit)) == "public-attributes"


def test_a_key_without_a_pinned_scheme_has_none():
    public = parse_public_area(made.rsa_area(made.rsa_key(), scheme=made.NULL))

    assert (public.scheme, public.scheme_hash) == (None, None)


def test_an_endorsement_key_names_its_symmetric_cipher():
    public = parse_public_area(made.ek_area(made.ecc_key("secp384r1"), bits=256, name_algorithm=made.SHA384_ID))

    assert (public.symmetric, public.name_algorithm, len(public.auth_policy)) == ("aes256cfb", "sha384", 48)


def test_the_subject_public_key_info_is_that_of_the_key():
    key = made.rsa_key()

    der = spki(parse_public_area(made.rsa_area(key)))

    assert der == key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_bytes_behind_the_area_are_refused():
    assert refused(made.ecc_area(made.ecc_key()) + b"\0") == "structure-trailing"


def test_bytes_behind_the_sized_area_are_refused():
    with pytest.raises(Malformed) as caught:
        parse_public(sized(made.ecc_area(made.ecc_key())) + b"\0")

    assert caught.value.code == "structure-trailing"


def test_an_area_cut_anywhere_is_refused():
    area = made.ecc_area(made.ecc_key())

    assert {refused(area[:length]) for length in range(len(area))} == {"structure-truncated"}


@pytest.mark.parametrize("parse", [parse_public, parse_public_area])
def test_an_area_beyond_the_bound_is_refused(parse):
    with pytest.raises(Malformed) as caught:
        parse(bytes(MAX_TPM_STRUCTURE + 1))

    assert caught.value.code == "structure-size"


def test_an_unknown_object_type_is_refused():
    assert refused(u16(0x0024) + made.ecc_area(made.ecc_key())[2:]) == "public-kind"


def test_an_unknown_name_algorithm_is_refused():
    assert refused(made.ecc_area(made.ecc_key(), name_algorithm=made.NULL)) == "algorithm-unknown"


def test_a_policy_that_is_no_digest_is_refused():
    assert refused(made.ecc_area(made.ecc_key(), policy=bytes(31))) == "public-policy-size"


@pytest.mark.parametrize("curve", [0x0000, 0x0001, 0x0010, 0x0020, 0xFFFF])
def test_q08_an_unknown_curve_is_refused_and_not_skipped(curve):
    area = made.ecc_area(made.ecc_key())
    at = area.index(u16(3) + u16(made.NULL), 14)

    assert refused(area[:at] + u16(curve) + area[at + 2 :]) == "curve-unknown"


@pytest.mark.parametrize("scheme", [0x0015 + 0x0100, 0x0018])
def test_an_rsa_key_with_a_scheme_that_is_not_rsas_is_refused(scheme):
    assert refused(made.rsa_area(made.rsa_key(), scheme=scheme)) == "scheme-unknown"


def test_an_ecc_key_with_an_rsa_scheme_is_refused():
    assert refused(made.ecc_area(made.ecc_key(), scheme=made.RSASSA)) == "scheme-unknown"


def test_a_scheme_with_an_unknown_hash_is_refused():
    assert refused(made.ecc_area(made.ecc_key(), scheme_hash=0x0027)) == "algorithm-unknown"


def test_an_unknown_symmetric_algorithm_is_refused():
    assert refused(made.rsa_area(made.rsa_key(), symmetric=u16(0x0006) + u16(100) + u16(0x43))) == "algorithm-unknown"


def test_a_point_off_the_curve_is_refused():
    area = made.ecc_area(made.ecc_key())
    public = parse_public_area(area[:-1] + bytes((area[-1] ^ 1,)))

    with pytest.raises(Malformed) as caught:
        public_key(public)

    assert caught.value.code == "public-point"


def test_a_coordinate_longer_than_the_field_is_refused():
    area = made.ecc_area(made.ecc_key())[:-68]

    assert refused(area + sized(bytes(33)) + sized(bytes(32))) == "public-unique"


def test_a_coordinate_without_its_leading_zeros_is_the_same_point():
    area = made.ecc_area(made.ecc_key())[:-68]

    short = parse_public_area(area + sized(b"\x05") + sized(b"\x07" * 31))

    assert short.unique == b"\x05".rjust(32, b"\0") + b"\0" + b"\x07" * 31


def test_an_rsa_key_of_1024_bits_is_refused():
    area = made.rsa_area(made.rsa_key())[: -(256 + 2 + 4 + 2)]

    assert refused(area + u16(1024) + u32(0) + sized(b"\xff" * 128)) == "public-key-size"


@pytest.mark.parametrize("modulus", [b"\xff" * 255, b"\x7f" + b"\xff" * 255, b"\xff" * 255 + b"\xfe", b""])
def test_a_modulus_that_is_short_or_even_is_refused(modulus):
    area = made.rsa_area(made.rsa_key())[: -(256 + 2)]

    assert refused(area + sized(modulus)) == "public-unique"


@pytest.mark.parametrize("exponent", [1, 2, 65536])
def test_an_exponent_that_is_even_or_one_is_refused(exponent):
    assert refused(made.rsa_area(made.rsa_key(), exponent=exponent)) == "public-exponent"


def keyed_hash(scheme: bytes, *, digest: bytes = bytes(32)) -> bytes:
    return u16(0x0008) + u16(made.SHA256_ID) + u32(0) + sized(b"") + scheme + sized(digest)


@pytest.mark.parametrize(
    ("scheme", "name", "digest"),
    [
        (u16(made.NULL), None, None),
        (u16(0x0005) + u16(made.SHA256_ID), "hmac", "sha256"),
        (u16(0x000A) + u16(made.SHA256_ID) + u16(0x0022), "xor", "sha256"),
    ],
)
def test_a_keyed_hash_object_is_read(scheme, name, digest):
    public = parse_public_area(keyed_hash(scheme))

    assert (public.kind, public.scheme, public.scheme_hash) == ("keyedhash", name, digest)


def test_a_keyed_hash_object_has_no_public_key():
    with pytest.raises(Malformed) as caught:
        public_key(parse_public_area(keyed_hash(u16(made.NULL))))

    assert caught.value.code == "public-kind"


@pytest.mark.parametrize(
    ("scheme", "code"),
    [(u16(0x0014), "scheme-unknown"), (u16(0x000A) + u16(made.SHA256_ID) + u16(0x0099), "scheme-unknown")],
)
def test_a_keyed_hash_object_with_an_unknown_scheme_is_refused(scheme, code):
    assert refused(keyed_hash(scheme)) == code


def test_an_object_digest_of_another_size_is_refused():
    assert refused(keyed_hash(u16(made.NULL), digest=bytes(20))) == "public-unique"


def test_a_symmetric_object_is_read():
    area = u16(0x0025) + u16(made.SHA256_ID) + u32(0) + sized(b"") + made.aes_cfb(128) + sized(bytes(32))

    assert (parse_public_area(area).kind, parse_public_area(area).symmetric) == ("symcipher", "aes128cfb")


def test_a_public_area_cannot_be_changed():
    public = parse_public_area(made.ecc_area(made.ecc_key()))

    with pytest.raises(FrozenInstanceError):
        public.name = b""  # type: ignore[misc]
