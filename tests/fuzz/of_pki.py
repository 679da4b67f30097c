"""Certificates and what surrounds them, as manufacturers, chips and strangers write them."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import cert_forge
import pki_world
from attestd_pki import der, extensions, names
from attestd_pki.base64text import decode_base64
from attestd_pki.certificate import Certificate, parse_certificate, read_name
from attestd_pki.chain import Budget, Exceptions, Expiry, TrustStore, build_and_verify_chain
from attestd_pki.crl import build_crl, verify_crl
from attestd_pki.ekcert import check_ek_profile, verify_ek_certificate
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant
from attestd_pki.issuer import IssuerIdentity
from attestd_pki.profiles import load_subject_key
from attestd_pki.unwrap import split_bundle, unwrap, unwrap_all
from fuzz.of_tpm import each
from fuzz.target import Target

_ROOT: Final = cert_forge.make(cert_forge.ROOT)
_STORE: Final = TrustStore.of((_ROOT,))
_AUTHORITY: Final = IssuerIdentity.of((pki_world.an_authority(),), dns_suffix=pki_world.SUFFIX)
_EXTENSIONS: Final = (
    extensions.basic_constraints,
    extensions.key_usage,
    extensions.extended_key_usage,
    extensions.subject_key_identifier,
    extensions.authority_key_identifier,
    extensions.alternative_directory_names,
)


def certificates() -> Iterator[bytes]:
    """Return certificates of made-up manufacturers, of several kinds of key, and of our own authority."""
    yield from (_ROOT.der, cert_forge.make(cert_forge.INTERMEDIATE, cert_forge.ROOT).der)
    for subject in ("", "An Endorsement Key"):
        plan = cert_forge.Plan(subject, cert_forge.ec_key(33), cert_forge.EK, identifiers=True)
        yield cert_forge.make(plan, cert_forge.ROOT).der
    key = cert_forge.rsa_key(2048)
    by_rsa = cert_forge.make(cert_forge.Plan("RSA", key, cert_forge.EK))
    yield from (by_rsa.der, cert_forge.with_sha1(by_rsa, key).der, pki_world.an_authority())
    yield pki_world.issue(pki_world.a_grant()).der


def platforms() -> Iterator[bytes]:
    """Return a platform certificate (RFC 5755) put together from bytes, and a certificate of a key."""
    parts = der.elements(der.only(_ROOT.tbs, der.SEQUENCE).content)
    algorithm, name = parts[2].raw, der.encode(0xA4, parts[3].raw)
    number = der.encode(der.INTEGER, b"\7")
    time = der.encode(0x18, b"20260101000000Z")
    text = der.encode(der.SEQUENCE, der.encode(0x0C, b"ACME") + der.encode(0x0C, b"Box") + der.encode(0x0C, b"1"))
    kind = der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("67810501020102"))
    configuration = der.encode(
        der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, der.encode(0x81, b"x") + text)) + text
    )
    attribute = der.encode(der.SEQUENCE, kind + der.encode(0x31, configuration))
    alternative = der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("551d11")) + der.encode(
        der.OCTET_STRING, der.encode(der.SEQUENCE, name)
    )
    info = (
        der.encode(der.INTEGER, b"\1")
        + der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, name) + number))
        + der.encode(0xA0, der.encode(der.SEQUENCE, name))
        + algorithm
        + number
        + der.encode(der.SEQUENCE, time + time)
        + der.encode(der.SEQUENCE, attribute)
        + der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, alternative))
    )
    yield der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, info) + algorithm + der.encode(der.BIT_STRING, bytes(9)))
    yield _ROOT.der


def wrapped() -> Iterator[bytes]:
    """Return one certificate in every wrapping that is known."""
    made = next(certificates())
    text = base64.b64encode(made)
    yield from (made, made + bytes(64), made * 2 + b"\xff" * 9, text, base64.urlsafe_b64encode(made).rstrip(b"="))
    yield b"-----BEGIN CERTIFICATE-----\n" + text + b"\n-----END CERTIFICATE-----\n"
    yield json.dumps({"certificate": base64.urlsafe_b64encode(made).decode().replace("=", "%3D")}).encode()
    yield b"\x10\x01\x00" + (len(made) + 2).to_bytes(2, "big") + b"\x10\x02" + made
    yield der.encode(der.OCTET_STRING, made)


def _certificate(data: bytes) -> None:
    found = parse_certificate(data)
    assert found.der == data
    uses = [lambda read=read: read(found) for read in _EXTENSIONS]
    each(*uses, lambda: check_ek_profile(found), lambda: _walk(found, ()), own=PkiError)
    each(lambda: _ek(found), own=PkiError)


def _ek(certificate: Certificate) -> None:
    budget = Budget(depth=6, signatures=16)
    verify_ek_certificate(certificate, certificate.spki, candidates=(), store=_STORE, at=cert_forge.NOW, budget=budget)


def _walk(leaf: Certificate, others: tuple[Certificate, ...]) -> object:
    budget = Budget(depth=6, signatures=16)
    lenient = Exceptions(sha1_issuers=frozenset(one.sha256 for one in others), expiry=Expiry.RECORD_ALL)
    return build_and_verify_chain(leaf, others, _STORE, at=cert_forge.NOW, budget=budget, exceptions=lenient)


def _chain(data: bytes) -> None:
    found = [parse_certificate(one) for one in unwrap_all(data)]
    _walk(found[0], tuple(found[1:]))


def _chains() -> Iterator[bytes]:
    middle = cert_forge.make(cert_forge.INTERMEDIATE, cert_forge.ROOT)
    leaf = cert_forge.make(cert_forge.LEAF, cert_forge.INTERMEDIATE)
    yield leaf.der + middle.der
    yield leaf.der + middle.der + _ROOT.der
    yield _ROOT.der + leaf.der


def _der(data: bytes) -> None:
    """Walk the whole tree, as far as every element says that it holds others."""
    waiting = [data]
    seen = 0
    while waiting and seen < 10_000:
        try:
            found = der.elements(waiting.pop())
        except PkiError:
            continue
        for element in found:
            seen += 1
            for read in (der.integer, der.object_identifier, der.bits, read_name):
                each(lambda read=read, element=element: read(element), own=PkiError)
            waiting.append(element.content)
    der.measure(data)


def _unwrap(data: bytes) -> None:
    each(lambda: split_bundle(data), own=PkiError)
    found = unwrap_all(data)
    assert unwrap(data) == found[0]
    for one in found:
        assert unwrap_all(one) == (one,)


def _base64(data: bytes) -> None:
    each(lambda: decode_base64(data.decode("utf-8", "surrogateescape")), own=ValueError)
    read = decode_base64(data)
    assert decode_base64(base64.urlsafe_b64encode(read)) == read


def _crl(data: bytes) -> None:
    verify_crl(data, issuer=_AUTHORITY, now=pki_world.NOW)


def _crls() -> Iterator[bytes]:
    for revoked in ((), ((pki_world.SERIAL, pki_world.NOW - 5, "keyCompromise"),)):
        yield build_crl(
            pki_world.an_issuer(), revoked, number=7, this_update=pki_world.NOW, next_update=pki_world.NOW + 3600
        )


def _grant(data: bytes) -> None:
    assert Grant.decode(data).encode() == data


def _subject_key(data: bytes) -> None:
    load_subject_key(data)


def _names(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for parse in (names.parse_device_id, names.parse_trust_domain, names.parse_dns_suffix, names.parse_label):
        each(lambda parse=parse: _same(parse(text), text), own=PkiError)


def _same(read: Any, text: str) -> None:
    assert read == text


_FILES: Final = ("cert/**/*", "malformed/x509/*", "platcert/*/*")
_WORDS: Final = (
    b"-----BEGIN CERTIFICATE-----",
    b"-----END CERTIFICATE-----",
    b'{"certificate": "',
    b"\x10\x01\x00",
    b"\x30\x80",
    bytes.fromhex("0603551d0f"),
    bytes.fromhex("0603551d13"),
    bytes.fromhex("0603551d11"),
    bytes.fromhex("06056781050801"),
)
_NAMES: Final = (names.parse_device_id, names.parse_trust_domain, names.parse_dns_suffix, names.parse_label)
_DER: Final = (der.measure, der.elements, der.only, der.integer, der.object_identifier, der.bits, read_name)


def _base64(data: bytes) -> None:
    """Read data as base64 of any writing; what is read, written and read again is the same."""
    found = decode_base64(data)
    assert decode_base64(base64.encodebytes(found)) == decode_base64(base64.urlsafe_b64encode(found)) == found


TARGETS: Final = {
    "base64text": Target(
        _base64,
        (ValueError,),
        lambda: [base64.urlsafe_b64encode(_ROOT.der).rstrip(b"="), base64.encodebytes(_ROOT.der)],
        (decode_base64,),
    ),
    "certificate": Target(_certificate, (PkiError,), certificates, (parse_certificate,), _FILES, "der", _WORDS),
    "chain": Target(_chain, (PkiError,), _chains, (build_and_verify_chain,), (), "der"),
    "der": Target(_der, (PkiError,), certificates, _DER, _FILES, "der"),
    "unwrap": Target(_unwrap, (PkiError,), wrapped, (unwrap, unwrap_all, split_bundle), _FILES, "der", _WORDS),
    "base64": Target(_base64, (ValueError,), lambda: [b"AAEC/-8=", b"_-8\n A"], (decode_base64,)),
    "crl": Target(_crl, (PkiError,), _crls, (verify_crl,), (), "der"),
    "grant": Target(_grant, (PkiError,), lambda: [pki_world.a_grant().encode()], (Grant.decode,), (), "cbor"),
    "subjectkey": Target(
        _subject_key,
        (PkiError,),
        lambda: [pki_world.EK_SPKI, _ROOT.spki, pki_world.spki(cert_forge.rsa_key(2048))],
        (load_subject_key,),
        (),
        "der",
    ),
    "names": Target(_names, (), lambda: [pki_world.a_grant().device_id.encode(), b"fleet.example", b"edge-1"], _NAMES),
}
