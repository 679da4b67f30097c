"""What evidence is once it is proved: facts, and the one type that carries them to appraisal.

Every value here is frozen and holds only tuples, frozensets and bytes, so that it can be remembered and shared.
`AuthenticatedEvidence` cannot be made by calling its class: the proving function of this room makes it with
`authenticated`, and a test of the architecture holds that nobody else imports that name.
"""

from dataclasses import InitVar, dataclass, field
from typing import Final, Literal, NamedTuple

from attestd.protocol.reasons import Reason

_PROVED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class EkIdentity:
    """Which TPM this is.

    `device_id` derives from the EK's public area. `manufacturer` and `model` are what the certificate says (empty where
    there is none). `certificate_sha256` is over the certificate as it came out of its wrapping. `deviations` are
    sentences for people: where this vendor's certificates leave their standard and policy allowed it.
    """

    device_id: str
    manufacturer: str
    model: str
    certificate_sha256: bytes | None
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteFacts:
    """What the TPM signed. `clock` is in milliseconds; `pcrs` are (index, value) in rising order, all of `bank`.

    `pcr_digest` is the digest inside the quote, `attest_digest` the SHA-256 of the signed TPMS_ATTEST, which names this
    proof among all others.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    bank: str
    pcrs: tuple[tuple[int, bytes], ...]
    pcr_digest: bytes
    attest_digest: bytes


class Component(NamedTuple):
    """One measured thing of the boot: what claim it makes, and by which event of which register.

    `digest` is what was extended, in the quoted bank. `value` is decoded text (or hex of binary data), and is present ONLY
    where the event's data is proved to hash to `digest`. `label` is for people and decides nothing: the log's author
    chose it, control characters are escaped. `data` is proven content that is too large for a text (the list of what may not
    boot), else None.
    """

    claim: str
    pcr: int
    event: int
    digest: bytes
    value: str | None
    label: str
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class EvidenceFinding:
    """Something in the evidence that is wrong whatever the profile says.

    `expected` and `actual` are sentences for people; `pcr` and `event` say where, or are None.
    """

    code: Reason
    expected: str
    actual: str
    pcr: int | None = None
    event: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFacts:
    """What the boot log says and the quoted registers confirm.

    `log_digest` is the SHA-256 of the log's bytes. Every quoted register is in exactly one of: `explained` (the log
    replays to the quoted value), `unexplained` (the log has events for it that do not), `unlogged` (it was extended and
    the log has no event for it). `components` come from explained registers alone, in the order of the log. `handed_over` are
    the values that registers had before the running system put its own separator into them.
    """

    log_digest: bytes
    bank: str
    components: tuple[Component, ...]
    explained: frozenset[int]
    unexplained: frozenset[int]
    unlogged: frozenset[int]
    findings: tuple[EvidenceFinding, ...] = ()
    handed_over: tuple[tuple[int, bytes], ...] = ()


class RuntimeEntry(NamedTuple):
    """One file the kernel measured: `path` as the kernel wrote it, and the digest of its content. There can be 100,000."""

    number: int
    path: bytes
    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFacts:
    """What the kernel's runtime list says and quoted PCR 10 confirms.

    `entries` are the files measured from entry `offset` on; `count` is the number of entries, from the first of the boot,
    that lead to `value`, the quoted PCR 10. (`count`, `value`) is what a later proof continues from. `violations` counts
    entries that the kernel could not measure (a file open for writing). `boot_aggregate` says whether the list's first
    entry is the digest of this quote's boot registers: "earlier" when the list continues one that was proved before,
    "unverified" when it covers a bank or registers that were not quoted, or a boot whose log was not looked at again. `unread`
    entries at the end of the list came after the quote and were not looked at.
    """

    offset: int
    count: int
    value: bytes
    convention: Literal["bank", "padded"]
    violations: int
    boot_aggregate: Literal["matches", "differs", "absent", "earlier", "unverified"]
    entries: tuple[RuntimeEntry, ...]
    unread: int = 0
    findings: tuple[EvidenceFinding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedEvidence:
    """Facts that one TPM's signature, over a challenge of ours, proves.

    *Assumes* nothing of whoever reads it: to hold one is to know that ek, quote, boot and runtime belong together.
    `boot` is None when the log was not shown: such evidence never affirms.
    """

    ek: EkIdentity
    quote: QuoteFacts
    boot: BootFacts | None
    runtime: RuntimeFacts | None
    proved: InitVar[object] = field(repr=False)

    def __post_init__(self, proved: object) -> None:
        """Refuse to exist unless `authenticated` made it."""
        if proved is not _PROVED:
            raise TypeError("AuthenticatedEvidence is made by the proving function alone")


def authenticated(
    ek: EkIdentity, quote: QuoteFacts, *, boot: BootFacts | None, runtime: RuntimeFacts | None
) -> AuthenticatedEvidence:
    """Return the facts as evidence that may be appraised.

    *Assumes* that the caller has verified, of one and the same proof: the EK's identity, that the AK lives beside it, the
    AK's signature over the quote and its binding, and that `boot` and `runtime` were replayed against `quote.pcrs`.
    """
    return AuthenticatedEvidence(ek=ek, quote=quote, boot=boot, runtime=runtime, proved=_PROVED)
