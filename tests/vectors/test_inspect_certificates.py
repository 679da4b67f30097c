"""`attestd inspect ek` and `cert` on certificates of real chips, held against the manufacturers' authorities."""

import hashlib

import pytest

from inspecting import identity, inspect, path_of
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

AT = "2026-11-22"
BUNDLES = [
    argument
    for path in sorted((TESTDATA / "cert" / "ca-bundle").glob("*.pem"))
    for argument in ("--anchors", str(path))
]
WRAPPED = manifest_items("cert/ek-wrapped", "cert/ek-nvram")
CHAINED = [item for item in manifest_items("cert/ek", "cert/ak", "cert/ca-odd") if "chain_closed" in item["expected"]]
# AMD publishes two encodings of one root, with the same name, key and serial: a path may end at either.
TWO_ROOTS = {"tpm-ca-certificates__xv_generalizedtime_AMD_181c7729a8.der"}


def command_for(item) -> str:
    return "ek" if item["kind"].startswith("cert/ek") else "cert"


@pytest.mark.parametrize("item", [item for item in CHAINED if item["expected"]["chain_closed"]], ids=identity)
def test_a_real_chain_closes(item):
    code, document = inspect(command_for(item), path_of(item), *BUNDLES, "--at", AT)

    assert (code, document["outcome"], document["reasons"]) == (0, "trusted", [])
    expected = item["expected"]["chain"]
    assert document["chain"][:-1] == expected[:-1]
    assert document["chain"][-1] == expected[-1] or item["file"].endswith(tuple(TWO_ROOTS))


@pytest.mark.parametrize("item", [item for item in CHAINED if not item["expected"]["chain_closed"]], ids=identity)
def test_k06_a_chain_without_an_anchor_says_what_is_missing(item):
    code, document = inspect(command_for(item), path_of(item), *BUNDLES, "--at", AT)

    # Test suites made forgeries under the names of genuine authorities: these are refused, not merely untrusted.
    assert (code, document["outcome"]) in {(1, "untrusted"), (1, "refused")}
    assert document["reasons"][0].startswith("chain-")
    assert "CN=" in document["messages"][0]


@pytest.mark.parametrize("item", CHAINED, ids=identity)
def test_without_anchors_nothing_is_trusted(item):
    code, document = inspect(command_for(item), path_of(item), "--at", AT)

    assert (code, document["outcome"]) == (1, "untrusted")


@pytest.mark.parametrize("item", WRAPPED, ids=identity)
def test_a_wrapped_certificate_has_its_outcome(item):
    expected = item["expected"]
    code, document = inspect("ek", path_of(item), *BUNDLES, "--at", AT)

    if "refuse" in expected.get("outcome", ""):
        assert (code, document["outcome"]) == (1, "refused")
        assert document["reasons"][0] in {"unwrap-empty", "unwrap-truncated", "chain-signature"}
    else:
        assert (code, document["outcome"]) == (0, "trusted")
        assert document["certificate_sha256"] == expected["certificate_sha256"]


@pytest.mark.parametrize("item", manifest_items("cert/ek-intel-json"), ids=identity)
def test_intels_answer_is_a_trusted_chip_of_intels(item):
    _, document = inspect("ek", path_of(item), *BUNDLES, "--at", AT)

    assert (document["outcome"], document["manufacturer"], document["model"]) == ("trusted", "Intel", "GLK")


@pytest.mark.parametrize("item", manifest_items("cert/iak", "cert/idevid"), ids=identity)
def test_an_identity_certificate_is_read_and_its_authority_named(item):
    code, document = inspect("cert", path_of(item), *BUNDLES, "--at", AT)

    assert (code, document["outcome"]) == (1, "untrusted")
    data = path_of(item).read_bytes()
    if data[:1] == b"\x30":
        assert document["certificate_sha256"] == hashlib.sha256(data).hexdigest()
    assert document["reasons"][0] in {"chain-issuer-missing", "chain-self-signed"}


@pytest.mark.parametrize("item", manifest_items("malformed/x509"), ids=identity)
def test_a_malformed_certificate_is_refused_or_its_oddity_is_told(item):
    code, document = inspect("cert", path_of(item), "--at", AT)

    assert code == 1
    assert document["reasons"]


@pytest.mark.parametrize("item", manifest_items("cert/ak", "cert/ca-odd"), ids=identity)
def test_k06_no_other_certificate_is_taken_for_an_endorsement_keys(item):
    code, document = inspect("ek", path_of(item), *BUNDLES, "--at", AT)

    assert (code, document["outcome"]) == (1, "refused")
    assert document["reasons"][0] in {"ek-eku", "ek-is-ca"}


@pytest.mark.parametrize("index", ["nv_01c00002.der", "nv_01c00016.der"])
def test_a_virtual_machines_certificate_names_the_anchor_that_is_missing(index):
    _, document = inspect("ek", TESTDATA / "vm" / "good-1" / index, *BUNDLES)

    assert document["outcome"] == "untrusted"
    assert "CN=swtpm-localca" in document["messages"][0]
