"""Results for relying parties: what a token says, and which tokens are none."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appraisal_cases import NOW_MS, boot, component, evidence
from attestd.appraisal.appraise import appraise, without_profile
from attestd.appraisal.ear import (
    PROFILE,
    EarKey,
    EarRefused,
    VerifierId,
    ear_claims,
    jwk,
    sign_ear,
    thumbprint,
    verify_ear,
)
from attestd.appraisal.policy import Tier
from attestd.appraisal.profile import parse_profile_yaml
from attestd.appraisal.result import CATEGORIES

NOW = 1_790_000_000
VERIFIER = VerifierId("https://attest.example", "attestd", "0.1.0")
KEY = EarKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
PUBLIC = KEY.private.public_key()
GOOD = evidence(boot(component("loader", "shim", value="shim")))
POLICY = parse_profile_yaml("profile: edge\nversion: 4\nclaims: {loader: {check: required, accept: [{text: shim}]}}")
RESULT = appraise(GOOD, POLICY, now_ms=NOW_MS)
DEVICE = RESULT.device_id


def claims(result=RESULT, **changes):
    return ear_claims(result, now=NOW, lifetime=600, verifier=VERIFIER) | changes


def verify(token, **changes):
    parts = {"issuer": VERIFIER.issuer, "device_id": DEVICE, "now": NOW + 1} | changes
    return verify_ear(token, parts.pop("key", PUBLIC), **parts)


def forged(payload, *, header=None, key=KEY.private):
    """Return a token that some signer made of any claims and header."""
    return jwt.encode(payload, key, algorithm="EdDSA", headers={"typ": "eat+jwt"} | (header or {}))


def test_a_result_is_read_as_it_was_written():
    read = verify(sign_ear(claims(), KEY))
    assert (read.device_id, read.tier) == (DEVICE, Tier.AFFIRMING)
    assert read.vector == RESULT.vector
    assert read.policies == (f"urn:attestd:profile:edge:4:{POLICY.digest.hex()}",)
    assert (read.issued_at, read.expires_at) == (NOW, NOW + 600)


def test_any_jwt_library_reads_it():
    decoded = jwt.decode(
        sign_ear(claims(), KEY), PUBLIC, algorithms=["EdDSA"], issuer=VERIFIER.issuer, options={"verify_exp": False}
    )
    assert decoded == claims()


def test_the_claims_are_those_of_the_draft():
    found = claims()
    assert found["eat_profile"] == PROFILE
    assert found["ear_status"] == "affirming"
    assert found["ear_verifier_id"] == {"developer": "attestd", "build": "0.1.0"}
    (appraisal,) = found["submods"].values()
    assert appraisal["ear_status"] == "affirming"
    assert tuple(appraisal["ear_trustworthiness_vector"]) == CATEGORIES


def test_the_same_result_at_the_same_time_is_the_same_token():
    assert sign_ear(claims(), KEY) == sign_ear(claims(), KEY)


def test_results_have_names_of_their_own():
    other = ear_claims(RESULT, now=NOW + 1, lifetime=600, verifier=VERIFIER)
    assert claims()["jti"] != other["jti"]


def test_the_key_is_named_by_its_thumbprint():
    token = sign_ear(claims(), KEY)
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": thumbprint(PUBLIC), "typ": "eat+jwt"}
    assert jwk(PUBLIC)["kid"] == thumbprint(PUBLIC)


def test_the_thumbprint_is_that_of_rfc_8037():
    # RFC 8037, appendix A.3.
    private = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = Ed25519PrivateKey.from_private_bytes(private)
    assert thumbprint(key.public_key()) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_result_that_does_not_affirm_has_its_token_too():
    result = without_profile(GOOD, now_ms=NOW_MS)
    found = claims(result)
    (appraisal,) = found["submods"].values()
    assert appraisal["attestd"]["findings"] == ["policy-missing"]
    assert "ear_appraisal_policy_ids" not in appraisal
    assert verify(sign_ear(found, KEY)).tier is Tier.CONTRAINDICATED


def test_a_nonce_is_echoed_and_required():
    nonce = bytes(range(16))
    token = sign_ear(ear_claims(RESULT, now=NOW, lifetime=600, verifier=VERIFIER, nonce=nonce), KEY)
    assert verify(token, nonce=nonce).tier is Tier.AFFIRMING
    with pytest.raises(EarRefused, match="nonce"):
        verify(token, nonce=bytes(16))
    with pytest.raises(EarRefused, match="nonce"):
        verify(sign_ear(claims(), KEY), nonce=nonce)


@pytest.mark.parametrize("size", [0, 7, 65])
def test_a_nonce_of_another_size_is_not_put_into_a_token(size):
    with pytest.raises(ValueError, match="nonce"):
        ear_claims(RESULT, now=NOW, lifetime=600, verifier=VERIFIER, nonce=bytes(size))


# --- T01, T02 --------------------------------------------------------------------------------------------------------


def test_t02_the_result_of_another_device_is_refused():
    with pytest.raises(EarRefused, match="InvalidSubject"):
        verify(sign_ear(claims(), KEY), device_id="another")


@pytest.mark.parametrize("now", [NOW + 600, NOW + 10**9])
def test_t02_a_stale_result_is_refused(now):
    with pytest.raises(EarRefused, match="expired"):
        verify(sign_ear(claims(), KEY), now=now)


def test_a_result_from_the_future_is_refused_but_clocks_may_differ_a_little():
    assert verify(sign_ear(claims(), KEY), now=NOW - 30).tier is Tier.AFFIRMING
    with pytest.raises(EarRefused, match="future"):
        verify(sign_ear(claims(), KEY), now=NOW - 61)


def test_t01_a_token_of_another_issuer_is_refused():
    with pytest.raises(EarRefused, match="InvalidIssuer"):
        verify(sign_ear(claims(iss="https://evil.example"), KEY))


def test_t01_a_token_of_another_key_is_refused():
    with pytest.raises(EarRefused, match="InvalidSignature"):
        verify(sign_ear(claims(), EarKey(Ed25519PrivateKey.generate())))


def test_t01_alg_none_is_refused():
    with pytest.raises(EarRefused, match="InvalidAlgorithm"):
        verify(jwt.encode(claims(), None, algorithm="none", headers={"typ": "eat+jwt"}))


def test_t01_an_hmac_with_the_public_key_is_refused():
    def encoded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    import hashlib
    import hmac

    pem = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = encoded(b'{"alg":"HS256","typ":"eat+jwt"}') + b"." + encoded(json.dumps(claims()).encode())
    for secret in (pem, PUBLIC.public_bytes_raw()):
        token = signed + b"." + encoded(hmac.new(secret, signed, hashlib.sha256).digest())
        with pytest.raises(EarRefused, match="InvalidAlgorithm"):
            verify(token.decode())


def test_t01_a_key_in_the_header_is_not_looked_at():
    own = Ed25519PrivateKey.generate()
    with pytest.raises(EarRefused, match="InvalidSignature"):
        verify(forged(claims(), header={"jwk": jwk(own.public_key())}, key=own))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", None])
def test_t01_a_token_of_another_type_is_refused(typ):
    with pytest.raises(EarRefused, match="not an attestation result"):
        verify(forged(claims(), header={"typ": typ}))


def test_a_token_of_another_profile_is_refused():
    with pytest.raises(EarRefused, match="not an attestation result"):
        verify(sign_ear(claims(eat_profile="tag:github.com,2023:veraison/ear"), KEY))


@pytest.mark.parametrize(
    "name", ["iss", "sub", "jti", "iat", "exp", "eat_profile", "ear_verifier_id", "ear_status", "submods"]
)
def test_a_token_without_a_required_claim_is_refused(name):
    found = claims()
    del found[name]
    with pytest.raises(EarRefused):
        verify(forged(found))


@pytest.mark.parametrize("value", [float(NOW), str(NOW), True, None, []])
@pytest.mark.parametrize("name", ["iat", "exp"])
def test_a_time_that_is_not_an_integer_is_refused(name, value):
    with pytest.raises(EarRefused):
        verify(forged(claims(**{name: value})))


def test_claims_that_contradict_each_other_are_refused():
    bad = without_profile(GOOD, now_ms=NOW_MS)
    with pytest.raises(EarRefused, match="contradict"):
        verify(sign_ear(claims(bad, ear_status="affirming"), KEY))
    found = claims(bad)
    found["ear_status"] = found["submods"]["platform"]["ear_status"] = "affirming"
    with pytest.raises(EarRefused, match="contradict"):
        verify(sign_ear(found, KEY))


@pytest.mark.parametrize(
    "submods",
    [{}, [], {"platform": {}}, {"platform": {"ear_status": "superb"}}, {"other": {"ear_status": "affirming"}}, "x"],
)
def test_claims_that_are_incomplete_are_refused(submods):
    with pytest.raises(EarRefused, match="incomplete"):
        verify(sign_ear(claims(submods=submods), KEY))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é", "x" * 20_000])
def test_what_is_no_token_is_refused(token):
    with pytest.raises(EarRefused):
        verify(token)


def test_every_changed_byte_is_refused():
    token = sign_ear(claims(), KEY)
    for position in range(0, len(token), 37):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        with pytest.raises(EarRefused):
            verify(changed)
