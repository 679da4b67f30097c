"""Authorities older than the mark of an authority, and RSASSA-PSS whose mask or trailer is not what it should be (K06)."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from attestd_pki import der
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import NO_EXCEPTIONS, Budget, Exceptions, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from cert_forge import CA, INTERMEDIATE, LEAF, NOW, ROOT, Plan, make, rsa_key

BUDGET = Budget(depth=6, signatures=16)
RSA_ROOT = Plan("An Authority", rsa_key(2048), CA)
_SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
_PSS = bytes.fromhex("06092a864886f70d01010a")
_SHA256 = bytes.fromhex("300d06096086480165030402010500")
_SHA1 = bytes.fromhex("300906052b0e03021a0500")


def refusal(
    leaf: Certificate, anchor: Certificate, *others: Certificate, recorded: frozenset[bytes] = frozenset()
) -> str:
    exceptions = Exceptions(recorded=recorded) if recorded else NO_EXCEPTIONS
    try:
        store = TrustStore.of([anchor], others)
        build_and_verify_chain(leaf, [], store, at=NOW, budget=BUDGET, exceptions=exceptions)
    except PkiError as error:
        return error.code
    return "accepted"


def of_version_1(certificate: Certificate, signer: Plan) -> Certificate:
    """Return a certificate without version and extensions, signed again on P-256."""
    fields = der.elements(der.only(certificate.tbs, der.SEQUENCE).content)
    tbs = der.encode(0x30, b"".join(one.raw for one in fields if one.tag not in (0xA0, 0xA3)))
    signature = signer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return parse_certificate(der.encode(0x30, tbs + algorithm + der.encode(0x03, b"\0" + signature)))


def test_k06_a_certificate_of_version_1_is_no_authority_even_below_a_pinned_anchor() -> None:
    root, leaf = make(ROOT), make(LEAF, INTERMEDIATE)
    old = of_version_1(make(INTERMEDIATE, ROOT), ROOT)
    assert old.version == 1
    assert refusal(leaf, root, old) == "chain-ca-false"
    assert refusal(leaf, root, old, recorded=frozenset({old.sha256, root.sha256})) == "chain-ca-false"


def test_k06_a_pinned_anchor_of_version_1_is_an_authority_for_reports_alone() -> None:
    old, leaf = of_version_1(make(ROOT), ROOT), make(LEAF, ROOT)
    assert refusal(leaf, old) == "chain-ca-false"
    assert refusal(leaf, old, recorded=frozenset({old.sha256})) == "accepted"


def of_pss(mask: bytes, trailer: bytes = b"") -> tuple[bytes, bytes]:
    """Return (an endorsement key's certificate, its authority's) signed by PSS over SHA-256 with this mask and trailer."""
    plain = make(LEAF, RSA_ROOT)
    mgf = der.encode(0x30, bytes.fromhex("06092a864886f70d010108") + mask)
    parameters = der.encode(0xA0, _SHA256) + der.encode(0xA1, mgf) + der.encode(0xA2, b"\x02\x01\x20") + trailer
    algorithm = der.encode(0x30, _PSS + der.encode(0x30, parameters))
    fields = der.elements(der.only(plain.tbs, der.SEQUENCE).content)
    tbs = der.encode(0x30, b"".join(algorithm if one.raw == _SHA256_WITH_RSA else one.raw for one in fields))
    scheme = padding.PSS(padding.MGF1(hashes.SHA1() if mask == _SHA1 else hashes.SHA256()), 32)
    signature = RSA_ROOT.key.sign(tbs, scheme, hashes.SHA256())
    return der.encode(0x30, tbs + algorithm + der.encode(0x03, b"\0" + signature)), make(RSA_ROOT).der


@pytest.mark.parametrize(
    ("mask", "trailer", "outcome"),
    [
        pytest.param(_SHA256, b"", "accepted", id="as-it-should-be"),
        pytest.param(_SHA256, bytes.fromhex("a303020101"), "accepted", id="the-one-trailer"),
        pytest.param(_SHA1, b"", "chain-weak-hash", id="mask-of-sha1"),
        pytest.param(_SHA256, bytes.fromhex("a303020102"), "chain-signature-algorithm", id="another-trailer"),
    ],
)
def test_k06_pss_with_a_weak_mask_or_another_trailer_is_refused(mask: bytes, trailer: bytes, outcome: str) -> None:
    leaf, root = map(parse_certificate, of_pss(mask, trailer))
    assert refusal(leaf, root) == outcome
