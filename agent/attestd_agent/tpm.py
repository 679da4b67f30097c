"""What the agent asks of a TPM, and nothing about how it is reached.

The rest of the agent is written against :class:`Tpm`; one other file implements it over a real chip. All
structures cross this border as marshalled bytes (TPM 2.0 Library, Part 2), because the agent only carries them:
the verifier is the one who reads them.

It assumes nothing about the platform and imports no TPM library. It does not judge what the TPM says: a quote
that leaves here may still be refused by the verifier.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

Refusal = Literal[
    "no_endorsement_key",
    "authorization_refused",
    "locked_out",
    "policy_not_met",
    "foreign_blob",
    "malformed_input",
    "bank_not_active",
    "pcrs_moved",
    "out_of_memory",
    "not_supported",
    "self_test_failed",
    "other",
]
"""Why a TPM said no, as a code that logs and callers can rely on."""


class TpmUnavailable(Exception):
    """No TPM answers: no device, no permission, a broken connection, or a chip that was not started.

    The same call may succeed later; nothing was decided.
    """

    code: Final = "tpm_unavailable"


class TpmRefused(Exception):
    """The TPM answered, and its answer was no.

    ``code`` is stable across libraries and chips; ``rc`` is the TPM's own response code (0 where the refusal was
    found on this side), for a person who reads the specification.
    """

    def __init__(self, code: Refusal, message: str, *, rc: int = 0) -> None:
        super().__init__(message)
        self.code: Refusal = code
        self.rc = rc


@dataclass(frozen=True, slots=True)
class KeyBlob:
    """A TPM object at rest: useless on every TPM but the one that made it."""

    public: bytes
    """TPM2B_PUBLIC, with its size prefix."""
    private: bytes
    """TPM2B_PRIVATE, with its size prefix: the sensitive area, encrypted by the parent."""


@dataclass(frozen=True, slots=True)
class QuoteResult:
    """A quote and the register values that it covers."""

    attest: bytes
    """TPMS_ATTEST, exactly the bytes that were signed."""
    signature: bytes
    """TPMT_SIGNATURE."""
    pcrs: tuple[tuple[int, bytes], ...]
    """(index, value) in ascending order. Their digest was seen to equal the quote's before they were returned."""


@dataclass(frozen=True, slots=True)
class Certification:
    """The attestation key's statement that a key lives in the same TPM."""

    attest: bytes
    """TPMS_ATTEST, exactly the bytes that were signed."""
    signature: bytes
    """TPMT_SIGNATURE."""


class Tpm(Protocol):
    """The operations of one attesting device.

    Every method leaves no transient object and no session behind in the TPM. Every method raises
    :class:`TpmUnavailable` or :class:`TpmRefused` and no other exception of its own making.
    """

    def ek_public(self) -> bytes:
        """Return the endorsement key's TPM2B_PUBLIC, the key of the first certificate of :meth:`ek_certificates`."""
        ...

    def ek_certificates(self) -> tuple[bytes, ...]:
        """Return the certificates in NV as they were read, the one of :meth:`ek_public` first; empty if there is none.

        Padding and wrappers of the manufacturer are left in place for the verifier to judge.
        """
        ...

    def ak_public(self) -> bytes:
        """Return the attestation key's TPM2B_PUBLIC: restricted, ECC P-256, the same for the life of the TPM's seed."""
        ...

    def activate(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """Open a credential made for this EK and this AK and return the secret in it.

        ``credential_blob`` is a TPM2B_ID_OBJECT, ``encrypted_secret`` a TPM2B_ENCRYPTED_SECRET, both with their size
        prefix. A credential for another TPM or another AK is refused with ``foreign_blob``.
        """
        ...

    def create_device_key(self) -> KeyBlob:
        """Create a new unrestricted ECC P-256 signing key that cannot leave this TPM."""
        ...

    def certify(self, key: KeyBlob, qualifying: bytes) -> Certification:
        """Have the AK certify ``key`` over ``qualifying`` (at most 64 bytes)."""
        ...

    def quote(self, qualifying: bytes, *, bank: str, pcrs: tuple[int, ...]) -> QuoteResult:
        """Have the AK quote ``pcrs`` of ``bank`` ("sha256", …) over ``qualifying`` (at most 64 bytes)."""
        ...

    def sign(self, key: KeyBlob, digest: bytes) -> bytes:
        """Return the TPMT_SIGNATURE (ECDSA, SHA-256) of ``key`` over a digest of 32 bytes."""
        ...

    def seal(self, secret: bytes) -> KeyBlob:
        """Seal 1 to 128 bytes to this TPM."""
        ...

    def unseal(self, blob: KeyBlob) -> bytes:
        """Return what :meth:`seal` sealed."""
        ...

    def close(self) -> None:
        """Forget what this process knows of the TPM; the object may be used again."""
        ...
