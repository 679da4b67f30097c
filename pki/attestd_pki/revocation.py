"""What a revocation list says, apart from how it is written.

Proves nothing. These values are what a signer of a list is given beside the bytes, to build the bytes itself.
"""

from dataclasses import dataclass
from typing import Final

from cryptography import x509

REASONS: Final = {
    reason.value: reason
    for reason in (
        x509.ReasonFlags.unspecified,
        x509.ReasonFlags.key_compromise,
        x509.ReasonFlags.affiliation_changed,
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.privilege_withdrawn,
    )
}
"""Reasons by their X.509 name (`keyCompromise`, …). certificateHold and removeFromCRL are absent: revocation is final."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revoked certificate: serial, unix seconds, reason."""

    serial: int
    revoked_at: int
    reason: str


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What a list says, entries by rising serial. Times are unix seconds."""

    number: int
    this_update: int
    next_update: int
    entries: tuple[Revocation, ...]

    def revokes(self, serial: int) -> bool:
        """Return whether `serial` is on the list."""
        return any(entry.serial == serial for entry in self.entries)
