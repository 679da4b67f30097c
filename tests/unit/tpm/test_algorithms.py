import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestd.tpm import algorithms as alg
from attestd.tpm.errors import Malformed


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha384", "sha512"])
def test_digest_sizes_are_those_of_the_hash(name):
    assert alg.hasher(name)(b"").digest_size == alg.DIGEST_SIZES[name]
    assert alg.hasher(name)(b"abc").digest() == hashlib.new(alg.HASHLIB_NAMES[name], b"abc").digest()
    assert alg.hash_name(alg.HASH_IDS[name]) == name


def test_an_unknown_hash_identifier_is_refused():
    with pytest.raises(Malformed) as caught:
        alg.hash_name(0x0027, where=7)

    assert (caught.value.code, caught.value.where) == ("algorithm-unknown", 7)


def test_a_hash_that_cannot_be_computed_is_refused():
    with pytest.raises(Malformed) as caught:
        alg.hasher("md5")

    assert caught.value.code == "algorithm-unknown"


def test_sha1_may_not_sign():
    assert "sha1" not in alg.SIGNING_HASHES
    assert set(alg.SIGNING_HASHES) == {"sha256", "sha384", "sha512"}


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_the_order_of_a_curve_is_the_largest_private_key_plus_one(curve):
    ec.derive_private_key(alg.CURVE_ORDERS[curve] - 1, alg.CURVES[curve])

    with pytest.raises(ValueError):
        ec.derive_private_key(alg.CURVE_ORDERS[curve], alg.CURVES[curve])
