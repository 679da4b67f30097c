"""Forge for certificates of made-up manufacturers: an anchor, an intermediate, an endorsement key certificate, and their faults.

The keys are real and derived from small numbers, so everything repeats. What the builder of `cryptography` will not write
(SHA-1, encodings that are not DER) is put together from bytes.
"""

import datetime
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestd_pki import der
from attestd_pki.certificate import Certificate, parse_certificate

NOW = 1_795_350_000
DAY = 86_400
EK_PURPOSE = "2.23.133.8.1"
MANUFACTURER = "2.23.133.2.1"
MODEL = "2.23.133.2.2"
VERSION = "2.23.133.2.3"


def ec_key(number: int, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Return the same key for the same small number."""
    return ec.derive_private_key(number, curve or ec.SECP256R1())


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Return one RSA key of this size per test run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def name(common_name: str) -> x509.Name:
    """Return a name of one attribute; empty for an empty text."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def usage(*flags: str) -> x509.KeyUsage:
    """Return a keyUsage with these flags, named as in `cryptography`."""
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{flag: flag in flags for flag in every.split()})


def chip(manufacturer: str = "id:4E544300", model: str = "NPCT75x", version: str = "id:0702") -> x509.Name:
    """Return the directory name that an endorsement key certificate carries, in one relative name."""
    pairs = ((MANUFACTURER, manufacturer), (MODEL, model), (VERSION, version))
    attributes = [x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in pairs]
    return x509.Name([x509.RelativeDistinguishedName(attributes)])


Hash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | hashes.SHA3_256
Extensions = Sequence[tuple[x509.ExtensionType, bool]]
CA: Extensions = ((x509.BasicConstraints(ca=True, path_length=None), True), (usage("key_cert_sign", "crl_sign"), True))
EK: Extensions = (
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (usage("key_agreement"), True),
    (x509.ExtendedKeyUsage([x509.ObjectIdentifier(EK_PURPOSE)]), False),
    (x509.SubjectAlternativeName([x509.DirectoryName(chip())]), True),
)


@dataclass(frozen=True)
class Plan:
    """What a certificate is to say."""

    subject: str
    key: Any
    extensions: Extensions = ()
    not_before: int = NOW - 365 * DAY
    not_after: int = NOW + 365 * DAY
    serial: int = 77
    identifiers: bool = field(default=False)


def make(plan: Plan, issuer: Plan | None = None, *, hash_: Hash | None = None) -> Certificate:
    """Return the certificate of `plan`, signed by `issuer` or by itself, as the reader under test reads it."""
    signer = issuer or plan
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(plan.subject))
        .issuer_name(name(signer.subject))
        .public_key(plan.key.public_key())
        .serial_number(plan.serial)
        .not_valid_before(datetime.datetime.fromtimestamp(plan.not_before, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(plan.not_after, datetime.UTC))
    )
    for extension, critical in (*plan.extensions, *_identifiers(plan, signer)):
        builder = builder.add_extension(extension, critical=critical)
    made = builder.sign(signer.key, hash_ or hashes.SHA256())
    return parse_certificate(made.public_bytes(Encoding.DER))


def _identifiers(plan: Plan, signer: Plan) -> Iterable[tuple[x509.ExtensionType, bool]]:
    if plan.identifiers:
        yield x509.SubjectKeyIdentifier.from_public_key(plan.key.public_key()), False
    if signer.identifiers:
        yield x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False


def with_sha1(certificate: Certificate, key: rsa.RSAPrivateKey) -> Certificate:
    """Return `certificate` (signed by RSA with SHA-256) signed again with SHA-1, as manufacturers did until 2014."""
    oids = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    tbs = certificate.tbs.replace(*oids)
    signature = key.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    algorithm = bytes.fromhex("300d06092a864886f70d0101050500")
    return parse_certificate(der.encode(0x30, tbs + algorithm + der.encode(0x03, b"\x00" + signature)))


ROOT = Plan("Example TPM Root CA", ec_key(11), CA)
INTERMEDIATE = Plan("Example TPM Intermediate CA", ec_key(22), CA)
LEAF = Plan("", ec_key(33), EK)


def flipped(certificate: Certificate) -> Certificate:
    """Return `certificate` with one bit of its subject's public key flipped, unreadable points included."""
    data = bytearray(certificate.der)
    data[certificate.der.index(certificate.spki) + len(certificate.spki) - 1] ^= 1
    return parse_certificate(bytes(data))


def fingerprint(certificate: Certificate) -> bytes:
    """Return the SHA-256 by which an anchor is pinned."""
    return hashlib.sha256(certificate.der).digest()
