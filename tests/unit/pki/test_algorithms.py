"""Keys and signatures of every kind that authorities have: what is verified, and what enrolment refuses all the same."""

import datetime
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding
from cryptography.hazmat.primitives.serialization import Encoding

from attestd_pki import der
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import NO_EXCEPTIONS, Budget, Exceptions, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki, verify_signature, weak_hash
from cert_forge import CA, LEAF, NOW, Plan, ec_key, name, rsa_key

BUDGET = Budget(depth=6, signatures=16)
KEYS: dict[str, tuple[Any, Any, str]] = {
    "ed25519": (ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32), None, "ed25519"),
    "ed448": (ed448.Ed448PrivateKey.from_private_bytes(b"\x07" * 57), None, "ed448"),
    "ml-dsa-44": (mldsa.MLDSA44PrivateKey.from_seed_bytes(b"\x07" * 32), None, "ml-dsa-44"),
    "ml-dsa-65": (mldsa.MLDSA65PrivateKey.from_seed_bytes(b"\x07" * 32), None, "ml-dsa-65"),
    "ml-dsa-87": (mldsa.MLDSA87PrivateKey.from_seed_bytes(b"\x07" * 32), None, "ml-dsa-87"),
    "brainpoolP256r1": (ec_key(5, ec.BrainpoolP256R1()), hashes.SHA256(), "sha256"),
    "brainpoolP384r1": (ec_key(5, ec.BrainpoolP384R1()), hashes.SHA384(), "sha384"),
    "brainpoolP512r1": (ec_key(5, ec.BrainpoolP512R1()), hashes.SHA512(), "sha512"),
    "P-521": (ec_key(5, ec.SECP521R1()), hashes.SHA512(), "sha512"),
    "SHA-3 with ECDSA": (ec_key(5), hashes.SHA3_384(), "sha3-384"),
    "SHA-3 with RSA": (rsa_key(3072), hashes.SHA3_512(), "sha3-512"),
}
WEAK: dict[str, tuple[Any, Any, str, str]] = {
    "P-192": (ec_key(5, ec.SECP192R1()), hashes.SHA256(), "sha256", "chain-signature-algorithm"),
    "P-224": (ec_key(5, ec.SECP224R1()), hashes.SHA256(), "sha256", "chain-signature-algorithm"),
    "secp256k1": (ec_key(5, ec.SECP256K1()), hashes.SHA256(), "sha256", "chain-signature-algorithm"),
    "RSA of 1024 bits": (rsa_key(1024), hashes.SHA256(), "sha256", "chain-weak-key"),
    "SHA-224": (rsa_key(2048), hashes.SHA224(), "sha224", "chain-weak-hash"),
}


def issued(key: Any, digest: Any) -> tuple[Certificate, Certificate]:
    """Return an endorsement key's certificate and the authority with this key that signed it."""
    root = Plan("An Authority", key, CA, identifiers=True)
    return tuple(_signed(plan, root, digest) for plan in (LEAF, root))  # type: ignore[return-value]


def _moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _signed(plan: Plan, issuer: Plan, digest: Any, **how: Any) -> Certificate:
    builder = x509.CertificateBuilder().subject_name(name(plan.subject)).issuer_name(name(issuer.subject))
    builder = builder.public_key(plan.key.public_key()).serial_number(9)
    builder = builder.not_valid_before(_moment(plan.not_before)).not_valid_after(_moment(plan.not_after))
    for extension, critical in plan.extensions:
        builder = builder.add_extension(extension, critical=critical)
    return parse_certificate(builder.sign(issuer.key, digest, **how).public_bytes(Encoding.DER))


def refusal(leaf: Certificate, root: Certificate, exceptions: Exceptions = NO_EXCEPTIONS) -> str | None:
    """Return the code with which the walk from leaf to root refuses, or None."""
    try:
        build_and_verify_chain(leaf, (), TrustStore.of([root]), at=NOW, budget=BUDGET, exceptions=exceptions)
    except PkiError as error:
        return error.code
    return None


@pytest.mark.parametrize(("key", "digest", "named"), KEYS.values(), ids=KEYS.keys())
def test_a_signature_of_this_kind_is_verified_and_a_changed_one_is_not(key: Any, digest: Any, named: str) -> None:
    leaf, root = issued(key, digest)
    changed = replace(leaf, tbs=leaf.tbs[:-1] + bytes((leaf.tbs[-1] ^ 1,)))

    assert (verify_signature(leaf, root), refusal(leaf, root)) == (named, None)
    assert refusal(changed, root) == "chain-signature"


@pytest.mark.parametrize(("key", "digest", "named"), KEYS.values(), ids=KEYS.keys())
def test_the_canonical_form_of_a_key_is_the_librarys(key: Any, digest: Any, named: str) -> None:
    _, root = issued(key, digest)
    assert canonical_spki(root) == root.spki


@pytest.mark.parametrize(("key", "digest", "named", "code"), WEAK.values(), ids=WEAK.keys())
def test_k06_a_weak_authority_is_verified_for_people_and_refused_for_devices(
    key: Any, digest: Any, named: str, code: str
) -> None:
    leaf, root = issued(key, digest)
    recorded = Exceptions(recorded=frozenset({leaf.sha256, root.sha256}))

    assert verify_signature(leaf, root) == named
    assert (refusal(leaf, root), refusal(leaf, root, recorded)) == (code, None)


def test_k06_md5_is_refused_and_no_exception_for_sha1_excuses_it() -> None:
    key = rsa_key(2048)
    leaf, root = issued(key, hashes.SHA256())
    oids = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010104")
    tbs = leaf.tbs.replace(*oids)
    signature = key.sign(tbs, padding.PKCS1v15(), hashes.MD5())
    algorithm = bytes.fromhex("300d06092a864886f70d0101040500")
    old = parse_certificate(der.encode(0x30, tbs + algorithm + der.encode(0x03, b"\0" + signature)))

    assert (verify_signature(old, root), weak_hash(old)) == ("md5", "md5")
    assert refusal(old, root) == "chain-weak-hash"
    assert refusal(old, root, Exceptions(sha1_issuers=frozenset({root.sha256}))) == "chain-weak-hash"
    assert refusal(old, root, Exceptions(recorded=frozenset({root.sha256}))) is None


PSS = {
    "SHA-256, salt of the digest": (hashes.SHA256(), hashes.SHA256(), 32),
    "SHA-384, the longest salt": (hashes.SHA384(), hashes.SHA384(), padding.PSS.MAX_LENGTH),
    "SHA-512, no salt": (hashes.SHA512(), hashes.SHA512(), 0),
    "SHA-256 with another mask": (hashes.SHA256(), hashes.SHA512(), 20),
}


@pytest.mark.parametrize(("digest", "mask", "salt"), PSS.values(), ids=PSS.keys())
def test_pss_is_verified_with_the_parameters_it_names(digest: Any, mask: Any, salt: Any) -> None:
    root = Plan("An Authority", rsa_key(2048), CA)
    leaf = _signed(LEAF, root, digest, rsa_padding=padding.PSS(padding.MGF1(mask), salt))
    assert refusal(leaf, _signed(root, root, hashes.SHA256())) is None


def test_pss_by_its_defaults_is_sha1() -> None:
    key = rsa_key(2048)
    root = Plan("An Authority", key, CA)
    plain = _signed(LEAF, root, hashes.SHA256())
    old, algorithm = bytes.fromhex("300d06092a864886f70d01010b0500"), bytes.fromhex("300d06092a864886f70d01010a3000")
    tbs = plain.tbs.replace(old, algorithm)
    scheme = padding.PSS(padding.MGF1(hashes.SHA1()), 20)
    signature = key.sign(tbs, scheme, hashes.SHA1())
    leaf = parse_certificate(der.encode(0x30, tbs + algorithm + der.encode(0x03, b"\0" + signature)))
    authority = _signed(root, root, hashes.SHA256())

    assert (verify_signature(leaf, authority), weak_hash(leaf)) == ("sha1", "sha1")
    assert refusal(leaf, authority) == "chain-weak-hash"


def test_k06_an_authority_of_another_kind_of_key_and_the_same_name_is_not_the_issuer() -> None:
    leaf, _ = issued(ec_key(5), hashes.SHA256())
    _, other = issued(rsa_key(2048), hashes.SHA256())
    assert refusal(leaf, other) == "chain-issuer-missing"
