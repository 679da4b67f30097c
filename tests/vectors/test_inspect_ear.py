"""`attestd inspect ear` on results of other verifiers and of the drafts."""

import pytest

from inspecting import identity, inspect, path_of, shown
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

KEY = TESTDATA / "eat" / "ear" / "ear__data__pkey.json"
RESULTS = manifest_items("eat/ear")
EXAMPLES = [item for item in manifest_items("eat/ear-example") if "json" in item["file"]]
# CBOR written out in diagnostic notation, which is a form for documents.
NOTATION = [
    item
    for item in manifest_items("eat/ear-example", "eat/ietf-example")
    if item["file"].endswith(".diag") and item not in EXAMPLES
]
TOKENS = [item for item in manifest_items("eat/ietf-example") if item["file"].endswith(".json")]


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


@pytest.mark.parametrize("item", NOTATION + TOKENS, ids=identity)
def test_what_is_no_result_is_refused(item):
    code, document = inspect("ear", path_of(item))

    assert (code, document["outcome"]) == (1, "refused")
    assert document["reasons"][0] in {"json-malformed", "cbor-malformed", "ear-claims"}


@pytest.mark.parametrize("item", EXAMPLES, ids=identity)
def test_a_person_sees_the_vector(item):
    _, text = shown("ear", path_of(item))

    assert "instance-identity" in text
