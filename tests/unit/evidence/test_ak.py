"""What the public areas of an attestation key and of a device key must say, and what a certification must."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

import tpm_structures as tpm
from attestd.errors import Refused
from attestd.evidence.ak import (
    AK_FORBIDDEN,
    AK_REQUIRED,
    DEVICE_KEY_FORBIDDEN,
    DEVICE_KEY_REQUIRED,
    check_attestation_key,
    check_certification,
    check_device_key,
)
from attestd.protocol.reasons import Reason
from attestd.tpm.public import Attribute, parse_public

KEY = tpm.ecc_key()
DEVICE = int(DEVICE_KEY_REQUIRED | Attribute.USER_WITH_AUTH)
BOUND = bytes(range(32))


def ak_refusal(area: bytes) -> Reason:
    with pytest.raises(Refused) as refused:
        check_attestation_key(tpm.sized(area))
    return refused.value.reason


def device_key_refusal(area: bytes) -> Reason:
    with pytest.raises(Refused) as refused:
        check_device_key(tpm.sized(area))
    return refused.value.reason


def device_area(attributes: int = DEVICE, **fields: Any) -> bytes:
    return tpm.ecc_area(tpm.ecc_key("secp384r1"), attributes=attributes, **{"scheme": tpm.NULL, **fields})


# --- The attestation key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "area",
    [
        tpm.ecc_area(KEY),
        tpm.ecc_area(KEY, attributes=tpm.AK_ATTRIBUTES | int(Attribute.NO_DA)),
        tpm.ecc_area(KEY, attributes=tpm.AK_ATTRIBUTES & ~int(Attribute.USER_WITH_AUTH), policy=bytes(32)),
        tpm.ecc_area(tpm.ecc_key("secp384r1"), scheme_hash=tpm.SHA384_ID, name_algorithm=tpm.SHA384_ID),
        tpm.ecc_area(tpm.ecc_key("secp521r1"), scheme_hash=tpm.SHA512_ID),
        tpm.rsa_area(tpm.rsa_key()),
        tpm.rsa_area(tpm.rsa_key(), scheme=tpm.RSAPSS, scheme_hash=tpm.SHA384_ID),
    ],
    ids=["ecc", "noDA", "policy", "P-384", "P-521", "rsassa", "rsapss"],
)
def test_a_restricted_signing_key_of_the_tpm_is_accepted_and_its_name_is_computed_here(area: bytes) -> None:
    key = check_attestation_key(tpm.sized(area))
    assert key.area == area
    assert key.name == parse_public(tpm.sized(area)).name


@pytest.mark.parametrize("bit", [flag for flag in Attribute if flag & AK_REQUIRED], ids=lambda flag: flag.name)
def test_k01_each_required_attribute_is_required(bit: Attribute) -> None:
    assert ak_refusal(tpm.ecc_area(KEY, attributes=tpm.AK_ATTRIBUTES & ~int(bit))) is Reason.AK_ATTRIBUTES


@pytest.mark.parametrize("bit", [flag for flag in Attribute if flag & AK_FORBIDDEN], ids=lambda flag: flag.name)
def test_k01_each_forbidden_attribute_is_forbidden(bit: Attribute) -> None:
    assert ak_refusal(tpm.ecc_area(KEY, attributes=tpm.AK_ATTRIBUTES | int(bit))) is Reason.AK_ATTRIBUTES


def test_k01_attributes_are_those_that_the_document_names() -> None:
    assert {flag.name for flag in Attribute if flag & AK_REQUIRED} == {
        "FIXED_TPM",
        "FIXED_PARENT",
        "SENSITIVE_DATA_ORIGIN",
        "RESTRICTED",
        "SIGN",
    }
    assert {flag.name for flag in Attribute if flag & AK_FORBIDDEN} == {
        "DECRYPT",
        "ST_CLEAR",
        "ENCRYPTED_DUPLICATION",
    }


@pytest.mark.parametrize(
    "area",
    [
        tpm.ecc_area(KEY, scheme=tpm.NULL),
        tpm.ecc_area(KEY, scheme=0x1B),
        tpm.ecc_area(KEY, scheme=0x19),
        tpm.ecc_area(KEY, scheme_hash=tpm.SHA1_ID),
        tpm.ecc_area(KEY, scheme_hash=0x0012),
        tpm.ecc_area(KEY, name_algorithm=tpm.SHA1_ID),
        tpm.rsa_area(tpm.rsa_key(), scheme=tpm.NULL),
        tpm.rsa_area(tpm.rsa_key(), scheme=0x17),
        tpm.rsa_area(tpm.rsa_key(), scheme_hash=tpm.SHA1_ID),
        tpm.rsa_area(tpm.rsa_key(), name_algorithm=tpm.SHA1_ID),
    ],
)
def test_q08_key_that_pins_no_accepted_scheme_hash_or_name_is_refused(area: bytes) -> None:
    assert ak_refusal(area) is Reason.AK_SCHEME


@pytest.mark.parametrize(
    "area",
    [
        b"",
        tpm.ecc_area(KEY)[:-1],
        tpm.ecc_area(KEY) + b"\0",
        tpm.rsa_area(tpm.rsa_key(1024)),
        tpm.ecc_area(KEY).replace(tpm.u16(3) + tpm.u16(tpm.NULL), tpm.u16(0x10) + tpm.u16(tpm.NULL)),
        tpm.ecc_area(KEY)[:-1] + bytes((tpm.ecc_area(KEY)[-1] ^ 1,)),
    ],
    ids=["empty", "cut", "longer", "RSA 1024", "another curve", "off the curve"],
)
def test_k01_area_that_holds_no_usable_key_is_malformed(area: bytes) -> None:
    assert ak_refusal(area) is Reason.AK_MALFORMED


def test_k02_each_attribute_is_part_of_the_name() -> None:
    names = {
        parse_public(tpm.sized(tpm.ecc_area(KEY, attributes=tpm.AK_ATTRIBUTES ^ int(flag)))).name for flag in Attribute
    }
    assert len(names) == len(Attribute)
    assert check_attestation_key(tpm.sized(tpm.ecc_area(KEY))).name not in names


# --- The device key -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "area",
    [
        device_area(),
        device_area(DEVICE | int(Attribute.NO_DA)),
        device_area(scheme=tpm.ECDSA),
        tpm.rsa_area(tpm.rsa_key(), attributes=DEVICE, scheme=tpm.NULL),
    ],
    ids=["ecc", "noDA", "with a scheme", "rsa"],
)
def test_a_signing_key_that_cannot_leave_is_accepted(area: bytes) -> None:
    assert check_device_key(tpm.sized(area)).area == area


@pytest.mark.parametrize("bit", [flag for flag in Attribute if flag & DEVICE_KEY_REQUIRED], ids=lambda flag: flag.name)
def test_k10_each_required_attribute_of_a_device_key_is_required(bit: Attribute) -> None:
    assert device_key_refusal(device_area(DEVICE & ~int(bit))) is Reason.DEVICE_KEY_ATTRIBUTES


@pytest.mark.parametrize("bit", [flag for flag in Attribute if flag & DEVICE_KEY_FORBIDDEN], ids=lambda flag: flag.name)
def test_k10_each_forbidden_attribute_of_a_device_key_is_forbidden(bit: Attribute) -> None:
    assert device_key_refusal(device_area(DEVICE | int(bit))) is Reason.DEVICE_KEY_ATTRIBUTES


def test_k10_device_key_whose_name_has_a_weak_hash_is_refused() -> None:
    assert device_key_refusal(device_area(name_algorithm=tpm.SHA1_ID)) is Reason.DEVICE_KEY_ATTRIBUTES


@pytest.mark.parametrize("area", [b"", device_area()[:-1], tpm.rsa_area(tpm.rsa_key(1024), attributes=DEVICE)])
def test_device_key_without_its_form_is_malformed(area: bytes) -> None:
    assert device_key_refusal(area) is Reason.DEVICE_KEY_MALFORMED


# --- The certification ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certification:
    """The arguments of `check_certification`, honest unless changed."""

    name: bytes = tpm.name_of(device_area())
    nonce: bytes = BOUND
    tag: int = 0x8017
    magic: int = 0xFF544347
    signer: Any = KEY
    more: bytes = b""

    def check(self) -> None:
        attest = tpm.attest_head(self.tag, magic=self.magic, nonce=self.nonce)
        attest += tpm.sized(self.name) + tpm.sized(b"qualified") + self.more
        check_certification(
            check_attestation_key(tpm.sized(tpm.ecc_area(KEY))),
            check_device_key(tpm.sized(device_area())),
            attest=attest,
            signature=tpm.ecdsa_signature(self.signer, attest),
            qualifying_data=BOUND,
        )


def test_an_honest_certification_is_accepted() -> None:
    Certification().check()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": tpm.name_of(b"another")},
        {"name": b""},
        {"name": tpm.name_of(device_area())[:-1]},
        {"name": tpm.name_of(device_area()) + b"\0"},
        {"name": b"\0" + tpm.name_of(device_area())},
        {"nonce": b""},
        {"nonce": BOUND[:-1]},
        {"nonce": BOUND + b"\0"},
        {"tag": 0x8018},
        {"tag": 0x801A},
        {"magic": 0x54504D32},
        {"signer": tpm.ecc_key("secp384r1")},
        {"more": b"\0"},
    ],
)
def test_k10_certification_that_is_wrong_in_one_way_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        replace(Certification(), **changes).check()
    assert refused.value.reason is Reason.DEVICE_KEY_NOT_CERTIFIED
