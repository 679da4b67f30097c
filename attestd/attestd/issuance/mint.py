"""The one place where a grant is made: out of an affirming result and nothing else.

Assumes an `AttestationResult`, which only appraisal can make, and the keys that the same proof bound and certified. Proves
that every name in the grant is derived from the endorsement key. A client's wish (a name, a validity, a usage) has no way in.
"""

import base64
from dataclasses import dataclass

from attestd.appraisal.policy import Tier
from attestd.appraisal.result import AttestationResult
from attestd.errors import Refused
from attestd.protocol import limits
from attestd.protocol.reasons import Reason
from attestd_pki import names
from attestd_pki.grant import GRANT_VERSION, Grant

BACKDATE_SECONDS = 60
"""A device whose clock is a little behind must be able to use its certificate at once."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The keys that one proof bound: all of them lie in the TPM of `device_id` or were named in its quote."""

    device_id: str
    ak_name: bytes
    device_key_spki: bytes
    vpn_keys: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names devices are certified."""

    trust_domain: str
    dns_suffix: str


def mint(
    result: AttestationResult, subject: Subject, *, names_of: Names, now_s: int, lifetime_s: int, grant_id: bytes
) -> Grant:
    """Return a grant for one certificate of at most `lifetime_s` seconds, to be used within a minute.

    `grant_id` is 16 fresh random bytes. Raises `Refused` (evidence-refused) unless the result is affirming and about the
    subject's own device: a warning keeps what a device has and earns nothing new.
    """
    if result.tier is not Tier.AFFIRMING or result.device_id != subject.device_id:
        raise Refused(Reason.EVIDENCE_REFUSED, "no affirming result for this subject")
    return Grant(
        version=GRANT_VERSION,
        grant_id=grant_id,
        device_id=subject.device_id,
        ek_digest=base64.b32decode(subject.device_id.upper() + "===="),
        ak_name=subject.ak_name,
        subject_public_key=subject.device_key_spki,
        uri=names.spiffe_id(names_of.trust_domain, subject.device_id),
        dns_name=names.dns_name(subject.device_id, names_of.dns_suffix),
        vpn_keys=tuple(sorted(subject.vpn_keys)),
        not_before=now_s - BACKDATE_SECONDS,
        not_after=now_s - BACKDATE_SECONDS + min(lifetime_s, limits.CERTIFICATE_MAX_SECONDS),
        evidence_digest=result.evidence_digest,
        profile=result.profile,
        profile_version=result.profile_version,
        result_id=result.evidence_digest,
        minted_at=now_s,
        expires_at=now_s + limits.GRANT_SECONDS,
    )
