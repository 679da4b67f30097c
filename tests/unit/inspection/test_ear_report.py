"""Reports on attestation results: our own, signed with our own key, and what contradicts itself."""

import json

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestd.appraisal.ear import PROFILE, EarKey, jwk, sign_ear
from attestd.inspection.ear import inspect_ear

AT = 1_795_350_000
APPRAISAL = {"ear_status": "affirming", "ear_trustworthiness_vector": {"executables": 2}}
CLAIMS = {
    "eat_profile": PROFILE,
    "iat": AT,
    "ear_verifier_id": {"developer": "https://example.com", "build": "1"},
    "submods": {"platform": APPRAISAL},
}


def changed(**changes):
    return json.dumps({**CLAIMS, "submods": {"platform": {**APPRAISAL, **changes}}}).encode()


def test_a_result_of_this_verifier_holds_under_its_key():
    key = EarKey(Ed25519PrivateKey.generate())

    report = inspect_ear(sign_ear(CLAIMS, key).encode(), json.dumps(jwk(key.private.public_key())).encode(), at=AT)

    assert (report.accepted, report.signature_valid, report.kind) == (True, True, "jwt")


def test_t01_a_token_without_an_algorithm_is_refused():
    token = (
        b"eyJhbGciOiJub25lIn0." + sign_ear(CLAIMS, EarKey(Ed25519PrivateKey.generate())).split(".")[1].encode() + b"."
    )

    assert inspect_ear(token, at=AT).document()["reasons"] == ["ear-algorithm"]


def test_an_expired_result_says_so():
    assert any("expired" in note for note in inspect_ear(json.dumps({**CLAIMS, "exp": AT}).encode(), at=AT).notes)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (changed(ear_trustworthiness_vector={"executables": 96}), "ear-contradiction"),
        (changed(ear_trustworthiness_vector={"hope": 2}), "ear-vector"),
        (changed(ear_trustworthiness_vector={"hardware": 1000}), "ear-vector"),
        (changed(ear_status="splendid"), "ear-status"),
        (json.dumps({**CLAIMS, "submods": {}}).encode(), "ear-claims"),
        (json.dumps({**CLAIMS, "iat": 1.5}).encode(), "ear-claims"),
        (json.dumps({**CLAIMS, "ear_verifier_id": {}}).encode(), "ear-claims"),
    ],
)
def test_claims_that_are_missing_or_contradict_each_other_are_refused(data, code):
    assert inspect_ear(data, at=AT).document()["reasons"] == [code]


def test_claims_in_cbor_are_the_same_claims():
    claims = {
        265: "tag:ietf.org,2026:rats/ear#03",
        6: 1666529184,
        1004: {0: "https://veraison-project.org", 1: "vts 0.0.1"},
        266: {"PSA": {1000: 96, 1001: {0: 2, 2: 96, 4: 2}, 1003: ["https://veraison.example/policy/1/60a0068d"]}},
    }

    bare, wrapped = (
        inspect_ear(data, at=AT)
        for data in (cbor2.dumps(claims), cbor2.dumps(cbor2.CBORTag(18, [b"", {}, cbor2.dumps(claims), bytes(64)])))
    )

    assert bare.submods == (
        ("PSA", "contraindicated", (("instance-identity", 2), ("executables", 96), ("hardware", 2))),
    )
    assert (bare.accepted, bare.kind, wrapped.submods, wrapped.kind) == (True, "cbor", bare.submods, "cwt")
