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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from types import MappingProxyType
from typing import Final, Self, TypeVar

from attestd_pki import extensions
from attestd_pki.certificate import Certificate
from attestd_pki.errors import PkiError
from attestd_pki.signatures import SHA1, WEAK, kinds_fit, known_algorithm, verify_signature, weak_hash
from attestd_pki.times import in_words

T = TypeVar("T")

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
_MIN_BITS: Final = {"rsa": 2048, "ec": 256}
"""SP 800-131A: fewer bits of RSA give less than 112 bits of strength. No issuer of 450 has fewer, or a smaller curve."""
_CURVES: Final = frozenset({"P-256", "P-384", "P-521", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"})
"""Curves of authorities: those of SP 800-186 and RFC 5639 with 128 bits of strength. No authority is on another one."""


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

    `sha1_issuers` are SHA-256 of issuer certificates whose signatures with SHA-1 are accepted. `recorded` are SHA-256 of
    certificates of which every weakness is recorded and not refused: any weak hash, small keys, critical extensions that are
    unknown here, name constraints, version 1. It is for reports to people; nothing that admits a device names any.
    """

    sha1_issuers: frozenset[bytes] = frozenset()
    expiry: Expiry = Expiry.REFUSE
    recorded: frozenset[bytes] = frozenset()


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
    if leaf.sha256 not in exceptions.recorded:
        _check_critical(leaf)
    path = walk.extend((leaf,))
    if path is None:
        raise walk.refusal
    return Chain(path, deviations_of(path, at, anchored=True))


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
            recorded = issuer.sha256 in self._exceptions.recorded
            _check_authority(issuer, path, version_1=recorded and issuer.sha256 in self._store.anchors)
            if not recorded:
                _check_strength(issuer)
        except PkiError as error:
            self._refuse(2 * len(path) + 1, error)
            return False
        return True

    def _check_hash(self, algorithm: str, subject: Certificate, issuer: Certificate) -> None:
        named = self._exceptions.recorded | (self._exceptions.sha1_issuers if algorithm == SHA1 else frozenset())
        if issuer.key_type == "ec" and issuer.key_curve not in _CURVES and issuer.sha256 not in named:
            raise PkiError("chain-signature-algorithm", f"{issuer.subject.text} signs on the curve {issuer.key_curve}")
        if algorithm in WEAK and issuer.sha256 not in named:
            who, spelt = f"{issuer.subject.text} ({issuer.sha256.hex()})", algorithm.upper().replace("SHA1", "SHA-1")
            raise PkiError(
                "chain-weak-hash", f"{who} signed {_called(subject)} with {spelt}, and is not named as an exception"
            )

    def _refuse(self, reached: int, refusal: PkiError) -> None:
        if reached > self._reached:
            self._reached, self.refusal = reached, refusal


def _missing(subject: Certificate) -> PkiError:
    """Say which certificate is missing, by all that its child knows of it: name, key identifier, where to fetch it."""
    if subject.self_issued:
        name = subject.subject.text
        return PkiError(
            "chain-self-signed", f"{name} ({subject.sha256.hex()}) ends the path and is not a pinned anchor"
        )
    identifier = _hint(extensions.authority_key_identifier, subject)
    key = f" with key identifier {identifier.hex()}" if identifier else ""
    urls = _hint(extensions.issuer_urls, subject)
    where = f"; the certificate says that it is at {urls[0]}" if urls else ""
    return PkiError(
        "chain-issuer-missing", f"the issuer {subject.issuer.text}{key} is neither in the bundle nor was it sent{where}"
    )


def _signature_refusal(error: PkiError, subject: Certificate, issuer: Certificate) -> PkiError:
    if error.code == "signature-algorithm" and known_algorithm(subject) and not kinds_fit(subject, issuer):
        # A key that cannot have made it, under the same name: the right one is what is missing.
        return _missing(subject)
    if error.code != "signature-invalid":
        return PkiError("chain-signature-algorithm", f"{issuer.subject.text}: {error.message}")
    if subject.self_issued or not _key_identifier_fits(subject, issuer):
        # Another key under the same name: the right one is what is missing, or there is none above.
        return _missing(subject)
    return PkiError("chain-signature", f"{issuer.subject.text} did not sign {_called(subject)}")


def _hint(read: Callable[[Certificate], T | None], certificate: Certificate) -> T | None:
    """Return what an extension hints at; one that cannot be read hints at nothing."""
    try:
        return read(certificate)
    except PkiError:
        return None


def _key_identifier_fits(subject: Certificate, issuer: Certificate) -> bool:
    """Return whether the identifiers agree, or one of them is absent. A hint for the order, never a proof.

    An authority that is meant by issuer and serial number is known by that number (RFC 5280, 4.2.1.1).
    """
    wanted = _hint(extensions.authority_key_identifier, subject)
    serial = _hint(extensions.authority_serial, subject)
    if serial is not None and serial != issuer.serial:
        return False
    offered = _hint(extensions.subject_key_identifier, issuer)
    return wanted is None or offered is None or wanted == offered


def _called(certificate: Certificate) -> str:
    """Return what to call a certificate in a message; endorsement certificates often have an empty subject."""
    return certificate.subject.text or f"the certificate {certificate.sha256.hex()[:16]}"


def _check_not_before(certificate: Certificate, at: int) -> None:
    if at < certificate.not_before:
        begins = in_words(certificate.not_before)
        raise PkiError("chain-not-yet-valid", f"{_called(certificate)} is valid from {begins}, it is {in_words(at)}")


def _check_not_after(certificate: Certificate, at: int) -> None:
    if at > certificate.not_after:
        ended = in_words(certificate.not_after)
        raise PkiError("chain-expired", f"{_called(certificate)} was valid until {ended}, it is {in_words(at)}")


def _check_critical(certificate: Certificate) -> None:
    """Refuse what a certificate calls critical and nobody here understands (RFC 5280, 4.2)."""
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            message = f"{_called(certificate)} has the unknown critical extension {extension.oid}"
            raise PkiError("chain-critical-extension", message)


def _check_authority(issuer: Certificate, path: tuple[Certificate, ...], *, version_1: bool) -> None:
    """Refuse an issuer that may not issue the end of `path` (RFC 5280, 6.1.4 (k) to (n)).

    `version_1` says that it is an anchor which may be older than the mark of an authority: then only its pin says what it is.
    """
    name = issuer.subject.text
    constraints = extensions.basic_constraints(issuer)
    if constraints is None and version_1 and issuer.version == 1:
        return
    if constraints is None or not constraints[0]:
        raise PkiError("chain-ca-false", f"{name} is not a certificate authority")
    usage = extensions.key_usage(issuer)
    if usage is not None and extensions.KEY_CERT_SIGN not in usage:
        raise PkiError("chain-key-usage", f"{name} may not sign certificates")
    # Self-issued intermediates do not count; the leaf (path[0]) is no intermediate.
    below = sum(not certificate.self_issued for certificate in path[1:])
    if constraints[1] is not None and below > constraints[1]:
        raise PkiError("chain-path-length", f"{name} allows {constraints[1]} authorities below it, not {below}")


def _check_strength(issuer: Certificate) -> None:
    """Refuse an issuer with something critical that is unknown here (RFC 5280, 6.1.4 (o)), name constraints, or a small key."""
    if issuer.extension(extensions.NAME_CONSTRAINTS):
        # None of 450 manufacturers' authorities has them. Refusing keeps what their author relied on.
        raise PkiError(
            "chain-name-constraint", f"{issuer.subject.text} has name constraints, which are not evaluated here"
        )
    _check_critical(issuer)
    if is_small(issuer):
        name, key = issuer.subject.text, issuer.key_type.upper()
        raise PkiError("chain-weak-key", f"{name} has an {key} key of {issuer.key_bits} bits")


def is_small(certificate: Certificate) -> bool:
    """Return whether the certified key is of a size that an authority must not have."""
    return 0 < certificate.key_bits < _MIN_BITS.get(certificate.key_type, 0)


def deviations_of(path: tuple[Certificate, ...], at: int, *, anchored: bool) -> tuple[str, ...]:
    """Return what a person should know of a path, leaf first; of an anchor, the signature was not looked at."""
    found: dict[str, None] = {}
    for index, certificate in enumerate(path):
        odd = list(certificate.deviations)
        if at > certificate.not_after:
            odd.append("expired")
        weak = weak_hash(certificate)
        if weak is not None and not (anchored and index == len(path) - 1):
            odd.append(f"{weak}-signature")
        if index > 0:
            odd += _odd_authority(certificate)
        known = _KNOWN_CRITICAL | {extensions.NAME_CONSTRAINTS}
        unknown = (one.oid for one in certificate.extensions if one.critical and one.oid not in known)
        odd += [f"unknown-critical-extension {oid}" for oid in unknown]
        found |= dict.fromkeys(f"{deviation}: {_called(certificate)}" for deviation in odd)
    return tuple(found)


def _odd_authority(certificate: Certificate) -> list[str]:
    odd = []
    if _hint(extensions.key_usage, certificate) is None:
        odd.append("key-usage-absent")
    if is_small(certificate) or (certificate.key_type == "ec" and certificate.key_curve not in _CURVES):
        odd.append(f"weak-key {certificate.key_curve or certificate.key_type} {certificate.key_bits}")
    if certificate.extension(extensions.NAME_CONSTRAINTS):
        odd.append("name-constraints-not-evaluated")
    if _hint(extensions.basic_constraints, certificate) is None:
        odd.append("basic-constraints-absent")
    return odd
