"""What a profile is: what a class of devices must look like, as a value.

Frozen, named by the SHA-256 of its canonical document, and without any default that accepts something. Does not read
documents (profile.py does), does not judge whether a profile is wise, nor who approved it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from attestd.appraisal.pattern import arguments_match, glob_matches
from attestd.appraisal.revocation import revokes


class Tier(IntEnum):
    """How far a result may be trusted (draft-ietf-rats-ar4si, 3.2); the number is the tier's first claim value."""

    NONE = 0
    AFFIRMING = 2
    WARNING = 32
    CONTRAINDICATED = 96


class Check(StrEnum):
    """What a profile asks of a claim.

    `required`: at least one component, and all of them accepted. `optional`: none, or all of them accepted. `absent`: none.
    `ignored`: known, and not judged.
    """

    REQUIRED = "required"
    OPTIONAL = "optional"
    ABSENT = "absent"
    IGNORED = "ignored"

    @property
    def judges(self) -> bool:
        """Return whether values are held against a list of accepted ones."""
        return self in (Check.REQUIRED, Check.OPTIONAL)


class Violations(StrEnum):
    """What a profile makes of runtime entries that the kernel could not measure."""

    ALLOW = "allow"
    WARN = "warn"
    REFUSE = "refuse"


CLAIMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "firmware-version": "the version the firmware says of itself (PCR 0)",
        "firmware": "a firmware volume, or other firmware code (PCR 0)",
        "option-rom": "code of an adapter or a driver that firmware loaded (PCR 2)",
        "option-rom-config": "configuration of an adapter (PCR 3)",
        "platform-config": "configuration of the platform (PCR 1)",
        "boot-order": "the order of the boot entries",
        "boot-entry": "one boot entry",
        "boot-action": "what the firmware says it does (a boot attempt, a return)",
        "secure-boot": "whether Secure Boot is on: enabled or disabled",
        "secure-boot-pk": "the platform key",
        "secure-boot-kek": "the key exchange keys",
        "secure-boot-db": "the keys and digests that may boot (db; also dbt and dbr)",
        "secure-boot-dbx": "the keys and digests that may not boot",
        "secure-boot-authority": "the certificate or digest that let an image run",
        "secure-boot-mode": "SetupMode, AuditMode, DeployedMode, and what firmware admits to (a debug mode)",
        "gpt": "the partition table of the boot disk",
        "loader": "the first image that firmware started",
        "application": "an image started after the first: a boot loader's second stage, a kernel",
        "grub-command": "a command that GRUB ran",
        "kernel-command-line": "the command line the kernel was started with",
        "kernel": "a kernel that the boot loader read",
        "initrd": "an initial ramdisk",
        "boot-file": "another file that the boot loader read",
        "mok": "a key list or state of shim",
        "uki-section": "a section of a unified kernel image (its name, and its content)",
        "system-extension": "credentials and system extensions handed to the kernel",
        "boot-phase": "a phase that the running system has reached, and the separator with which it begins",
        "separator": "the mark between the firmware and what it starts",
        "exit-boot-services": "the firmware's hand-over to the kernel",
        "windows-setting": "how Windows starts: debugging, test signing, code integrity, safe mode, virtual secure mode",
        "windows-module": "an image that Windows' boot manager or loader loaded",
        "windows-policy": "a revocation list or code integrity policy of Windows, its early-launch anti-malware",
        "windows-authority": "a key that vouched for what Windows loaded",
        "windows-state": "a counter or step of Windows' start, which differs from boot to boot",
        "dynamic-launch": "what a processor measured that was started anew (Intel TXT, AMD SKINIT), and what it started",
        "management": "an event of the platform's management or of its maker (PCR 6)",
        "unknown-event": "an event that this verifier does not understand",
    }
)
"""Every claim that evidence can make, in words; a profile that names another is refused."""

NEVER_IGNORED: Final = frozenset(
    {
        "kernel",
        "initrd",
        "boot-file",
        "kernel-command-line",
        "grub-command",
        "system-extension",
        "windows-setting",
        "windows-module",
        "windows-policy",
        "windows-authority",
        "dynamic-launch",
        "loader",
        "application",
        "unknown-event",
    }
)
"""Claims that a profile cannot ignore.

In PCR 8, 9 and 12 to 14 a name or a type that no digest covers chooses among claims: were one of them ignored, whatever was
measured could call itself that (E01). An event that nobody understands, and code that is started, are nothing that one can be
indifferent to. `mok` can be: who ignores it ignores all of PCR 14.
"""

CLAIM_REGISTERS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "grub-command": (8,),
        "kernel-command-line": (8, 9, 11, 12),
        "kernel": (9, 11),
        "initrd": (9, 11),
        "boot-file": (9, 14),
        "mok": (14,),
        "uki-section": (11,),
        "system-extension": (12, 13),
        "boot-phase": (11,),
        "windows-setting": (12, 13),
        "windows-module": (12, 13),
        "windows-policy": (12, 13),
        "windows-authority": (14,),
        "dynamic-launch": (17, 18),
    }
)
"""The registers behind those of the firmware, which are always quoted, in which a claim can be made (docs/appraisal.md).

An `unknown-event` can be in any register; it is judged in those that are quoted.
"""

ARGUMENT_CLAIMS: Final = frozenset({"kernel-command-line", "grub-command"})
"""Claims whose text is a line of arguments: a star of a pattern stays within one of them."""

REVOCATION_CLAIMS: Final = frozenset({"secure-boot-dbx", "secure-boot-authority"})
"""Claims of which a rule can say what has to be revoked at least: the database of what may not boot, and shim's level."""

SUBJECTS: Final = frozenset({"registers", "runtime", "tpm"})
"""What else can have a tier: the reference values of registers, the runtime list, the TPM itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One accepted thing: exactly one of digest (with its algorithm), text, glob and revokes. `note` is for people.

    `revokes` are what has to be revoked at least: digests ("sha256:…") or generations ("shim,2"); more is accepted.
    """

    digest: tuple[str, bytes] | None = None
    text: str | None = None
    glob: str | None = None
    note: str = ""
    revokes: tuple[str, ...] = ()


def ordered(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return rules in the order that a profile has them in, each once."""

    def order(rule: Rule) -> tuple[str, bytes, str, str, tuple[str, ...], str]:
        name, digest = rule.digest or ("", b"")
        return name, digest, rule.text or "", rule.glob or "", rule.revokes, rule.note

    return tuple(sorted(set(rules), key=order))


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """What is asked of one claim. `complete`: every one of `accept` must be there, not only all that is there be accepted."""

    claim: str
    check: Check
    accept: tuple[Rule, ...]
    complete: bool = False
    _digests: frozenset[tuple[str, bytes]] = field(init=False, repr=False, compare=False)
    _texts: frozenset[str] = field(init=False, repr=False, compare=False)
    _globs: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _revocations: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the rules, so that a component is judged by two look-ups."""
        object.__setattr__(self, "_digests", frozenset(rule.digest for rule in self.accept if rule.digest is not None))
        object.__setattr__(self, "_texts", frozenset(rule.text for rule in self.accept if rule.text is not None))
        object.__setattr__(self, "_globs", tuple(rule.glob for rule in self.accept if rule.glob is not None))
        object.__setattr__(self, "_revocations", tuple(rule.revokes for rule in self.accept if rule.revokes))

    def accepts(self, bank: str, digest: bytes, *, value: str | None, data: bytes | None = None) -> bool:
        """Return whether some rule accepts a component with this digest in this bank and this proven value or content."""
        if (bank, digest) in self._digests or value in self._texts:
            return True
        # Few claims have patterns, and two of them revocations: nearly every component is judged by the two look-ups above.
        if self._globs and value is not None and any(self._fits(glob, value) for glob in self._globs):
            return True
        return bool(self._revocations) and any(revokes(rule, value=value, data=data) for rule in self._revocations)

    def unmet(self, bank: str, measured: Iterable[tuple[bytes, str | None, bytes | None]]) -> int:
        """Return how many rules none of the measured components (digest, proven value, proven content) meets."""
        seen = list(measured)
        texts = {value for _, value, _ in seen if value is not None}
        absent = len(self._digests.difference((bank, digest) for digest, _, _ in seen)) + len(self._texts - texts)
        for glob in self._globs:
            absent += not any(self._fits(glob, text) for text in texts)
        for rule in self._revocations:
            absent += not any(revokes(rule, value=value, data=data) for _, value, data in seen)
        return absent

    def _fits(self, glob: str, text: str) -> bool:
        return arguments_match(glob, text) if self.claim in ARGUMENT_CLAIMS else glob_matches(glob, text)


@dataclass(frozen=True, slots=True)
class RegisterPolicy:
    """The values one register may have; none means that what it holds is known to vary and is not judged."""

    index: int
    values: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class RuntimePolicy:
    """What is asked of the kernel's runtime list: which content each path may have, and which paths are not judged."""

    check: Check
    allow: tuple[tuple[str, tuple[tuple[str, bytes], ...]], ...]
    exclude: tuple[str, ...]
    violations: Violations
    accepted: frozenset[tuple[bytes, str, bytes]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Flatten the allow-list, so that an entry is judged by one look-up."""
        flat = ((path.encode(), name, digest) for path, digests in self.allow for name, digest in digests)
        object.__setattr__(self, "accepted", frozenset(flat))

    def excludes(self, path: str) -> bool:
        """Return whether the path is one that is not judged."""
        return any(glob_matches(pattern, path) for pattern in self.exclude)


@dataclass(frozen=True, slots=True)
class TpmPolicy:
    """What is asked of the TPM itself; an empty tuple asks nothing."""

    manufacturers: tuple[str, ...]
    firmware_versions: tuple[int, ...]


NO_RUNTIME: Final = RuntimePolicy(Check.IGNORED, (), (), Violations.REFUSE)
ANY_TPM: Final = TpmPolicy((), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile, ready to appraise with.

    `interval` and `deadline` are in seconds. `warnings` are the claims and subjects whose failure only warns. `digest` is the
    SHA-256 of `document`, the canonical bytes.
    """

    name: str
    version: int
    description: str
    interval: int
    deadline: int
    claims: tuple[ClaimPolicy, ...]
    registers: tuple[RegisterPolicy, ...]
    runtime: RuntimePolicy
    tpm: TpmPolicy
    warnings: frozenset[str]
    document: bytes = field(repr=False)
    digest: bytes = field(init=False, compare=False)
    by_claim: Mapping[str, ClaimPolicy] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Name the document and index the claims."""
        object.__setattr__(self, "digest", sha256(self.document).digest())
        object.__setattr__(self, "by_claim", MappingProxyType({policy.claim: policy for policy in self.claims}))

    @property
    def unjudged(self) -> frozenset[int]:
        """Return the registers of which the profile says that what they hold varies."""
        return frozenset(register.index for register in self.registers if not register.values)

    @property
    def requires_something(self) -> bool:
        """Return whether anything of the boot must be there; a profile of which this is false accepts nothing (P01)."""
        return any(policy.check is Check.REQUIRED for policy in self.claims) or any(r.values for r in self.registers)

    def tier_of(self, subject: str) -> Tier:
        """Return how bad a failure of this claim or subject is."""
        return Tier.WARNING if subject in self.warnings else Tier.CONTRAINDICATED


def canonical(profile: Profile) -> bytes:
    """Return the canonical document, the bytes that are stored, approved and hashed."""
    return profile.document
