"""The steps of an appraisal, each a pure function; the numbers are those of docs/appraisal.md.

A step collects findings and never stops at the first. Steps 1 to 5 look at the boot alone (`BootCase`), so that their
outcome can be remembered; steps 6 and 7 look at what every proof brings anew (`DeviceCase`). Each assumes evidence that
is proved, and nothing of the other steps.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from attestd.appraisal.policy import CLAIM_REGISTERS, Check, ClaimPolicy, Profile, Tier, Violations
from attestd.appraisal.result import Category, ClaimVerdict, FindingDetail
from attestd.evidence.labels import printable
from attestd.evidence.runtime import OPAQUE
from attestd.evidence.types import AuthenticatedEvidence, BootFacts, Component, RuntimeEntry, RuntimeFacts
from attestd.protocol.limits import MAX_FINDING_TEXT, MAX_FINDINGS
from attestd.protocol.reasons import Reason

FIRMWARE_REGISTERS: Final = frozenset(range(8))
"""PCR 0 to 7: what firmware measures before it hands over; never left unexplained."""
RUNTIME_REGISTER: Final = 10

_CONFIGURATION: Final = frozenset(
    {
        "platform-config",
        "boot-order",
        "boot-entry",
        "secure-boot",
        "secure-boot-pk",
        "secure-boot-kek",
        "secure-boot-db",
        "secure-boot-dbx",
        "secure-boot-mode",
        "option-rom-config",
        "gpt",
        "grub-command",
        "kernel-command-line",
        "mok",
        "system-extension",
        "windows-setting",
        "windows-policy",
        "windows-state",
    }
)


class Outcome(NamedTuple):
    """What one step found, and which parts of the vector it has judged."""

    findings: tuple[FindingDetail, ...] = ()
    claims: tuple[ClaimVerdict, ...] = ()
    judged: tuple[Category, ...] = ()


@dataclass(frozen=True, slots=True)
class BootCase:
    """What steps 1 to 5 look at. `pcrs` are the quoted values by index, without PCR 10."""

    boot: BootFacts | None
    bank: str
    pcrs: Mapping[int, bytes]
    profile: Profile


@dataclass(frozen=True, slots=True)
class DeviceCase:
    """What steps 6 and 7 look at."""

    evidence: AuthenticatedEvidence
    profile: Profile


@dataclass(frozen=True, slots=True)
class BootStep:
    """A step with its number and title in docs/appraisal.md."""

    number: int
    title: str
    run: Callable[[BootCase], Outcome]
    category: Category


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """A step with its number and title in docs/appraisal.md."""

    number: int
    title: str
    run: Callable[[DeviceCase], Outcome]
    category: Category


def category_of(claim: str) -> Category:
    """Return the part of the trustworthiness vector that a claim belongs to."""
    return "configuration" if claim in _CONFIGURATION else "executables"


def require_a_policy(case: BootCase) -> Outcome:
    """Step 1: refuse a profile that requires nothing; "all of none" is not a pass (P01)."""
    if case.profile.requires_something:
        return Outcome()
    return Outcome(
        (
            FindingDetail(
                Reason.POLICY_EMPTY,
                "registers",
                "the profile",
                "a profile that requires something",
                "nothing is required",
                Tier.CONTRAINDICATED,
                "executables",
            ),
        )
    )


def require_a_boot_log(case: BootCase) -> Outcome:
    """Step 2: refuse evidence without a boot log, and adopt what the evidence room found wrong in it."""
    if case.boot is None:
        return Outcome(
            (
                FindingDetail(
                    Reason.LOG_NEEDED,
                    "registers",
                    "the boot log",
                    "a boot log that explains the quote",
                    "no boot log",
                    Tier.CONTRAINDICATED,
                    "executables",
                ),
            )
        )
    found = (
        FindingDetail(
            item.code,
            "registers",
            _where(item.pcr, item.event),
            item.expected,
            item.actual,
            Tier.CONTRAINDICATED,
            "executables",
            item.pcr,
            item.event,
        )
        for item in case.boot.findings
    )
    return Outcome(tuple(found))


def require_explained_registers(case: BootCase) -> Outcome:
    """Step 3: every firmware register is explained, and every other one too unless the profile speaks of its value."""
    if case.boot is None:
        return Outcome()
    spoken_of = {register.index for register in case.profile.registers}
    findings = []
    for index in sorted(FIRMWARE_REGISTERS | case.pcrs.keys()):
        if index in case.boot.explained or (index not in FIRMWARE_REGISTERS and index in spoken_of):
            continue
        findings.append(_unexplained(case, index))
    return Outcome(tuple(findings))


def _unexplained(case: BootCase, index: int) -> FindingDetail:
    assert case.boot is not None
    if index not in case.pcrs:
        actual = "not quoted"
    elif index in case.boot.unlogged:
        actual = "extended, without any event"
    else:
        actual = "the log leads to another value"
    return FindingDetail(
        Reason.LOG_UNEXPLAINED,
        "registers",
        f"PCR {index}",
        "a value that the boot log explains",
        actual,
        Tier.CONTRAINDICATED if index in FIRMWARE_REGISTERS else case.profile.tier_of("registers"),
        "executables",
        index,
    )


def compare_registers(case: BootCase) -> Outcome:
    """Step 4: registers for which the profile lists values have one of them."""
    findings = []
    for register in case.profile.registers:
        if not register.values:
            continue
        value = case.pcrs.get(register.index)
        if value is not None and (case.bank, value) in register.values:
            continue
        findings.append(
            FindingDetail(
                Reason.CLAIM_MISMATCH if value is not None else Reason.CLAIM_MISSING,
                "registers",
                f"PCR {register.index}",
                "a value that the profile lists",
                value.hex() if value is not None else "not quoted",
                case.profile.tier_of("registers"),
                "configuration",
                register.index,
            )
        )
    return Outcome(tuple(findings))


def compare_claims(case: BootCase) -> Outcome:
    """Step 5: every component is one that its claim accepts, and every required claim is there."""
    if case.boot is None:
        return Outcome()
    measured: defaultdict[str, list[Component]] = defaultdict(list)
    for component in case.boot.components:
        measured[component.claim].append(component)
    policies = case.profile.by_claim
    settled = _settled_registers(case)
    findings: list[FindingDetail] = []
    verdicts = []
    for claim in sorted(measured.keys() | policies.keys()):
        policy, components = policies.get(claim), measured[claim]
        refused = _judge_claim(case, claim, policy, components, settled)
        findings += refused
        check = policy.check if policy is not None else Check.ABSENT
        wrong = sum([finding.code is not Reason.CLAIM_MISSING for finding in refused]) if refused else 0
        verdicts.append(ClaimVerdict(claim, check, len(components) - wrong, len(refused)))
    return Outcome(tuple(findings), tuple(verdicts), ("configuration", "executables"))


def _settled_registers(case: BootCase) -> frozenset[int]:
    """Return the registers whose whole value the profile lists: what is in them is exactly as approved."""
    return frozenset(
        register.index
        for register in case.profile.registers
        if (case.bank, case.pcrs.get(register.index)) in register.values
    )


def _judge_claim(
    case: BootCase, claim: str, policy: ClaimPolicy | None, components: list[Component], settled: frozenset[int]
) -> list[FindingDetail]:
    tier = case.profile.tier_of(claim)
    refused: list[FindingDetail] = []
    if policy is None:
        # A claim that the profile does not speak of is refused like one that it forbids: unknown means no.
        for component in components:
            if component.pcr not in settled:
                refused.append(_refused(Reason.CLAIM_UNEXPECTED, component, "a claim that the profile speaks of", tier))
        return refused
    if policy.check is Check.IGNORED:
        return refused
    for component in components:
        if policy.check is Check.ABSENT:
            refused.append(_refused(Reason.CLAIM_UNEXPECTED, component, "nothing of this kind", tier))
        elif not policy.accepts(case.bank, component.digest, value=component.value, data=component.data):
            refused.append(_refused(Reason.CLAIM_MISMATCH, component, "one that the profile accepts", tier))
    absent = _missing(case, policy, components)
    if absent:
        refused.append(_missed(policy, components, absent, tier))
    if claim in CLAIM_REGISTERS:
        refused += _unquoted(case, claim, tier)
    return refused


def _missing(case: BootCase, policy: ClaimPolicy, components: list[Component]) -> int:
    """Return how many required things were not measured."""
    if not components:
        return int(policy.check is Check.REQUIRED)
    if not policy.complete:
        return 0
    return policy.unmet(case.bank, [(item.digest, item.value, item.data) for item in components])


def _missed(policy: ClaimPolicy, components: list[Component], absent: int, tier: Tier) -> FindingDetail:
    return FindingDetail(
        Reason.CLAIM_MISSING,
        policy.claim,
        policy.claim,
        "a component that the profile requires",
        f"{absent} of {len(policy.accept)} not measured" if components else "not measured",
        tier,
        category_of(policy.claim),
    )


def _unquoted(case: BootCase, claim: str, tier: Tier) -> Iterator[FindingDetail]:
    """Refuse to say anything of a claim that a register could make which was not quoted, absence included."""
    for index in CLAIM_REGISTERS[claim]:
        if index not in case.pcrs and index not in case.profile.unjudged:
            yield FindingDetail(
                Reason.CLAIM_MISSING,
                claim,
                f"PCR {index}",
                "a quoted register, or one of which the profile says that it is ignored",
                "not quoted",
                tier,
                category_of(claim),
                index,
            )


def _refused(code: Reason, component: Component, expected: str, tier: Tier) -> FindingDetail:
    text = component.value
    actual = text if text is not None and len(text) <= MAX_FINDING_TEXT else component.digest.hex()
    return FindingDetail(
        code,
        component.claim,
        component.label,
        expected,
        actual,
        tier,
        category_of(component.claim),
        component.pcr,
        component.event,
    )


def compare_tpm(case: DeviceCase) -> Outcome:
    """Step 6: the TPM's maker and firmware are ones that the profile lists, where it lists any."""
    ek, quote, policy = case.evidence.ek, case.evidence.quote, case.profile.tpm
    tier = case.profile.tier_of("tpm")
    findings = []
    if policy.manufacturers and ek.manufacturer not in policy.manufacturers:
        findings.append(_tpm_finding("manufacturer", "a manufacturer that the profile lists", ek.manufacturer, tier))
    if policy.firmware_versions and quote.firmware_version not in policy.firmware_versions:
        version = f"{quote.firmware_version:#018x}"
        findings.append(_tpm_finding("firmware", "a firmware version that the profile lists", version, tier))
    # Without a certificate nobody says that the chip is genuine, so no claim is made about the hardware.
    judged: tuple[Category, ...] = (
        ("instance-identity", "hardware") if ek.certificate_sha256 else ("instance-identity",)
    )
    return Outcome(tuple(findings), (), judged)


def _tpm_finding(component: str, expected: str, actual: str, tier: Tier) -> FindingDetail:
    return FindingDetail(Reason.CLAIM_MISMATCH, "tpm", component, expected, actual, tier, "hardware")


def compare_runtime(case: DeviceCase) -> Outcome:
    """Step 7: every file that the kernel measured has a content that its path may have."""
    runtime, policy = case.evidence.runtime, case.profile.runtime
    if policy.check is Check.IGNORED:
        return Outcome()
    tier = case.profile.tier_of("runtime")
    if runtime is None:
        return Outcome(tuple(_no_runtime(case, policy.check, tier)))
    findings = [
        FindingDetail(
            item.code, "runtime", _where(item.pcr, item.event), item.expected, item.actual, Tier.CONTRAINDICATED,
            "file-system", item.pcr, item.event,
        )
        for item in runtime.findings
    ]  # fmt: skip
    if policy.check is Check.ABSENT:
        findings.append(_runtime_finding(Reason.CLAIM_UNEXPECTED, "the runtime list", "no list", "a list", tier))
        return Outcome(tuple(findings), (), ("file-system",))
    findings += _aggregate(runtime)
    findings += _violations(runtime, case.profile)
    refused = _refused_entries(runtime.entries, case.profile)
    # As many are described as a result can carry; all are counted.
    findings += (_refused_file(entry, tier) for entry in refused[:MAX_FINDINGS])
    verdict = ClaimVerdict("runtime", policy.check, len(runtime.entries) - len(refused), len(refused))
    return Outcome(tuple(findings), (verdict,), ("file-system",))


def _no_runtime(case: DeviceCase, check: Check, tier: Tier) -> Iterator[FindingDetail]:
    value = dict(case.evidence.quote.pcrs).get(RUNTIME_REGISTER)
    if value is None:
        # Without the register nobody knows whether the kernel measured anything, so "nothing" cannot be told either.
        yield _runtime_finding(Reason.CLAIM_MISSING, "PCR 10", "a quoted register", "not quoted", tier)
    elif check is Check.REQUIRED:
        code = Reason.RUNTIME_NEEDED if any(value) else Reason.CLAIM_MISSING
        yield _runtime_finding(code, "the runtime list", "a runtime list that explains PCR 10", "no list", tier)
    elif any(value):
        # Optional or absent means that the kernel measures nothing; a register that was extended says that it did.
        expected = "an untouched PCR 10, or the list that explains it"
        yield _runtime_finding(Reason.RUNTIME_NEEDED, "the runtime list", expected, "PCR 10 was extended", tier)


def _aggregate(runtime: RuntimeFacts) -> Iterator[FindingDetail]:
    if runtime.boot_aggregate in ("matches", "earlier", "unverified"):
        # Unverified costs nothing: the one quote that covers PCR 10 covers the boot's registers too.
        return
    if runtime.findings:
        return
    yield _runtime_finding(
        Reason.RUNTIME_UNEXPLAINED,
        "boot_aggregate",
        "a first entry over this boot's registers",
        "none" if runtime.boot_aggregate == "absent" else "over other values",
        Tier.CONTRAINDICATED,
    )


def _violations(runtime: RuntimeFacts, profile: Profile) -> Iterator[FindingDetail]:
    policy = profile.runtime.violations
    if runtime.violations and policy is not Violations.ALLOW:
        tier = Tier.WARNING if policy is Violations.WARN else profile.tier_of("runtime")
        actual = f"{runtime.violations} entries"
        yield _runtime_finding(Reason.CLAIM_UNEXPECTED, "violations", "entries that were all measured", actual, tier)


def _refused_entries(entries: Iterable[RuntimeEntry], profile: Profile) -> list[RuntimeEntry]:
    accepted, policy = profile.runtime.accepted, profile.runtime
    unlisted = [entry for entry in entries if (entry.path, entry.algorithm, entry.digest) not in accepted]
    if not policy.exclude:
        return unlisted
    # Bytes that are not UTF-8 become lone surrogates, which no profile can contain: only a star matches them.
    return [
        entry
        for entry in unlisted
        if entry.algorithm == OPAQUE or not policy.excludes(entry.path.decode("utf-8", "surrogateescape"))
    ]


def _refused_file(entry: RuntimeEntry, tier: Tier) -> FindingDetail:
    return FindingDetail(
        Reason.CLAIM_MISMATCH,
        "runtime",
        printable(entry.path.decode("utf-8", "backslashreplace")),
        "a file that the profile lists, with a content it may have",
        f"{entry.algorithm}:{entry.digest.hex()}",
        tier,
        "file-system",
        RUNTIME_REGISTER,
        entry.number,
    )


def _runtime_finding(code: Reason, component: str, expected: str, actual: str, tier: Tier) -> FindingDetail:
    return FindingDetail(code, "runtime", component, expected, actual, tier, "file-system", RUNTIME_REGISTER)


def _where(pcr: int | None, event: int | None) -> str:
    parts = ([f"PCR {pcr}"] if pcr is not None else []) + ([f"event {event}"] if event is not None else [])
    return ", ".join(parts) or "the boot log"


BOOT_STEPS: Final = (
    BootStep(1, "The profile requires something", require_a_policy, "executables"),
    BootStep(2, "There is a boot log, and it is sound", require_a_boot_log, "executables"),
    BootStep(3, "The log explains the registers", require_explained_registers, "executables"),
    BootStep(4, "The registers have reference values", compare_registers, "configuration"),
    BootStep(5, "The components are accepted ones", compare_claims, "executables"),
)
DEVICE_STEPS: Final = (
    DeviceStep(6, "The TPM is an accepted one", compare_tpm, "hardware"),
    DeviceStep(7, "The files are accepted ones", compare_runtime, "file-system"),
)
