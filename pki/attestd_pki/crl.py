"""Revocation lists: built here, signed outside, read back strictly.

Proves, of a list that `verify_crl` returns, that the authority signed it, that it is current at the given instant, and
that it holds nothing this file does not know. Assumes that the caller keeps the highest number it has seen and refuses a
lower one (a list is not fresh just because it is valid). Does not decide who is revoked.
"""

from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestd_pki import bounds, profiles
from attestd_pki.errors import PkiError
from attestd_pki.issuer import Issuer, IssuerIdentity
from attestd_pki.revocation import REASONS, Revocation, RevocationList


def build_crl(
    issuer: Issuer, revoked: Iterable[tuple[int, int, str]], *, number: int, this_update: int, next_update: int
) -> bytes:
    """Return the DER revocation list of `revoked`, tuples of (serial, revoked at, reason).

    *Raises* PkiError `crl-serial`, `crl-reason`, `crl-duplicate`, `crl-time`, `crl-number`, `crl-too-long`,
    `issuer-bad-signature`.
    """
    entries = _entries(revoked, this_update)
    content = RevocationList(number, this_update, next_update, entries)
    tbs = crl_tbs(content, issuer.identity)
    return issuer.sign_crl(tbs, content)


def crl_tbs(content: RevocationList, identity: IssuerIdentity) -> bytes:
    """Return the DER TBSCertList of `content`: the same bytes wherever they are built."""
    if not 0 < content.number < 1 << 159:
        raise PkiError("crl-number", "a CRL number is positive and has at most 20 octets")
    if not 0 < content.next_update - content.this_update <= bounds.CRL_SECONDS:
        raise PkiError("crl-time", f"a list is valid for at most {bounds.CRL_SECONDS} seconds")
    key_id = profiles.authority_key_id(identity.authority)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(identity.authority.subject)
        .last_update(profiles.instant(content.this_update))
        .next_update(profiles.instant(content.next_update))
        .add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
        .add_extension(x509.CRLNumber(content.number), critical=False)
    )
    for entry in content.entries:
        builder = builder.add_revoked_certificate(_revoked(entry))
    return builder.sign(profiles.ALGORITHM_DONOR, None).tbs_certlist_bytes


def verify_crl(data: bytes, *, issuer: IssuerIdentity, now: int) -> RevocationList:
    """Return what the DER list `data` says, if `issuer` signed it and it is current at `now`.

    *Raises* PkiError `crl-malformed`, `crl-issuer`, `crl-signature`, `crl-extension`, `crl-not-yet-valid`, `crl-expired`,
    `crl-too-long`, `crl-reason`.
    """
    try:
        parsed = x509.load_der_x509_crl(data)
        if parsed.issuer.public_bytes() != issuer.authority.subject.public_bytes():
            raise PkiError("crl-issuer", "the list is another authority's")
        _verify(parsed, issuer)
        content = _content(parsed)
    # The library reads names and extensions when they are asked for, and says with any of these that they are none.
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise PkiError("crl-malformed", "not a revocation list that can be read") from error
    if now < content.this_update:
        raise PkiError("crl-not-yet-valid", "the list begins in the future")
    if now > content.next_update:
        raise PkiError("crl-expired", "the list has been due for renewal")
    return content


def _verify(parsed: x509.CertificateRevocationList, issuer: IssuerIdentity) -> None:
    key = issuer.authority.public_key()
    if parsed.signature_algorithm_oid != x509.SignatureAlgorithmOID.ED25519 or not isinstance(key, Ed25519PublicKey):
        raise PkiError("crl-signature", "the list is not signed with Ed25519")
    try:
        key.verify(parsed.signature, parsed.tbs_certlist_bytes)
    except InvalidSignature as error:
        raise PkiError("crl-signature", "the list's signature does not verify") from error


def _content(parsed: x509.CertificateRevocationList) -> RevocationList:
    """Return the content of a verified list; every extension must be one that `crl_tbs` writes."""
    known = {x509.AuthorityKeyIdentifier.oid, x509.CRLNumber.oid}
    if {extension.oid for extension in parsed.extensions} != known:
        # An issuingDistributionPoint or a deltaCRLIndicator would change what absence from the list means.
        raise PkiError("crl-extension", "the list has other extensions than ours")
    if len(parsed) > bounds.MAX_CRL_ENTRIES:
        raise PkiError("crl-too-long", f"a list has at most {bounds.MAX_CRL_ENTRIES} entries")
    if parsed.next_update_utc is None:
        raise PkiError("crl-malformed", "the list does not say when it ends")
    number = parsed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    entries = tuple(sorted((_read(entry) for entry in parsed), key=lambda entry: entry.serial))
    begin, end = (int(moment.timestamp()) for moment in (parsed.last_update_utc, parsed.next_update_utc))
    return RevocationList(number, begin, end, entries)


def _read(entry: x509.RevokedCertificate) -> Revocation:
    reason = x509.ReasonFlags.unspecified
    for extension in entry.extensions:
        if not isinstance(extension.value, x509.CRLReason):
            raise PkiError("crl-extension", "an entry has another extension than a reason")
        reason = extension.value.reason
    if reason.value not in REASONS:
        raise PkiError("crl-reason", f"unknown reason {reason.value!r}")
    return Revocation(entry.serial_number, int(entry.revocation_date_utc.timestamp()), reason.value)


def _entries(revoked: Iterable[tuple[int, int, str]], this_update: int) -> tuple[Revocation, ...]:
    entries = sorted((Revocation(*entry) for entry in revoked), key=lambda entry: entry.serial)
    if len(entries) > bounds.MAX_CRL_ENTRIES:
        raise PkiError("crl-too-long", f"a list has at most {bounds.MAX_CRL_ENTRIES} entries")
    for entry in entries:
        if not 0 < entry.serial <= bounds.MAX_SERIAL:
            raise PkiError("crl-serial", "a serial number is positive and has at most 20 octets")
        if entry.reason not in REASONS:
            raise PkiError("crl-reason", f"unknown reason {entry.reason!r}")
        if entry.revoked_at > this_update:
            raise PkiError("crl-time", "an entry was revoked after the list was made")
    if len({entry.serial for entry in entries}) != len(entries):
        raise PkiError("crl-duplicate", "a serial number is on the list twice")
    return tuple(entries)


def _revoked(entry: Revocation) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(profiles.instant(entry.revoked_at))
    )
    # RFC 5280, 5.3.1: the reason is absent rather than "unspecified".
    if entry.reason != x509.ReasonFlags.unspecified.value:
        builder = builder.add_extension(x509.CRLReason(REASONS[entry.reason]), critical=False)
    return builder.build()
