import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

import tpm_structures as made
from attestd.protocol.limits import MAX_TPM_STRUCTURE
from attestd.tpm.algorithms import CURVE_ORDERS
from attestd.tpm.errors import Malformed
from attestd.tpm.public import parse_public_area
from attestd.tpm.signature import BadSignature, parse_pkcs1, parse_signature, verify, verify_with_key
from tpm_structures import ECDSA, NULL, RSAPSS, RSASSA, SHA1_ID, SHA256_ID, SHA384_ID, SHA512_ID, sized, u16

MESSAGE = b"what the TPM signed"


def rsa_public(**options):
    return parse_public_area(made.rsa_area(made.rsa_key(), **options))


def ecc_public(curve="secp256r1", **options):
    return parse_public_area(made.ecc_area(made.ecc_key(curve), **options))


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        parse_signature(data)
    return caught.value.code


def rejected(public, signature, message=MESSAGE) -> str:
    with pytest.raises(BadSignature) as caught:
        verify(public, parse_signature(signature), message)
    return caught.value.code


@pytest.mark.parametrize("scheme", [RSASSA, RSAPSS])
@pytest.mark.parametrize("digest", [SHA256_ID, SHA384_ID, SHA512_ID])
def test_a_genuine_rsa_signature_is_accepted(scheme, digest):
    signature = made.rsa_signature(made.rsa_key(), MESSAGE, scheme=scheme, digest=digest)

    verify(rsa_public(scheme=scheme, scheme_hash=digest), parse_signature(signature), MESSAGE)

    assert rejected(rsa_public(scheme=scheme, scheme_hash=digest), signature, MESSAGE + b"!") == "signature-invalid"


@pytest.mark.parametrize("salt", [0, 32, 222])
def test_a_pss_salt_of_any_length_is_accepted_because_tpms_differ(salt):
    signature = made.rsa_signature(made.rsa_key(), MESSAGE, scheme=RSAPSS, salt=salt)

    verify(rsa_public(scheme=RSAPSS), parse_signature(signature), MESSAGE)

    assert rejected(rsa_public(scheme=RSAPSS), signature, b"other") == "signature-invalid"


@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1", "secp521r1"])
def test_a_genuine_ecdsa_signature_is_accepted(curve):
    signature = made.ecdsa_signature(made.ecc_key(curve), MESSAGE)

    verify(ecc_public(curve), parse_signature(signature), MESSAGE)

    assert rejected(ecc_public(curve), signature, b"other") == "signature-invalid"


def test_a_key_that_pins_nothing_accepts_any_scheme_of_the_list():
    public = rsa_public(scheme=NULL)
    signature = parse_signature(made.rsa_signature(made.rsa_key(), MESSAGE, scheme=RSAPSS, digest=SHA384_ID))

    verify(public, signature, MESSAGE)

    assert public.scheme is None


def test_q08_a_scheme_other_than_the_pinned_one_is_refused():
    signature = made.rsa_signature(made.rsa_key(), MESSAGE, scheme=RSAPSS)

    assert rejected(rsa_public(scheme=RSASSA), signature) == "signature-scheme"


def test_q08_a_hash_other_than_the_pinned_one_is_refused():
    signature = made.ecdsa_signature(made.ecc_key(), MESSAGE, digest=SHA384_ID)

    assert rejected(ecc_public(scheme_hash=SHA256_ID), signature) == "signature-scheme"


@pytest.mark.parametrize("pinned", [SHA1_ID, SHA256_ID])
def test_q08_sha1_is_refused_even_where_the_key_pins_it(pinned):
    signature = made.rsa_signature(made.rsa_key(), MESSAGE, digest=SHA1_ID)

    assert rejected(rsa_public(scheme_hash=pinned), signature) == "signature-scheme"


@pytest.mark.parametrize("key", ["rsa", "ecc"])
def test_q08_a_signature_of_the_other_kind_of_key_is_refused(key):
    public = rsa_public(scheme=NULL) if key == "rsa" else ecc_public(scheme=NULL)
    signature = (
        made.ecdsa_signature(made.ecc_key(), MESSAGE) if key == "rsa" else made.rsa_signature(made.rsa_key(), MESSAGE)
    )

    assert rejected(public, signature) == "signature-scheme"


def test_q08_a_key_on_a_curve_that_tpms_do_not_have_is_refused():
    key = ec.generate_private_key(ec.SECP256K1())
    r, s = decode_dss_signature(key.sign(MESSAGE, ec.ECDSA(SHA256())))

    with pytest.raises(BadSignature) as caught:
        verify_with_key(key.public_key(), parse_signature(made.ecdsa_octets(r, s)), MESSAGE)

    assert caught.value.code == "signature-scheme"


def test_q08_a_null_signature_is_refused():
    assert refused(u16(NULL)) == "signature-scheme-null"


@pytest.mark.parametrize("scheme", [0x0005, 0x0015, 0x0017, 0x001A, 0x001B, 0x001C, 0xFFFF])
def test_q08_an_unknown_scheme_is_refused(scheme):
    assert refused(u16(scheme) + u16(SHA256_ID) + sized(bytes(32)) + sized(bytes(32))) == "scheme-unknown"


def test_q08_an_unknown_hash_is_refused():
    assert refused(u16(ECDSA) + u16(0x0027) + sized(bytes(32)) + sized(bytes(32))) == "algorithm-unknown"


@pytest.mark.parametrize("size", [0, 1, 255, 257, 600])
def test_q08_an_rsa_signature_of_no_keys_length_is_refused(size):
    assert refused(u16(RSASSA) + u16(SHA256_ID) + sized(b"\x01" * size)) == "signature-size"


def test_q08_an_rsa_signature_of_another_keys_length_is_refused():
    signature = u16(RSASSA) + u16(SHA256_ID) + sized(bytes(128) + made.rsa_signature(made.rsa_key(), MESSAGE)[6:])

    assert rejected(rsa_public(), signature) == "signature-invalid"


def test_q08_an_rsa_signature_of_zeros_is_refused():
    assert rejected(rsa_public(), u16(RSASSA) + u16(SHA256_ID) + sized(bytes(256))) == "signature-invalid"


def test_q08_pkcs1_with_garbage_behind_the_digest_is_refused():
    key = made.rsa_key()
    numbers = key.private_numbers()
    digest_info = bytes.fromhex("3031300d060960864801650304020105000420")
    digest = hashlib.sha256(MESSAGE).digest()
    block = b"\x00\x01" + b"\xff" * 8 + b"\x00" + digest_info + digest
    forged = pow(int.from_bytes(block.ljust(256, b"g"), "big"), numbers.d, numbers.public_numbers.n)

    signature = u16(RSASSA) + u16(SHA256_ID) + sized(forged.to_bytes(256, "big"))

    assert rejected(rsa_public(), signature) == "signature-invalid"


N = CURVE_ORDERS["P-256"]


@pytest.mark.parametrize(("r", "s"), [(0, 0), (0, 1), (1, 0), (N, 1), (1, N), (N + 1, 1), (2**256 - 1, 2**256 - 1)])
def test_q08_ecdsa_numbers_out_of_range_are_refused(r, s):
    assert rejected(ecc_public(), made.ecdsa_octets(r, s)) == "signature-invalid"


@pytest.mark.parametrize(("r", "s"), [(b"", b"\x01"), (b"\x01", b""), (b"\x01" * 67, b"\x01")])
def test_q08_ecdsa_numbers_of_impossible_size_are_refused(r, s):
    assert refused(u16(ECDSA) + u16(SHA256_ID) + sized(r) + sized(s)) == "signature-size"


def test_ecdsa_numbers_without_their_leading_zeros_are_accepted():
    key = made.ecc_key()
    r, s = decode_dss_signature(key.sign(MESSAGE, ec.ECDSA(SHA256())))
    padded = made.ecdsa_octets(r, s, size=40)

    verify(ecc_public(), parse_signature(padded), MESSAGE)

    assert parse_signature(padded).r == r


def test_the_mirrored_ecdsa_signature_verifies_so_its_bytes_are_no_identifier():
    r, s = decode_dss_signature(made.ecc_key().sign(MESSAGE, ec.ECDSA(SHA256())))
    mirrored = parse_signature(made.ecdsa_octets(r, N - s))

    verify(ecc_public(), mirrored, MESSAGE)

    assert mirrored.s == N - s


@pytest.mark.parametrize("make", [made.rsa_signature, made.ecdsa_signature])
def test_q09_bytes_behind_a_signature_are_refused(make):
    key = made.rsa_key() if make is made.rsa_signature else made.ecc_key()

    assert refused(make(key, MESSAGE) + b"\0") == "structure-trailing"


def test_a_signature_cut_anywhere_is_refused():
    data = made.ecdsa_signature(made.ecc_key(), MESSAGE)

    assert {refused(data[:length]) for length in range(len(data))} == {"structure-truncated"}


def test_a_signature_beyond_the_bound_is_refused():
    assert refused(bytes(MAX_TPM_STRUCTURE + 1)) == "structure-size"


@pytest.mark.parametrize("position", range(0, 71, 5))
def test_q10_one_flipped_bit_of_a_signature_is_refused(position):
    data = bytearray(made.ecdsa_signature(made.ecc_key(), MESSAGE))
    data[position] ^= 1

    with pytest.raises((Malformed, BadSignature)):
        verify(ecc_public(), parse_signature(bytes(data)), MESSAGE)


def test_bare_pkcs1_octets_are_verified():
    octets = made.rsa_key().sign(MESSAGE, padding.PKCS1v15(), SHA256())

    verify_with_key(made.rsa_key().public_key(), parse_pkcs1(octets, digest="sha256"), MESSAGE)

    with pytest.raises(BadSignature):
        verify_with_key(made.rsa_key().public_key(), parse_pkcs1(octets, digest="sha256"), b"other")


@pytest.mark.parametrize(
    ("size", "digest", "code"), [(255, "sha256", "signature-size"), (256, "md5", "algorithm-unknown")]
)
def test_bare_octets_that_no_key_makes_are_refused(size, digest, code):
    with pytest.raises(Malformed) as caught:
        parse_pkcs1(bytes(size), digest=digest)

    assert caught.value.code == code
