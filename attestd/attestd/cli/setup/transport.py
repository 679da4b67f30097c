"""The verifier's own TLS: an anchor that devices are given, and a server certificate below it.

Proves nothing about devices. The anchor is a small authority of its own (RFC 5280), P-256, for server certificates alone: it
is not the authority that certifies devices, and no public authority can speak for the verifier (T06). Pure: keys and times
are arguments.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ANCHOR_LIFE: Final = datetime.timedelta(days=3653)
"""Ten years: devices hold it, and replacing it means visiting them or a rollover."""
SERVER_LIFE: Final = datetime.timedelta(days=397)
"""Longest life that public authorities allow themselves (CA/Browser BR 6.3.2); renewing it once a year keeps the way known."""
_BACKDATE: Final = datetime.timedelta(hours=1)


def anchor(key: EllipticCurvePrivateKey, *, now: datetime.datetime) -> x509.Certificate:
    """Return a self-signed authority for server certificates."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "attestd TLS anchor")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(name, name, key.public_key(), now, ANCHOR_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def server(
    public_key: EllipticCurvePublicKey,
    names: Sequence[str],
    *,
    issuer: x509.Certificate,
    issuer_key: EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.Certificate:
    """Return a server certificate for DNS names and IP addresses (at least one), never longer valid than its issuer."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "attestd verifier")])
    life = min(SERVER_LIFE, issuer.not_valid_after_utc - now)
    return (
        _builder(subject, issuer.subject, public_key, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def general_name(name: str) -> x509.GeneralName:
    """Return a name of a server as a certificate holds it: an IP address where it is one, else a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePublicKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )
