"""Chains of made-up manufacturers: every way in which one can be wrong has its own refusal."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import Budget, Chain, Exceptions, Expiry, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from cert_forge import (
    CA,
    DAY,
    INTERMEDIATE,
    LEAF,
    NOW,
    ROOT,
    Hash,
    Plan,
    ec_key,
    fingerprint,
    flipped,
    make,
    rsa_key,
    usage,
    with_sha1,
)

BUDGET = Budget(depth=6, signatures=16)
NONE = Exceptions()
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def walk(
    *path: Certificate,
    candidates: tuple[Certificate, ...] = (),
    at: int = NOW,
    budget: Budget = BUDGET,
    exceptions: Exceptions = NONE,
) -> Chain:
    """Verify a path given leaf first and anchor last; what lies between is in the operator's bundle."""
    store = TrustStore.of(path[-1:], path[1:-1])
    return build_and_verify_chain(path[0], candidates, store, at=at, budget=budget, exceptions=exceptions)


def refusal(*path: Certificate, **options: object) -> str:
    with pytest.raises(PkiError) as caught:
        walk(*path, **options)  # type: ignore[arg-type]
    return caught.value.code


def three(root: Plan = ROOT, intermediate: Plan = INTERMEDIATE, leaf: Plan = LEAF) -> tuple[Certificate, ...]:
    return make(leaf, intermediate), make(intermediate, root), make(root)


def test_a_chain_of_three_closes_at_the_pinned_anchor() -> None:
    path = three()
    chain = walk(*path)
    assert chain.certificates == path
    assert chain.anchor is path[-1]
    assert chain.deviations == ()


def test_an_intermediate_that_came_with_the_leaf_fills_the_gap() -> None:
    leaf, intermediate, root = three()
    store = TrustStore.of([root])
    assert len(build_and_verify_chain(leaf, [intermediate], store, at=NOW, budget=BUDGET).certificates) == 3


def test_a_pinned_intermediate_is_an_anchor_without_its_root() -> None:
    leaf, intermediate, _ = three()
    assert len(walk(leaf, intermediate).certificates) == 2


def test_a_missing_issuer_is_named_with_its_key_identifier() -> None:
    intermediate = replace(INTERMEDIATE, identifiers=True)
    leaf, _, root = three(intermediate=intermediate)
    identifier = x509.SubjectKeyIdentifier.from_public_key(intermediate.key.public_key()).digest.hex()
    with pytest.raises(PkiError, match=f"Example TPM Intermediate CA with key identifier {identifier}") as caught:
        walk(leaf, root)
    assert caught.value.code == "chain-issuer-missing"


def test_another_key_under_the_issuers_name_counts_as_the_issuer_missing() -> None:
    leaf, _, root = three(intermediate=replace(INTERMEDIATE, identifiers=True))
    other = make(replace(INTERMEDIATE, identifiers=True, key=ec_key(23)), ROOT)
    assert refusal(leaf, other, root) == "chain-issuer-missing"


def test_k06_self_signed_by_a_private_manufacturer_is_refused() -> None:
    private = replace(ROOT, subject="Private TPM Root CA", key=ec_key(66))
    leaf, intermediate, private_root = three(root=private)
    assert refusal(leaf, make(ROOT), candidates=(intermediate, private_root)) == "chain-self-signed"


def test_k06_a_private_root_under_the_manufacturers_own_name_is_refused() -> None:
    private = replace(ROOT, key=ec_key(66))
    leaf, intermediate, private_root = three(root=private)
    assert refusal(leaf, intermediate, make(ROOT), candidates=(private_root,)) == "chain-self-signed"
    assert refusal(leaf, intermediate, make(ROOT)) == "chain-signature"


def test_k06_a_leaf_that_signed_itself_is_refused() -> None:
    assert refusal(make(replace(LEAF, subject="me")), make(ROOT)) == "chain-self-signed"


def test_k06_a_flipped_bit_in_the_leaf_is_refused() -> None:
    leaf, intermediate, root = three()
    assert refusal(flipped(leaf), intermediate, root) == "chain-signature"


def test_k06_an_issuer_that_is_no_authority_is_refused() -> None:
    plain = replace(INTERMEDIATE, extensions=((x509.BasicConstraints(ca=False, path_length=None), True), CA[1]))
    assert refusal(*three(intermediate=plain)) == "chain-ca-false"


def test_k06_an_issuer_without_basic_constraints_is_refused() -> None:
    assert refusal(*three(intermediate=replace(INTERMEDIATE, extensions=CA[1:]))) == "chain-ca-false"


def test_k06_an_endorsement_certificate_as_issuer_is_refused() -> None:
    leaf, intermediate, root = three(leaf=replace(LEAF, subject="a genuine chip"))
    child = make(replace(LEAF, subject="forged", key=ec_key(44)), replace(LEAF, subject="a genuine chip"))
    assert refusal(child, leaf, intermediate, root) == "chain-ca-false"


def test_k06_an_issuer_that_may_not_sign_certificates_is_refused() -> None:
    only_crl = replace(INTERMEDIATE, extensions=(CA[0], (usage("crl_sign"), True)))
    assert refusal(*three(intermediate=only_crl)) == "chain-key-usage"


def test_an_issuer_without_key_usage_is_accepted_and_recorded() -> None:
    silent = replace(INTERMEDIATE, extensions=CA[:1])
    assert walk(*three(intermediate=silent)).deviations == ("key-usage-absent: CN=Example TPM Intermediate CA",)


def test_k06_a_path_longer_than_its_root_allows_is_refused() -> None:
    short = replace(ROOT, extensions=((x509.BasicConstraints(ca=True, path_length=0), True), CA[1]))
    assert refusal(*three(root=short)) == "chain-path-length"
    assert len(walk(make(LEAF, short), make(short)).certificates) == 2


def test_k06_a_path_longer_than_the_budget_is_refused() -> None:
    assert refusal(*three(), budget=Budget(depth=2, signatures=16)) == "chain-too-long"


@pytest.mark.parametrize("position", [0, 1, 2], ids=["leaf", "intermediate", "anchor"])
def test_k06_an_expired_certificate_is_refused_anywhere(position: int) -> None:
    assert refusal(*_with(position, not_after=NOW - 1)) == "chain-expired"


@pytest.mark.parametrize("position", [0, 1, 2], ids=["leaf", "intermediate", "anchor"])
def test_k06_a_certificate_that_is_not_yet_valid_is_refused_anywhere(position: int) -> None:
    everything = Exceptions(expiry=Expiry.RECORD_ALL)
    assert refusal(*_with(position, not_before=NOW + 1), exceptions=everything) == "chain-not-yet-valid"


def test_the_refusal_of_an_expired_certificate_says_the_days_as_people_write_them() -> None:
    with pytest.raises(PkiError, match=r"was valid until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ, it is 20\d\d-") as caught:
        walk(*_with(0, not_after=NOW - 1))
    assert caught.value.code == "chain-expired"


def test_validity_includes_both_of_its_ends() -> None:
    path = three(leaf=replace(LEAF, not_before=NOW - 10, not_after=NOW + 10))
    assert walk(*path, at=NOW - 10).anchor is path[-1]
    assert walk(*path, at=NOW + 10).anchor is path[-1]


def test_an_expired_leaf_is_recorded_where_the_policy_says_so_and_its_issuer_is_not() -> None:
    named = Exceptions(expiry=Expiry.RECORD_LEAF)
    chain = walk(*_with(0, not_after=NOW - 1), exceptions=named)
    assert [deviation.partition(":")[0] for deviation in chain.deviations] == ["expired"]
    assert refusal(*_with(1, not_after=NOW - 1), exceptions=named) == "chain-expired"


@pytest.mark.parametrize("position", [0, 1, 2], ids=["leaf", "intermediate", "anchor"])
def test_k06_an_unknown_critical_extension_is_refused_anywhere(position: int) -> None:
    plan = (LEAF, INTERMEDIATE, ROOT)[position]
    assert refusal(*_with(position, extensions=(*plan.extensions, (UNKNOWN, True)))) == "chain-critical-extension"
    assert walk(*_with(position, extensions=(*plan.extensions, (UNKNOWN, False)))).anchor.self_issued


def test_k06_policy_constraints_are_refused_as_unknown() -> None:
    constraints = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    plan = replace(INTERMEDIATE, extensions=(*CA, (constraints, True)))
    assert refusal(*three(intermediate=plan)) == "chain-critical-extension"


@pytest.mark.parametrize("critical", [True, False])
def test_k06_name_constraints_are_refused(critical: bool) -> None:
    constraints = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.org")], excluded_subtrees=None)
    plan = replace(INTERMEDIATE, extensions=(*CA, (constraints, critical)))
    assert refusal(*three(intermediate=plan)) == "chain-name-constraint"


# --- weak algorithms ------------------------------------------------------------------------------------------------


def _sha1_path() -> tuple[Certificate, ...]:
    old = replace(INTERMEDIATE, key=rsa_key(2048))
    return with_sha1(make(LEAF, old), rsa_key(2048)), make(old, ROOT), make(ROOT)


def test_k06_a_signature_with_sha1_is_refused() -> None:
    assert refusal(*_sha1_path()) == "chain-weak-hash"


def test_a_signature_with_sha1_of_a_named_issuer_is_accepted_and_recorded() -> None:
    leaf, old, root = _sha1_path()
    chain = walk(leaf, old, root, exceptions=Exceptions(sha1_issuers=frozenset({fingerprint(old)})))
    assert [deviation.partition(":")[0] for deviation in chain.deviations] == ["sha1-signature"]


def test_k06_naming_another_issuer_does_not_excuse_sha1() -> None:
    leaf, old, root = _sha1_path()
    assert (
        refusal(leaf, old, root, exceptions=Exceptions(sha1_issuers=frozenset({fingerprint(root)})))
        == "chain-weak-hash"
    )


def test_k06_an_issuer_with_a_small_rsa_key_is_refused() -> None:
    assert refusal(*three(intermediate=replace(INTERMEDIATE, key=rsa_key(1024)))) == "chain-weak-key"


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), hashes.SHA512()], ids=["sha384", "sha512"])
def test_longer_hashes_are_accepted(algorithm: Hash) -> None:
    path = make(LEAF, INTERMEDIATE, hash_=algorithm), make(INTERMEDIATE, ROOT, hash_=algorithm), make(ROOT)
    assert walk(*path).certificates == path


def test_an_unknown_signature_hash_is_refused() -> None:
    leaf = make(LEAF, INTERMEDIATE)
    unknown = parse_certificate(leaf.der.replace(b"\x04\x03\x02", b"\x04\x03\x09"))
    assert refusal(unknown, make(INTERMEDIATE, ROOT), make(ROOT)) == "chain-signature-algorithm"


# --- many candidates ------------------------------------------------------------------------------------------------


def test_the_issuer_is_found_among_many_of_one_name() -> None:
    leaf, intermediate, root = three()
    decoys = tuple(make(replace(INTERMEDIATE, key=ec_key(100 + number)), ROOT) for number in range(5))
    assert walk(leaf, *decoys, intermediate, root).certificates == (leaf, intermediate, root)


def test_a_second_path_is_taken_where_the_first_is_expired() -> None:
    leaf, _, root = three()
    renewed = make(replace(INTERMEDIATE, serial=78), ROOT)
    expired = make(replace(INTERMEDIATE, not_after=NOW - DAY), ROOT)
    assert walk(leaf, expired, renewed, root).certificates == (leaf, renewed, root)


def test_k06_more_candidates_than_the_budget_allows_are_refused() -> None:
    leaf, intermediate, root = three()
    decoys = tuple(make(replace(INTERMEDIATE, key=ec_key(100 + number)), ROOT) for number in range(8))
    assert (
        refusal(leaf, root, candidates=(*decoys, intermediate), budget=Budget(depth=6, signatures=8)) == "chain-budget"
    )


def test_k06_authorities_that_sign_each_other_in_a_ring_end_the_walk() -> None:
    one, two = replace(INTERMEDIATE, subject="One"), replace(INTERMEDIATE, subject="Two", key=ec_key(23))
    ring = make(one, two), make(two, one)
    assert refusal(make(LEAF, one), make(ROOT), candidates=ring) == "chain-issuer-missing"


def test_an_anchor_that_the_bundle_lacks_is_named() -> None:
    with pytest.raises(PkiError, match="ab" * 32) as caught:
        TrustStore.pinned([make(ROOT)], [b"\xab" * 32])
    assert caught.value.code == "anchor-not-in-bundle"


def test_what_is_in_the_bundle_and_not_pinned_is_no_anchor() -> None:
    leaf, intermediate, root = three()
    other = make(replace(ROOT, subject="Pinned"))
    store = TrustStore.pinned([intermediate, root, other], [other.sha256])
    with pytest.raises(PkiError) as caught:
        build_and_verify_chain(leaf, (), store, at=NOW, budget=BUDGET)
    assert caught.value.code == "chain-self-signed"


def _with(position: int, **changes: object) -> tuple[Certificate, ...]:
    """Return a path of three in which the plan at this position is changed."""
    plans = [LEAF, INTERMEDIATE, ROOT]
    plans[position] = replace(plans[position], **changes)  # type: ignore[arg-type]
    return three(plans[2], plans[1], plans[0])
