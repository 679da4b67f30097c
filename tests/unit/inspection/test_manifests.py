"""Manifests made here: signatures by keys of our own, hostile XML, and what a profile does not allow."""

import base64
import json
import lzma
import zlib
from hashlib import sha256

import cbor2
import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from attestd.inspection.corim import inspect_corim
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.rim import inspect_rim
from attestd.inspection.xmlcanonical import canonical
from attestd.inspection.xmlread import read_xml
from inspecting import refusal_of

AT = 1_795_350_000
COMID = {1: {0: "a tag"}, 4: {0: [[{0: {1: "ACME", 2: "Box"}}, [{0: 4, 1: {2: [[1, bytes(32)]]}}]]]}}


def manifest(comid=None, **changes):
    tags = [cbor2.CBORTag(506, cbor2.dumps(COMID if comid is None else comid))]
    return cbor2.dumps(cbor2.CBORTag(501, {0: "a manifest", 1: tags, **changes.get("fields", {})}))


def signed(key, payload):
    protected = cbor2.dumps({1: -7, 3: "application/rim+cbor"})
    message = cbor2.dumps(["Signature1", protected, b"", payload])
    signature = jwt.algorithms.ECAlgorithm(hashes.SHA256).sign(message, key)
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


def jwk_of(key):
    return jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()).encode()


def test_a_signed_corim_holds_under_its_key_and_under_no_other():
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    data = signed(key, manifest())

    verdicts = [inspect_corim(data, jwk, at=AT).signature_valid for jwk in (jwk_of(key), jwk_of(other), None)]

    assert verdicts == [True, False, None]
    assert inspect_corim(data, jwk_of(other), at=AT).document()["reasons"] == ["corim-signature"]


@pytest.mark.parametrize(
    ("comid", "code"),
    [
        ({}, "comid-malformed"),
        ({1: {0: "x"}, 4: {}}, "comid-malformed"),
        ({1: {0: ""}, 4: {0: []}}, "comid-malformed"),
        ({1: {0: "x"}, 4: {0: [[{}, []]]}}, "comid-malformed"),
        ({1: {0: "x"}, 4: {0: [[{0: {1: "A"}}, [{1: {}}]]]}}, "comid-malformed"),
        ({1: {0: "x"}, 4: {0: [[{0: {1: "A"}}, [{1: {2: [[1, bytes(31)]]}}]]]}}, "comid-malformed"),
        ({1: {0: "x"}, 4: {0: [[{9: 1}, [{1: {1: 1}}]]]}}, "comid-malformed"),
    ],
)
def test_a_comid_that_says_nothing_or_the_impossible_is_refused(comid, code):
    assert refusal_of(lambda: inspect_corim(manifest(comid), at=AT)) == code


def test_an_expired_corim_says_so():
    report = inspect_corim(manifest(fields={4: {1: cbor2.CBORTag(1, AT - 1)}}), at=AT)

    assert any("expired" in note for note in report.notes)


def test_an_unknown_profile_is_judged_by_its_form_alone_and_says_so():
    report = inspect_corim(manifest(fields={3: cbor2.CBORTag(32, "tag:example.com,2026:own")}), at=AT)

    assert (report.accepted, any("profile" in note for note in report.notes)) == (True, True)


CLASS = {0: {1: "ACME", 2: "Box"}}
STATE = [CLASS, [{1: {2: [[1, bytes(32)]]}, 2: [cbor2.CBORTag(554, "a key")]}]]
CONDITIONAL = {
    "a series": (
        {8: [[STATE, [[[{1: {1: cbor2.CBORTag(553, 3)}}], [{1: {11: "good"}}]]]]]},
        "security version at least 3 then name good",
    ),
    "conditions": ({10: [[[STATE], [[CLASS, [{1: {0: {0: "1.0"}}}]]]]]}, "if one of 1 keys signed then version 1.0"),
    "a membership": ({5: [[CLASS, [{0: {1: "Other"}}]]]}, "Other"),
    "a dependency": ({4: [["one", ["another"]]]}, "another"),
    "software": ({6: [[CLASS, ["a swid tag"]]]}, "software tags a swid tag"),
    "what nobody knows": ({77: [["a", "triple"]]}, "triple"),
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_every_kind_of_triple_is_said_in_words(name):
    triples, words = CONDITIONAL[name]

    report = inspect_corim(manifest({1: {0: "x"}, 4: triples}), at=AT)

    assert any(words in said for _, _, said in report.comids[0].statements)


VALUES = {
    "a flag": ({3: {3: False, 1: True}}, "not-debug"),
    "an address": ({7: bytes(4)}, "address 0.0.0.0"),
    "a range": ({15: cbor2.CBORTag(564, [1, None])}, "between 1 and unbounded"),
    "a masked value": ({4: cbor2.CBORTag(563, [b"\1", b"\xff"])}, "raw value 01 under mask ff"),
    "a register": ({14: {3: [[1, bytes(32)]]}}, "register 3 sha256:00"),
    "a number that nobody knows": ({-70000: [1]}, "value -70000 [1]"),
}


@pytest.mark.parametrize("name", VALUES)
def test_every_value_of_a_measurement_is_said_in_words(name):
    values, words = VALUES[name]
    comid = {1: {0: "x"}, 4: {0: [[CLASS, [{1: values}]]]}}

    assert words in inspect_corim(manifest(comid), at=AT).comids[0].statements[0][2]


def test_a_list_of_tags_is_shown_and_one_without_tags_is_refused():
    def listed(value):
        return cbor2.dumps(cbor2.CBORTag(501, {0: "m", 1: [cbor2.CBORTag(508, cbor2.dumps(value))]}))

    tags = inspect_corim(listed({0: {0: "all"}, 1: [{0: "one"}, {0: bytes(16)}], 2: {}}), at=AT).document()["tags"]

    assert tags == [{"kind": "cotl", "id": "all", "active": ["one", "00" * 16]}]
    assert refusal_of(lambda: inspect_corim(listed({0: {0: "all"}, 1: []}), at=AT)) == "cotl-malformed"


def test_e06_what_many_lines_repeat_is_cut():
    long = "x" * 100_000
    comid = {1: {0: "x"}, 4: {0: [[{0: {1: long}}, [{1: {11: "a"}}] * 5_000]]}}

    report = inspect_corim(manifest(comid), at=AT)

    assert sum(map(len, report.comids[0].statements[0])) < 1_000
    assert len(json.dumps(report.document())) < 5_000_000


def test_files_directly_in_a_coswids_directory_are_read():
    tag = {0: "t", 1: "n", 2: {31: "ACME", 33: 1}, 6: {16: {24: "rim", 17: {24: "log.bin", 7: [1, bytes(32)]}}}}

    assert inspect_rim(cbor2.dumps(tag), None, at=AT).tags[0].files[0].path == "rim/log.bin"


def test_measurements_of_a_component_are_no_files():
    space = 'xmlns:S="http://www.w3.org/2001/04/xmlenc#sha384"'
    resource = f'<Resource type="Measurement" index="1" {space} S:Hash0="{{0}}" S:Hash1="{{0}}"/>'
    tag = f"<SoftwareIdentity name='x' tagId='y'><Payload>{resource.format('ab' * 48)}</Payload></SoftwareIdentity>"

    (found,) = inspect_rim(tag.encode(), None, at=AT).tags[0].files

    assert (found.kind, found.hashes) == ("Measurement", ("sha384:" + "ab" * 48,) * 2)


HOSTILE = {
    "entities": b'<!DOCTYPE a [<!ENTITY b "c">]><SoftwareIdentity>&b;</SoftwareIdentity>',
    "a document type": b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><SoftwareIdentity/>',
    "an instruction": b"<SoftwareIdentity><?php x ?></SoftwareIdentity>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_e06_xml_that_does_more_than_say_something_is_refused(name):
    assert refusal_of(lambda: inspect_rim(HOSTILE[name], None, at=AT)) == "xml-forbidden"


def test_e06_deep_xml_is_refused():
    assert refusal_of(lambda: inspect_rim(b"<SoftwareIdentity>" * 100_000, None, at=AT)) == "xml-malformed"


def test_another_documents_root_is_refused():
    assert refusal_of(lambda: inspect_rim(b"<html/>", None, at=AT)) == "rim-malformed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<a  b='1' a='2'/>", '<a a="2" b="1"></a>'),
        ("<a>1 &amp; 2 &#13; &lt; &gt;</a>", "<a>1 &amp; 2 &#xD; &lt; &gt;</a>"),
        ("<a b='&quot;&#10;'/>", '<a b="&quot;&#xA;"></a>'),
        ("<a><!-- no --><![CDATA[<]]></a>", "<a>&lt;</a>"),
        ("<a xmlns='u'><b xmlns='u'/></a>", '<a xmlns="u"><b></b></a>'),
        ("<a xmlns='u'><b xmlns=''/></a>", '<a xmlns="u"><b xmlns=""></b></a>'),
        ("<a xmlns:z='1' xmlns:b='2' z:k='x' b:k='y' k='w'/>", '<a xmlns:b="2" xmlns:z="1" k="w" z:k="x" b:k="y"></a>'),
    ],
)
def test_the_canonical_form_is_that_of_the_standard(text, expected):
    assert canonical(read_xml(text.encode())).decode() == expected


def test_an_inner_element_takes_namespaces_and_language_from_around_it():
    (inner,) = read_xml(b"<a xmlns='u' xmlns:p='v' xml:lang='en'><p:b/></a>").elements()

    assert canonical(inner) == b'<p:b xmlns="u" xmlns:p="v" xml:lang="en"></p:b>'


DSIG = "http://www.w3.org/2000/09/xmldsig#"


def swid(key, *, method="rsa-sha256", uri=""):
    """Return a tag signed by a key of our own, in the form that the reader verifies."""
    body = "<SoftwareIdentity name='x' tagId='y'>{}</SoftwareIdentity>"
    digest = base64.b64encode(sha256(canonical(read_xml(body.format("").encode()))).digest()).decode()
    info = (
        f"<SignedInfo><CanonicalizationMethod Algorithm='http://www.w3.org/TR/2001/REC-xml-c14n-20010315'/>"
        f"<SignatureMethod Algorithm='http://www.w3.org/2001/04/xmldsig-more#{method}'/><Reference URI='{uri}'><Transforms>"
        f"<Transform Algorithm='{DSIG}enveloped-signature'/></Transforms><DigestMethod "
        f"Algorithm='http://www.w3.org/2001/04/xmlenc#sha256'/><DigestValue>{digest}</DigestValue></Reference></SignedInfo>"
    )
    whole = f"<Signature xmlns='{DSIG}'>{info}<SignatureValue>{{}}</SignatureValue>{_key_info(key)}</Signature>"
    unsigned = read_xml(body.format(whole.format("")).encode())
    message = canonical(unsigned.elements("Signature")[0].elements("SignedInfo")[0])
    octets = base64.b64encode(key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()
    return body.format(whole.format(octets)).encode()


def _key_info(key):
    numbers = key.public_key().public_numbers()
    modulus = base64.b64encode(numbers.n.to_bytes(256, "big")).decode()
    value = f"<RSAKeyValue><Modulus>{modulus}</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>"
    return f"<KeyInfo><KeyValue>{value}</KeyValue></KeyInfo>"


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_a_swid_tag_signed_here_holds(rsa_key):
    assert inspect_rim(swid(rsa_key), None, at=AT).signature_valid is True


@pytest.mark.parametrize(
    "changes", [{"method": "rsa-sha1"}, {"method": "hmac-sha256"}, {"uri": "#part"}, {"uri": "http://example.com/"}]
)
def test_a_signature_of_another_form_is_not_verified_and_refused(rsa_key, changes):
    report = inspect_rim(swid(rsa_key, **changes), None, at=AT)

    assert (report.signature_valid, report.document()["reasons"]) == (None, ["rim-signature-form"])


def test_two_signatures_are_no_signature(rsa_key):
    data = swid(rsa_key)
    start, end = data.index(b"<Signature "), data.index(b"</Signature>") + len(b"</Signature>")

    report = inspect_rim(data[:end] + data[start:end] + data[end:], None, at=AT)

    assert (report.signature_valid, report.document()["reasons"]) == (None, ["rim-signature-form"])


def test_a_key_that_is_not_json_is_refused():
    key = ec.generate_private_key(ec.SECP256R1())

    with pytest.raises(InspectionRefused):
        inspect_corim(signed(key, manifest()), json.dumps([]).encode(), at=AT)


USWID = b"SBOM" + bytes.fromhex("d6ba2eaca3e67a52aaee3baf")
COSWID = {0: "t", 1: "n", 2: {31: "ACME", 33: 1}, 5: {45: "96.00", 52: "Box"}}


def uswid(packed, *, version=1, more=b""):
    return (
        USWID
        + bytes((version,))
        + (23 + len(more)).to_bytes(2, "little")
        + len(packed).to_bytes(4, "little")
        + more
        + packed
    )


FORMS = {
    "plain": uswid(cbor2.dumps(COSWID)),
    "zlib": uswid(zlib.compress(cbor2.dumps(COSWID)), version=2, more=b"\1"),
    "zlib by its name": uswid(zlib.compress(cbor2.dumps(COSWID)), version=3, more=b"\1\1"),
    "LZMA": uswid(lzma.compress(cbor2.dumps(COSWID)), version=3, more=b"\1\2"),
    "inside of an image": b"\xff" * 4096 + uswid(cbor2.dumps(COSWID)) + b"\xff" * 512,
    "a sequence": cbor2.dumps(COSWID),
}


@pytest.mark.parametrize("form", FORMS)
def test_software_identities_are_read_wherever_firmware_has_them(form):
    twice = FORMS[form] + FORMS[form]

    assert [tag.name for tag in inspect_rim(twice, None, at=AT).tags] == ["n", "n"]


@pytest.mark.parametrize("pack", [zlib.compress, lzma.compress])
def test_e06_a_uswid_that_grows_beyond_all_bounds_is_refused(pack):
    data = uswid(pack(bytes(64 << 20)), version=3, more=b"\1" + (b"\1" if pack is zlib.compress else b"\2"))

    assert refusal_of(lambda: inspect_rim(data, None, at=AT)) == "rim-size"


def test_e06_many_uswids_have_the_bounds_of_one_manifest_together():
    files = [{24: "f"}] * 30_000
    one = uswid(zlib.compress(cbor2.dumps({0: "t", 1: "n", 6: {17: files}})), version=2, more=b"\1")

    assert len(inspect_rim(one, None, at=AT).tags) == 1
    assert refusal_of(lambda: inspect_rim(one * 8, None, at=AT)) == "cbor-malformed"  # too many items
    assert refusal_of(lambda: inspect_rim(one * 16, None, at=AT)) == "cbor-size"


def test_what_a_coswid_says_of_its_software_is_shown():
    assert inspect_rim(cbor2.dumps(COSWID), None, at=AT).document()["meta"] == {
        "colloquial-version": "96.00",
        "product": "Box",
    }
