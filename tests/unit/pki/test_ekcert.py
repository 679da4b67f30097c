"""The endorsement key profile: what decides is refused, what deviates is recorded."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestd_pki.certificate import Certificate
from attestd_pki.chain import Budget, TrustStore
from attestd_pki.ekcert import EkInfo, check_ek_profile, match_ek_key, verify_ek_certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki
from cert_forge import CA, EK, EK_PURPOSE, INTERMEDIATE, LEAF, NOW, ROOT, Extensions, chip, ec_key, make, rsa_key, usage

BASIC, USAGE, PURPOSE, NAMES = EK
OTHER_PURPOSE = x509.ObjectIdentifier("2.23.133.8.3")


def ek(*extensions: tuple[x509.ExtensionType, bool], key: object = LEAF.key) -> Certificate:
    return make(replace(LEAF, key=key, extensions=extensions), INTERMEDIATE)


def purposes(*oids: str) -> tuple[x509.ExtensionType, bool]:
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids]), False


def refusal(certificate: Certificate) -> str:
    with pytest.raises(PkiError) as caught:
        check_ek_profile(certificate)
    return caught.value.code


def test_an_endorsement_key_certificate_names_its_chip() -> None:
    assert check_ek_profile(ek(*EK)) == EkInfo("id:4E544300", "Nuvoton", "NPCT75x", "id:0702", ())


def test_the_three_attributes_may_stand_in_three_relative_names() -> None:
    flat = x509.Name([attribute for rdn in chip().rdns for attribute in rdn])
    assert check_ek_profile(ek(BASIC, USAGE, PURPOSE, _names(flat))).model == "NPCT75x"


@pytest.mark.parametrize(
    ("manufacturer", "readable"),
    [
        ("id:49424D00", "IBM"),
        ("id:53544d20", "STMicroelectronics"),
        ("id:00001014", "software TPM"),
        ("id:41424344", "id:41424344"),
    ],
)
def test_a_manufacturers_id_is_made_readable(manufacturer: str, readable: str) -> None:
    info = check_ek_profile(ek(BASIC, USAGE, PURPOSE, _names(chip(manufacturer))))
    assert info.manufacturer_name == readable
    assert info.manufacturer == f"id:{manufacturer[3:].upper()}"


def test_a_manufacturer_that_is_no_id_is_recorded() -> None:
    assert "manufacturer-not-an-id" in check_ek_profile(ek(BASIC, USAGE, PURPOSE, _names(chip("Example")))).deviations


def test_e11_escapes_in_a_chips_name_do_not_reach_a_console() -> None:
    info = check_ek_profile(ek(BASIC, USAGE, PURPOSE, _names(chip(model="\x1b[2J\u202eevil"))))
    assert info.model == "�[2J�evil"


def test_a_chip_without_a_name_is_recorded() -> None:
    info = check_ek_profile(ek(BASIC, USAGE, PURPOSE))
    assert (info.manufacturer, info.deviations) == ("", ("chip-not-named",))


def test_two_names_for_one_chip_are_recorded() -> None:
    both = x509.SubjectAlternativeName([x509.DirectoryName(chip()), x509.DirectoryName(chip(model="other"))])
    info = check_ek_profile(ek(BASIC, USAGE, PURPOSE, (both, True)))
    assert (info.model, info.deviations) == ("NPCT75x", ("two-values-of-tpmmodel",))


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        purposes("2.23.133.8.3"),
        purposes("2.5.29.37.0"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True),
    ],
    ids=["missing", "attestation key", "any purpose", "client"],
)
def test_k06_a_certificate_for_another_purpose_is_refused(wrong: tuple[x509.ExtensionType, bool] | tuple[()]) -> None:
    extensions: Extensions = (BASIC, USAGE, *((wrong,) if wrong else ()), NAMES)
    assert refusal(ek(*extensions)) == "ek-eku"


def test_a_second_purpose_is_recorded() -> None:
    assert check_ek_profile(ek(BASIC, USAGE, purposes(EK_PURPOSE, "2.23.133.8.9"), NAMES)).deviations == (
        "other-purposes",
    )


def test_k06_an_authority_as_leaf_is_refused() -> None:
    assert refusal(ek(CA[0], USAGE, PURPOSE, NAMES)) == "ek-is-ca"


@pytest.mark.parametrize("flags", [("key_cert_sign", "key_agreement"), ("crl_sign",), ("digital_signature",)])
def test_k06_a_key_that_signs_is_refused(flags: tuple[str, ...]) -> None:
    assert refusal(ek(BASIC, (usage(*flags), True), PURPOSE, NAMES)) == "ek-key-usage"


def test_an_elliptic_key_marked_for_encipherment_is_recorded() -> None:
    info = check_ek_profile(ek(BASIC, (usage("key_encipherment"), True), PURPOSE, NAMES))
    assert info.deviations == ("key-usage-unusual",)


def test_absent_constraints_and_usage_are_recorded() -> None:
    assert check_ek_profile(ek(PURPOSE, NAMES)).deviations == ("basic-constraints-absent", "key-usage-absent")


def test_k06_a_small_rsa_key_is_refused() -> None:
    extensions = BASIC, (usage("key_encipherment"), True), PURPOSE, NAMES
    assert refusal(ek(*extensions, key=rsa_key(1024))) == "ek-key-size"
    assert check_ek_profile(ek(*extensions, key=rsa_key(2048))).deviations == ()


@pytest.mark.parametrize(
    "key", [ec_key(5, ec.SECP256K1()), Ed25519PrivateKey.from_private_bytes(bytes(32))], ids=["curve", "kind"]
)
def test_k06_a_key_of_an_unknown_kind_is_refused(key: object) -> None:
    assert refusal(ek(*EK, key=key)) == "ek-key-algorithm"


# --- the whole verdict ----------------------------------------------------------------------------------------------


def _verdict(certificate: Certificate, spki: bytes) -> object:
    store = TrustStore.of([make(ROOT)], [make(INTERMEDIATE, ROOT)])
    return verify_ek_certificate(certificate, spki, candidates=(), store=store, at=NOW, budget=Budget(6, 16))


def test_a_verdict_joins_chip_chain_and_key() -> None:
    certificate = ek(*EK)
    store = TrustStore.of([make(ROOT)], [make(INTERMEDIATE, ROOT)])
    spki = canonical_spki(certificate)
    verdict = verify_ek_certificate(certificate, spki, candidates=(), store=store, at=NOW, budget=Budget(6, 16))
    assert (verdict.info.manufacturer_name, len(verdict.chain.certificates), verdict.spki) == ("Nuvoton", 3, spki)


def test_k04_a_genuine_certificate_with_another_key_is_refused() -> None:
    with pytest.raises(PkiError) as caught:
        _verdict(ek(*EK), canonical_spki(ek(*EK, key=ec_key(34))))
    assert caught.value.code == "ek-other-key"


def test_k04_an_empty_key_is_refused() -> None:
    with pytest.raises(PkiError) as caught:
        match_ek_key(ek(*EK), b"")
    assert caught.value.code == "ek-other-key"


def test_k06_a_good_profile_without_a_chain_is_refused() -> None:
    forged = make(LEAF, replace(INTERMEDIATE, key=ec_key(23)))
    with pytest.raises(PkiError) as caught:
        _verdict(forged, canonical_spki(forged))
    assert caught.value.code == "chain-signature"


def _names(name: x509.Name) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName([x509.DirectoryName(name)]), True
