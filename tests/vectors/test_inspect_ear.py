"""`attestd inspect ear` on results of other verifiers and of the drafts."""

import pytest

from inspecting import identity, inspect, path_of, shown
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

KEY = TESTDATA / "eat" / "ear" / "ear__data__pkey.json"
RESULTS = manifest_items("eat/ear")
EXAMPLES = [item for item in manifest_items("eat/ear-example") if "json" in item["file"]]
# CBOR written out in diagnostic notation, as documents have it.
NOTATION = [item for item in manifest_items("eat/ear-example") if "cbor" in item["file"]]
SOFTWARE = [item for item in manifest_items("eat/ietf-example") if "coswid" in item["file"]]
TOKENS = [item for item in manifest_items("eat/ietf-example") if "coswid" not in item["file"]]


@pytest.mark.parametrize("item", RESULTS, ids=identity)
def test_a_result_has_its_outcome(item):
    code, document = inspect("ear", path_of(item))

    accepted = item["expected"]["outcome"] == "accept"
    assert (code, document["outcome"]) == ((0, "accepted") if accepted else (1, "refused"))


@pytest.mark.parametrize("item", EXAMPLES, ids=identity)
def test_an_example_of_the_draft_is_read(item):
    code, document = inspect("ear", path_of(item))

    assert (code, document["outcome"], len(document["submods"])) == (0, "accepted", 1)


def test_t01_a_signed_result_holds_under_its_key_and_under_no_other(tmp_path):
    (token,) = (path_of(item) for item in manifest_items("eat/ear-jwt") if "jwt_0" in item["file"])
    other = tmp_path / "other.json"
    other.write_text(KEY.read_text().replace("usWxHK2P", "usWxHK2Q"))

    verdicts = [inspect("ear", token, *key)[1]["signature_valid"] for key in (("--key", KEY), ("--key", other), ())]

    assert verdicts == [True, False, None]


@pytest.mark.parametrize("item", NOTATION, ids=identity)
def test_an_example_of_the_draft_in_diagnostic_notation_is_what_its_cbor_is(item):
    code, document = inspect("ear", path_of(item))

    assert (code, document["outcome"], document["format"]) == (0, "accepted", "diagnostic")
    assert document["claims"]["ear_verifier_id"]["developer"] == "https://veraison-project.org"
    assert all(
        set(one["vector"]) <= {"instance-identity", "configuration", "executables", "hardware"}
        for one in document["submods"].values()
    )


@pytest.mark.parametrize("item", TOKENS, ids=identity)
def test_a_token_is_shown_and_is_no_result(item):
    code, document = inspect("ear", path_of(item))

    assert (code, document["outcome"], document["submods"]) == (0, "parsed", {})
    assert {"eat_nonce", "submods"} & document["claims"].keys()
    assert any("no result" in note for note in document["notes"])


@pytest.mark.parametrize("item", SOFTWARE, ids=identity)
def test_what_is_neither_token_nor_result_is_refused(item):
    code, document = inspect("ear", path_of(item))

    assert (code, document["outcome"], document["reasons"]) == (1, "refused", ["ear-malformed"])


@pytest.mark.parametrize("item", EXAMPLES, ids=identity)
def test_a_person_sees_the_vector(item):
    _, text = shown("ear", path_of(item))

    assert "instance-identity" in text


def test_a_result_from_before_the_first_draft_is_refused_and_its_signature_holds():
    (token,) = (path_of(item) for item in manifest_items("eat/ear-jwt") if "jwt_2" in item["file"])

    code, document = inspect("ear", token, "--key", KEY)

    assert (code, document["reasons"], document["signature_valid"]) == (1, ["ear-claims"], True)
