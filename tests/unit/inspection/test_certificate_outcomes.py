"""What a report says of odd certificates: a path that closes is trusted and its oddities are told; what is missing is named."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from attestd.inspection.certificates import NOBODY, inspect_certificate, inspect_ek
from attestd_pki import der
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import TrustStore
from attestd_pki.ekcert import check_ek_profile
from attestd_pki.errors import PkiError
from cert_forge import (
    CA,
    DAY,
    EK,
    INTERMEDIATE,
    LEAF,
    MANUFACTURER,
    MODEL,
    NOW,
    ROOT,
    VERSION,
    Plan,
    chip,
    ec_key,
    make,
    rsa_key,
    usage,
    with_sha1,
)

URL = "http://tpm.example/issuing-7.crt"


def report(leaf: Certificate, *others: Certificate) -> Any:
    """Return the report on an endorsement key's certificate, the last of the others being the anchor."""
    store = TrustStore.of(others[-1:], others) if others else NOBODY
    return inspect_ek(leaf.der, store, at=NOW)


def without(*kinds: type) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return tuple((one, critical) for one, critical in EK if not isinstance(one, kinds))


def ext(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


EKU, USAGE, SAN = x509.ExtendedKeyUsage, x509.KeyUsage, x509.SubjectAlternativeName
SMALL = replace(ROOT, key=rsa_key(1024))
LEAVES: dict[str, tuple[Plan, Plan, str]] = {
    "no purpose": (replace(LEAF, extensions=without(EKU)), ROOT, "ek-eku: "),
    "no purpose, no name, a key that encrypts": (replace(LEAF, extensions=without(EKU, SAN)), ROOT, "ek-eku: "),
    "no key usage": (replace(LEAF, extensions=without(USAGE)), ROOT, "key-usage-absent"),
    "a key that signs": (
        replace(LEAF, extensions=(*without(USAGE), (usage("digital_signature"), True))),
        ROOT,
        "ek-key-usage: ",
    ),
    "no alternative name": (replace(LEAF, extensions=without(SAN)), ROOT, "chip-not-named"),
    "other purposes": (
        replace(LEAF, extensions=(*without(EKU), (EKU([*EK[2][0], ExtendedKeyUsageOID.CLIENT_AUTH]), True))),
        ROOT,
        "other-purposes",
    ),
    "an unknown critical extension": (
        replace(LEAF, extensions=(*EK, (ext("2.23.133.99", b"\x05\x00"), True))),
        ROOT,
        "unknown-critical-extension 2.23.133.99: ",
    ),
    "critical attributes": (
        replace(LEAF, extensions=(*EK, (ext("2.5.29.9", b"\x30\x00"), True))),
        ROOT,
        "unknown-critical-extension 2.5.29.9: ",
    ),
    "a key on a curve of no profile": (replace(LEAF, key=ec_key(3, ec.BrainpoolP256R1())), ROOT, "ek-key-algorithm: "),
    "a small key": (replace(LEAF, key=rsa_key(1024)), ROOT, "ek-key-size: "),
    "an expired certificate": (replace(LEAF, not_after=NOW - DAY), ROOT, "expired: "),
    "an expired authority": (LEAF, replace(ROOT, not_after=NOW - DAY), "expired: "),
    "an authority with a small key": (LEAF, SMALL, "weak-key rsa 1024: "),
    "an authority on a weak curve": (LEAF, replace(ROOT, key=ec_key(3, ec.SECP192R1())), "weak-key P-192 192: "),
    "an authority with name constraints": (
        LEAF,
        replace(ROOT, extensions=(*CA, (x509.NameConstraints(None, [x509.DNSName("example")]), True))),
        "name-constraints-not-evaluated: ",
    ),
    "an authority with an unknown critical extension": (
        LEAF,
        replace(ROOT, extensions=(*CA, (ext("1.2.3.4", b"\x05\x00"), True))),
        "unknown-critical-extension 1.2.3.4: ",
    ),
}


@pytest.mark.parametrize(("leaf", "anchor", "deviation"), LEAVES.values(), ids=LEAVES.keys())
def test_a_path_that_closes_is_trusted_and_what_is_odd_is_told(leaf: Plan, anchor: Plan, deviation: str) -> None:
    found = report(make(leaf, anchor), make(anchor))
    assert (found.outcome, found.reasons) == ("trusted", ())
    assert any(one.startswith(deviation) for one in found.deviations), found.deviations


def test_a_path_with_sha1_is_trusted_and_told() -> None:
    anchor = replace(ROOT, key=rsa_key(2048))
    found = report(with_sha1(make(LEAF, anchor), rsa_key(2048)), make(anchor))
    assert found.outcome == "trusted"
    assert any(one.startswith("sha1-signature: ") for one in found.deviations)


REFUSED: dict[str, tuple[Plan, str]] = {
    "an authority": (replace(LEAF, extensions=CA), "ek-is-ca"),
    "another purpose": (
        replace(LEAF, extensions=(*without(EKU), (EKU([ExtendedKeyUsageOID.SERVER_AUTH]), False))),
        "ek-eku",
    ),
    "no purpose, no name, a key that signs": (
        replace(LEAF, extensions=(*without(EKU, SAN, USAGE), (usage("digital_signature"), True))),
        "ek-eku",
    ),
    "a key that signs certificates": (
        replace(LEAF, extensions=(*without(USAGE), (usage("key_agreement", "key_cert_sign"), True))),
        "ek-key-usage",
    ),
}


@pytest.mark.parametrize(("leaf", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_k06_what_claims_to_be_something_else_is_refused_whoever_signed_it(leaf: Plan, code: str) -> None:
    found = report(make(leaf, ROOT), make(ROOT))
    assert (found.outcome, found.reasons[0][0]) == ("refused", code)


@pytest.mark.parametrize("fault", ["no authority", "may not sign certificates", "too long", "another key"])
def test_k06_a_path_that_does_not_hold_is_never_trusted(fault: str) -> None:
    between = {
        "no authority": replace(INTERMEDIATE, extensions=EK),
        "may not sign certificates": replace(INTERMEDIATE, extensions=(CA[0], (usage("crl_sign"), True))),
    }.get(fault, INTERMEDIATE)
    root = (
        replace(ROOT, extensions=((x509.BasicConstraints(ca=True, path_length=0), True), CA[1]))
        if fault == "too long"
        else ROOT
    )
    signer = replace(between, key=ec_key(99)) if fault == "another key" else between
    found = report(make(LEAF, signer), make(between, root), make(root))
    assert found.outcome == "refused"
    assert found.reasons[0][0] in {"chain-ca-false", "chain-key-usage", "chain-path-length", "chain-signature"}


# --- what is missing ------------------------------------------------------------------------------------------------------


def test_a_missing_authority_is_named_with_its_key_and_its_address() -> None:
    access = x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(URL))]
    )
    between = replace(INTERMEDIATE, identifiers=True)
    leaf = make(replace(LEAF, extensions=(*EK, (access, False))), between)
    found = report(leaf, make(ROOT))
    document = found.document()

    identifier = x509.SubjectKeyIdentifier.from_public_key(between.key.public_key()).digest.hex()
    assert document["outcome"] == "untrusted"
    assert document["missing"] == {
        "name": "CN=Example TPM Intermediate CA",
        "key_id": identifier,
        "serial": None,
        "urls": [URL],
    }
    assert all(part in document["messages"][0] for part in ("Example TPM Intermediate CA", identifier, URL))


def test_a_missing_authority_in_the_middle_is_the_one_that_is_named() -> None:
    document = report(
        make(LEAF, INTERMEDIATE), make(INTERMEDIATE, Plan("A Middle CA", ec_key(44), CA)), make(ROOT)
    ).document()
    assert (document["outcome"], document["missing"]["name"], len(document["chain"])) == (
        "untrusted",
        "CN=A Middle CA",
        2,
    )


def test_a_root_that_is_not_an_anchor_is_named_by_its_fingerprint() -> None:
    root = make(ROOT)
    document = inspect_certificate(root.der, NOBODY, at=NOW).document()
    assert document["missing"] == {"name": "CN=Example TPM Root CA", "certificate_sha256": root.sha256.hex()}


def test_an_address_in_a_certificate_cannot_write_to_a_console() -> None:
    location = der.encode(0x86, b"http://a\x1b[2J\xff")
    value = der.encode(0x30, der.encode(0x30, bytes.fromhex("06082b06010505073002") + location))
    leaf = make(replace(LEAF, extensions=(*EK, (ext("1.3.6.1.5.5.7.1.1", value), False))), INTERMEDIATE)
    assert report(leaf).document()["missing"]["urls"] == ["http://a?[2J?"]


def test_of_two_keys_under_one_name_the_one_that_is_meant_by_serial_number_comes_first() -> None:
    wanted, other = replace(INTERMEDIATE, serial=500), replace(INTERMEDIATE, serial=501, key=ec_key(45))
    named = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(x509.Name([]))], 500)
    leaf = make(replace(LEAF, extensions=(*EK, (named, False))), wanted)
    assert report(leaf, make(other, ROOT), make(wanted, ROOT), make(ROOT)).outcome == "trusted"
    assert report(leaf, make(other, ROOT), make(ROOT)).outcome == "untrusted"


def test_many_authorities_of_one_name_cost_no_more_than_the_budget() -> None:
    leaf = make(LEAF, INTERMEDIATE)
    same = [make(replace(INTERMEDIATE, key=ec_key(1000 + number)), ROOT) for number in range(60)]
    found = report(leaf, *same, make(ROOT))
    assert found.outcome in ("untrusted", "refused")


# --- whose chip -----------------------------------------------------------------------------------------------------------

IDS = {
    "id:494E5443": "Intel",
    "id:53544D20": "STMicroelectronics",
    "id:49465800": "Infineon",
    "id:414d4400": "AMD",
    "ID:4E544300": "Nuvoton",
    "0x4E544300": "Nuvoton",
    "4E545A00": "Nationz",
    "INTC": "Intel",
    "id:00001014": "software TPM",
    "id:564D5700": "VMware",
    "id:4D534654": "Microsoft",
    "id:474F4F47": "Google",
    "something else": "something else",
}


@pytest.mark.parametrize(("written", "maker"), IDS.items())
def test_a_manufacturers_id_is_named_however_it_is_written(written: str, maker: str) -> None:
    leaf = make(replace(LEAF, extensions=(*without(SAN), (SAN([x509.DirectoryName(chip(written))]), True))), ROOT)
    assert report(leaf, make(ROOT)).document()["manufacturer"] == maker


def named(*rdns: dict[str, str]) -> x509.Name:
    return x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in rdn.items()]
            )
            for rdn in rdns
        ]
    )


WHOLE = {MANUFACTURER: "id:4E544300", MODEL: "NPCT75x", VERSION: "id:13"}
PLACES: dict[str, tuple[tuple[x509.ExtensionType, bool], ...]] = {
    "one relative name": ((SAN([x509.DirectoryName(named(WHOLE))]), True),),
    "three relative names": ((SAN([x509.DirectoryName(named(*({k: v} for k, v in WHOLE.items())))]), True),),
    "beside other names": ((SAN([x509.DNSName("chip.example"), x509.DirectoryName(named(WHOLE))]), False),),
    "a bare name": ((ext("2.5.29.17", named(WHOLE).public_bytes()), True),),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_chip_is_found_wherever_its_certificate_names_it(place: Any) -> None:
    document = report(make(replace(LEAF, extensions=(*without(SAN, EKU), *place, EK[2])), ROOT), make(ROOT)).document()
    assert (document["outcome"], document["manufacturer"], document["model"]) == ("trusted", "Nuvoton", "NPCT75x")
    assert document["firmware_version"] == "id:13"


def test_the_specification_that_a_chip_follows_is_told() -> None:
    inner = der.encode(0x30, b"\x0c\x032.0\x02\x01\x00\x02\x02\x00\x8a")
    value = der.encode(0x30, der.encode(0x30, bytes.fromhex("06056781050210") + der.encode(0x31, inner)))
    leaf = make(replace(LEAF, extensions=(*EK, (ext("2.5.29.9", value), False))), ROOT)
    assert report(leaf, make(ROOT)).document()["specification"] == "2.0 level 0 revision 138"


def test_k06_enrolment_still_refuses_what_a_report_only_tells() -> None:
    for leaf in (LEAVES["no purpose"][0], LEAVES["a key that signs"][0], LEAVES["a small key"][0]):
        with pytest.raises(PkiError):
            check_ek_profile(make(leaf, ROOT))


# --- encodings ------------------------------------------------------------------------------------------------------------


def test_a_root_of_version_1_is_an_anchor_of_a_report() -> None:
    root = make(Plan("An Old Root", ec_key(46)))
    fields = der.elements(der.only(root.tbs, der.SEQUENCE).content)
    old_tbs = der.encode(0x30, b"".join(one.raw for one in fields if one.tag not in (0xA0, 0xA3)))
    algorithm = der.elements(der.only(root.der, der.SEQUENCE).content)[1].raw
    old = parse_certificate(der.encode(0x30, old_tbs + algorithm + der.encode(3, b"\0" + root.signature)))

    found = report(make(LEAF, Plan("An Old Root", ec_key(46))), old)
    assert (old.version, found.outcome) == (1, "trusted")
    assert any(one.startswith("basic-constraints-absent: ") for one in found.deviations)
