"""A certificate of a TPM's world for a person: whose it is, who stands behind it, and what is odd about it.

Proves, where it says "trusted", that valid signatures over the original bytes lead to an anchor of the given bundle. Assumes that
whoever gave the bundle chose its self-signed certificates as anchors. What a policy may tolerate (SHA-1, an expired certificate,
an odd encoding) is a deviation here and no refusal; the verifier's own policy is stricter.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from attestd.evidence.ek import BUDGET
from attestd.inspection.chip import chip_of, specification_of
from attestd.inspection.refused import InspectionRefused
from attestd.inspection.report import opening
from attestd.inspection.wrapped import certificates_in
from attestd_pki import extensions
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import Chain, Exceptions, Expiry, TrustStore, build_and_verify_chain, deviations_of
from attestd_pki.ekcert import EK_PURPOSE, EkInfo, check_ek_profile
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki, verify_signature

_MISSING: Final = frozenset({"chain-issuer-missing", "chain-self-signed", "chain-too-long", "chain-budget"})
"""Refusals of the walk that say that something is missing, rather than that something is wrong."""
_MOST_BESIDE: Final = 32
"""Certificates of one file that are looked at: one is the subject, the others may lie on its path."""
_DEVIATES: Final = frozenset({"ek-key-usage", "ek-key-size", "ek-key-algorithm"})
"""What enrolment refuses of a chip that was sold all the same; what is of another kind of certificate is no deviation."""
_OF_A_CERTIFICATE: Final = (
    "certificate_sha256",
    "subject_public_key_sha256",
    "manufacturer",
    "manufacturer_id",
    "model",
    "firmware_version",
    "specification",
    "missing",
    "subject",
    "issuer",
    "serial",
    "not_before",
    "not_after",
    "key",
)
"""Keys of a report that are null where there is no certificate."""
_PURPOSES: Final = {
    EK_PURPOSE: "endorsement key",
    "2.23.133.8.2": "platform attribute certificate",
    "2.23.133.8.3": "attestation key",
    "2.23.133.8.4": "platform key",
    "1.3.6.1.5.5.7.3.1": "TLS server",
    "1.3.6.1.5.5.7.3.2": "TLS client",
}


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """One certificate and its path. `chain` is leaf first, as far as signatures hold; `reasons` are (code, sentence)."""

    outcome: str
    reasons: tuple[tuple[str, str], ...]
    deviations: tuple[str, ...]
    certificate: Certificate
    chain: tuple[Certificate, ...]
    purposes: tuple[str, ...]
    info: EkInfo | None
    spki: bytes

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        certificate, info = self.certificate, self.info
        return {
            **opening(self.reasons, outcome=self.outcome, deviations=self.deviations),
            "certificate_sha256": certificate.sha256.hex(),
            "subject_public_key_sha256": sha256(self.spki).hexdigest(),
            "manufacturer": info.manufacturer_name if info and info.manufacturer else None,
            "manufacturer_id": info.manufacturer if info and info.manufacturer else None,
            "model": info.model if info and info.model else None,
            "firmware_version": info.firmware_version if info and info.firmware_version else None,
            "specification": specification_of(certificate),
            "chain": [one.sha256.hex() for one in self.chain],
            "chain_names": [name_of(one) for one in self.chain],
            "missing": missing_issuer(self.chain) if self.outcome == "untrusted" else None,
            "subject": certificate.subject.text,
            "issuer": certificate.issuer.text,
            "serial": f"{certificate.serial:x}",
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
            "key": key_text(certificate),
            "purposes": list(self.purposes),
        }


def refused_certificate(code: str, message: str) -> dict[str, Any]:
    """Return the document of bytes that hold no certificate: the same keys, with nothing in them."""
    return {
        **opening(((code, message),), deviations=()),
        **dict.fromkeys(_OF_A_CERTIFICATE),
        "chain": [],
        "chain_names": [],
        "purposes": [],
    }


def name_of(certificate: Certificate) -> str:
    """Return what to call a certificate: endorsement certificates often have no subject."""
    return certificate.subject.text or f"(no subject, serial {certificate.serial:x})"


def missing_issuer(path: tuple[Certificate, ...]) -> dict[str, Any]:
    """Return what the end of a path says of its issuer: name, key identifier and serial number where given, and where it is."""
    end = path[-1]
    if end.self_issued:
        return {"name": end.subject.text, "certificate_sha256": end.sha256.hex()}
    try:
        identifier, serial = extensions.authority_key_identifier(end), extensions.authority_serial(end)
        urls = extensions.issuer_urls(end)
    except PkiError:
        identifier, serial, urls = None, None, ()
    return {
        "name": end.issuer.text,
        "key_id": identifier.hex() if identifier else None,
        "serial": f"{serial:x}" if serial is not None else None,
        "urls": list(urls),
    }


def key_text(certificate: Certificate) -> str:
    """Return the kind and size of the certified key."""
    return f"{certificate.key_type} {certificate.key_bits}" if certificate.key_bits else certificate.key_oid


def read_bundle(files: Iterable[bytes]) -> TrustStore:
    """Return the authorities in files of PEM or DER: self-signed ones are anchors, all others candidates.

    *Raises* `InspectionRefused` ("bundle-empty"; certificates that cannot be read are left out, as nobody can chain to them).
    """
    found: list[Certificate] = []
    for data in files:
        for der in _certificates_in(data):
            try:
                found.append(parse_certificate(der))
            except PkiError:
                continue
    if not found:
        raise InspectionRefused("bundle-empty", "there is no certificate in the bundle")
    return TrustStore.of((one for one in found if one.self_issued), found)


def _certificates_in(data: bytes) -> Sequence[bytes]:
    try:
        return certificates_in(data)[0]
    except PkiError as error:
        raise InspectionRefused("bundle-malformed", f"the bundle cannot be read: {error.message}") from None


NOBODY: Final = TrustStore.of(())


def inspect_ek(data: bytes, store: TrustStore, *, at: int) -> CertificateReport:
    """Return the report on an endorsement key certificate, wrapped or not, at the instant `at` (unix seconds).

    *Raises* `InspectionRefused` for bytes that hold no certificate.
    """
    leaf, others, odd = read_certificates(data, wanted=_is_endorsement)
    info, wrong, profile = _profile(leaf)
    return _report(leaf, others, store, at=at, info=info, wrong=wrong, odd=(*odd, *profile))


def inspect_certificate(data: bytes, store: TrustStore, *, at: int) -> CertificateReport:
    """Return the report on any other certificate: of an attestation key, an identity, an authority. *Raises* as `inspect_ek`."""
    leaf, others, odd = read_certificates(data)
    try:
        info = chip_of(leaf)
    except PkiError as error:
        return _report(leaf, others, store, at=at, info=None, wrong=((error.code, error.message),), odd=odd)
    named = info if info.manufacturer or info.model else None
    return _report(leaf, others, store, at=at, info=named, wrong=(), odd=odd)


def read_certificates(
    data: bytes, *, wanted: Callable[[Certificate], bool] | None = None
) -> tuple[Certificate, tuple[Certificate, ...], tuple[str, ...]]:
    """Return the certificate in `data`, those beside it, and what surrounded it.

    The first is meant, unless another one is what is `wanted`, or the first is an issuer of the others (PKCS#7 sorts by size).
    *Raises* `InspectionRefused` with the code of the reader.
    """
    try:
        raw, odd = certificates_in(data)
        if not raw:
            raise PkiError("unwrap-empty", "there is no certificate")
    except PkiError as error:
        raise InspectionRefused(error.code, error.message) from None
    read: list[Certificate] = []
    refusal = None
    for der in raw[:_MOST_BESIDE]:
        try:
            read.append(parse_certificate(der))
        except PkiError as error:
            refusal = refusal or error
            if not read and (wanted is None or len(raw) == 1):
                raise InspectionRefused(error.code, error.message) from None
            continue  # what lies behind the first is a hint at most
    if not read:
        raise InspectionRefused(*_told(refusal))
    leaf = _meant(read, wanted)
    others = tuple(one for one in read if one is not leaf)
    notes = ["not-the-first-certificate"] if leaf is not read[0] else []
    return leaf, others, (*_wrapping(data, raw), *odd, *notes)


def _told(refusal: PkiError | None) -> tuple[str, str]:
    return (refusal.code, refusal.message) if refusal else ("unwrap-empty", "there is no certificate")


def _meant(read: Sequence[Certificate], wanted: Callable[[Certificate], bool] | None) -> Certificate:
    """Return the certificate that a file is about."""
    if wanted is not None and not wanted(read[0]):
        found = next((one for one in read if wanted(one)), None)
        if found is not None:
            return found
    issuers = {one.issuer.key for one in read if not one.self_issued}
    if read[0].subject.key in issuers and read[0].subject.rdns:
        return next((one for one in read if one.subject.key not in issuers), read[0])
    return read[0]


def _is_endorsement(certificate: Certificate) -> bool:
    try:
        return EK_PURPOSE in (extensions.extended_key_usage(certificate) or ())
    except PkiError:
        return False


def _wrapping(data: bytes, found: tuple[bytes, ...]) -> list[str]:
    size = sum(map(len, found))
    odd = [f"{len(found)} certificates in one place"] if len(found) > 1 else []
    if data.startswith(found[0]):
        rest = data[size:]
        padded = rest and data.startswith(b"".join(found)) and (not rest.strip(b"\x00\xff") or len(set(rest)) == 1)
        return [*odd, f"nv-padding: {len(rest)} bytes"] if padded else odd
    if data.startswith(b"\x10\x01\x00"):
        return [*odd, "tcg-stored-certificate-header"]
    return [*odd, "octet-string-wrapper"] if data[:1] == b"\x04" else odd


def _profile(leaf: Certificate) -> tuple[EkInfo | None, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Hold a certificate against the profile of endorsement keys: (chip, what is wrong, what deviates).

    Genuine chips have certificates without any purpose (2015, and virtual TPMs of today), and some whose key may sign: one that
    claims no other purpose and names its TPM, or is for an encryption key alone, is read as what it is, and the deviation says
    that enrolment refuses it.
    """
    try:
        info, refusal = check_ek_profile(leaf), None
    except PkiError as error:
        info, refusal = None, error
    try:
        chip = chip_of(leaf)
    except PkiError as error:
        return None, ((error.code, error.message),), ()
    if info is not None:
        return replace(chip, deviations=info.deviations), (), chip.deviations
    if refusal is not None and _is_no_other(leaf, refusal, named=bool(chip.manufacturer or chip.model)):
        return chip, (), (*chip.deviations, f"{refusal.code}: {refusal.message}; enrolment refuses it")
    wrong = ((refusal.code, refusal.message),) if refusal is not None else ()
    return chip if chip.manufacturer else None, wrong, ()


def _is_no_other(leaf: Certificate, refusal: PkiError, *, named: bool) -> bool:
    """Return whether what the profile refuses can be an endorsement key's all the same: it claims to be nothing else."""
    try:
        unstated = extensions.extended_key_usage(leaf) is None
        usages = extensions.key_usage(leaf) or frozenset()
    except PkiError:
        return False
    if usages & {extensions.KEY_CERT_SIGN, extensions.CRL_SIGN}:
        return False
    encrypts = bool(usages) and usages <= {
        extensions.KEY_ENCIPHERMENT,
        extensions.KEY_AGREEMENT,
        extensions.DATA_ENCIPHERMENT,
    }
    if refusal.code == "ek-eku":
        return unstated and (named or encrypts)
    return named and refusal.code in _DEVIATES


def _report(
    leaf: Certificate,
    others: tuple[Certificate, ...],
    store: TrustStore,
    *,
    at: int,
    info: EkInfo | None,
    wrong: tuple[tuple[str, str], ...],
    odd: tuple[str, ...],
) -> CertificateReport:
    chain, refusal = _chain(leaf, others, store, at)
    reasons = list(wrong)
    if refusal is not None:
        reasons.append((refusal.code, refusal.message))
    spki, unusable = _spki(leaf)
    reasons += unusable
    missing = all(code in _MISSING for code, _ in reasons)
    path = chain.certificates if chain is not None else _partial(leaf, others, store)
    deviations = chain.deviations if chain is not None else deviations_of(path, at, anchored=False)
    profile = info.deviations if info is not None and not wrong else ()
    return CertificateReport(
        outcome="trusted" if not reasons else "untrusted" if missing else "refused",
        reasons=tuple(reasons),
        deviations=tuple(dict.fromkeys((*odd, *profile, *deviations))),
        certificate=leaf,
        chain=path,
        purposes=_purposes(leaf),
        info=info,
        spki=spki,
    )


def _chain(
    leaf: Certificate, others: tuple[Certificate, ...], store: TrustStore, at: int
) -> tuple[Chain | None, PkiError | None]:
    """Build the path; weak hashes and keys, and what has expired, are recorded: the report says so instead of hiding it."""
    known = (one for same in store.by_subject.values() for one in same)
    recorded = frozenset(one.sha256 for one in (*known, *others, leaf))
    lenient = Exceptions(sha1_issuers=recorded, expiry=Expiry.RECORD_ALL, recorded=recorded)
    try:
        return build_and_verify_chain(leaf, others, store, at=at, budget=BUDGET, exceptions=lenient), None
    except PkiError as error:
        return None, error


def _partial(leaf: Certificate, others: tuple[Certificate, ...], store: TrustStore) -> tuple[Certificate, ...]:
    """Return the path as far as signatures hold: what is missing is the issuer of its end."""
    path = [leaf]
    spent = 0
    while len(path) < BUDGET.depth and not path[-1].self_issued:
        end = path[-1]
        named = [
            *store.by_subject.get(end.issuer.key, ()),
            *(one for one in others if one.subject.key == end.issuer.key),
        ]
        for issuer in named[: BUDGET.signatures - spent]:
            spent += 1
            if issuer not in path and _signed(end, issuer):
                path.append(issuer)
                break
        else:
            break
    return tuple(path)


def _signed(child: Certificate, issuer: Certificate) -> bool:
    try:
        verify_signature(child, issuer)
    except PkiError:
        return False
    return True


def _spki(leaf: Certificate) -> tuple[bytes, list[tuple[str, str]]]:
    try:
        return canonical_spki(leaf), []
    except PkiError as error:
        return leaf.spki, [(error.code, error.message)]


def _purposes(leaf: Certificate) -> tuple[str, ...]:
    try:
        constraints = extensions.basic_constraints(leaf)
        purposes = extensions.extended_key_usage(leaf) or ()
    except PkiError:
        return ("unreadable",)
    named = [_PURPOSES.get(purpose, purpose) for purpose in purposes]
    return ("authority", *named) if constraints is not None and constraints[0] else tuple(named)
