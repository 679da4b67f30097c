"""The endorsement key: its form, its id, its certificate; every refusal of the certificate's rooms has one reason here."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cert_forge as forge
import tpm_structures as tpm
from attestd.errors import Refused
from attestd.evidence import ek
from attestd.evidence.ek import BUDGET, EkPolicy, identify, pinned_identity, read_endorsement_key
from attestd.protocol import limits
from attestd.protocol.reasons import Reason
from attestd.tpm.public import Attribute
from attestd_pki import names
from attestd_pki.chain import TrustStore

POLICY = EkPolicy(TrustStore.of([forge.make(forge.ROOT)]))
KEY = forge.LEAF.key
PKI = Path(ek.__file__).parents[3] / "pki" / "attestd_pki"


def area(**changes: Any) -> bytes:
    fields = {"attributes": tpm.EK_ATTRIBUTES, "scheme": tpm.NULL, "symmetric": tpm.aes_cfb(128), **changes}
    return tpm.sized(tpm.ecc_area(KEY, **fields))


def certificate(issuer: forge.Plan = forge.ROOT, **changes: Any) -> bytes:
    return forge.make(replace(forge.LEAF, **changes), issuer).der


def identity(*certificates: bytes, policy: EkPolicy = POLICY, now: int = forge.NOW) -> Any:
    return identify(read_endorsement_key(area()), certificates, policy=policy, now_s=now)


def refusal(*certificates: bytes, now: int = forge.NOW) -> Reason:
    with pytest.raises(Refused) as refused:
        identity(*certificates, now=now)
    return refused.value.reason


# --- The key --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, tpm.ecc_key("secp384r1"), tpm.rsa_key()], ids=["P-256", "P-384", "RSA"])
def test_an_endorsement_key_has_the_id_of_its_public_key(key: Any) -> None:
    read = read_endorsement_key(tpm.sized(tpm.ek_area(key)))
    assert read.device_id == names.device_id(read.spki)
    assert re.fullmatch("[a-z2-7]{52}", read.device_id)


def test_k09_id_does_not_depend_on_anything_but_the_key() -> None:
    """Template, policy and hash of the name may differ; the chip is the same."""
    plain = read_endorsement_key(area())
    others = (
        area(policy=bytes(32)),
        area(symmetric=tpm.aes_cfb(256)),
        area(name_algorithm=tpm.SHA384_ID),
        area(attributes=tpm.EK_ATTRIBUTES | int(Attribute.USER_WITH_AUTH)),
    )
    assert {read_endorsement_key(other).device_id for other in others} == {plain.device_id}


def test_k09_rsa_exponent_of_zero_stands_for_the_usual_one() -> None:
    fields: dict[str, Any] = {"attributes": tpm.EK_ATTRIBUTES, "scheme": tpm.NULL, "symmetric": tpm.aes_cfb(128)}
    short, long = (tpm.rsa_area(tpm.rsa_key(), exponent=exponent, **fields) for exponent in (0, 65537))
    assert short != long
    assert len({read_endorsement_key(tpm.sized(one)).device_id for one in (short, long)}) == 1


@pytest.mark.parametrize(
    "bit",
    [
        Attribute.FIXED_TPM,
        Attribute.FIXED_PARENT,
        Attribute.SENSITIVE_DATA_ORIGIN,
        Attribute.RESTRICTED,
        Attribute.DECRYPT,
        Attribute.SIGN,
    ],
    ids=lambda flag: flag.name,
)
def test_k04_key_with_another_attribute_is_no_endorsement_key(bit: Attribute) -> None:
    with pytest.raises(Refused) as refused:
        read_endorsement_key(area(attributes=tpm.EK_ATTRIBUTES ^ int(bit)))
    assert refused.value.reason is Reason.EK_PUBLIC_MALFORMED


@pytest.mark.parametrize("data", [b"", b"\0\0", area()[:-1], area() + b"\0", area()[:-1] + b"\0"])
def test_k04_bytes_that_are_no_public_area_are_refused(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_endorsement_key(data)
    assert refused.value.reason is Reason.EK_PUBLIC_MALFORMED


# --- The certificate ------------------------------------------------------------------------------------------------


def test_an_honest_certificate_says_who_made_the_tpm() -> None:
    told = identity(certificate())
    assert (told.manufacturer, told.model) == ("id:4E544300", "NPCT75x")
    assert told.device_id == read_endorsement_key(area()).device_id
    assert told.certificate_sha256 is not None


def test_certificate_may_stand_anywhere_among_its_issuers_and_be_padded() -> None:
    chain = (forge.make(forge.INTERMEDIATE, forge.ROOT).der, certificate(forge.INTERMEDIATE) + b"\xff" * 100)
    assert identity(*chain).manufacturer == identity(*reversed(chain)).manufacturer == "id:4E544300"


def test_k05_no_certificate_is_no_identity() -> None:
    assert refusal() is Reason.EK_CERTIFICATE_MISSING


def test_k05_pinned_key_has_no_manufacturer_and_says_so() -> None:
    told = pinned_identity(read_endorsement_key(area()))
    assert (told.manufacturer, told.model, told.certificate_sha256) == ("", "", None)
    assert told.deviations


@pytest.mark.parametrize("data", [b"\0", b"\x30\x80", b"certificate", b"\x30\x03\x02\x01\x00"])
def test_k06_bytes_that_are_no_certificate_are_malformed(data: bytes) -> None:
    assert refusal(data) is Reason.EK_CERTIFICATE_MALFORMED
    assert refusal(certificate(), data) is Reason.EK_CERTIFICATE_MALFORMED


def test_k06_more_certificates_than_the_bound_are_malformed() -> None:
    assert refusal(*([certificate()] * (limits.MAX_EK_CERTIFICATES + 1))) is Reason.EK_CERTIFICATE_MALFORMED


def test_k04_certificate_for_another_key_is_a_mismatch() -> None:
    assert refusal(certificate(key=forge.ec_key(34))) is Reason.EK_CERTIFICATE_MISMATCH


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (forge.LEAF.not_before - 1, Reason.EK_CERTIFICATE_EXPIRED),
        (forge.LEAF.not_after + 1, Reason.EK_CERTIFICATE_EXPIRED),
    ],
)
def test_k06_certificate_outside_its_validity(now: int, reason: Reason) -> None:
    assert refusal(certificate(), now=now) is reason
    assert identity(certificate(), now=forge.LEAF.not_after)
    assert identity(certificate(), now=forge.LEAF.not_before)


def test_k06_path_without_an_anchor() -> None:
    stranger = replace(forge.ROOT, subject="Somebody", key=forge.ec_key(99))
    assert refusal(certificate(stranger)) is Reason.EK_CHAIN_UNTRUSTED
    assert refusal(certificate(stranger), forge.make(stranger).der) is Reason.EK_CHAIN_UNTRUSTED


def test_k06_without_anchors_nobody_is_trusted() -> None:
    with pytest.raises(Refused) as refused:
        identity(certificate(), policy=EkPolicy(TrustStore.of([])))
    assert refused.value.reason is Reason.EK_CHAIN_UNTRUSTED


def test_k06_work_on_one_chain_is_bounded_by_the_limits() -> None:
    assert (BUDGET.depth, BUDGET.signatures) == (limits.MAX_CHAIN_DEPTH, limits.MAX_CHAIN_CANDIDATES)


def test_every_code_of_the_certificate_rooms_has_a_reason_and_none_is_a_pass() -> None:
    codes: set[str] = set()
    for room in ("chain", "ekcert", "extensions"):
        codes |= set(re.findall(r'PkiError\(\s*"([a-z0-9-]+)"', (PKI / f"{room}.py").read_text(encoding="utf-8")))
    assert len(codes) > 15
    reasons = {code: ek._reason_of(code) for code in codes}
    allowed = {
        Reason.EK_CERTIFICATE_PROFILE,
        Reason.EK_CERTIFICATE_EXPIRED,
        Reason.EK_CERTIFICATE_WEAK,
        Reason.EK_CHAIN_UNTRUSTED,
    }
    assert set(reasons.values()) == allowed
    assert reasons["chain-weak-hash"] is reasons["chain-weak-key"] is Reason.EK_CERTIFICATE_WEAK
    assert reasons["ek-eku"] is reasons["ek-is-ca"] is Reason.EK_CERTIFICATE_PROFILE


def test_code_that_nobody_thought_of_is_untrusted() -> None:
    assert ek._reason_of("chain-from-the-future") is Reason.EK_CHAIN_UNTRUSTED
