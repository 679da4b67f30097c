"""A development authority: one key in one process, and it says so wherever it is seen.

Proves nothing about who may sign: whoever holds the PEM is the authority, a single master key of the kind that a quorum
of signers replaces. Its subject name, its certificates' issuer and its repr carry DEVELOPMENT_MARK. Assumes nothing. Does
not read files or draw randomness: keys come as arguments.
"""

from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from attestd_pki import der, names, profiles
from attestd_pki.errors import PkiError
from attestd_pki.grant import Grant
from attestd_pki.issuer import ED25519, Issuer, IssuerIdentity
from attestd_pki.revocation import RevocationList

DEVELOPMENT_MARK: Final = "DEVELOPMENT - NOT FOR PRODUCTION"


class DevelopmentBackend:
    """An Ed25519 key in memory, behind the interface that a quorum has."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Hold `key`."""
        self._key = key

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read an unencrypted PKCS#8 PEM. *Raises* PkiError `development-key-malformed`; its message holds no key bytes."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The cause is dropped: a parser's message may quote what it read.
            raise PkiError("development-key-malformed", "not an unencrypted PEM private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise PkiError("development-key-malformed", "not an Ed25519 private key")
        return cls(key)

    @property
    def algorithm(self) -> str:
        """Always Ed25519 (RFC 8410)."""
        return ED25519

    def public_key(self) -> bytes:
        """Return the DER SubjectPublicKeyInfo."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, tbs: bytes, grant: Grant) -> bytes:
        """Return the signature over `tbs`. *Assumes* that the issuer built it from `grant`: here both are one process."""
        del grant
        return self._key.sign(tbs)

    def sign_crl(self, tbs: bytes, content: RevocationList) -> bytes:
        """Return the signature over `tbs`. *Assumes* that the issuer built it from `content`."""
        del content
        return self._key.sign(tbs)

    def sign_authority(self, tbs: bytes) -> bytes:
        """Return the signature over the TBSCertificate of this key's own authority; a quorum has no such method."""
        return self._key.sign(tbs)

    def __repr__(self) -> str:
        return f"<{DEVELOPMENT_MARK}: Ed25519 key in memory>"


def development_subject(name: str) -> x509.Name:
    """Return the subject of a development authority: O says what it is, CN is `name` (a label)."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, DEVELOPMENT_MARK),
            x509.NameAttribute(NameOID.COMMON_NAME, names.parse_label(name)),
        ]
    )


def new_development_ca(
    name: str, trust_domain: str, *, key: DevelopmentBackend, not_before: int, not_after: int, serial: int
) -> bytes:
    """Return the DER certificate of a self-signed development authority. *Raises* PkiError of `profiles.authority_tbs`."""
    tbs = profiles.authority_tbs(
        development_subject(name),
        key.public_key(),
        trust_domain=trust_domain,
        not_before=not_before,
        not_after=not_after,
        serial=serial,
    )
    return der.signed(tbs, key.sign_authority(tbs))


def development_issuer(key_pem: bytes, ca_der: bytes, *, dns_suffix: str) -> Issuer:
    """Return an issuer from a development key (PEM) and its authority's certificate (DER).

    *Raises* PkiError `development-ca-unmarked` for a certificate whose subject does not carry the mark, so that no other
    authority's key is ever used this way; `development-key-malformed`, `issuer-key-mismatch`.
    """
    identity = IssuerIdentity.of((ca_der,), dns_suffix=dns_suffix)
    organizations = identity.authority.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if [attribute.value for attribute in organizations] != [DEVELOPMENT_MARK]:
        raise PkiError("development-ca-unmarked", "this authority does not call itself a development authority")
    return Issuer(identity, DevelopmentBackend.from_pem(key_pem))
