"""What the verifier of the worked exchange issues: a certificate chain and a signed result, by the product's own functions."""

import base64
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from architecture.worked_keys import PRIVATE, seed
from attestd.appraisal.ear import EarKey, VerifierId, ear_claims, sign_ear
from attestd.appraisal.policy import Tier
from attestd.issuance.mint import BACKDATE_SECONDS
from attestd_pki import names
from attestd_pki.development import DevelopmentBackend, development_issuer, new_development_ca
from attestd_pki.grant import GRANT_VERSION, Grant
from attestd_pki.issuer import prepare, redeem

DOMAIN = "fleet.example"
SUFFIX = f"devices.{DOMAIN}"
CRL_URL = "https://verifier.fleet.example:8443/v1/crl"
LIFETIME = 6 * 3600
DEADLINE = 300
RESULT_KEY = EarKey(Ed25519PrivateKey.from_private_bytes(PRIVATE["result key"]))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is for: device id, the attestation key's name, the device key (DER), the tunnel keys."""

    device_id: str
    ak_name: bytes
    device_key: bytes
    vpn_keys: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class _Affirmed:
    """A result as a token tells it; the example's evidence is not appraised, so its profile is one of nothing."""

    device_id: str
    evidence_digest: bytes
    tier: Tier = Tier.AFFIRMING
    vector: tuple[int, ...] = (2, 2, 2, 2, 2, 0, 0, 0)
    findings: tuple[()] = ()
    profile: str = "edge"
    profile_version: int = 3
    profile_digest: bytes = field(default_factory=lambda: seed("profile"))


class _Unused:
    """A ledger in which no grant has been used."""

    def claim(self, grant_id: bytes, digest: bytes) -> bool:
        return True


def result(device_id: str, evidence_digest: bytes, *, nonce: bytes, now: int) -> str:
    """Return the signed result of an affirming appraisal at `now` (seconds) over one proof's evidence and nonce."""
    claims = ear_claims(
        _Affirmed(device_id, evidence_digest),
        now=now,
        lifetime=DEADLINE,
        verifier=VerifierId(f"spiffe://{DOMAIN}", "attestd", "0.1.0"),
        nonce=nonce,
    )
    return sign_ear(claims, RESULT_KEY)


def certificate_chain(subject: Subject, evidence_digest: bytes, *, now: int) -> tuple[bytes, ...]:
    """Return the chain (DER) that an enrolment at `now` (seconds) gives: the device's certificate, then the authority's."""
    key = Ed25519PrivateKey.from_private_bytes(PRIVATE["authority"])
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    authority = new_development_ca(
        "attestd",
        DOMAIN,
        key=DevelopmentBackend(key),
        not_before=now - 86_400,
        not_after=now + 365 * 86_400,
        serial=_serial("authority serial"),
    )
    issuer = development_issuer(pem, authority, dns_suffix=SUFFIX)
    grant = _grant(subject, evidence_digest, now)
    prepared = prepare(grant, issuer=issuer.identity, serial=_serial("certificate serial"), crl_url=CRL_URL)
    issued = issuer.issue(prepared, redeem(grant, now=now, ledger=_Unused()), now=now)
    return (issued.der, *issued.chain)


def _serial(label: str) -> int:
    return int.from_bytes(seed(label)[:16], "big") | 1 << 127


def _grant(subject: Subject, evidence_digest: bytes, now: int) -> Grant:
    begin = now - BACKDATE_SECONDS
    return Grant(
        version=GRANT_VERSION,
        grant_id=seed("grant")[:16],
        device_id=subject.device_id,
        ek_digest=base64.b32decode(subject.device_id.upper() + "===="),
        ak_name=subject.ak_name,
        subject_public_key=subject.device_key,
        uri=names.spiffe_id(DOMAIN, subject.device_id),
        dns_name=names.dns_name(subject.device_id, SUFFIX),
        vpn_keys=tuple(sorted(subject.vpn_keys)),
        not_before=begin,
        not_after=begin + LIFETIME,
        evidence_digest=evidence_digest,
        profile="edge",
        profile_version=3,
        result_id=evidence_digest,
        minted_at=now,
        expires_at=now + 60,
    )
