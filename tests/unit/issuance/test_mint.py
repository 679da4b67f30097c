"""A grant comes out of an affirming result about its own subject, and says nothing that somebody wished."""

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from attestd.appraisal.policy import Tier
from attestd.appraisal.result import RESULT_MAKER, AttestationResult
from attestd.errors import Refused
from attestd.issuance.mint import BACKDATE_SECONDS, Names, Subject, mint
from attestd.protocol import limits
from attestd_pki import names
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant
from pki_world import DEVICE_KEY, EK_SPKI, NOW, SUFFIX, TRUST_DOMAIN, spki

DEVICE = names.device_id(EK_SPKI)
NAMES = Names(TRUST_DOMAIN, SUFFIX)
KEYS = (("wireguard", bytes(range(32))), ("openvpn", bytes(32)))
SUBJECT = Subject(DEVICE, b"\x00\x0b" + hashlib.sha256(b"ak").digest(), spki(DEVICE_KEY), KEYS)


def a_result(tier: Tier = Tier.AFFIRMING, device_id: str = DEVICE) -> AttestationResult:
    return AttestationResult(
        device_id=device_id,
        tier=tier,
        vector=(2, 2, 2, 0, 2, 0, 0, 0),
        findings=(),
        claims=(),
        profile="edge",
        profile_version=3,
        profile_digest=bytes(32),
        evidence_digest=hashlib.sha256(b"evidence").digest(),
        appraised_at=NOW * 1000,
        maker=RESULT_MAKER,
    )


def minted(result: AttestationResult | None = None, subject: Subject = SUBJECT, **changes: Any) -> Grant:
    fields = {"names_of": NAMES, "now_s": NOW, "lifetime_s": 6 * 3600, "grant_id": bytes(16), **changes}
    return mint(result or a_result(), subject, **fields)


def test_a_grant_says_what_the_proof_said() -> None:
    grant = minted()
    assert grant.device_id == DEVICE
    assert grant.ek_digest == hashlib.sha256(EK_SPKI).digest()
    assert grant.ak_name == SUBJECT.ak_name
    assert grant.subject_public_key == SUBJECT.device_key_spki
    assert grant.vpn_keys == tuple(sorted(KEYS))
    assert (grant.profile, grant.profile_version) == ("edge", 3)
    assert grant.evidence_digest == a_result().evidence_digest


def test_c01_names_follow_from_the_endorsement_key_and_nothing_else() -> None:
    grant = minted()
    assert grant.uri == f"spiffe://{TRUST_DOMAIN}/device/{DEVICE}"
    assert grant.dns_name == f"{DEVICE}.{SUFFIX}"
    assert base64.b32encode(grant.ek_digest).decode().rstrip("=").lower() == DEVICE


def test_a_grant_is_used_within_a_minute_and_its_certificate_works_at_once() -> None:
    grant = minted()
    assert (grant.minted_at, grant.expires_at) == (NOW, NOW + limits.GRANT_SECONDS)
    assert grant.not_before == NOW - BACKDATE_SECONDS


@pytest.mark.parametrize("lifetime", [86_400, 86_401, 10 * 365 * 86_400])
def test_c01_no_certificate_lives_longer_than_a_day(lifetime: int) -> None:
    grant = minted(lifetime_s=lifetime)
    assert grant.not_after - grant.not_before == limits.CERTIFICATE_MAX_SECONDS == 86_400


@pytest.mark.parametrize("tier", [tier for tier in Tier if tier is not Tier.AFFIRMING])
def test_c03_a_result_that_does_not_affirm_mints_nothing(tier: Tier) -> None:
    with pytest.raises(Refused, match="evidence-refused"):
        minted(a_result(tier))


def test_c02_a_result_about_another_device_mints_nothing() -> None:
    other = names.device_id(b"another endorsement key")
    with pytest.raises(Refused, match="evidence-refused"):
        minted(a_result(device_id=other))
    with pytest.raises(Refused, match="evidence-refused"):
        minted(subject=replace(SUBJECT, device_id=other))


def test_c02_a_result_is_made_by_an_appraisal_and_by_nobody_else() -> None:
    fields = {name: getattr(a_result(), name) for name in AttestationResult.__slots__ if name != "maker"}
    with pytest.raises(TypeError):
        AttestationResult(**fields, maker=object())


@pytest.mark.parametrize(
    "changes",
    [{"grant_id": bytes(15)}, {"lifetime_s": 0}, {"lifetime_s": -1}, {"names_of": Names("Fleet Example", SUFFIX)}],
    ids=str,
)
def test_c01_a_grant_without_its_form_is_not_made(changes: dict[str, Any]) -> None:
    with pytest.raises(PkiError):
        minted(**changes)
