"""The one certificate profile for devices, and the one for the authority above them.

Proves, of the bytes that `device_tbs` returns, that every field comes from the grant, the issuer or this file: nothing of
a client's request can reach a certificate (C01), because no request is an argument. `lint_device` reads a finished
certificate back with another parser path and refuses what the profile does not say. Assumes a grant that checked itself.
Does not decide whether a certificate should exist, and does not sign.

Device certificate (RFC 5280; extensions in this order, no others):

    version            3
    serialNumber       the caller's random number of about 128 bits
    issuer             the authority's subject
    validity           the grant's not_before to not_after, at most 24 h
    subject            CN = device id
    basicConstraints   critical, CA:FALSE
    keyUsage           critical, digitalSignature
    extKeyUsage        clientAuth
    subjectAltName     URI:spiffe://<trust domain>/device/<id>, DNS:<id>.<suffix>
    subjectKeyId       SHA-256 of the SubjectPublicKeyInfo, left 160 bits (RFC 7093, 2)
    authorityKeyId     the authority's subjectKeyId
    crlDistribution    one URL
    GRANT_DIGEST_OID   OCTET STRING, SHA-256 of the grant
"""

import hashlib
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from attestd_pki import bounds, der, names
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant

GRANT_DIGEST_OID: Final = x509.ObjectIdentifier("2.999.7141.1")
"""Private extension: SHA-256 of the grant whose projection the certificate is. Never critical, so that stock TLS and IKE
implementations accept the certificate. The arc is X.660's for examples, until the project has an enterprise number: an arc
under a UUID (2.25) would be proper, but implementations that hold arcs in 31 bits refuse to read such a certificate at all."""

# A TBSCertificate names the algorithm it will be signed with, and the builder wants a key to say so. This key is public
# knowledge; what it signs is thrown away, and only the bytes to be signed are kept.
ALGORITHM_DONOR = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)

SubjectKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


def key_identifier(spki: bytes) -> bytes:
    """Return the 20-byte key identifier of a DER SubjectPublicKeyInfo (RFC 7093, 2, method 4)."""
    return hashlib.sha256(spki).digest()[:20]


def load_subject_key(spki: bytes) -> SubjectKey:
    """Return the public key in `spki` if a device may have it.

    P-256, P-384, RSA of 2048 to 4096 bits with exponent 65537, Ed25519. *Raises* PkiError `subject-key-malformed`,
    `subject-key-algorithm`, `subject-key-size`, `subject-key-not-der` (a second encoding of a good key).
    """
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError("subject-key-malformed", "not a SubjectPublicKeyInfo that can be used") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise PkiError("subject-key-algorithm", f"a device may not have a key of type {type(key).__name__}")
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise PkiError("subject-key-algorithm", f"a device may not have a key on curve {key.curve.name}")
    if isinstance(key, rsa.RSAPublicKey) and not (2048 <= key.key_size <= 4096 and key.public_numbers().e == 65537):
        raise PkiError("subject-key-size", "RSA keys have 2048 to 4096 bits and exponent 65537")
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        raise PkiError("subject-key-not-der", "the public key is not in its DER form")
    return key


def check_serial(serial: int) -> int:
    """Return `serial` if it can have been drawn at random with 128 bits. *Raises* PkiError `serial-range`."""
    if not bounds.MIN_SERIAL <= serial <= bounds.MAX_SERIAL:
        raise PkiError("serial-range", "a serial number is a random number of about 128 bits")
    return serial


def check_url(url: str) -> str:
    """Return `url` if it can be a CRL distribution point: http or https, printable ASCII. *Raises* PkiError `crl-url`."""
    plain = url.isascii() and url.isprintable() and not any(character in url for character in " <>\"'\\")
    if not plain or len(url) > bounds.MAX_URL or not url.startswith(("http://", "https://")):
        raise PkiError("crl-url", f"a CRL distribution point is an http(s) URL of at most {bounds.MAX_URL} characters")
    return url


def instant(seconds: int) -> datetime:
    """Return unix `seconds` as an aware datetime, which is what the certificate builder takes."""
    return datetime.fromtimestamp(seconds, UTC)


# --- device certificates --------------------------------------------------------------------------------------------


def device_tbs(grant: Grant, *, issuer: x509.Name, issuer_key_id: bytes, serial: int, crl_url: str) -> bytes:
    """Return the DER TBSCertificate of `grant`: the same bytes for the same arguments, wherever they are built.

    *Raises* PkiError for a subject key, serial or URL that the profile has no place for.
    """
    builder = (
        x509.CertificateBuilder()
        .serial_number(check_serial(serial))
        .issuer_name(issuer)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, grant.device_id)]))
        .not_valid_before(instant(grant.not_before))
        .not_valid_after(instant(grant.not_after))
        .public_key(load_subject_key(grant.subject_public_key))
    )
    for extension, critical in device_extensions(grant, issuer_key_id=issuer_key_id, crl_url=crl_url):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(ALGORITHM_DONOR, None).tbs_certificate_bytes


def device_extensions(
    grant: Grant, *, issuer_key_id: bytes, crl_url: str
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """Return the extensions of a device certificate as (extension, critical), in the profile's order."""
    place = x509.DistributionPoint([x509.UniformResourceIdentifier(check_url(crl_url))], None, None, None)
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(grant.uri), x509.DNSName(grant.dns_name)]), False),
        (x509.SubjectKeyIdentifier(key_identifier(grant.subject_public_key)), False),
        (x509.AuthorityKeyIdentifier(issuer_key_id, None, None), False),
        (x509.CRLDistributionPoints([place]), False),
        (x509.UnrecognizedExtension(GRANT_DIGEST_OID, der.encode(der.OCTET_STRING, grant.digest())), False),
    )


def lint_device(certificate: x509.Certificate, grant: Grant, *, issuer: x509.Certificate, crl_url: str) -> None:
    """Refuse a finished device certificate that differs from the profile in any field.

    *Assumes* that its signature has been verified. *Raises* PkiError `certificate-profile` with the field's name.
    """
    expected = device_extensions(grant, issuer_key_id=authority_key_id(issuer), crl_url=crl_url)
    subject = certificate.subject.rdns
    life = certificate.not_valid_after_utc.timestamp() - certificate.not_valid_before_utc.timestamp()
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = tuple((extension.value, extension.critical) for extension in certificate.extensions)
    for field, holds in (
        ("version", certificate.version is x509.Version.v3),
        ("serialNumber", bounds.MIN_SERIAL <= certificate.serial_number <= bounds.MAX_SERIAL),
        ("signature", certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.ED25519),
        ("issuer", certificate.issuer.public_bytes() == issuer.subject.public_bytes()),
        ("subject", [rdn.rfc4514_string() for rdn in subject] == [f"CN={grant.device_id}"]),
        ("validity", 0 < life <= bounds.CERTIFICATE_SECONDS),
        ("notBefore", certificate.not_valid_before_utc == instant(grant.not_before)),
        ("notAfter", certificate.not_valid_after_utc == instant(grant.not_after)),
        ("subjectPublicKeyInfo", spki == grant.subject_public_key),
        ("extensions", found == expected),
    ):
        if not holds:
            raise PkiError("certificate-profile", f"{field} is not what the profile says")


def grant_digest_of(certificate: x509.Certificate) -> bytes:
    """Return the 32-byte grant digest in a device certificate. *Raises* PkiError `certificate-grant-digest`."""
    try:
        value = certificate.extensions.get_extension_for_oid(GRANT_DIGEST_OID).value
    except x509.ExtensionNotFound as error:
        raise PkiError("certificate-grant-digest", "the certificate names no grant") from error
    data = value.public_bytes()
    if len(data) != 34 or data[:2] != b"\x04\x20":
        raise PkiError("certificate-grant-digest", "the grant digest is not an OCTET STRING of 32 bytes")
    return data[2:]


# --- authority ------------------------------------------------------------------------------------------------------


def authority_tbs(
    subject: x509.Name, spki: bytes, *, trust_domain: str, not_before: int, not_after: int, serial: int
) -> bytes:
    """Return the DER TBSCertificate of a self-issued authority for devices of `trust_domain`.

    CA:TRUE with pathlen 0, keyCertSign and cRLSign, and the trust domain's own SPIFFE id (X509-SVID, 3.2). `spki` is an
    Ed25519 key, the only algorithm the quorum signs with. *Raises* PkiError `authority-key`, `authority-validity`, …
    """
    key = load_subject_key(spki)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise PkiError("authority-key", "an authority has an Ed25519 key")
    if not 0 < not_after - not_before <= bounds.CA_SECONDS:
        raise PkiError("authority-validity", "an authority lives at most 20 years")
    uri = f"spiffe://{names.parse_trust_domain(trust_domain)}"
    builder = (
        x509.CertificateBuilder()
        .serial_number(check_serial(serial))
        .issuer_name(subject)
        .subject_name(subject)
        .not_valid_before(instant(not_before))
        .not_valid_after(instant(not_after))
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(spki)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(key_identifier(spki), None, None), critical=False)
    )
    return builder.sign(ALGORITHM_DONOR, None).tbs_certificate_bytes


def authority_key_id(authority: x509.Certificate) -> bytes:
    """Return the key identifier that certificates under `authority` point at. *Raises* PkiError `authority-profile`."""
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound as error:
        raise PkiError("authority-profile", "the authority has no subject key identifier") from error


def lint_authority(authority: x509.Certificate) -> str:
    """Refuse an authority that differs from the profile; return its trust domain.

    *Raises* PkiError `authority-profile` with the field's name.
    """
    found = {extension.oid: extension for extension in authority.extensions}
    basic = found.get(x509.BasicConstraints.oid)
    usage = found.get(x509.KeyUsage.oid)
    alternative = found.get(x509.SubjectAlternativeName.oid)
    if basic is None or not basic.critical or basic.value != x509.BasicConstraints(ca=True, path_length=0):
        raise PkiError("authority-profile", "basicConstraints is not critical CA:TRUE with pathlen 0")
    if usage is None or not usage.critical or usage.value != _key_usage(key_cert_sign=True, crl_sign=True):
        raise PkiError("authority-profile", "keyUsage is not critical keyCertSign and cRLSign")
    if alternative is None or not isinstance(alternative.value, x509.SubjectAlternativeName):
        raise PkiError("authority-profile", "no SPIFFE id of a trust domain")
    uris = [name.value for name in alternative.value if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) != 1 or len(alternative.value) != 1 or not uris[0].startswith("spiffe://"):
        raise PkiError("authority-profile", "subjectAltName is not one SPIFFE id")
    if not isinstance(authority.public_key(), ed25519.Ed25519PublicKey):
        raise PkiError("authority-profile", "the key is not an Ed25519 key")
    return names.parse_trust_domain(uris[0].removeprefix("spiffe://"))


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
