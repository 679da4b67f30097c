"""`attestd inspect platform` on makers' attribute certificates, held against two other readers' findings."""

import pytest

from inspecting import identity, inspect, path_of, shown
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [pytest.mark.testdata, needs_testdata]

CERTIFICATES = manifest_items("platcert/ac")
ISSUERS = [part for item in manifest_items("platcert/issuer") for part in ("--anchors", str(path_of(item)))]
ALGORITHMS = {"sha256_rsa": "1.2.840.113549.1.1.11", "sha1_rsa": "1.2.840.113549.1.1.5"}


def is_der(item) -> bool:
    return path_of(item).read_bytes()[:1] == b"\x30"


SIGNED = {
    "HIRS__platformcerts__laptop_badDeltaMem_base.crt",
    "HIRS__platform_credentials_2__large_attribute_cert_2187.pem",
    "go-attestation__testdata__Intel_nuc_pc.cer",
    "tpm2__attribute_certificate__ascert.pem",
}
"""Some whose issuer is among those that are published beside them."""


@pytest.mark.parametrize("item", CERTIFICATES, ids=identity)
def test_a_platform_certificate_is_read_as_other_readers_read_it(item):
    expected = item["expected"]

    code, document = inspect("platform", path_of(item))

    assert (code, document["outcome"]) == (0, "parsed")
    assert (f"v{document['version']}", len(document["attributes"])) == (expected["version"], expected["attributes"])
    assert document["signature_algorithm"] == ALGORITHMS[expected["sig"]]
    if "go_attestation_parsed" in expected:
        assert int(document["serial"], 16) == expected["go_attestation_parsed"]["SerialNumber"]


@pytest.mark.parametrize("item", CERTIFICATES, ids=identity)
def test_a_platform_certificate_names_its_platform_or_says_that_it_does_not(item):
    _, document = inspect("platform", path_of(item))

    assert bool(document["manufacturer"] and document["model"]) is ("platform-not-named" not in document["deviations"])


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_a_platform_certificate_leads_to_its_authority(name):
    (item,) = (item for item in CERTIFICATES if item["file"].endswith(name))

    code, document = inspect("platform", path_of(item), *ISSUERS, "--at", "2026-11-22")

    assert (code, document["outcome"]) == (0, "trusted")
    assert document["chain"]


@pytest.mark.parametrize("item", [item for item in CERTIFICATES if is_der(item)], ids=identity)
def test_a_changed_platform_certificate_is_not_trusted(item, tmp_path):
    data = bytearray(path_of(item).read_bytes())
    data[-40] ^= 1
    file = tmp_path / "changed"
    file.write_bytes(data)

    code, document = inspect("platform", file, *ISSUERS)

    assert (code, document["outcome"]) in {(1, "refused"), (1, "untrusted")}


def test_a_virtual_machines_platform_certificate_is_told_to_be_one_of_a_key():
    code, document = inspect("platform", TESTDATA / "vm" / "good-1" / "nv_01c08000.der")

    assert (code, document["deviations"]) == (0, ["certificate-of-a-key-instead-of-attributes"])


@pytest.mark.parametrize("item", manifest_items("platcert/issuer"), ids=identity)
def test_an_authority_of_platforms_is_a_certificate_and_no_platform(item):
    code, document = inspect("platform", path_of(item))
    assert (code, document["reasons"]) == (1, ["platform-malformed"])

    _, document = inspect("cert", path_of(item))
    assert document["certificate_sha256"]


@pytest.mark.parametrize("item", CERTIFICATES[:4], ids=identity)
def test_a_person_sees_the_components(item):
    _, document = inspect("platform", path_of(item))
    _, text = shown("platform", path_of(item))

    assert all(part["manufacturer"] in text for part in document["components"])
