"""From a foreign certificate to an anchor that the operator has pinned: building and verifying are one walk.

Proves, of a `Chain`, that every certificate was signed by the next (over its original bytes), that the last is pinned by
its SHA-256, and that each issuer may issue: CA:TRUE, keyCertSign, path length, validity at the given instant, no weak
hash, nothing critical that is unknown here. Assumes that the operator chose the anchors. Does not check purposes of the
leaf (`ekcert` does) or revocation, and fetches nothing: an issuer that is missing is named in the refusal.

1. The leaf itself: validity, critical extensions.
2. At a pinned certificate the walk ends.
3. All certificates whose subject has the issuer's name are tried (ST published two encodings of one authority, Infineon
   several keys under one name), those with the right key identifier first.
4. The signature, over the original bytes.
5. The issuer: CA, key usage, path length, validity, critical extensions, name constraints, key size, hash.

One walk costs at most `Budget.signatures` signatures, whatever a stranger sends; among the refusals met on the way, the
one that came closest to an anchor is raised.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from types import MappingProxyType
from typing import Final, Self

from attestd_pki import extensions
from attestd_pki.certificate import Certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import SHA1, uses_sha1, verify_signature

_KNOWN_CRITICAL: Final = frozenset(
    {
        extensions.BASIC_CONSTRAINTS,
        extensions.KEY_USAGE,
        extensions.EXTENDED_KEY_USAGE,
        extensions.SUBJECT_ALTERNATIVE_NAME,
        # Infineon and Microsoft mark it critical. No policy is asked for, so every policy is acceptable (RFC 5280,
        # 6.1.1 (c)); policyConstraints could change that, and is refused as unknown.
        extensions.CERTIFICATE_POLICIES,
    }
)
_MIN_RSA_BITS: Final = 2048
"""SP 800-131A: fewer bits give less than 112 bits of strength. No issuer of 450 has fewer."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one walk may cost: certificates from leaf to anchor, and signatures verified over all paths tried."""

    depth: int
    signatures: int


@unique
class Expiry(Enum):
    """What an expired certificate means. One that is not yet valid is always refused."""

    REFUSE = "refuse"
    RECORD_LEAF = "record-leaf"
    """A chip outlives its certificate: the leaf may be expired, and the chain says so among its deviations."""
    RECORD_ALL = "record-all"
    """The manufacturer's authorities may be expired as well."""


@dataclass(frozen=True, slots=True)
class Exceptions:
    """What the operator tolerates, by name. The default tolerates nothing.

    `sha1_issuers` are SHA-256 of issuer certificates whose signatures with SHA-1 are accepted.
    """

    sha1_issuers: frozenset[bytes] = frozenset()
    expiry: Expiry = Expiry.REFUSE


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The operator's bundle: anchors, pinned by SHA-256, and intermediates, which are only candidates."""

    anchors: frozenset[bytes]
    by_subject: Mapping[object, tuple[Certificate, ...]] = field(repr=False)

    @classmethod
    def of(cls, anchors: Iterable[Certificate], intermediates: Iterable[Certificate] = ()) -> Self:
        """Index a bundle once; a store is shared by all walks."""
        anchors = tuple(anchors)
        found: dict[object, dict[bytes, Certificate]] = {}
        for certificate in (*anchors, *intermediates):
            found.setdefault(certificate.subject.key, {})[certificate.sha256] = certificate
        index = {name: tuple(same.values()) for name, same in found.items()}
        return cls(frozenset(anchor.sha256 for anchor in anchors), MappingProxyType(index))

    @classmethod
    def pinned(cls, bundle: Iterable[Certificate], pins: Iterable[bytes]) -> Self:
        """Index a bundle in which `pins` (SHA-256 of certificates) are the anchors and all others are candidates.

        *Raises* PkiError `anchor-not-in-bundle`, naming the pins that nothing in the bundle has.
        """
        certificates = {certificate.sha256: certificate for certificate in bundle}
        wanted = frozenset(pins)
        if absent := sorted(pin.hex() for pin in wanted - certificates.keys()):
            raise PkiError("anchor-not-in-bundle", f"no certificate of the bundle has SHA-256 {', '.join(absent[:4])}")
        return cls.of((certificates[pin] for pin in sorted(wanted)), certificates.values())


@dataclass(frozen=True, slots=True)
class Chain:
    """A verified path, leaf first, anchor last, and what is odd about it (`<kebab-case>: <subject>`)."""

    certificates: tuple[Certificate, ...]
    deviations: tuple[str, ...]

    @property
    def anchor(self) -> Certificate:
        """The pinned certificate at its end."""
        return self.certificates[-1]


NO_EXCEPTIONS: Final = Exceptions()


def build_and_verify_chain(
    leaf: Certificate,
    candidates: Iterable[Certificate],
    store: TrustStore,
    *,
    at: int,
    budget: Budget,
    exceptions: Exceptions = NO_EXCEPTIONS,
) -> Chain:
    """Return a verified path from `leaf` to an anchor of `store` at the instant `at` (unix seconds).

    `candidates` are what came with the leaf: they may fill a gap, and are never trusted. *Raises* PkiError:
    `chain-issuer-missing`, `chain-self-signed` (ends at a root that is not pinned), `chain-signature`,
    `chain-signature-algorithm`, `chain-weak-hash`, `chain-weak-key`, `chain-expired`, `chain-not-yet-valid`,
    `chain-ca-false`, `chain-key-usage`, `chain-path-length`, `chain-critical-extension`, `chain-name-constraint`,
    `chain-too-long`, `chain-budget`, or `extension-malformed`.
    """
    walk = _Walk(tuple(candidates), store, at=at, budget=budget, exceptions=exceptions)
    # 1. The leaf itself.
    _check_not_before(leaf, at)
    if exceptions.expiry is Expiry.REFUSE:
        _check_not_after(leaf, at)
    _check_critical(leaf)
    path = walk.extend((leaf,))
    if path is None:
        raise walk.refusal
    return Chain(path, _deviations(path, at))


class _Walk:
    """One depth-first search, with what it may still spend and how far it has come."""

    def __init__(
        self, candidates: tuple[Certificate, ...], store: TrustStore, *, at: int, budget: Budget, exceptions: Exceptions
    ) -> None:
        self._candidates = candidates
        self._store = store
        self._at = at
        self._budget = budget
        self._exceptions = exceptions
        self._spent = 0
        self._reached = -1
        self.refusal = PkiError("chain-issuer-missing", "no path was found")

    def extend(self, path: tuple[Certificate, ...]) -> tuple[Certificate, ...] | None:
        """Return `path` extended to an anchor, or None; the refusal that came closest is kept."""
        subject = path[-1]
        # 2. At a pinned certificate the walk ends.
        if subject.sha256 in self._store.anchors:
            return path
        if len(path) >= self._budget.depth:
            self._refuse(
                2 * len(path), PkiError("chain-too-long", f"no anchor within {self._budget.depth} certificates")
            )
            return None
        # 3. Every certificate of that name.
        issuers = self._issuers(path)
        if not issuers:
            self._refuse(2 * len(path), _missing(subject))
        for issuer in issuers:
            if self._accepts(issuer, path):
                found = self.extend((*path, issuer))
                if found is not None:
                    return found
        return None

    def _issuers(self, path: tuple[Certificate, ...]) -> list[Certificate]:
        subject = path[-1]
        known = {certificate.sha256 for certificate in path}
        named = [*self._store.by_subject.get(subject.issuer.key, ())]
        named += [candidate for candidate in self._candidates if candidate.subject.key == subject.issuer.key]
        fresh = {issuer.sha256: issuer for issuer in named if issuer.sha256 not in known}
        return sorted(fresh.values(), key=lambda issuer: not _key_identifier_fits(subject, issuer))

    def _accepts(self, issuer: Certificate, path: tuple[Certificate, ...]) -> bool:
        subject = path[-1]
        if self._spent >= self._budget.signatures:
            raise PkiError("chain-budget", f"more than {self._budget.signatures} signatures for one certificate")
        self._spent += 1
        try:
            # 4. The signature.
            algorithm = verify_signature(subject, issuer)
        except PkiError as error:
            self._refuse(2 * len(path), _signature_refusal(error, subject, issuer))
            return False
        try:
            # 5. The issuer.
            self._check_hash(algorithm, subject, issuer)
            _check_not_before(issuer, self._at)
            if self._exceptions.expiry is not Expiry.RECORD_ALL:
                _check_not_after(issuer, self._at)
            _check_issuer(issuer, path)
        except PkiError as error:
            self._refuse(2 * len(path) + 1, error)
            return False
        return True

    def _check_hash(self, algorithm: str, subject: Certificate, issuer: Certificate) -> None:
        if algorithm == SHA1 and issuer.sha256 not in self._exceptions.sha1_issuers:
            who = f"{issuer.subject.text} ({issuer.sha256.hex()})"
            raise PkiError(
                "chain-weak-hash", f"{who} signed {_called(subject)} with SHA-1, and is not named as an exception"
            )

    def _refuse(self, reached: int, refusal: PkiError) -> None:
        if reached > self._reached:
            self._reached, self.refusal = reached, refusal


def _missing(subject: Certificate) -> PkiError:
    if subject.self_issued:
        name = subject.subject.text
        return PkiError(
            "chain-self-signed", f"{name} ({subject.sha256.hex()}) ends the path and is not a pinned anchor"
        )
    identifier = extensions.authority_key_identifier(subject)
    key = f" with key identifier {identifier.hex()}" if identifier else ""
    return PkiError(
        "chain-issuer-missing", f"the issuer {subject.issuer.text}{key} is neither in the bundle nor was it sent"
    )


def _signature_refusal(error: PkiError, subject: Certificate, issuer: Certificate) -> PkiError:
    if error.code != "signature-invalid":
        return PkiError("chain-signature-algorithm", f"{issuer.subject.text}: {error.message}")
    if subject.self_issued or not _key_identifier_fits(subject, issuer):
        # Another key under the same name: the right one is what is missing, or there is none above.
        return _missing(subject)
    return PkiError("chain-signature", f"{issuer.subject.text} did not sign {_called(subject)}")


def _key_identifier_fits(subject: Certificate, issuer: Certificate) -> bool:
    """Return whether the key identifiers agree, or one of them is absent. A hint for the order, never a proof."""
    wanted, offered = extensions.authority_key_identifier(subject), extensions.subject_key_identifier(issuer)
    return wanted is None or offered is None or wanted == offered


def _called(certificate: Certificate) -> str:
    """Return what to call a certificate in a message; endorsement certificates often have an empty subject."""
    return certificate.subject.text or f"the certificate {certificate.sha256.hex()[:16]}"


def _check_not_before(certificate: Certificate, at: int) -> None:
    if at < certificate.not_before:
        raise PkiError(
            "chain-not-yet-valid", f"{_called(certificate)} is valid from {certificate.not_before}, it is {at}"
        )


def _check_not_after(certificate: Certificate, at: int) -> None:
    if at > certificate.not_after:
        raise PkiError("chain-expired", f"{_called(certificate)} was valid until {certificate.not_after}, it is {at}")


def _check_critical(certificate: Certificate) -> None:
    """Refuse what a certificate calls critical and nobody here understands (RFC 5280, 4.2)."""
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            message = f"{_called(certificate)} has the unknown critical extension {extension.oid}"
            raise PkiError("chain-critical-extension", message)


def _check_issuer(issuer: Certificate, path: tuple[Certificate, ...]) -> None:
    """Refuse an issuer that may not issue the end of `path` (RFC 5280, 6.1.4 (k) to (o))."""
    name = issuer.subject.text
    constraints = extensions.basic_constraints(issuer)
    if constraints is None or not constraints[0]:
        raise PkiError("chain-ca-false", f"{name} is not a certificate authority")
    usage = extensions.key_usage(issuer)
    if usage is not None and extensions.KEY_CERT_SIGN not in usage:
        raise PkiError("chain-key-usage", f"{name} may not sign certificates")
    # Self-issued intermediates do not count; the leaf (path[0]) is no intermediate.
    below = sum(not certificate.self_issued for certificate in path[1:])
    if constraints[1] is not None and below > constraints[1]:
        raise PkiError("chain-path-length", f"{name} allows {constraints[1]} authorities below it, not {below}")
    if issuer.extension(extensions.NAME_CONSTRAINTS):
        # None of 450 manufacturers' authorities has them. Refusing keeps what their author relied on.
        raise PkiError("chain-name-constraint", f"{name} has name constraints, which are not evaluated here")
    _check_critical(issuer)
    if issuer.key_type == "rsa" and issuer.key_bits < _MIN_RSA_BITS:
        raise PkiError("chain-weak-key", f"{name} has an RSA key of {issuer.key_bits} bits")


def _deviations(path: tuple[Certificate, ...], at: int) -> tuple[str, ...]:
    """Return what a person should know of a path that was accepted, leaf first."""
    found: dict[str, None] = {}
    for index, certificate in enumerate(path):
        odd = list(certificate.deviations)
        if at > certificate.not_after:
            odd.append("expired")
        # The anchor's own signature was not looked at.
        if index < len(path) - 1 and uses_sha1(certificate):
            odd.append("sha1-signature")
        if index > 0 and extensions.key_usage(certificate) is None:
            odd.append("key-usage-absent")
        found |= dict.fromkeys(f"{deviation}: {_called(certificate)}" for deviation in odd)
    return tuple(found)
