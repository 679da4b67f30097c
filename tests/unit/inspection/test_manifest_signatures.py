"""Signatures of manifests in every form that makers write, and what must not pass for one."""

import base64
import json
import re
from hashlib import sha1, sha256

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import manifest_forge as forge
from attestd.inspection.corim import inspect_corim
from attestd.inspection.keyfile import read_keys
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.rim import inspect_rim
from attestd.inspection.xmlcanonical import FORMS, Form, canonical
from attestd.inspection.xmlread import read_xml
from cert_forge import ec_key, make, rsa_key
from inspecting import refusal_of

AT = forge.AT
KEY = forge.SIGNER.key
TAG = forge.tag(forge.listed("sh", b"a shell", directory="/usr/bin"))


def spki(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verdict(data, *, key=None, store=None):
    report = inspect_rim(data, store, spki(key) if key is not None else None, at=AT)
    return report.signature_valid, report.document()["vouched"], report.document()["reasons"]


# --- XML ---


@pytest.mark.parametrize("form", FORMS)
def test_every_canonical_form_is_verified(form):
    data = forge.signed_tag(TAG, KEY, form=form)

    assert verdict(data, key=KEY) == (True, True, [])
    assert verdict(data.replace(b"/usr/bin", b"/usr/sbin"), key=KEY) == (False, False, ["rim-signature"])


def test_the_exclusive_form_leaves_unused_namespaces_out_and_keeps_the_listed_ones():
    root = read_xml(b"<a xmlns='u' xmlns:p='v' xmlns:q='w' xml:lang='en'><p:b x='1'/></a>")
    (inner,) = root.elements()

    assert canonical(inner, Form(exclusive=True)) == b'<p:b xmlns:p="v" x="1"></p:b>'
    listed = canonical(inner, Form(exclusive=True, prefixes=frozenset({"q", ""})))
    assert listed == b'<p:b xmlns="u" xmlns:p="v" xmlns:q="w" x="1"></p:b>'


def test_the_exclusive_form_takes_an_inherited_default_back_once():
    (inner,) = read_xml(b"<a xmlns='u'><b xmlns=''><c/></b></a>").elements()

    assert canonical(inner, Form(exclusive=True)) == b"<b><c></c></b>"


@pytest.mark.parametrize(("form", "kept"), [(Form(), b"<a>xy</a>"), (Form(comments=True), b"<a>x<!-- c -->y</a>")])
def test_comments_stay_where_the_form_keeps_them(form, kept):
    assert canonical(read_xml(b"<a>x<!-- c -->y</a>"), form) == kept


def test_a_comment_in_the_document_changes_nothing_of_what_is_signed():
    data = forge.signed_tag(TAG, KEY).replace(b"<Entity", b"<!-- said later --><Entity")

    assert verdict(data, key=KEY)[0] is True


def test_a_document_that_was_indented_after_it_was_signed_still_holds_and_says_so():
    data = re.sub(rb">(?=<[^/])", b">\n    ", forge.signed_tag(TAG, KEY))

    report = inspect_rim(data, None, spki(KEY), at=AT)

    assert report.signature_valid is True
    assert any("indented-since" in one for one in report.document()["deviations"])


def test_text_is_no_indentation():
    data = forge.signed_tag(TAG, KEY).replace(b"<Payload>", b"<Payload>.")

    assert verdict(data, key=KEY)[0] is False


def test_a_reference_by_the_roots_identifier_covers_the_document():
    data = forge.signed_tag(forge.tag(attributes=' Id="all"'), KEY, uri="#all")

    assert verdict(data, key=KEY) == (True, True, [])


WRAPPED = {
    "a part of the document": ('<File Id="part" name="x"/>', "#part"),
    "nothing": ("", "#nobody"),
    "two of one name": ('<File Id="all"/><File ID="all"/>', "#all"),
    "something outside": ("", "http://example.com/tag.xml"),
    "a file": ("", "file:///etc/passwd"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_signature_over_something_else_than_the_document_is_none(name):
    payload, uri = WRAPPED[name]
    data = forge.signed_tag(forge.tag(payload), KEY, uri=uri)

    assert verdict(data, key=KEY) == (None, False, ["rim-signature-form"])


def timed(when=b"2026-01-01"):
    """Return a tag whose signature also covers a time inside of it, and the time's bytes."""
    objects = f'<Object><SignatureProperties><SignatureProperty Id="TST" when="{when.decode()}"/></SignatureProperties></Object>'
    inner = f'<SignatureProperty xmlns="{forge.DSIG}" xmlns:S="{forge.SHA256}" Id="TST" when="2026-01-01"></SignatureProperty>'
    digest = base64.b64encode(sha256(inner.encode()).digest()).decode()
    reference = f'<Reference URI="#TST"><DigestMethod Algorithm="{forge.SHA256}"/><DigestValue>{digest}</DigestValue></Reference>'
    return forge.signed_tag(TAG, KEY, objects=objects, references=reference)


def test_a_signature_may_also_cover_what_lies_in_itself():
    assert verdict(timed(), key=KEY) == (True, True, [])
    assert verdict(timed().replace(b'when="2026', b'when="2027'), key=KEY)[0] is False


def test_the_document_has_to_be_among_what_is_signed():
    data = timed()
    first = data.index(b'<Reference URI=""')
    end = data.index(b"</Reference>", first) + len(b"</Reference>")

    assert verdict(data[:first] + data[end:], key=KEY) == (None, False, ["rim-signature-form"])


def test_a_signature_over_sha1_is_told_and_vouches_for_nothing():
    data = forge.signed_tag(TAG, KEY, method=f"{forge.MORE}ecdsa-sha1")

    report = inspect_rim(data, None, spki(KEY), at=AT)

    assert (report.signature_valid, report.document()["vouched"]) == (True, False)
    assert any("sha1-signature" in one for one in report.document()["deviations"])


def test_a_digest_of_sha1_is_told_as_well():
    data = forge.signed_tag(TAG, KEY, digest=f"{forge.DSIG}sha1")
    whole = canonical(read_xml(TAG.format(signature="").encode()))
    stated = base64.b64encode(sha256(whole).digest())
    weak = data.replace(stated, base64.b64encode(sha1(whole).digest()))

    assert verdict(weak, key=KEY)[1:] == (False, ["rim-signature"])  # SignedInfo was changed with it
    assert any("sha1" in one for one in inspect_rim(weak, None, spki(KEY), at=AT).document()["deviations"]) is True


@pytest.mark.parametrize(
    "key_info",
    [
        "<KeyName>{ski}</KeyName>",
        "<KeyName>#{ski}</KeyName>",
        "<X509Data><X509SKI>{b64}</X509SKI></X509Data>",
        "<X509Data><X509SubjectName>CN=ACME RIM signer</X509SubjectName></X509Data>",
        "",
    ],
)
def test_a_signers_certificate_in_the_bundle_is_found_by_what_the_signature_calls_it(key_info):
    from attestd_pki import extensions
    from attestd_pki.chain import TrustStore

    signer = forge.certificate()
    ski = extensions.subject_key_identifier(signer)
    named = key_info.format(ski=ski.hex(), b64=base64.b64encode(ski).decode())
    bundle = TrustStore.of([make(forge.ROOT)], [signer])

    assert verdict(forge.signed_tag(TAG, KEY, key_info=named), store=bundle) == (True, True, [])


def test_certificates_that_come_along_lead_to_an_anchor():
    middle = forge.Plan("ACME between", ec_key(51), forge.CA, identifiers=True)
    chain = [make(forge.SIGNER, middle), make(middle, forge.ROOT)]
    data = forge.signed_tag(TAG, KEY, certificates=chain)

    assert verdict(data, store=forge.store()) == (True, True, [])
    assert verdict(data, store=forge.store(forge.STRANGER)) == (True, False, ["chain-issuer-missing"])


def test_a_key_in_the_document_vouches_for_nothing():
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    value = (
        '<KeyValue><ECKeyValue xmlns="http://www.w3.org/2009/xmldsig11#"><NamedCurve URI="urn:oid:1.2.840.10045.3.1.7"/>'
        f"<PublicKey>{base64.b64encode(point).decode()}</PublicKey></ECKeyValue></KeyValue>"
    )

    assert verdict(forge.signed_tag(TAG, KEY, key_info=value)) == (True, False, [])


@pytest.mark.parametrize(
    "change",
    [
        (b'enveloped-signature"/>', b'nothing"/>'),
        (b"xmldsig-more#ecdsa-sha256", b"xmldsig-more#hmac-sha256"),
        (b"<SignatureValue>", b"<SignatureValue>!"),
    ],
)
def test_a_form_that_is_not_known_is_not_verified(change):
    assert verdict(forge.signed_tag(TAG, KEY).replace(*change, 1), key=KEY) == (None, False, ["rim-signature-form"])


def test_e06_many_namespaces_are_refused():
    declared = " ".join(f"xmlns:n{number}='u'" for number in range(100))

    assert refusal_of(lambda: read_xml(f"<a {declared}/>".encode())) == "xml-malformed"


# --- COSE ---

CORIM = forge.corim((506, forge.comid(("PCR4", {2: [[1, bytes(range(32))]]}))))


def cose_signed(key, algorithm):
    """Return a CoRIM signed by any kind of key."""
    protected = cbor2.dumps({1: algorithm, 3: "application/rim+cbor"})
    message = cbor2.dumps(["Signature1", protected, b"", CORIM])
    digest = {
        -7: hashes.SHA256(),
        -35: hashes.SHA384(),
        -36: hashes.SHA512(),
        -37: hashes.SHA256(),
        -38: hashes.SHA384(),
    }.get(algorithm)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        octets = key.sign(message)
    elif isinstance(key, rsa.RSAPrivateKey):
        octets = key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    else:
        octets = forge.raw_ecdsa(key, message, digest)
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, CORIM, octets]))


KINDS = {
    "P-256": (ec_key(61), -7),
    "P-384": (ec_key(62, ec.SECP384R1()), -35),
    "P-521": (ec_key(63, ec.SECP521R1()), -36),
    "RSA": (rsa_key(2048), -37),
    "RSA with SHA-384": (rsa_key(2048), -38),
    "Ed25519": (ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))), -8),
}


def key_forms(key):
    """Return the public key in every form that a file may have."""
    public = key.public_key()
    yield public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    yield public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    numbers = None if isinstance(key, ed25519.Ed25519PrivateKey) else public.public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        octets = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.n, numbers.e)]
        members, labels = (
            {"kty": "RSA", "n": _url(octets[0]), "e": _url(octets[1])},
            {1: 3, -1: octets[0], -2: octets[1]},
        )
    elif numbers is None:
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        members, labels = {"kty": "OKP", "crv": "Ed25519", "x": _url(raw)}, {1: 1, -1: 6, -2: raw}
    else:
        size = (key.key_size + 7) // 8
        x, y = (number.to_bytes(size, "big") for number in (numbers.x, numbers.y))
        members = {"kty": "EC", "crv": f"P-{key.key_size}", "x": _url(x), "y": _url(y)}
        curve = {256: 1, 384: 2, 521: 3}[key.key_size]
        labels = {1: 2, -1: curve, -2: x, -3: y}
        yield cbor2.dumps({1: 2, -1: curve, -2: x, -3: bool(numbers.y & 1)})
    yield json.dumps(members).encode()
    yield json.dumps({"keys": [members]}).encode()
    yield cbor2.dumps(labels)
    yield cbor2.dumps([labels])


def _url(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_corim_is_verified_by_a_key_in_any_form(kind):
    key, algorithm = KINDS[kind]
    data = cose_signed(key, algorithm)

    assert {inspect_corim(data, form, at=AT).signature_valid for form in key_forms(key)} == {True}
    assert inspect_corim(data, spki(ec_key(99)), at=AT).document()["reasons"] == ["corim-signature"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"keys": []}',
        b"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----",
        b"\x30\x00",
        cbor2.dumps({1: 4, -1: b"secret"}),
        json.dumps({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}).encode(),
        json.dumps({"kty": "RSA", "n": "_" * 8000, "e": "AQAB"}).encode(),
    ],
)
def test_what_is_no_public_key_is_refused(data):
    with pytest.raises(InspectionRefused):
        read_keys(data)


def test_a_certificate_in_the_header_leads_to_an_anchor():
    data = forge.cose(CORIM, KEY, certificates=[forge.certificate()])

    report = inspect_corim(data, None, forge.store(), at=AT)
    stranger = inspect_corim(data, None, forge.store(forge.STRANGER), at=AT)

    assert (report.document()["vouched"], report.accepted) == (True, True)
    assert (stranger.document()["vouched"], stranger.document()["reasons"]) == (False, ["chain-issuer-missing"])


def test_a_certificate_in_the_unprotected_header_is_held_against_the_anchor_as_well():
    other = forge.cose(CORIM, KEY, unprotected={33: make(forge.STRANGER).der})
    own = forge.cose(CORIM, KEY, unprotected={33: forge.certificate().der})

    verdicts = [inspect_corim(one, None, forge.store(), at=AT).document()["vouched"] for one in (other, own)]

    assert verdicts == [False, True]


@pytest.mark.parametrize(
    ("header", "code"),
    [({1: -65535}, "corim-algorithm"), ({1: "ES256"}, "corim-algorithm"), ({2: [99], 99: 1}, "corim-critical")],
)
def test_a_header_that_nobody_should_accept_is_refused(header, code):
    data = forge.cose(CORIM, KEY, header=header)

    assert inspect_corim(data, spki(KEY), at=AT).document()["reasons"] == [code]


def cose_with(part, change):
    """Return a signed CoRIM with one of its four parts changed."""
    parts = list(cbor2.loads(forge.cose(CORIM, KEY)).value)
    parts[part] = change(parts[part])
    return cbor2.dumps(cbor2.CBORTag(18, parts))


def test_a_signature_of_another_length_is_none():
    data = cose_with(3, lambda octets: octets + b"\0")

    assert inspect_corim(data, spki(KEY), at=AT).signature_valid is False


def test_a_payload_that_is_elsewhere_is_told():
    data = cose_with(2, lambda _: None)

    assert refusal_of(lambda: inspect_corim(data, None, at=AT)) == "corim-malformed"


def test_a_signed_coswid_is_verified():
    data = forge.cose(cbor2.dumps(cbor2.CBORTag(1398229316, forge.coswid(("ls", b"x")))), KEY)

    report = inspect_rim(data, None, spki(KEY), at=AT)

    assert (report.kind, report.signature_valid, report.tags[0].files[0].path) == ("signed-coswid", True, "/usr/bin/ls")
    assert inspect_rim(data, None, spki(ec_key(99)), at=AT).document()["reasons"] == ["coswid-signature"]


def test_the_claims_of_a_web_token_say_who_signed_and_for_how_long():
    data = forge.cose(CORIM, KEY, header={15: {1: "ACME Ltd", 4: AT - 1}})

    report = inspect_corim(data, spki(KEY), at=AT)

    assert (report.signer, report.validity) == ("ACME Ltd", (None, AT - 1))
    assert any("expired" in note for note in report.notes)


def several(*keys):
    """Return a CoSWID signed by several keys in one COSE_Sign."""
    payload = cbor2.dumps(cbor2.CBORTag(1398229316, forge.coswid(("ls", b"x"))))
    body, own = cbor2.dumps({3: "application/swid+cbor"}), cbor2.dumps({1: -7})
    message = cbor2.dumps(["Signature", body, own, b"", payload])
    signers = [[own, {}, forge.raw_ecdsa(key, message)] for key in keys]
    return cbor2.dumps(cbor2.CBORTag(98, [body, {}, payload, signers]))


def test_of_several_signers_one_that_somebody_trusts_is_enough():
    data = several(ec_key(70), KEY)

    assert verdict(data, key=KEY) == (True, True, [])
    assert verdict(data, key=ec_key(99)) == (False, False, ["coswid-signature"])
    assert verdict(data.replace(b"tools", b"fools"), key=KEY)[0] is False


def test_a_signer_may_not_be_passed_off_as_the_only_one():
    item = cbor2.loads(several(KEY))
    single = cbor2.dumps(cbor2.CBORTag(18, [item.value[3][0][0], {}, item.value[2], item.value[3][0][2]]))

    assert verdict(single, key=KEY)[0] is False
