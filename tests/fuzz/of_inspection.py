"""Files of strangers that `attestd inspect` shows: the readers of CBOR and XML, and every report."""

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import cert_forge
import tpm_structures as made
from attestd.appraisal.ear import PROFILE, EarKey, jwk, sign_ear
from attestd.errors import Refused
from attestd.inspection import celjson, celtlv, windows
from attestd.inspection.authority import Authorities
from attestd.inspection.cborread import plain_json, read_cbor, read_cbor_sequence
from attestd.inspection.celjson import looks_like_cbor, looks_like_json
from attestd.inspection.celtlv import looks_like_tlv
from attestd.inspection.certificates import NOBODY, inspect_certificate, inspect_ek, read_bundle, read_certificates
from attestd.inspection.claimed import claimed_by
from attestd.inspection.comid import read_comid
from attestd.inspection.contents import hex_excerpt, readable
from attestd.inspection.corim import inspect_corim, read_corim
from attestd.inspection.diagnostic import read_diagnostic
from attestd.inspection.difference import inspect_difference, read_boot
from attestd.inspection.ear import inspect_ear
from attestd.inspection.eventlog import inspect_event_log, read_any_log, unarmoured
from attestd.inspection.evidence import NEEDED, OPTIONAL, inspect_evidence, prove_files
from attestd.inspection.keyfile import read_keys
from attestd.inspection.kinds import hint_for, kind_of
from attestd.inspection.logyaml import looks_like_rendering, read_rendering
from attestd.inspection.platform import inspect_platform
from attestd.inspection.refused import InspectionRefused, read_object
from attestd.inspection.registers import read_registers
from attestd.inspection.rim import inspect_rim, read_rim
from attestd.inspection.runtime import inspect_ima
from attestd.inspection.statements import inspect_certify, inspect_quote, read_statement
from attestd.inspection.summaries import certificate_name, database_text
from attestd.inspection.swid import read_coswid
from attestd.inspection.wrapped import certificates_in, peeled
from attestd.inspection.xmlcanonical import canonical
from attestd.inspection.xmlread import read_xml, read_xml_unindented
from attestd.tpm.errors import Malformed
from attestd_agent.lab.firmware import BootImage
from attestd_pki.errors import PkiError
from fuzz.mutation import BETWEEN
from fuzz.of_pki import certificates, platforms, wrapped
from fuzz.of_tpm import each, lists, logs, tagged
from fuzz.target import Target
from softchip import SoftChip

_AT: Final = 1_795_350_000
_SIGNING: Final = EarKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
_JWK: Final = json.dumps(jwk(_SIGNING.private.public_key())).encode()
_FILES: Final = (*NEEDED, *OPTIONAL, "nv_01.der")
_CERTIFICATES: Final = ("cert/**/*", "malformed/x509/*")
_CBOR: Final = ("corim/*/*", "rim/coswid*/*", "eat/**/*")


# --- Seeds ----------------------------------------------------------------------------------------------------------------

_COMID: Final = {
    1: {0: "a tag", 1: 3},
    2: [{0: "ACME", 1: "https://example.com", 2: [0, 1]}],
    4: {
        0: [
            [
                {0: {0: cbor2.CBORTag(37, bytes(16)), 1: "ACME", 2: "Box"}},
                [{0: 4, 1: {2: [[1, bytes(32)]], 1: cbor2.CBORTag(552, 3)}}],
            ]
        ],
        3: [[{1: cbor2.CBORTag(550, b"\2" + bytes(32))}, [cbor2.CBORTag(554, "-----BEGIN PUBLIC KEY-----")]]],
    },
}
_COSWID: Final = {
    0: "a tag",
    1: "a name",
    12: 1,
    13: "1.0",
    2: {31: "ACME", 33: [1, 2]},
    6: {16: {24: "dir", 26: {17: {24: "f", 20: 5, 7: [1, bytes(32)]}}}, 17: [{24: "g", 7: [1, bytes(32)]}]},
}
_SWID: Final = b"""<?xml version="1.0" encoding="UTF-8"?>
<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:SHA256="http://www.w3.org/2001/04/xmlenc#sha256"
 name="BIOS" tagId="b" version="1"><Entity name="ACME" role="softwareCreator tagCreator"/><Meta product="x" rim:x="y"/>
<Payload><Directory name="d"><File name="f" size="5" SHA256:hash="%s"/></Directory></Payload>
<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo>
<CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/>
<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><Reference URI="">
<Transforms><Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/></Transforms>
<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue>%s</DigestValue></Reference></SignedInfo>
<SignatureValue>%s</SignatureValue><KeyInfo><KeyName>k</KeyName><X509Data><X509Certificate>%s</X509Certificate></X509Data><KeyValue>
<RSAKeyValue><Modulus>%s</Modulus><Exponent>AQAB</Exponent></RSAKeyValue></KeyValue></KeyInfo></Signature></SoftwareIdentity>"""
_APPRAISAL: Final = {"ear_status": "affirming", "ear_trustworthiness_vector": {"executables": 2, "hardware": -32}}
_CLAIMS: Final[dict[str, Any]] = {
    "eat_profile": PROFILE,
    "iat": _AT,
    "ear_verifier_id": {"developer": "https://example.com", "build": "1"},
    "submods": {"platform": _APPRAISAL},
}


def _comids() -> Iterator[bytes]:
    yield cbor2.dumps(_COMID)
    yield cbor2.dumps(cbor2.CBORTag(506, cbor2.dumps(_COMID)))


def _corims() -> Iterator[bytes]:
    manifest = {0: "a manifest", 1: [cbor2.CBORTag(506, cbor2.dumps(_COMID)), cbor2.CBORTag(505, cbor2.dumps(_COSWID))]}
    manifest |= {
        3: cbor2.CBORTag(32, "http://example.com/psa/iot/1"),
        4: {0: cbor2.CBORTag(1, _AT), 1: cbor2.CBORTag(1, _AT + 9)},
    }
    plain = cbor2.dumps(cbor2.CBORTag(501, manifest))
    yield plain
    protected = cbor2.dumps({1: -7, 3: "application/rim+cbor", 8: cbor2.dumps({0: {0: "ACME"}})})
    yield cbor2.dumps(cbor2.CBORTag(18, [protected, {}, plain, bytes(64)]))


def _coswids() -> Iterator[bytes]:
    plain = cbor2.dumps(cbor2.CBORTag(1398229316, _COSWID))
    yield plain
    yield cbor2.dumps(_COSWID)
    head = b"SBOM" + bytes.fromhex("d6ba2eaca3e67a52aaee3baf02")
    yield head + (24).to_bytes(2, "little") + len(plain).to_bytes(4, "little") + b"\0" + plain


def manifests() -> Iterator[bytes]:
    """Return one of each kind: CoRIM, CoSWID, uSWID, SWID."""
    yield from (*_corims(), *_coswids(), *_swids())
    listed = {
        24: "bin",
        25: "/usr",
        26: {17: [{24: "app", 20: 5, 7: [1, bytes(32)]}, {24: "# a: b\n'\"", 7: [1, b"x" * 32]}]},
    }
    files = {**_COSWID, 6: {16: listed}}
    yield cbor2.dumps(files)
    registers = {1: {14: {7: [[1, bytes(32)]], "4": [[1, b"x" * 32]], 11: [[7, b"y" * 48]]}}}
    comid = {1: {0: "a tag"}, 4: {0: [[{0: {1: "ACME", 2: "Box"}}, [registers]]]}}
    yield cbor2.dumps(
        cbor2.CBORTag(
            501, {0: "m", 1: [cbor2.CBORTag(506, cbor2.dumps(comid)), cbor2.CBORTag(505, cbor2.dumps(files))]}
        )
    )


def _swids() -> Iterator[bytes]:
    signing = cert_forge.make(cert_forge.Plan("Signer", cert_forge.rsa_key(2048), cert_forge.CA))
    number = cert_forge.rsa_key(2048).public_key().public_numbers().n.to_bytes(256, "big")
    yield _SWID % (b"00" * 32, b64encode(bytes(32)), b64encode(bytes(256)), b64encode(signing.der), b64encode(number))
    yield b'<SoftwareIdentity name="n" tagId="t"><Payload><File name="f"/></Payload></SoftwareIdentity>'
    yield b"<a xml:lang='e' xmlns:b='c'><b:d e='&amp;&#9;'>text<![CDATA[x]]><!-- y --></b:d></a>"


def _ears() -> Iterator[bytes]:
    yield sign_ear(_CLAIMS, _SIGNING).encode()
    yield json.dumps(_CLAIMS).encode()
    yield json.dumps({**_CLAIMS, "exp": _AT, "submods": {"a": _APPRAISAL | {"ear_status": "warning"}}}).encode()
    numbers = {
        265: "tag:x",
        6: _AT,
        1004: {0: "https://example.com", 1: "1"},
        266: {"platform": {1000: 2, 1001: {1: 2, 4: 3}}},
    }
    yield cbor2.dumps(numbers)
    yield cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps({1: -8}), {}, cbor2.dumps(numbers), bytes(64)]))


def _tuples() -> Iterator[bytes]:
    key = cert_forge.ec_key(33)
    area = made.ecc_area(key)
    certified = made.attest_head(0x8017) + made.sized(made.name_of(area)) * 2
    for statement in (
        made.quote(),
        certified,
        made.attest_head(0x801A) + made.sized(made.name_of(area)) + made.sized(bytes(32)),
    ):
        document = {
            "attest": statement.hex(),
            "signature_tpmt": made.ecdsa_signature(key, statement).hex(),
            "ak_tpmt_public": area.hex(),
            "nonce": (b"n" * 32).hex(),
            "pubArea": area.hex(),
            "pcrs": {"sha256": {str(index): "00" * 32 for index in range(10)}},
        }
        yield json.dumps(document).encode()
    spki = cert_forge.make(cert_forge.LEAF, cert_forge.ROOT)
    yield json.dumps(
        {
            "attest": made.quote().hex(),
            "signature_raw": "00" * 256,
            "signature": "sha256",
            "ak_spki_der": spki.spki.hex(),
        }
    ).encode()
    yield json.dumps({"attest": made.quote().hex(), "x5c": [spki.der.hex()]}).encode()


def _registers() -> Iterator[bytes]:
    yield json.dumps({"sha256": {"0": "00" * 32, "23": "ff" * 32}, "sha1": {"7": "0x" + "00" * 20}}).encode()


def evidence() -> dict[str, bytes]:
    """Return the files of an evidence directory that holds."""
    key = cert_forge.ec_key(33)
    chip = SoftChip(now_s=_AT, ek=cert_forge.ec_key(44), ak=key, device_key=cert_forge.ec_key(55))
    quote = chip.quote(b"n" * 32)
    return {
        "quote.attest": quote.attest,
        "quote.sig": quote.signature,
        "ak.tpm2b_public": made.sized(chip.ak_area),
        "pcrs.json": json.dumps({"sha256": {str(one.index): one.value.hex() for one in chip.values()}}).encode(),
        "eventlog.bin": chip.event_log,
        "ek.tpm2b_public": made.sized(chip.ek_area),
        "nonce.bin": b"n" * 32,
        "nv_01.der": chip.certificates[0],
    }


def joined(files: dict[str, bytes]) -> bytes:
    """Return the files of a directory as one input: a byte for the name, the content, a mark between two."""
    return BETWEEN.join(bytes((_FILES.index(name),)) + content for name, content in files.items() if name in _FILES)


def _apart(data: bytes) -> dict[str, bytes]:
    return {_FILES[part[0] % len(_FILES)]: part[1:] for part in data.split(BETWEEN)[:16] if part}


def _directories() -> Iterator[bytes]:
    whole = evidence()
    yield joined(whole)
    yield joined(whole | {"ima.bin": next(iter(lists()))})
    yield joined({name: content for name, content in whole.items() if name in NEEDED})


def _canonical_logs() -> Iterator[bytes]:
    """Return canonical event logs: JSON sequence and list, CBOR, TLV."""
    word = b"enter-initrd"
    digest = sha256(word).digest()
    item: dict[str, Any] = {"recnum": 0, "pcr": 11, "digests": [{"hashAlg": "sha256", "digest": digest.hex()}]}
    item |= {"content_type": "systemd", "content": {"string": word.decode(), "eventType": "phase"}}
    event = {"event_type": "EV_SEPARATOR", "event_data": b64encode(bytes(4)).decode()}
    other = item | {"pcr": 7, "digests": {"sha256": digest.hex()}, "content_type": "pcclient_std", "content": event}
    yield b"\x1e" + json.dumps(item).encode() + b"\n\x1e" + json.dumps(other).encode() + b"\n"
    yield json.dumps([item, other]).encode()
    yield cbor2.dumps(
        [{0: 0, 1: 11, 3: [[11, digest]], 9: word.decode()}, {0: 1, 2: 9, 3: [[11, digest]], 80: {0: b"x"}}]
    )
    contents = (
        _tlv(5, _tlv(0, (4).to_bytes(4, "big")), _tlv(1, bytes(4))),
        _tlv(7, _tlv(0, b"ima-ng"), _tlv(1, made.ima_entry()[38:])),
        _tlv(80, _tlv(0, b"image")),
        _tlv(4, _tlv(1, _tlv(1, b"\1"))),
    )
    yield b"".join(
        _tlv(0, bytes((index,))) + _tlv(1, b"\x0b") + _tlv(3, _tlv(11, digest)) + one
        for index, one in enumerate(contents)
    )


def _tlv(kind: int, *values: bytes) -> bytes:
    return bytes((kind,)) + sum(map(len, values)).to_bytes(4, "big") + b"".join(values)


def _renderings() -> Iterator[bytes]:
    events = "".join(
        f"- EventNum: {number}\n  PCRIndex: {pcr}\n  EventType: {kind}\n  DigestCount: 1\n  Digests:\n"
        f'  - AlgorithmId: sha256\n    Digest: "{"ab" * 32}"\n  EventSize: 4\n  {event}\n'
        for number, (pcr, kind, event) in enumerate(
            (
                (0, "EV_NO_ACTION", "StartupLocality: 3"),
                (7, "EV_SEPARATOR", 'Event: "00000000"'),
                (4, "0x80000003", "Event:\n    a: b"),
            )
        )
    )
    yield f"---\nversion: 1\nevents:\n{events}pcrs:\n  sha256:\n    0  : 0x00\n".encode()


def _notations() -> Iterator[bytes]:
    yield b"501({0: 'm', 1: [506(<<{1: {0: \"a\"}, 4: {}}>>), h'00 ff', b64'AAE='], / a / -3: 1.5e3, 4: [_ true, null]}) # b\n"
    yield b"[0x10, -1_3, \"\\u00e9\", (_ h'00', 'x'), NaN, undefined, 1(2), b32'AA']"


def _keys() -> Iterator[bytes]:
    yield _JWK
    yield json.dumps({"keys": [json.loads(_JWK)]}).encode()
    public = cert_forge.ec_key(33).public_key()
    numbers = public.public_numbers()
    yield public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    yield public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    yield cbor2.dumps({1: 2, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
    yield cbor2.dumps([{1: 1, -1: 6, -2: bytes(32)}])


# --- What is done with the bytes ----------------------------------------------------------------------------------------------


def _document(report: Any) -> None:
    """A report can always be written as JSON, and as text that a console can take."""
    json.dumps(report.document(), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _cbor(data: bytes) -> None:
    each(lambda: json.dumps(plain_json(read_cbor_sequence(data))), own=InspectionRefused)
    json.dumps(plain_json(read_cbor(data)))


def _xml(data: bytes) -> None:
    each(lambda: read_xml_unindented(data), own=InspectionRefused)
    root = read_xml(data)
    written = canonical(root)
    assert canonical(read_xml(written)) == written, "canonical XML is not canonical"


def _rim(data: bytes) -> None:
    each(lambda: read_rim(data, Authorities(store=NOBODY), at=_AT), own=InspectionRefused)
    each(lambda: _document(inspect_rim(data, NOBODY, at=_AT)), own=InspectionRefused)
    _document(inspect_rim(data, None, at=_AT))


def _comid(data: bytes) -> None:
    item = read_cbor(data)
    each(lambda: _document(read_coswid(item)), lambda: read_comid(item), own=InspectionRefused)


def _ear(data: bytes) -> None:
    each(lambda: inspect_ear(next(_ears()), data, at=_AT), own=InspectionRefused)
    _document(inspect_ear(data, _JWK, at=_AT))


def _corim(data: bytes) -> None:
    each(lambda: read_corim(data, Authorities(store=NOBODY), at=_AT), own=InspectionRefused)
    _document(inspect_corim(data, _JWK if len(data) % 2 else None, at=_AT))


def _statement(data: bytes) -> None:
    read_statement(data)
    each(lambda: _document(inspect_certify(data)), own=InspectionRefused)
    _document(inspect_quote(data))


def _json(data: bytes) -> None:
    claimed_by({"report.json": data})
    each(lambda: read_registers(data), own=InspectionRefused)
    read_object(data, most=1 << 20, what="it")


def _log(data: bytes) -> None:
    unarmoured(data)
    _document(inspect_event_log(data, {"sha256": {0: bytes(32), 4: bytes(32)}}))


def _certificate(data: bytes) -> None:
    each(lambda: read_bundle([data]), lambda: read_certificates(data), own=InspectionRefused)
    certificate_name(data)
    each(lambda: _document(inspect_ek(data, NOBODY, at=_AT)), own=InspectionRefused)
    _document(inspect_certificate(data, NOBODY, at=_AT))


def _platform(data: bytes) -> None:
    each(lambda: _document(inspect_platform(data, NOBODY, at=_AT)), own=InspectionRefused)
    _document(inspect_platform(data, None, at=_AT))


def _evidence(data: bytes) -> None:
    files = _apart(data)
    each(lambda: prove_files(files, store=None, now_ms=_AT * 1000, notes=[]), own=(InspectionRefused, Refused))
    _document(inspect_evidence(files, store=NOBODY, profile=None, now_ms=_AT * 1000))


def _difference(data: bytes) -> None:
    before = read_boot({"eventlog.bin": next(iter(logs()))})
    after = read_boot(_apart(data))
    _document(inspect_difference(before, after))
    _document(inspect_difference(after, before))


def _event_texts(data: bytes) -> None:
    each(
        lambda: windows.tagged_text(data, 12),
        lambda: windows.tagged_text(data, 1),
        lambda: database_text(data),
        own=Malformed,
    )
    windows.trust_point_text(data)
    readable(data)
    hex_excerpt(data)


def _text_seeds() -> Iterable[bytes]:
    return (*tagged(), BootImage().db, BootImage().dbx)


def _canonical_log(data: bytes) -> None:
    looks_like_tlv(data), looks_like_json(data), looks_like_cbor(data)
    each(lambda: celjson.read_json(data, []), lambda: celtlv.read_tlv(data, []), own=Malformed)
    each(lambda: celjson.read_cbor_records(data, []), own=(Malformed, InspectionRefused))
    each(lambda: read_any_log(data), own=(Malformed, InspectionRefused))
    _document(inspect_event_log(data))


def _rendering(data: bytes) -> None:
    looks_like_rendering(data)
    read_rendering(data, [])


def _notation(data: bytes) -> None:
    json.dumps(plain_json(read_diagnostic(data.decode("utf-8", "surrogateescape"))))


def _kind(data: bytes) -> None:
    """Whatever it is, somebody is told what it looks like, or nothing."""
    kind_of(data)
    hint_for(data, "ek")


def _kinds() -> Iterator[bytes]:
    yield from (*manifests(), *_ears(), *_tuples(), *_registers(), *lists(), *platforms())
    yield from (next(iter(logs())), next(iter(wrapped())))


def _key_file(data: bytes) -> None:
    each(lambda: certificates_in(data), lambda: peeled(data), own=(InspectionRefused, PkiError))
    read_keys(data)


_REFUSED: Final = (InspectionRefused,)
_XML_WORDS: Final = (
    b"xmlns:a='b'",
    b"<![CDATA[",
    b"<!DOCTYPE a [",
    b"&#0;",
    b"<Directory name='d'>",
    b"<File ",
    b"xml:lang='e' ",
    b"<?a b?>",
)

TARGETS: Final = {
    "cbor": Target(
        _cbor, _REFUSED, lambda: [*_comids(), *_corims(), *_ears()], (read_cbor, read_cbor_sequence), _CBOR, "cbor"
    ),
    "xml": Target(_xml, _REFUSED, _swids, (read_xml, read_xml_unindented), ("rim/swidtag/*",), words=_XML_WORDS),
    "rim": Target(
        _rim, _REFUSED, lambda: [*_swids(), *_coswids()], (inspect_rim, read_rim), ("rim/*/*",), "cbor", _XML_WORDS
    ),
    "comid": Target(_comid, _REFUSED, lambda: [*_comids(), *_coswids()], (read_comid, read_coswid), _CBOR, "cbor"),
    "corim": Target(_corim, _REFUSED, _corims, (inspect_corim, read_corim), _CBOR, "cbor"),
    "ear": Target(_ear, _REFUSED, _ears, (inspect_ear,), ("eat/**/*",), "json"),
    "statements": Target(
        _statement, _REFUSED, _tuples, (inspect_quote, inspect_certify, read_statement), ("quote/*/*",), "json"
    ),
    "json": Target(_json, _REFUSED, _registers, (read_object, read_registers, claimed_by), (), "json"),
    "logreport": Target(
        _log,
        _REFUSED,
        lambda: [*logs(), b64encode(next(iter(logs())))],
        (inspect_event_log, read_any_log, unarmoured),
        ("eventlog/**/*",),
        "log",
    ),
    "canonicallog": Target(
        _canonical_log,
        _REFUSED,
        _canonical_logs,
        (
            celjson.read_json,
            celjson.read_cbor_records,
            celtlv.read_tlv,
            looks_like_tlv,
            looks_like_json,
            looks_like_cbor,
        ),
        ("eventlog/cel*/*", "eventlog/ccel/*"),
        "records",
        (b"\x1e", b'"nv_index": 1, '),
    ),
    "kinds": Target(_kind, (), _kinds, (kind_of, hint_for), (), "records"),
    "rendering": Target(
        _rendering,
        (Malformed,),
        _renderings,
        (read_rendering, looks_like_rendering),
        ("eventlog/txt/*",),
        words=(b"StartupLocality: ", b"EventSize: ", "\u00b2".encode()),
    ),
    "diagnostic": Target(
        _notation,
        _REFUSED,
        _notations,
        (read_diagnostic,),
        words=(b"<<", b">>", b"(_ ", b"[_ ", b"h'", b"0b1", b"0x1p2", "\u0661".encode()),
    ),
    "keyfile": Target(
        _key_file,
        _REFUSED,
        lambda: [*_keys(), *wrapped()],
        (read_keys, certificates_in, peeled),
        ("eat/**/*",),
        "records",
    ),
    "imareport": Target(
        lambda data: _document(inspect_ima(data)), _REFUSED, lists, (inspect_ima,), ("ima/**/*",), "list"
    ),
    "certreport": Target(
        _certificate,
        _REFUSED,
        lambda: [*certificates(), *wrapped()],
        (inspect_ek, inspect_certificate, read_certificates, read_bundle, certificate_name),
        _CERTIFICATES,
        "der",
    ),
    "platform": Target(_platform, _REFUSED, platforms, (inspect_platform,), ("platcert/*/*",), "der"),
    "evidence": Target(_evidence, _REFUSED, _directories, (inspect_evidence, prove_files), (), "joined"),
    "difference": Target(_difference, _REFUSED, _directories, (read_boot, inspect_difference), (), "joined"),
    "eventtexts": Target(
        _event_texts,
        (),
        _text_seeds,
        (windows.tagged_text, windows.trust_point_text, database_text, readable, hex_excerpt),
        ("uefi/**/*",),
    ),
}
