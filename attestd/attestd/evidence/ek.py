"""The endorsement key: which TPM this is, and whether a manufacturer that we accept made it.

Proves that a certificate which chains to a pinned anchor is for exactly the presented key. Assumes that the anchors are the
operator's choice. Does not prove possession: credential activation does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attestd.errors import Refused
from attestd.evidence.types import EkIdentity
from attestd.protocol import limits
from attestd.protocol.reasons import Reason
from attestd.tpm.errors import Malformed
from attestd.tpm.public import Attribute, Public, parse_public, spki
from attestd_pki import names
from attestd_pki.certificate import Certificate, parse_certificate
from attestd_pki.chain import NO_EXCEPTIONS, Budget, Exceptions, TrustStore, build_and_verify_chain
from attestd_pki.ekcert import check_ek_profile
from attestd_pki.errors import PkiError
from attestd_pki.signatures import canonical_spki
from attestd_pki.unwrap import unwrap_all

EK_REQUIRED: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.DECRYPT
)
MIN_RSA_BITS: Final = 2048
BUDGET: Final = Budget(depth=limits.MAX_CHAIN_DEPTH, signatures=limits.MAX_CHAIN_CANDIDATES)

_REASONS: Final = {
    "chain-expired": Reason.EK_CERTIFICATE_EXPIRED,
    "chain-not-yet-valid": Reason.EK_CERTIFICATE_EXPIRED,
    "chain-weak-hash": Reason.EK_CERTIFICATE_WEAK,
    "chain-weak-key": Reason.EK_CERTIFICATE_WEAK,
    "ek-key-size": Reason.EK_CERTIFICATE_WEAK,
    "chain-critical-extension": Reason.EK_CERTIFICATE_PROFILE,
}


@dataclass(frozen=True, slots=True)
class EkPolicy:
    """Whom we believe about TPMs: the anchors, and the exceptions that an operator named."""

    anchors: TrustStore
    exceptions: Exceptions = NO_EXCEPTIONS


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """A public area that can be an endorsement key, the device id that follows from it, and its canonical SPKI (DER)."""

    public: Public
    device_id: str
    spki: bytes


def read_endorsement_key(area: bytes) -> EndorsementKey:
    """Return the endorsement key of a TPM2B_PUBLIC: a restricted decryption key that cannot leave its TPM.

    Raises `Refused` (ek-public-malformed). TCG EK Credential Profile 2.5, B.3.
    """
    try:
        public = parse_public(area)
        info = spki(public)
    except Malformed as error:
        raise Refused(Reason.EK_PUBLIC_MALFORMED, str(error)) from None
    wrong_use = public.attributes & EK_REQUIRED != EK_REQUIRED or public.attributes & Attribute.SIGN
    if public.kind not in ("rsa", "ecc") or wrong_use or (public.kind == "rsa" and public.key_bits < MIN_RSA_BITS):
        raise Refused(Reason.EK_PUBLIC_MALFORMED, f"{public.kind}, attributes {public.attributes:#010x}")
    return EndorsementKey(public, names.device_id(info), info)


def identify(key: EndorsementKey, certificates: Sequence[bytes], *, policy: EkPolicy, now_s: int) -> EkIdentity:
    """Return who made the TPM, after its certificate was found, chained and held against the EK profile.

    `certificates` are as the device found them: the key's own in any place, intermediates beside it. Raises `Refused`
    (ek-certificate-missing, -malformed, -mismatch, -profile, -expired, -weak, ek-chain-untrusted).
    """
    if not certificates:
        raise Refused(Reason.EK_CERTIFICATE_MISSING)
    read = _read(certificates)
    # Step 1: one of them is for this key; the key type's own encoding is compared, not the certificate's.
    own = next((found for found in read if _key_of(found) == key.spki), None)
    if own is None:
        raise Refused(Reason.EK_CERTIFICATE_MISMATCH, f"{len(read)} certificates, none for this key")
    try:
        # Step 2: it is an endorsement key certificate (usage, not an authority, names of the TPM).
        info = check_ek_profile(own)
        # Step 3: a path of valid signatures leads to a pinned anchor.
        others = [found for found in read if found is not own]
        chain = build_and_verify_chain(
            own, others, policy.anchors, at=now_s, budget=BUDGET, exceptions=policy.exceptions
        )
    except PkiError as error:
        raise Refused(_reason_of(error.code), str(error)) from None
    return EkIdentity(
        device_id=key.device_id,
        manufacturer=info.manufacturer,
        model=info.model,
        certificate_sha256=own.sha256,
        deviations=(*info.deviations, *chain.deviations),
    )


def pinned_identity(key: EndorsementKey) -> EkIdentity:
    """Return the identity of a TPM without a certificate, for a caller whose inventory pins this very key."""
    return EkIdentity(
        device_id=key.device_id,
        manufacturer="",
        model="",
        certificate_sha256=None,
        deviations=("no EK certificate: pinned by inventory",),
    )


def _read(certificates: Sequence[bytes]) -> list[Certificate]:
    read: list[Certificate] = []
    try:
        for wrapped in certificates:
            for der in unwrap_all(wrapped):
                if len(read) >= limits.MAX_EK_CERTIFICATES:
                    raise Refused(Reason.EK_CERTIFICATE_MALFORMED, "too many certificates")
                read.append(parse_certificate(der))
    except PkiError as error:
        raise Refused(Reason.EK_CERTIFICATE_MALFORMED, str(error)) from None
    return read


def _key_of(certificate: Certificate) -> bytes | None:
    try:
        return canonical_spki(certificate)
    except PkiError:
        return None  # a key of a kind that no TPM of ours has is certainly not this one


def _reason_of(code: str) -> Reason:
    if code in _REASONS:
        return _REASONS[code]
    return Reason.EK_CERTIFICATE_PROFILE if code.startswith(("ek-", "extension-")) else Reason.EK_CHAIN_UNTRUSTED
