"""Certificates of real manufacturers: unwrapped, read, chained and judged as their provenance says.

Anchors are what the manifest names at the end of each chain; the bundle is everything in `cert/ca-bundle`. Most chips are
older than their certificates are valid, so chains are verified a day after the leaf was issued.
"""

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import Budget, Chain, Exceptions, Expiry, TrustStore, build_and_verify_chain
from attestd_pki.ekcert import check_ek_profile, verify_ek_certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki, weak_hash
from attestd_pki.unwrap import split_bundle, unwrap
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [needs_testdata, pytest.mark.testdata]

DAY = 86_400
NOW = 1_795_350_000
BUDGET = Budget(depth=6, signatures=16)
WRAPPED = manifest_items("cert/ek-wrapped", "cert/ek-nvram")
CHAINED = [item for item in manifest_items("cert/ek", "cert/ak", "cert/ca-odd") if "chain_closed" in item["expected"]]
CLOSED = [item for item in CHAINED if item["expected"]["chain_closed"]]
OPEN = [item for item in CHAINED if not item["expected"]["chain_closed"]]

# Two genuine certificates that are refused, and why.
NOT_FOR_AN_EK = {
    # Infineon's certificates of 2015 have no extended key usage. Without it, any certificate of that authority would do.
    "cert/ek/certificate-transparency-go__IFX_048beb2ada.der": "ek-eku",
    # A signing key of Google's virtual TPM with the purpose of an endorsement key: it cannot decrypt a challenge.
    "cert/ek/go-tpm-tools__GOOG_9c49baf028.der": "ek-key-usage",
}


def each(items: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("item", items, ids=[item["file"] for item in items])


def data_of(item: dict[str, Any]) -> bytes:
    return Path(TESTDATA / item["file"]).read_bytes()


def certificate_of(item: dict[str, Any]) -> Certificate:
    return parse_certificate(unwrap(data_of(item)))


@cache
def bundle() -> dict[bytes, Certificate]:
    """Return every certificate of the bundles by SHA-256."""
    files = sorted((TESTDATA / "cert" / "ca-bundle").glob("*.pem"))
    read = (parse_certificate(data) for path in files for data in split_bundle(path.read_bytes()))
    return {certificate.sha256: certificate for certificate in read}


@cache
def all_roots() -> TrustStore:
    return TrustStore.of((found for found in bundle().values() if found.self_issued), bundle().values())


def sha1_issuers(chain: list[str]) -> frozenset[bytes]:
    """Return the certificates of a path whose child has a SHA-1 signature: what an operator would have to name."""
    path = [bytes.fromhex(sha256) for sha256 in chain]
    known = bundle() | {found.sha256: found for found in map(certificate_of, CHAINED)}
    return frozenset(above for below, above in pairwise(path) if weak_hash(known[below]) == "sha1")


def verify(item: dict[str, Any], exceptions: Exceptions, at: int | None = None) -> Chain:
    leaf = certificate_of(item)
    store = TrustStore.pinned(bundle().values(), [bytes.fromhex(item["expected"]["chain"][-1])])
    return build_and_verify_chain(
        leaf, (), store, at=leaf.not_before + DAY if at is None else at, budget=BUDGET, exceptions=exceptions
    )


# --- unwrapping -----------------------------------------------------------------------------------------------------


@each([item for item in WRAPPED if item["expected"]["certificate_sha256"]])
def test_a_certificate_out_of_nv_is_unwrapped(item: dict[str, Any]) -> None:
    assert hashlib.sha256(unwrap(data_of(item))).hexdigest() == item["expected"]["certificate_sha256"]


@each([item for item in WRAPPED if item["expected"].get("outcome", "") in {"refuse", "refuse: no certificate"}])
def test_e06_what_holds_no_whole_certificate_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(PkiError) as caught:
        unwrap(data_of(item))
    assert caught.value.code in {"unwrap-empty", "unwrap-truncated"}


@each([item for item in WRAPPED if item["expected"].get("outcome") == "refuse: signature"])
def test_k06_a_flipped_bit_in_a_real_signature_is_refused(item: dict[str, Any]) -> None:
    forged = certificate_of(item)
    with pytest.raises(PkiError) as caught:
        build_and_verify_chain(forged, (), all_roots(), at=forged.not_before + DAY, budget=BUDGET)
    assert caught.value.code == "chain-signature"


@each(manifest_items("cert/ek-intel-json"))
def test_intels_answer_holds_an_endorsement_key_certificate(item: dict[str, Any]) -> None:
    info = check_ek_profile(certificate_of(item))
    assert (info.manufacturer_name, info.deviations) == ("Intel", ("key-usage-unusual",))


# --- chains ---------------------------------------------------------------------------------------------------------


@each(CLOSED)
def test_a_real_chain_closes_at_its_anchor(item: dict[str, Any]) -> None:
    chain = verify(item, Exceptions(sha1_issuers=sha1_issuers(item["expected"]["chain"])))
    assert [certificate.sha256.hex() for certificate in chain.certificates] == item["expected"]["chain"]


@each([item for item in CLOSED if certificate_of(item).not_after < NOW])
def test_an_expired_chain_is_refused_today_and_recorded_where_the_policy_says_so(item: dict[str, Any]) -> None:
    named = sha1_issuers(item["expected"]["chain"])
    with pytest.raises(PkiError) as caught:
        verify(item, Exceptions(sha1_issuers=named), at=NOW)
    assert caught.value.code == "chain-expired"
    chain = verify(item, Exceptions(sha1_issuers=named, expiry=Expiry.RECORD_ALL), at=NOW)
    assert any(deviation.startswith("expired: ") for deviation in chain.deviations)


@each([item for item in CLOSED if sha1_issuers(item["expected"]["chain"])])
def test_k06_a_real_chain_with_sha1_is_refused_unless_its_issuers_are_named(item: dict[str, Any]) -> None:
    with pytest.raises(PkiError) as caught:
        verify(item, Exceptions())
    assert caught.value.code == "chain-weak-hash"


@each(OPEN)
def test_k06_a_chain_without_an_anchor_is_refused(item: dict[str, Any]) -> None:
    leaf = certificate_of(item)
    with pytest.raises(PkiError) as caught:
        build_and_verify_chain(leaf, (), all_roots(), at=leaf.not_before + DAY, budget=BUDGET)
    # FIDO's test suites made forgeries under the names of genuine authorities; the others end in no bundle.
    assert caught.value.code in {"chain-issuer-missing", "chain-signature", "chain-signature-algorithm"}


def test_every_authority_of_the_bundle_closes_or_its_missing_root_is_named() -> None:
    named = Exceptions(sha1_issuers=frozenset(bundle()), expiry=Expiry.RECORD_ALL)
    missing: dict[str, int] = {}
    for certificate in bundle().values():
        try:
            build_and_verify_chain(certificate, (), all_roots(), at=NOW, budget=BUDGET, exceptions=named)
        except PkiError as error:
            reason = f"{error.code} {error.message.partition('CN=')[2].partition(' with')[0].partition(',')[0]}"
            missing[reason] = missing.get(reason, 0) + 1
    assert missing == {
        "chain-issuer-missing AMD Root CA R4": 12,
        "chain-issuer-missing FIDO Fake TPM Root Certificate Authority 2018": 1,
        "chain-issuer-missing FIDOTEST": 1,
    }


# --- endorsement keys -----------------------------------------------------------------------------------------------


@each([item for item in manifest_items("cert/ek") if item["file"] not in NOT_FOR_AN_EK])
def test_a_real_endorsement_key_certificate_names_its_chip(item: dict[str, Any]) -> None:
    info = check_ek_profile(certificate_of(item))
    assert info.manufacturer.startswith("id:")
    assert info.model
    assert info.firmware_version
    # The file names hold the manufacturer's registered short name, but for made-up ones.
    short = item["file"].rpartition("__")[2].partition("_")[0]
    expected = {"NTC": "Nuvoton", "STM": "STMicroelectronics", "IFX": "Infineon", "INTC": "Intel", "GOOG": "Google"}
    assert info.manufacturer_name == expected.get(short, "software TPM" if short == "swtpm" else info.manufacturer)


@each([item for item in manifest_items("cert/ek") if item["file"] in NOT_FOR_AN_EK])
def test_k06_a_real_certificate_without_the_purpose_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(PkiError) as caught:
        check_ek_profile(certificate_of(item))
    assert caught.value.code == NOT_FOR_AN_EK[item["file"]]


@each(manifest_items("cert/ak"))
def test_k06_a_real_attestation_key_certificate_is_no_endorsement_key_certificate(item: dict[str, Any]) -> None:
    with pytest.raises(PkiError) as caught:
        check_ek_profile(certificate_of(item))
    assert caught.value.code == "ek-eku"


@each(manifest_items("cert/ca-odd"))
def test_k06_a_real_authority_is_no_endorsement_key_certificate(item: dict[str, Any]) -> None:
    with pytest.raises(PkiError) as caught:
        check_ek_profile(certificate_of(item))
    assert caught.value.code == "ek-is-ca"


def test_k04_a_real_certificate_with_another_chips_key_is_refused() -> None:
    mine, other = (
        item for item in CLOSED if item["file"].rpartition("/")[2].startswith(("tpm2__swtpm_b", "keylime__STM"))
    )
    certificate = certificate_of(mine)
    common: dict[str, Any] = {
        "candidates": (),
        "store": all_roots(),
        "at": certificate.not_before + DAY,
        "budget": BUDGET,
    }
    assert verify_ek_certificate(certificate, canonical_spki(certificate), **common).info.model
    with pytest.raises(PkiError) as caught:
        verify_ek_certificate(certificate, canonical_spki(certificate_of(other)), **common)
    assert caught.value.code == "ek-other-key"


@pytest.mark.parametrize("index", ["nv_01c00002.der", "nv_01c00016.der"])
def test_a_virtual_machines_certificate_out_of_nv_names_the_anchor_that_is_missing(index: str) -> None:
    certificate = parse_certificate(unwrap((TESTDATA / "vm" / "good-1" / index).read_bytes()))
    assert check_ek_profile(certificate).manufacturer_name == "software TPM"
    with pytest.raises(PkiError, match="swtpm-localca") as caught:
        build_and_verify_chain(certificate, (), all_roots(), at=certificate.not_before + DAY, budget=BUDGET)
    assert caught.value.code == "chain-issuer-missing"
