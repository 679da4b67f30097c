"""The boot: what a log says that the quoted registers confirm.

Proves, per quoted register, that the log explains it, fails to, or has nothing about it; that the marks between firmware and
operating system stand where they must; and which data is what was hashed. Assumes that `pcrs` are quoted values of one bank.
Does not say whether any of it is as expected.
PC client platform firmware profile 1.06, 3.3.4 and 10.4.1 (separators), 8.2 (ExitBootServices).
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from attestd.evidence.components import components
from attestd.evidence.types import BootFacts, Component, EvidenceFinding
from attestd.protocol.reasons import Reason
from attestd.tpm.algorithms import hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.eventlog import EventLog, Replay, replay
from attestd.tpm.pcr import extend

FIRMWARE_REGISTERS: Final = frozenset(range(8))
_CLOSED_BY_SEPARATOR: Final = frozenset({0, 2, 3, 6})
"""Nothing follows the separator in these. PCR 1 goes on (boot variables, SMBIOS tables), as do 4, 5 and 7 by design."""
_DYNAMIC_REGISTERS: Final = frozenset(range(17, 23))
_SECURE_BOOT_POLICY: Final = frozenset(
    {"secure-boot", "secure-boot-pk", "secure-boot-kek", "secure-boot-db", "secure-boot-dbx"}
)
_PHASE_REGISTER: Final = 11
PHASES: Final = ("enter-initrd", "leave-initrd", "sysinit", "ready")
"""What systemd extends into PCR 11 while the system comes up, in no log of the firmware (systemd-pcrphase.service(8))."""
_OS_SEPARATOR: Final = "os-separator"
_SEPARATED: Final = frozenset({*range(8), 9, 12, 13, 14})
"""Registers that systemd closes with that word as soon as it runs, once, in no log of the firmware
(systemd-pcrosseparator.service(8), since version 259)."""


def boot_facts(log: EventLog, *, log_digest: bytes, bank: str, pcrs: Mapping[int, bytes]) -> BootFacts:
    """Return what the log says and the registers confirm.

    `log_digest` is the SHA-256 of the log's bytes, `pcrs` the quoted values of `bank` by index. Components come only out of
    quoted registers that the log explains.
    """
    try:
        replayed = replay(log, bank)
    except Malformed:
        return _inactive(log_digest, bank, pcrs, "the log has no digests of this bank")
    firmware = FIRMWARE_REGISTERS & pcrs.keys()
    if firmware and not any(any(pcrs[index]) for index in firmware):
        return _inactive(log_digest, bank, pcrs, "PCR 0 to 7 are all zero")
    explained, unexplained, unlogged = _explain(replayed, log, pcrs)
    candidates = _SEPARATED & (unexplained | unlogged)
    separated = _separated(replayed, log, bank, {index: pcrs[index] for index in candidates}) if candidates else {}
    phases = _phases(replayed, log, bank=bank, quoted=pcrs.get(_PHASE_REGISTER))
    behind = frozenset(separated) | {_PHASE_REGISTER} if phases else frozenset(separated)
    if behind:
        explained, unexplained, unlogged = explained | behind, unexplained - behind, unlogged - behind
    found = tuple(components(log.events, bank, registers=explained))
    parts = tuple([component for component, _ in found])
    findings = [*_altered(found), *_order(parts, explained)]
    return BootFacts(
        log_digest=log_digest,
        bank=bank,
        components=parts + phases + _separators(separated, log, bank),
        explained=explained,
        unexplained=unexplained,
        unlogged=unlogged,
        findings=tuple(findings),
        handed_over=tuple(separated.items()),
    )


def _inactive(log_digest: bytes, bank: str, pcrs: Mapping[int, bytes], actual: str) -> BootFacts:
    expected = f"registers of {bank} that the firmware extended"
    return BootFacts(
        log_digest=log_digest,
        bank=bank,
        components=(),
        explained=frozenset(),
        unexplained=frozenset(pcrs),
        unlogged=frozenset(),
        findings=(EvidenceFinding(Reason.PCR_BANK_INACTIVE, expected, actual),),
    )


def _explain(
    replayed: Replay, log: EventLog, pcrs: Mapping[int, bytes]
) -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    explained: set[int] = set()
    unexplained: set[int] = set()
    unlogged: set[int] = set()
    for index, value in pcrs.items():
        reached = replayed.pcrs.get(index)
        if reached is not None:
            (explained if reached == value else unexplained).add(index)
        else:
            (explained if value == _untouched(log, index, len(value)) else unlogged).add(index)
    return frozenset(explained), frozenset(unexplained), frozenset(unlogged)


def _untouched(log: EventLog, index: int, size: int) -> bytes:
    """Return what a register holds that nobody extended: ones in 17 to 22 (TPM profile 1.05, 4.6.2), else zero."""
    if index in _DYNAMIC_REGISTERS:
        return b"\xff" * size
    last = log.startup_locality or 0 if index == 0 else 0
    return bytes(size - 1) + bytes((last,))


def _separated(replayed: Replay, log: EventLog, bank: str, pcrs: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return those of the registers whose value is one separator of the running system past the log's, with the log's value."""
    digest = hasher(bank)(_OS_SEPARATOR.encode()).digest()
    reached = {index: replayed.pcrs.get(index) or _untouched(log, index, len(value)) for index, value in pcrs.items()}
    return {index: reached[index] for index, value in pcrs.items() if extend(bank, reached[index], digest) == value}


def _separators(separated: Mapping[int, bytes], log: EventLog, bank: str) -> tuple[Component, ...]:
    digest = hasher(bank)(_OS_SEPARATOR.encode()).digest() if separated else b""
    return tuple(
        Component("boot-phase", index, len(log.events), digest, _OS_SEPARATOR, _OS_SEPARATOR)
        for index in sorted(separated)
    )


def _phases(replayed: Replay, log: EventLog, *, bank: str, quoted: bytes | None) -> tuple[Component, ...]:
    """Return the phases of the running system that lead from the log's PCR 11 to the quoted one, or none."""
    if quoted is None:
        return ()
    start = replayed.pcrs.get(_PHASE_REGISTER, bytes(len(quoted)))
    if quoted == start:
        return ()  # nothing was extended behind the log
    new = hasher(bank)
    for first in (0, 2):  # with an initial ramdisk, and without one
        names = PHASES[first:]
        digests = [new(name.encode()).digest() for name in names]
        values = list(accumulate(digests, lambda value, digest: extend(bank, value, digest), initial=start))
        if quoted in values[1:]:
            reached = values.index(quoted, 1)
            return tuple(
                Component("boot-phase", _PHASE_REGISTER, len(log.events), digest, name, name)
                for name, digest in zip(names[:reached], digests[:reached], strict=True)
            )
    return ()


def _altered(found: tuple[tuple[Component, bool], ...]) -> Iterator[EvidenceFinding]:
    for component, altered in found:
        if altered:
            yield EvidenceFinding(
                Reason.LOG_EVENT_ALTERED,
                "data that hashes to the event's digest",
                component.label,
                component.pcr,
                component.event,
            )


def _order(parts: tuple[Component, ...], explained: frozenset[int]) -> Iterator[EvidenceFinding]:
    """Yield what is out of place (E03). Order within a register is proved by the replay, order between two is not."""
    separators: dict[int, int] = {}
    left = False
    for part in parts:
        if part.pcr not in FIRMWARE_REGISTERS:
            continue
        if left:
            yield _misplaced(part, "nothing in PCR 0 to 7 behind ExitBootServices")
        elif part.claim == "separator":
            separators[part.pcr] = separators.get(part.pcr, 0) + 1
            if part.value != "normal":
                yield _misplaced(part, "the separator of a firmware that ended without an error")
        elif part.pcr in separators and part.pcr in _CLOSED_BY_SEPARATOR:
            yield _misplaced(part, f"nothing in PCR {part.pcr} behind its separator")
        elif part.pcr in separators and part.claim in _SECURE_BOOT_POLICY:
            yield _misplaced(part, "the policy of Secure Boot before the separator")
        left = left or (part.claim == "exit-boot-services" and (part.value or "").endswith("Returned with Success"))
    for index in sorted(FIRMWARE_REGISTERS & explained):
        if separators.get(index, 0) != 1:
            actual = f"{separators.get(index, 0)} separators"
            yield EvidenceFinding(Reason.LOG_ORDER, "one separator in each of PCR 0 to 7", actual, index)


def _misplaced(part: Component, expected: str) -> EvidenceFinding:
    return EvidenceFinding(Reason.LOG_ORDER, expected, part.label, part.pcr, part.event)
