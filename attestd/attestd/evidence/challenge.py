"""Challenges that cost the verifier no memory: a nonce authenticates itself.

    nonce = random (16) ‖ expiry in ms (8, big endian) ‖ issue in ms (8) ‖ HMAC-SHA-256 truncated to 16
    HMAC-SHA-256(key, label ‖ scope ‖ random ‖ expiry ‖ issue)

The scope is what the nonce is good for: the digest of the enrolment request, or the device id. Proves that this verifier
made the nonce for that scope, when, and that it has not expired. When it was made is all that is known of the age of what was
signed over it, for a quote can be made the moment that the nonce arrives. Does not prove single use: that follows from the
TPM's clock, which must move forward with every accepted proof (`evidence.quote.check_progress`). The key lives in the
process's memory, so a stolen disk or database holds nothing with which a nonce can be made in advance.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from attestd.errors import Refused
from attestd.protocol.reasons import Reason

RANDOM_BYTES: Final = 16
NONCE_BYTES: Final = 48
_SEALED: Final = 32
"""Bytes before the seal."""
_ENROL: Final = b"attestd enrol nonce v1\0"
_ATTEST: Final = b"attestd attest nonce v1\0"
_ACTIVATION: Final = b"attestd activation v1\0"


@dataclass(frozen=True, slots=True)
class Challenger:
    """One party that challenges: its name in the protocol, and its secret of 32 bytes (never stored, never shown)."""

    name: str
    key: bytes

    def __repr__(self) -> str:
        return f"Challenger({self.name!r})"

    def enrol_nonce(self, request_digest: bytes, *, random: bytes, issued_ms: int, expires_ms: int) -> bytes:
        """Return a nonce of 48 bytes for one enrolment request (its SHA-256). Assumes 16 fresh random bytes."""
        return self._make(_ENROL, request_digest, random, issued_ms, expires_ms)

    def check_enrol_nonce(self, nonce: bytes, *, request_digest: bytes, now_ms: int) -> None:
        """Check that this challenger made the nonce for this request. Raises `Refused` (nonce-invalid, nonce-expired)."""
        self._check(_ENROL, request_digest, nonce, now_ms)

    def attest_nonce(self, device_id: str, *, random: bytes, issued_ms: int, expires_ms: int) -> bytes:
        """Return a nonce of 48 bytes for the next proof of one device. Assumes 16 fresh random bytes."""
        return self._make(_ATTEST, device_id.encode(), random, issued_ms, expires_ms)

    def check_attest_nonce(self, nonce: bytes, *, device_id: str, now_ms: int) -> None:
        """Check that this challenger made the nonce for this device. Raises `Refused` (nonce-invalid, nonce-expired)."""
        self._check(_ATTEST, device_id.encode(), nonce, now_ms)

    def activation_secret(self, nonce: bytes, request_digest: bytes) -> bytes:
        """Return the 32 bytes that only the TPM with the request's EK and AK can recover (TPM 2.0 Part 1, 24)."""
        return hmac.digest(self.key, _ACTIVATION + request_digest + nonce, "sha256")

    def _make(self, label: bytes, scope: bytes, random: bytes, issued_ms: int, expires_ms: int) -> bytes:
        head = random + expires_ms.to_bytes(8, "big") + issued_ms.to_bytes(8, "big")
        return head + hmac.digest(self.key, label + scope + head, "sha256")[:16]

    def _check(self, label: bytes, scope: bytes, nonce: bytes, now_ms: int) -> None:
        if len(nonce) != NONCE_BYTES:
            raise Refused(Reason.NONCE_INVALID, f"{len(nonce)} bytes")
        expected = hmac.digest(self.key, label + scope + nonce[:_SEALED], "sha256")[:16]
        if not hmac.compare_digest(expected, nonce[_SEALED:]):
            raise Refused(Reason.NONCE_INVALID, "not made here for this scope")
        if int.from_bytes(nonce[16:24], "big") <= now_ms:
            raise Refused(Reason.NONCE_EXPIRED)


def issued_at(nonce: bytes) -> int:
    """Return when a nonce was issued, in milliseconds since the epoch. Assumes one that was checked; 0 for anything else."""
    return int.from_bytes(nonce[24:_SEALED], "big") if len(nonce) == NONCE_BYTES else 0
