"""Attestation results for relying parties: an EAR (draft-ietf-rats-ear-04) in a JWT, signed with Ed25519.

`verify_ear` proves that the holder of a key said this of this device, and that it has not expired; it is what a relying party
runs. Assumes that the caller knows the verifier's public key from elsewhere: no key in a token is ever looked at. A result
that is not affirming has its token too; whoever reads one must look at its tier.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attestd.appraisal.policy import Tier
from attestd.appraisal.result import CATEGORIES
from attestd.protocol.limits import MAX_RESULT_TOKEN, RESULT_SKEW_SECONDS
from attestd.protocol.reasons import Reason

PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
"""`eat_profile` of the draft's fourth revision, in which the claims are spelt with underscores."""
TYPE: Final = "eat+jwt"
"""RFC 9782, 5: a token of another type, signed with the same key, is not a result."""
SUBMODULE: Final = "platform"
"""Label of the one attester in every result: the platform with its boot and its runtime (draft, 3, `submods`)."""
STATUS: Final = {tier: tier.name.lower() for tier in Tier}
_TIERS: Final = {word: tier for tier, word in STATUS.items()}
_SHOWN_CODES: Final = 16
_JSON: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_REQUIRED: Final = ["iss", "sub", "jti", "iat", "exp", "eat_profile", "ear_verifier_id", "ear_status", "submods"]


class _Coded(Protocol):
    """A finding, as far as a token shows it."""

    @property
    def code(self) -> Reason: ...


class Reportable(Protocol):
    """A result as a token tells it: an `AttestationResult`, or one that was read back from the record."""

    @property
    def device_id(self) -> str: ...
    @property
    def tier(self) -> Tier: ...
    @property
    def vector(self) -> tuple[int, ...]: ...
    @property
    def findings(self) -> Sequence[_Coded]: ...
    @property
    def profile(self) -> str: ...
    @property
    def profile_version(self) -> int: ...
    @property
    def profile_digest(self) -> bytes: ...
    @property
    def evidence_digest(self) -> bytes: ...


class EarRefused(Exception):
    """A token that is not a current result of this verifier about this device; the text says why, for a log."""


@dataclass(frozen=True, slots=True)
class VerifierId:
    """Who appraises: `issuer` is a URI, `developer` and `build` name the software (draft-ietf-rats-ar4si, 3.3)."""

    issuer: str
    developer: str
    build: str


@dataclass(frozen=True, slots=True)
class EarKey:
    """A signing key with its precomputed header; `key_id` is the key's thumbprint (RFC 7638)."""

    private: Ed25519PrivateKey = field(repr=False)
    key_id: str = field(init=False)
    _header: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute what every token of this key has in common."""
        object.__setattr__(self, "key_id", thumbprint(self.private.public_key()))
        header = {"alg": "EdDSA", "kid": self.key_id, "typ": TYPE}
        object.__setattr__(self, "_header", _base64url(json.dumps(header, separators=(",", ":")).encode()) + b".")


@dataclass(frozen=True, slots=True)
class VerifiedEar:
    """What a verified token says. `issued_at` and `expires_at` are seconds since 1970; `policies` name the profile."""

    device_id: str
    tier: Tier
    policies: tuple[str, ...]
    vector: tuple[int, ...]
    issued_at: int
    expires_at: int
    token_id: str


def thumbprint(public: Ed25519PublicKey) -> str:
    """Return the RFC 7638 thumbprint of an Ed25519 key, by which a token names its key."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public.public_bytes_raw()).decode()}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return _base64url(hashlib.sha256(canonical).digest()).decode()


def jwk(public: Ed25519PublicKey) -> dict[str, str]:
    """Return the key as a member of a JWK set (RFC 8037, 2)."""
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": thumbprint(public),
        "x": _base64url(public.public_bytes_raw()).decode(),
    }


def ear_claims(
    result: Reportable, *, now: int, lifetime: int, verifier: VerifierId, nonce: bytes | None = None
) -> dict[str, Any]:
    """Return the claims of a result. `now` and `lifetime` are in seconds; `nonce` is the relying party's own (8 to 64 bytes).

    The vector and the status never say more than the result: the draft's rule that the status is no better than the worst
    claim holds by construction (3.1).
    """
    status = STATUS[result.tier]
    appraisal: dict[str, Any] = {
        "ear_status": status,
        "ear_trustworthiness_vector": dict(zip(CATEGORIES, result.vector, strict=True)),
        "attestd": {
            "evidence_sha256": result.evidence_digest.hex(),
            "findings": list(dict.fromkeys(finding.code.value for finding in result.findings))[:_SHOWN_CODES],
        },
    }
    if result.profile:
        appraisal["ear_appraisal_policy_ids"] = [policy_id(result)]
    claims: dict[str, Any] = {
        "eat_profile": PROFILE,
        "iss": verifier.issuer,
        "sub": result.device_id,
        # Evidence digests do not repeat (each covers a nonce and the TPM's clock), so this names the token.
        "jti": f"{result.evidence_digest[:16].hex()}-{now:x}",
        "iat": now,
        "exp": now + lifetime,
        "ear_status": status,
        "ear_verifier_id": {"developer": verifier.developer, "build": verifier.build},
        "submods": {SUBMODULE: appraisal},
    }
    if nonce is not None:
        if not 8 <= len(nonce) <= 64:
            raise ValueError("a nonce has 8 to 64 bytes (RFC 9711, 4.1)")
        claims["eat_nonce"] = _base64url(nonce).decode()
    return claims


def policy_id(result: Reportable) -> str:
    """Return the identifier of the profile that the result was reached with: name, version and digest of the document."""
    return f"urn:attestd:profile:{result.profile}:{result.profile_version}:{result.profile_digest.hex()}"


def sign_ear(claims: Mapping[str, Any], key: EarKey) -> str:
    """Return the claims as a JWT (JWS compact serialisation, RFC 7515, 7.1) signed with EdDSA (RFC 8037, 3.1)."""
    payload = _JSON.encode(claims).encode()
    signed = key._header + _base64url(payload)
    return (signed + b"." + _base64url(key.private.sign(signed))).decode("ascii")


def verify_ear(
    token: str, public_key: Ed25519PublicKey, *, issuer: str, device_id: str, now: int, nonce: bytes | None = None
) -> VerifiedEar:
    """Return what a token says of a device at `now` (seconds), whatever its tier.

    *Raises* `EarRefused`: other algorithm, key, type, issuer or device (T02), expired or from the future, another nonce than
    the one that was asked for, or claims that contradict each other.
    """
    if len(token) > MAX_RESULT_TOKEN:
        raise EarRefused("longer than any result")
    try:
        decoded = jwt.decode_complete(
            token,
            public_key,
            algorithms=["EdDSA"],
            issuer=issuer,
            subject=device_id,
            options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise EarRefused(f"not a valid token: {type(error).__name__}") from error
    if decoded["header"].get("typ") != TYPE or decoded["payload"]["eat_profile"] != PROFILE:
        raise EarRefused("not an attestation result of this profile")
    claims: dict[str, Any] = decoded["payload"]
    _check_times(claims, now)
    if nonce is not None and claims.get("eat_nonce") != _base64url(nonce).decode():
        raise EarRefused("for another nonce")
    return _read(claims)


def _check_times(claims: dict[str, Any], now: int) -> None:
    issued, expires = claims["iat"], claims["exp"]
    # The draft forbids floating-point times (3); a boolean is an int to Python.
    if type(issued) is not int or type(expires) is not int:
        raise EarRefused("times that are not integers")
    if not issued <= now + RESULT_SKEW_SECONDS or not now < expires:
        raise EarRefused("expired" if now >= expires else "from the future")


def _read(claims: dict[str, Any]) -> VerifiedEar:
    try:
        appraisal = claims["submods"][SUBMODULE]
        tier = _TIERS[appraisal["ear_status"]]
        vector = tuple(int(appraisal["ear_trustworthiness_vector"][name]) for name in CATEGORIES)
        policies = tuple(str(item) for item in appraisal.get("ear_appraisal_policy_ids", ()))
        overall = _TIERS[claims["ear_status"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EarRefused("claims that are incomplete") from error
    if overall is not tier or (tier is Tier.AFFIRMING and max(vector) >= Tier.WARNING):
        raise EarRefused("claims that contradict each other")
    return VerifiedEar(claims["sub"], tier, policies, vector, claims["iat"], claims["exp"], str(claims["jti"]))


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
