"""Reports on attestation results: our own, signed with our own key, and what contradicts itself."""

import base64
import contextlib
import json

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestd.appraisal.ear import PROFILE, EarKey, jwk, sign_ear
from attestd.inspection.cborread import Tag
from attestd.inspection.diagnostic import read_diagnostic
from attestd.inspection.ear import inspect_ear
from attestd.inspection.refused import InspectionRefused
from attestd_pki.times import in_words
from inspecting import shown

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


@pytest.mark.parametrize("token", ["", "eyJhbGciOiJFUzI1NiJ9", "eyJhbGciOiJFUzI1NiJ9.e30", "e30.e30.e30.e30.e30"])
def test_a_bundle_whose_token_has_not_three_parts_is_refused(token):
    with pytest.raises(InspectionRefused) as caught:
        inspect_ear(json.dumps(["JWT", token]).encode(), at=AT)

    assert caught.value.code == "ear-malformed"


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


# --- envelopes of others --------------------------------------------------------------------------------------------------

NUMBERED = {
    265: PROFILE,
    6: AT,
    1004: {0: "https://example.com", 1: "1"},
    266: {"platform": {1000: 2, 1001: {2: 2, 0: 2}}},
}
EC = ec.derive_private_key(7, ec.SECP256R1())
POINT = EC.public_key().public_numbers()


def cwt(claims=NUMBERED, *, key=EC, tags=(61, 18), algorithm=-7):
    """Return a CWT: COSE_Sign1 with ES256 over claims in CBOR."""
    protected, payload = cbor2.dumps({1: algorithm}), cbor2.dumps(claims)
    made = key.sign(cbor2.dumps(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA256()))
    signature = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(made))
    item = [protected, {}, payload, signature]
    for tag in reversed(tags):
        item = cbor2.CBORTag(tag, item)
    return cbor2.dumps(item)


def unsigned(number):
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=")


KEYS = {
    "JWK": json.dumps({"kty": "EC", "crv": "P-256", "x": unsigned(POINT.x), "y": unsigned(POINT.y)}).encode(),
    "JWK set": json.dumps(
        {"keys": [{"kty": "EC", "crv": "P-256", "x": unsigned(POINT.x), "y": unsigned(POINT.y)}]}
    ).encode(),
    "COSE_Key": cbor2.dumps({1: 2, -1: 1, -2: POINT.x.to_bytes(32, "big"), -3: POINT.y.to_bytes(32, "big")}),
    "PEM": EC.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
}
OTHER = (
    ec.derive_private_key(8, ec.SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
@pytest.mark.parametrize("tags", [(61, 18), (18,), (61,), ()])
def test_a_signed_result_in_cbor_holds_under_its_key(key, tags):
    report = inspect_ear(cwt(tags=tags), key, at=AT)

    assert (report.accepted, report.signature_valid, report.kind) == (True, True, "cwt")
    assert report.document()["submods"] == {
        "platform": {"status": "affirming", "vector": {"executables": 2, "instance-identity": 2}}
    }


def test_t01_a_signed_result_in_cbor_is_refused_under_another_key_and_where_it_was_changed():
    changed_one = bytearray(cwt())
    changed_one[-1] ^= 1

    for data, key in ((cwt(), OTHER), (bytes(changed_one), KEYS["PEM"]), (cwt(), b"no key at all")):
        report = inspect_ear(data, key, at=AT)
        assert (report.signature_valid, report.document()["reasons"]) == (False, ["ear-signature"])


def test_t01_a_signed_result_in_cbor_without_an_algorithm_that_is_known_is_refused():
    assert inspect_ear(cwt(algorithm=-65535), KEYS["JWK"], at=AT).document()["reasons"] == ["ear-algorithm"]


def test_a_signed_result_without_a_key_is_judged_by_its_form_alone():
    report = inspect_ear(cwt(), at=AT)
    assert (report.accepted, report.signature_valid) == (True, None)


@pytest.mark.parametrize(
    "write", [lambda data: data.hex().encode(), base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes]
)
def test_cbor_that_was_written_down_is_read(write):
    assert inspect_ear(write(cwt()), KEYS["JWK"], at=AT).signature_valid is True


def test_a_claims_set_without_a_signature_is_read():
    assert inspect_ear(cbor2.dumps(cbor2.CBORTag(601, NUMBERED)), at=AT).accepted


def test_a_signature_in_json_is_judged_as_the_compact_one():
    key = EarKey(Ed25519PrivateKey.generate())
    head, payload, signature = sign_ear(CLAIMS, key).split(".")
    public = json.dumps(jwk(key.private.public_key())).encode()

    for document in (
        {"protected": head, "payload": payload, "signature": signature},
        {"payload": payload, "signatures": [{"protected": head, "signature": signature}]},
    ):
        report = inspect_ear(json.dumps(document).encode(), public, at=AT)
        assert (report.accepted, report.signature_valid) == (True, True)


def test_a_token_that_its_attester_signed_is_parsed_and_not_accepted():
    report = inspect_ear(cwt({10: b"12345678", 256: b"\x01" * 17, 266: {"TEE": {270: "os"}}}), KEYS["JWK"], at=AT)
    assert (report.outcome, report.signature_valid, report.claims["submods"]) == (
        "parsed",
        True,
        {"TEE": {"swname": "os"}},
    )


def test_t01_a_token_with_a_signature_that_does_not_hold_is_refused():
    assert inspect_ear(cwt({10: b"12345678", 256: b"\x01" * 17}), OTHER, at=AT).outcome == "refused"


@pytest.mark.parametrize(
    ("status", "tier", "accepted"),
    [("none", 2, True), ("none", 32, False), ("affirming", 2, True), ("affirming", 33, False), ("warning", 96, False)],
)
def test_a_status_may_say_less_than_its_vector_and_never_hide_what_is_bad(status, tier, accepted):
    assert (
        inspect_ear(changed(ear_status=status, ear_trustworthiness_vector={"executables": tier}), at=AT).accepted
        is accepted
    )


# --- diagnostic notation --------------------------------------------------------------------------------------------------

NOTATIONS = [
    ("{1: h'00 ff', 2: b64'AP8=', 3: 'text', 4: \"a\\n\"}", {1: b"\x00\xff", 2: b"\x00\xff", 3: b"text", 4: "a\n"}),
    ("/ a comment / [1, -2, 0x10, 1.5, 1e3, true, false, null] # behind", [1, -2, 16, 1.5, 1000.0, True, False, None]),
    ("[_ 1 2 3,]", [1, 2, 3]),
    ("<< 1, 2 >>", b"\x01\x02"),
    ("61(18([<<{1: -7}>>, {}, h'a0', h'']))", Tag(61, Tag(18, [b"\xa1\x01\x26", {}, b"\xa0", b""]))),
    ("(_ h'01', h'02')", b"\x01\x02"),
    ("0_1", 0),
    ("{ // a line\n 1: 2 }", {1: 2}),
]


@pytest.mark.parametrize(("text", "item"), NOTATIONS)
def test_diagnostic_notation_is_what_its_cbor_is(text, item):
    assert read_diagnostic(text) == item


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{1: 2",
        "[1, 2",
        "{1: 2, 1: 3}",
        "h'0'",
        "1 2",
        "{[1]: 2}",
        "/ no end",
        "1(",
        '"',
        "[" * 99 + "]" * 99,
        "9" * 99,
        "what",
    ],
)
def test_what_is_no_diagnostic_notation_is_refused(text):
    with pytest.raises(InspectionRefused) as refusal:
        read_diagnostic(text)
    assert refusal.value.code == "cbor-malformed"


def test_e11_neither_names_nor_values_of_claims_can_write_to_a_console(tmp_path):
    file = tmp_path / "token.json"
    file.write_text(json.dumps({**CLAIMS, "\x1b[31m\ud800": "\u202e\x07", "eat_nonce": "a\udfffb"}))

    _, text = shown("ear", file)

    assert all(character.isprintable() or character == "\n" for character in text)


@given(st.text(alphabet="{}[]()<>_:,'\"/#h0123456789abfx.-+e \n", max_size=60))
def test_any_text_is_an_item_or_refused(text):
    with contextlib.suppress(InspectionRefused):
        read_diagnostic(text)


@given(st.binary(max_size=200), st.sampled_from([None, *KEYS.values()]))
def test_any_bytes_are_a_report_or_refused(data, key):
    for form in (
        data,
        b"{" + data,
        b"[" + data,
        data.hex().encode(),
        cbor2.dumps(cbor2.CBORTag(18, [data, {}, data, data])),
    ):
        with contextlib.suppress(InspectionRefused):
            assert inspect_ear(form, key, at=AT).document()["outcome"] in {"accepted", "parsed", "refused"}


@pytest.mark.parametrize("data", [json.dumps(CLAIMS).encode(), cbor2.dumps(NUMBERED)], ids=["json", "cbor"])
def test_what_nobody_signed_says_so_and_is_refused_where_a_key_was_given(data):
    bare, asked = inspect_ear(data, at=AT), inspect_ear(data, KEYS["PEM"], at=AT)

    assert any("not signed" in note for note in bare.notes)
    assert bare.accepted
    assert "ear-signature" in dict(asked.reasons)


def test_a_result_that_has_expired_says_when_as_people_write_it():
    notes = inspect_ear(json.dumps({**CLAIMS, "exp": AT - 1}).encode(), at=AT).notes

    assert any(note == f"expired at {in_words(AT - 1)}" for note in notes)
