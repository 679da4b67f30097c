"""`attestd inspect corim` and `rim` on manifests of other projects: form, profile rules, signatures."""

import json

import jwt
import pytest

from cert_forge import ec_key
from inspecting import identity, inspect, path_of, shown
from testdata import manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

CORIMS = manifest_items("corim/corim", "corim/comid")
SWIDS = manifest_items("rim/swidtag")
SIGNED = [item for item in SWIDS if "swidtags" in item["file"]]
OTHERS = manifest_items("rim/coswid", "rim/coswid-uswid")


@pytest.mark.parametrize("item", CORIMS, ids=identity)
def test_a_corim_has_its_outcome(item):
    code, document = inspect("corim", path_of(item))

    accepted = item["expected"]["outcome"] == "accept"
    assert (code, document["outcome"]) == ((0, "accepted") if accepted else (1, "refused"))


@pytest.mark.parametrize("item", [item for item in CORIMS if "-bad-" in item["file"]], ids=identity)
def test_a_bad_corim_is_refused_by_its_profile_and_not_for_its_form(item):
    _, document = inspect("corim", path_of(item))

    assert document["reasons"] == ["comid-profile"]


@pytest.mark.parametrize("item", [item for item in CORIMS if "signed-" in item["file"]], ids=identity)
def test_a_signed_corim_without_a_key_says_that_nobody_was_judged(item):
    _, document = inspect("corim", path_of(item))

    assert (document["signature_valid"], document["format"] == "signed-corim") == (
        None,
        "unsigned" not in item["file"],
    )


EXAMPLE = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}
"""The example key of RFC 7517, A.1, with which the project signs its test cases."""


@pytest.mark.parametrize("item", [item for item in CORIMS if "__signed-" in item["file"]], ids=identity)
def test_a_signed_corim_holds_under_the_key_of_its_makers(item, tmp_path):
    (tmp_path / "key.jwk").write_text(json.dumps(EXAMPLE))
    (tmp_path / "other.jwk").write_text(json.dumps(jwk_of(ec_key(5))))
    (tmp_path / "changed").write_bytes(path_of(item).read_bytes().replace(b"ACME", b"EMCA"))

    own = inspect("corim", path_of(item), "--key", tmp_path / "key.jwk")[1]
    other = inspect("corim", path_of(item), "--key", tmp_path / "other.jwk")[1]
    changed = inspect("corim", tmp_path / "changed", "--key", tmp_path / "key.jwk")[1]

    assert [one["signature_valid"] for one in (own, other, changed)] == [True, False, False]
    assert [one["vouched"] for one in (own, other, changed)] == [True, False, False]


def jwk_of(key):
    members = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return {name: members[name] for name in ("kty", "crv", "x", "y")}


@pytest.mark.parametrize("item", manifest_items("corim/hirs"), ids=identity)
def test_a_cose_message_without_a_manifest_is_refused(item):
    code, document = inspect("corim", path_of(item))

    assert (code, document["outcome"]) == ((0, "accepted") if "corim_expected" in item["file"] else (1, "refused"))


@pytest.mark.parametrize("item", SWIDS, ids=identity)
def test_a_swid_tag_is_read_and_lists_its_files(item):
    # "bad" is what the machine of that test measured: the manifests themselves are sound.
    code, document = inspect("rim", path_of(item))

    assert (code, document["format"], len(document["tags"][0]["files"])) == (0, "swid", 1)


@pytest.mark.parametrize("item", SIGNED, ids=identity)
def test_a_signed_swid_tag_was_not_changed(item):
    _, document = inspect("rim", path_of(item))

    assert document["signature_valid"] is True
    assert document["signer"] == "2fdeb8e7d030a2209daa01861a964fedecf2bcc1"


CHANGES = {
    "a hash": (b'hash="', b'hash="0'),
    "a name": (b'name="Dell5580"', b'name="Dell5581"'),
    "an attribute": (b'corpus="false"', b'corpus="true"'),
    "the language": (b'xml:lang="en"', b'xml:lang="de"'),
    "the algorithm's place": (b"<SignatureMethod", b"<SignatureMethod  x='1'"),
    "the signature": (b"<SignatureValue>D", b"<SignatureValue>E"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("item", SIGNED[:1], ids=identity)
def test_a_changed_swid_tag_is_refused(item, change, tmp_path):
    data = path_of(item).read_bytes()
    before, after = CHANGES[change]
    assert before in data
    file = tmp_path / "changed.swidtag"
    file.write_bytes(data.replace(before, after, 1))

    code, document = inspect("rim", file)

    assert (code, document["reasons"]) == (1, ["rim-signature"])


@pytest.mark.parametrize("item", SIGNED[:1], ids=identity)
def test_spelling_that_canonical_form_levels_changes_nothing(item, tmp_path):
    data = path_of(item).read_bytes()
    file = tmp_path / "spelt.swidtag"
    file.write_bytes(data.replace(b'corpus="false" name="Dell5580"', b"name='Dell5580'\n  corpus='false'", 1))

    assert inspect("rim", file)[1]["signature_valid"] is True


@pytest.mark.parametrize("item", SIGNED[:1], ids=identity)
def test_with_anchors_an_unknown_signer_is_refused(item):
    bundle = next(path_of(one) for one in manifest_items("platcert/issuer") if "rootca" in one["file"])

    code, document = inspect("rim", path_of(item), "--anchors", bundle)

    assert (code, document["reasons"]) == (1, ["chain-issuer-missing"])


@pytest.mark.parametrize("item", OTHERS, ids=identity)
def test_a_software_identity_in_cbor_is_read(item):
    code, document = inspect("rim", path_of(item))

    assert (code, document["outcome"]) == (0, "accepted")
    assert all(tag["name"] for tag in document["tags"])


@pytest.mark.parametrize("item", CORIMS + SWIDS + OTHERS, ids=identity)
def test_a_person_sees_no_control_characters(item):
    _, text = shown("corim" if item in CORIMS else "rim", path_of(item))

    assert all(character.isprintable() for character in text.replace("\n", ""))
