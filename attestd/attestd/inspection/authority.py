"""Who may sign a manifest, and who did: given keys, given anchors, and what the manifest brings along.

Proves, where a verdict is *vouched* for, that the signature is that of a given key, or of a certificate that leads to a given
anchor at the given instant. A key that lies in the manifest itself shows that nothing was changed, and not by whom it was written.
Assumes that whoever gave keys and anchors trusts their holders to speak for the maker.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from attestd.evidence.ek import BUDGET
from attestd.inspection.keyfile import NamedKey
from attestd_pki import extensions
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import NO_EXCEPTIONS, Exceptions, Expiry, TrustStore, build_and_verify_chain
from attestd_pki.errors import PkiError
from attestd_pki.signatures import PublicKey, public_key

MOST_EMBEDDED: Final = 8
"""Certificates of one manifest that are looked at; NVIDIA's bring four."""
MOST_TRIED: Final = 512
"""Certificates of a bundle that a signature is held against, where nothing says whose it is: 450 manufacturers' are one bundle."""
Check = Callable[[PublicKey], bool]
"""Whether a key made the signature. *Raises* `Unverifiable`."""


class Unverifiable(ValueError):
    """A signature of a form that is not verified here."""


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who may sign. `exceptions` are what is tolerated on a path to an anchor; the default tolerates nothing."""

    keys: tuple[NamedKey, ...] = ()
    store: TrustStore | None = None
    exceptions: Exceptions = NO_EXCEPTIONS

    @property
    def given(self) -> bool:
        """Return whether there is anybody who may sign."""
        return bool(self.keys) or self.store is not None


def reporting(keys: tuple[NamedKey, ...], store: TrustStore | None) -> Authorities:
    """Return authorities for a report, which tells of expired certificates and SHA-1 and refuses neither."""
    known = () if store is None else tuple(one for same in store.by_subject.values() for one in same)
    return Authorities(
        keys, store, Exceptions(sha1_issuers=frozenset(one.sha256 for one in known), expiry=Expiry.RECORD_ALL)
    )


@dataclass(frozen=True, slots=True)
class Brought:
    """What a manifest says of its signer: names of the key (hints alone), certificates (the signer's first), a bare key."""

    names: frozenset[str] = frozenset()
    certificates: tuple[Certificate, ...] = ()
    key: PublicKey | None = None
    shown: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a signature.

    `valid` is None where no key was found to hold it against; `vouched`: by a given key or anchor.
    """

    valid: bool | None
    signer: str | None
    vouched: bool = False
    reasons: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    deviations: tuple[str, ...] = field(default=())


def signature_document(verdict: Verdict | None, signer: str | None) -> dict[str, Any]:
    """Return what a report for programs says of a signature, or that there is none; `signer` is who a person is told it is."""
    found = verdict or Verdict(None, None)
    return {
        "deviations": list(found.deviations),
        "signature_valid": found.valid,
        "signer": signer,
        "vouched": found.vouched,
    }


def certificates_of(found: Iterable[bytes]) -> tuple[Certificate, ...]:
    """Return the certificates among DER bytes; those that cannot be read are left out, as nobody can chain to them."""
    read = []
    for der in list(found)[:MOST_EMBEDDED]:
        try:
            read.append(parse_certificate(der))
        except PkiError:
            continue
    return tuple(read)


def judge(check: Check, brought: Brought, authorities: Authorities, *, at: int, code: str) -> Verdict:
    """Return whether somebody signed, and whether it is one of the authorities, at `at` (unix seconds).

    `code` is the beginning of the reasons' codes: `…-signature`, `…-signature-form`.
    """
    try:
        for one in authorities.keys:
            if check(one.key):
                return Verdict(True, brought.shown or one.name, vouched=True)
        if authorities.store is not None:
            return _by_anchor(check, brought, authorities, authorities.store, at=at, code=code)
        if authorities.keys:
            message = f"the signature is not this key's, or what it signed was changed ({brought.shown or 'no name'})"
            return Verdict(False, brought.shown, reasons=((f"{code}-signature", message),))
        return _by_itself(check, brought, code)
    except Unverifiable as error:
        return Verdict(None, brought.shown, reasons=(unverifiable(error, code),))


def unverifiable(error: Unverifiable, code: str) -> tuple[str, str]:
    """Return the reason against a signature of a form that is not verified."""
    return f"{code}-signature-form", f"the signature cannot be verified: {error}"


def _by_itself(check: Check, brought: Brought, code: str) -> Verdict:
    """Hold the signature against the key that came along: it says that nothing was changed, and not who signed."""
    key, signer = brought.key, brought.shown
    if key is None and brought.certificates:
        key, signer = _key(brought.certificates[0]), brought.certificates[0].subject.text
    if key is None:
        return Verdict(None, signer, notes=("who signed it was not judged: no key was given, and no anchors",))
    note = "signed by the key that lies in the document itself: nothing says whose it is (--anchors, --key)"
    if check(key):
        return Verdict(True, signer, notes=(note,))
    return Verdict(False, signer, reasons=((f"{code}-signature", "it was changed since it was signed"),), notes=(note,))


def _by_anchor(
    check: Check, brought: Brought, authorities: Authorities, store: TrustStore, *, at: int, code: str
) -> Verdict:
    """Verify with the bundle's certificates, those by the signature's name first, and with those that came along."""
    known = tuple(one for same in store.by_subject.values() for one in same)
    named = [one for one in known if is_called(one, brought.names)]
    expected = [*named, *brought.certificates[:1]]
    others = [one for one in (*brought.certificates[1:], *known) if one not in expected]
    reason = ("chain-issuer-missing", f"no certificate of the bundle has the key {brought.shown or 'that signed'}")
    refused = None
    for one in (*expected, *others)[:MOST_TRIED]:
        key = _key(one)
        if key is None or not _holds(check, key, strictly=one in expected):
            continue
        found = _chained(one, brought, authorities, store, at=at)
        if found.vouched:
            return found
        refused = refused or found  # another certificate may be for the same key, and newer
    if refused is not None:
        return refused
    if any(_key(one) is not None for one in expected):
        message = "it was changed since it was signed, or signed by another key"
        return Verdict(False, brought.shown, reasons=((f"{code}-signature", message),))
    return Verdict(None, brought.shown, reasons=(reason,))


def _holds(check: Check, key: PublicKey, *, strictly: bool) -> bool:
    """Return whether the key signed; that a stranger's key is of another kind than the signature says nothing of the signature."""
    try:
        return check(key)
    except Unverifiable:
        if strictly:
            raise
        return False


def _chained(signer: Certificate, brought: Brought, authorities: Authorities, store: TrustStore, *, at: int) -> Verdict:
    try:
        chain = build_and_verify_chain(
            signer, brought.certificates, store, at=at, budget=BUDGET, exceptions=authorities.exceptions
        )
    except PkiError as error:
        return Verdict(True, signer.subject.text, reasons=((error.code, error.message),))
    return Verdict(True, signer.subject.text, vouched=True, deviations=chain.deviations)


def _key(certificate: Certificate) -> PublicKey | None:
    try:
        return public_key(certificate)
    except PkiError:
        return None


def is_called(certificate: Certificate, names: Sequence[str] | frozenset[str]) -> bool:
    """Return whether one of the names is this certificate's: its key identifier, its subject, issuer and serial. A hint alone."""
    own = {certificate.subject.text, f"{certificate.issuer.text}#{certificate.serial}"}
    try:
        identifier = extensions.subject_key_identifier(certificate)
    except PkiError:
        identifier = None
    own |= {identifier.hex()} if identifier else set()
    return any(name in own for name in names)
