"""The verdict: one attestation result, and every reason for it.

`AttestationResult` cannot be made by calling its class: only `appraise` and `assemble` make one. A result carries accepted
values nowhere; `findings_for_device` narrows it to what the device itself may learn.
"""

from dataclasses import InitVar, dataclass, field
from typing import Final, Literal, NamedTuple

from attestd.appraisal.policy import Check, Tier
from attestd.protocol.messages import Finding
from attestd.protocol.reasons import Reason

RESULT_MAKER: Final = object()
"""Held by the appraising function alone; a test of the architecture looks for other readers."""

Category = Literal[
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
]
CATEGORIES: Final[tuple[Category, ...]] = (
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
)
"""The claims of a trustworthiness vector in their order (draft-ietf-rats-ar4si, 3.1)."""


@dataclass(frozen=True, slots=True)
class FindingDetail:
    """One reason why a result is not affirming, for operators.

    `expected` says the class of what was expected and never the value; `actual` is what was measured. `component` is a
    label for people with control characters escaped. `category` is the part of the vector that it spoils.
    """

    code: Reason
    claim: str
    component: str
    expected: str
    actual: str
    tier: Tier
    category: Category
    pcr: int | None = None
    event: int | None = None


class ClaimVerdict(NamedTuple):
    """How one claim fared: how many of its components were accepted and how many were not."""

    claim: str
    check: Check
    accepted: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What a verifier says of a device at `appraised_at` (milliseconds since 1970).

    `vector` has the eight claims of CATEGORIES. `profile` and `profile_version` are "" and 0 where no profile was active.
    `evidence_digest` names the evidence: SHA-256 over the quote's, the boot log's and the runtime list's digests.
    """

    device_id: str
    tier: Tier
    vector: tuple[int, int, int, int, int, int, int, int]
    findings: tuple[FindingDetail, ...]
    claims: tuple[ClaimVerdict, ...]
    profile: str
    profile_version: int
    profile_digest: bytes
    evidence_digest: bytes
    appraised_at: int
    maker: InitVar[object] = field(repr=False)

    def __post_init__(self, maker: object) -> None:
        """Refuse to exist unless the appraisal made it."""
        if maker is not RESULT_MAKER:
            raise TypeError("AttestationResult is made by the appraisal alone")

    @property
    def affirming(self) -> bool:
        """Return whether nothing at all spoke against the device."""
        return self.tier is Tier.AFFIRMING

    @property
    def rank(self) -> tuple[Tier, int]:
        """Return what says which of several results is the best: the mildest tier, then the fewest findings."""
        return self.tier, len(self.findings)


def findings_for_device(result: AttestationResult) -> tuple[Finding, ...]:
    """Return what the device that proved itself may learn: where it fails, never what would have passed."""
    return tuple(
        Finding(
            code=finding.code.value,
            claim=finding.claim,
            component=finding.component[:1024],
            expected=finding.expected,
            pcr=finding.pcr,
            event=finding.event,
        )
        for finding in result.findings
    )
