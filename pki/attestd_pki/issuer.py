"""Prepare, redeem, issue: the only way to a device certificate.

1. `prepare` builds the bytes to be signed from a grant alone.
2. `redeem` turns a grant into a `RedeemedGrant`, once: the store of used grants says so, and the object is spent once.
3. `Issuer.issue` builds the bytes again from the redeemed grant, compares, has them signed, reads the result back, lints.

Proves, of an `IssuedCertificate`, that it is the projection of one grant that was redeemed in time and never before, under
the authority's own names. Assumes that whoever made the grant had a passing attestation result, and that the ledger is
durable. Does not hold a key: `SigningBackend` is the seam where a quorum of signers stands later.
"""

import threading
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestd_pki import der, names, profiles
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant
from attestd_pki.revocation import RevocationList

ED25519: Final = "Ed25519"


class SigningBackend(Protocol):
    """Whoever signs: a development key, an HSM, or t of n signers (RFC 9591). The narrow seam of this package."""

    @property
    def algorithm(self) -> str:
        """The signature algorithm; `Ed25519` is the only one known."""

    def public_key(self) -> bytes:
        """Return the authority's DER SubjectPublicKeyInfo."""

    def sign(self, tbs: bytes, grant: Grant) -> bytes:
        """Return the 64-byte signature over `tbs`, a TBSCertificate that an honest backend has built from `grant` itself."""

    def sign_crl(self, tbs: bytes, content: RevocationList) -> bytes:
        """Return the 64-byte signature over `tbs`, a TBSCertList that an honest backend has built from `content` itself."""


class GrantLedger(Protocol):
    """The durable memory of used grants."""

    def claim(self, grant_id: bytes, digest: bytes) -> bool:
        """Record the grant as used, atomically and durably; return True for the first caller only."""


@dataclass(frozen=True, slots=True)
class IssuerIdentity:
    """Under whose name certificates are issued: the authority's chain and the names it speaks for.

    `chain` is DER, the authority first. `trust_domain` comes from the authority's own certificate.
    """

    chain: tuple[bytes, ...]
    trust_domain: str
    dns_suffix: str
    authority: x509.Certificate = field(repr=False, compare=False)

    @classmethod
    def of(cls, chain: tuple[bytes, ...], *, dns_suffix: str) -> Self:
        """Read the authority out of `chain` (DER). *Raises* PkiError `authority-malformed`, `authority-profile`."""
        if not chain:
            raise PkiError("authority-malformed", "an empty chain has no authority")
        try:
            authority = x509.load_der_x509_certificate(chain[0])
        except ValueError as error:
            raise PkiError("authority-malformed", "the authority's certificate cannot be read") from error
        trust_domain = profiles.lint_authority(authority)
        return cls(tuple(chain), trust_domain, names.parse_dns_suffix(dns_suffix), authority)

    @property
    def spki(self) -> bytes:
        """The authority's DER SubjectPublicKeyInfo."""
        return self.authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class PreparedCertificate:
    """Bytes that may be signed once `grant` is redeemed: a TBSCertificate and what it was built from."""

    tbs: bytes
    grant: Grant
    serial: int
    crl_url: str


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A signed, linted device certificate: DER, and the chain above it (DER, the issuer first)."""

    der: bytes
    chain: tuple[bytes, ...]
    serial: int
    not_after: int
    grant_digest: bytes


def prepare(grant: Grant, *, issuer: IssuerIdentity, serial: int, crl_url: str) -> PreparedCertificate:
    """Build the bytes to be signed for `grant`, from nothing else.

    `serial` is the caller's random number of about 128 bits. *Raises* PkiError `grant-other-trust-domain`,
    `grant-other-suffix`, `issuer-expired` (the authority does not live as long), or a profile's code.
    """
    if grant.uri != names.spiffe_id(issuer.trust_domain, grant.device_id):
        raise PkiError("grant-other-trust-domain", "the grant's URI lies outside the authority's trust domain")
    if grant.dns_name != names.dns_name(grant.device_id, issuer.dns_suffix):
        raise PkiError("grant-other-suffix", "the grant's DNS name lies outside the authority's suffix")
    lives = issuer.authority.not_valid_before_utc, issuer.authority.not_valid_after_utc
    if not (lives[0] <= profiles.instant(grant.not_before) and profiles.instant(grant.not_after) <= lives[1]):
        raise PkiError("issuer-expired", "the authority is not valid for the whole life of the certificate")
    tbs = profiles.device_tbs(
        grant,
        issuer=issuer.authority.subject,
        issuer_key_id=profiles.authority_key_id(issuer.authority),
        serial=serial,
        crl_url=crl_url,
    )
    return PreparedCertificate(tbs, grant, serial, crl_url)


# --- redeeming ------------------------------------------------------------------------------------------------------

_REDEEMED: Final = object()


class RedeemedGrant:
    """A grant that was claimed in the ledger just now. Only `redeem` makes one; it is spent once and cannot be copied."""

    __slots__ = ("_grant", "_lock")

    def __init__(self, grant: Grant, *, proof: object) -> None:
        """Refuse everybody but `redeem`, who alone has the proof. *Raises* TypeError."""
        if proof is not _REDEEMED:
            raise TypeError("a RedeemedGrant is made by redeem() only")
        self._grant: Grant | None = grant
        self._lock = threading.Lock()

    def spend(self) -> Grant:
        """Return the grant to the first caller. *Raises* PkiError `grant-used` for every other."""
        with self._lock:
            grant, self._grant = self._grant, None
        if grant is None:
            raise PkiError("grant-used", "this redeemed grant has been spent")
        return grant

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be copied or pickled: a copy would be a second certificate. *Raises* TypeError."""
        raise TypeError("a RedeemedGrant cannot be copied")


def redeem(grant: Grant, *, now: int, ledger: GrantLedger) -> RedeemedGrant:
    """Claim `grant` in the ledger and return the token that issuing consumes.

    *Raises* PkiError `grant-not-yet-valid`, `grant-expired` (the ledger is not touched), `grant-used`.
    """
    _check_time(grant, now)
    if not ledger.claim(grant.grant_id, grant.digest()):
        raise PkiError("grant-used", "this grant has been redeemed before")
    return RedeemedGrant(grant, proof=_REDEEMED)


def _check_time(grant: Grant, now: int) -> None:
    if now < grant.minted_at:
        raise PkiError("grant-not-yet-valid", "the grant was minted in the future")
    if now >= grant.expires_at:
        raise PkiError("grant-expired", "the grant was not used in time")


# --- issuing --------------------------------------------------------------------------------------------------------


class Issuer:
    """An authority that issues what it can build itself, and nothing it is shown."""

    __slots__ = ("_backend", "_identity")

    def __init__(self, identity: IssuerIdentity, backend: SigningBackend) -> None:
        """Bind a name to whoever signs under it. *Raises* PkiError `issuer-algorithm`, `issuer-key-mismatch`."""
        if backend.algorithm != ED25519:
            raise PkiError("issuer-algorithm", f"unknown signature algorithm {backend.algorithm!r}")
        if backend.public_key() != identity.spki:
            raise PkiError("issuer-key-mismatch", "the backend does not hold the authority's key")
        self._identity = identity
        self._backend = backend

    @property
    def identity(self) -> IssuerIdentity:
        """Under whose name this issuer issues."""
        return self._identity

    def __repr__(self) -> str:
        return f"Issuer({self._identity.authority.subject.rfc4514_string()!r}, {self._backend!r})"

    def issue(self, prepared: PreparedCertificate, redeemed: RedeemedGrant, *, now: int) -> IssuedCertificate:
        """Sign `prepared` and spend `redeemed`, whatever the outcome.

        *Raises* PkiError `grant-used`, `grant-expired`, `prepared-other-grant`, `prepared-altered`,
        `issuer-bad-signature`, `certificate-profile`.
        """
        # 1. The token is spent first, so that no failure below leaves it for a second try.
        grant = redeemed.spend()
        # 2. Time has passed since it was redeemed.
        _check_time(grant, now)
        # 3. The bytes belong to this grant, and are what this issuer builds from it.
        if prepared.grant != grant:
            raise PkiError("prepared-other-grant", "the prepared bytes belong to another grant")
        again = prepare(grant, issuer=self._identity, serial=prepared.serial, crl_url=prepared.crl_url)
        if again.tbs != prepared.tbs:
            raise PkiError("prepared-altered", "the prepared bytes are not what the grant says")
        # 4. Whoever signs gets the grant too, to build the bytes a third time.
        finished = der.signed(again.tbs, self._backend.sign(again.tbs, grant))
        # 5. Nothing leaves that has not been read back.
        certificate = self._read_back(finished)
        profiles.lint_device(certificate, grant, issuer=self._identity.authority, crl_url=prepared.crl_url)
        return IssuedCertificate(finished, self._identity.chain, prepared.serial, grant.not_after, grant.digest())

    def sign_crl(self, tbs: bytes, content: RevocationList) -> bytes:
        """Return the DER revocation list over `tbs`. *Raises* PkiError `issuer-bad-signature`."""
        signature = self._backend.sign_crl(tbs, content)
        self._verify(signature, tbs)
        return der.signed(tbs, signature)

    def _read_back(self, finished: bytes) -> x509.Certificate:
        try:
            certificate = x509.load_der_x509_certificate(finished)
        except ValueError as error:
            raise PkiError("certificate-profile", "the finished certificate cannot be read") from error
        self._verify(certificate.signature, certificate.tbs_certificate_bytes)
        return certificate

    def _verify(self, signature: bytes, tbs: bytes) -> None:
        key = self._identity.authority.public_key()
        try:
            if not isinstance(key, ed25519.Ed25519PublicKey):
                raise PkiError("issuer-algorithm", "the authority's key is not an Ed25519 key")
            key.verify(signature, tbs)
        except InvalidSignature as error:
            raise PkiError("issuer-bad-signature", "the backend's signature does not verify") from error
