"""The own reader of certificates against two others, over every real certificate there is."""

from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyasn1.codec.ber import decoder
from pyasn1_modules import rfc5280

from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki
from attestd_pki.unwrap import split_bundle, unwrap
from testdata import TESTDATA, manifest_items, needs_testdata

pytestmark = [needs_testdata, pytest.mark.testdata]

KINDS = ("cert/ek", "cert/ak", "cert/ca-odd", "cert/iak", "cert/idevid", "cert/ek-nvram", "malformed/x509")

# A certificate of x509-limbo whose key spells its curve out, which is how CVE-2020-0601 began.
EXPLICIT_CURVE = "CN=example.com"


@cache
def everything() -> tuple[Certificate, ...]:
    """Return every certificate of the data, once each."""
    found = [unwrap((TESTDATA / item["file"]).read_bytes()) for item in manifest_items(*KINDS)]
    for path in sorted((TESTDATA / "cert").glob("ca-bundle/*.pem")):
        found += split_bundle(path.read_bytes())
    return tuple(parse_certificate(data) for data in dict.fromkeys(found))


def test_there_are_five_hundred_real_certificates() -> None:
    assert len(everything()) >= 500


def test_pyasn1_reads_the_same_fields() -> None:
    for certificate in everything():
        other = decoder.decode(certificate.der, asn1Spec=rfc5280.Certificate())[0]
        tbs = other["tbsCertificate"]
        assert certificate.serial == int(tbs["serialNumber"])
        assert certificate.version == int(tbs["version"]) + 1
        assert certificate.signature_oid == str(other["signatureAlgorithm"]["algorithm"])
        assert certificate.signature == other["signature"].asOctets()
        assert certificate.key_oid == str(tbs["subjectPublicKeyInfo"]["algorithm"]["algorithm"])
        assert (certificate.not_before, certificate.not_after) == tuple(map(_seconds, tbs["validity"].values()))
        read = [(extension.oid, extension.critical, extension.value) for extension in certificate.extensions]
        assert read == [
            (str(extension["extnID"]), bool(extension["critical"]), bytes(extension["extnValue"]))
            for extension in (tbs["extensions"] if tbs["extensions"].isValue else ())
        ]


def _seconds(time: Any) -> int:
    return int(time.getComponent().asDateTime.timestamp())


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_where_cryptography_reads_a_certificate_the_signed_bytes_names_and_keys_are_the_same() -> None:
    compared = keys = 0
    for certificate in everything():
        try:
            other = x509.load_der_x509_certificate(certificate.der)
            assert certificate.tbs == other.tbs_certificate_bytes
            assert certificate.issuer.raw == other.issuer.public_bytes()
            assert certificate.subject.raw == other.subject.public_bytes()
            compared += 1
            key = other.public_key()
        except (ValueError, UnsupportedAlgorithm):
            continue
        if certificate.subject.text == EXPLICIT_CURVE:
            continue
        assert canonical_spki(certificate) == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        keys += 1
    assert compared >= 450
    assert keys >= 450


def test_every_key_can_be_used_but_the_one_with_explicit_curve_parameters() -> None:
    refused = {}
    for certificate in everything():
        try:
            canonical_spki(certificate)
        except PkiError as error:
            refused[certificate.subject.text] = error.code
    assert refused == {EXPLICIT_CURVE: "key-unsupported"}
