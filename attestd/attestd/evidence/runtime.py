"""The runtime list: which files the kernel measured, as far as the quoted PCR 10 confirms it.

Proves that a prefix of the list, continuing what was proved before, leads exactly to the quoted value: the list and the
register are not read at one moment, so entries behind the value are not looked at. Assumes that `pcrs` are quoted values of
one bank, and that (`offset`, `start`) was proved in the same boot. Does not judge any file.
Linux Documentation/security/IMA-templates.rst; security/integrity/ima/ima_crypto.c.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from attestd.evidence.types import EvidenceFinding, RuntimeEntry, RuntimeFacts
from attestd.protocol.reasons import Reason
from attestd.tpm.algorithms import hasher
from attestd.tpm.ima import IMA_PCR, ImaEntry, RuntimeList, prefix_length, template_hash_mismatches

Aggregate = Literal["matches", "differs", "absent", "earlier", "unverified"]

_TEMPLATES: Final = frozenset({"ima", "ima-ng", "ima-ngv2", "ima-sig", "ima-sigv2", "ima-buf", "ima-modsig", "evm-sig"})
"""Templates whose digest comes first and whose path comes second.

No digest covers a template's name. Under a free format an attacker would choose which field is read as the path.
"""
_made: Final = tuple.__new__
"""What a named tuple's constructor ends in, without the call before it."""
OPAQUE: Final = "opaque"
"""In place of a digest algorithm: an entry that says nothing about a file."""
_AGGREGATE: Final = b"boot_aggregate"
_AS_QUOTED: Final[Mapping[int, bytes]] = MappingProxyType({})
_AGGREGATED: Final = (10, 8)
"""How many registers a boot aggregate covers: PCR 0 to 9 since Linux 5.8, PCR 0 to 7 before (ima_calc_boot_aggregate)."""


def runtime_facts(
    listed: RuntimeList,
    *,
    bank: str,
    pcrs: Mapping[int, bytes],
    offset: int = 0,
    start: bytes | None = None,
    handed_over: Mapping[int, bytes] = _AS_QUOTED,
) -> RuntimeFacts:
    """Return what the list says and the quote confirms.

    `offset` is how many entries were proved before, `start` PCR 10 behind them (None for a whole list). `handed_over` are values
    of registers before the running system extended them, which is when the kernel made its aggregate. Where no prefix leads to
    the quoted value the facts have no entries and a finding.
    *Assumes* that PCR 10 is among `pcrs`.
    """
    quoted = pcrs[IMA_PCR]
    convention, length = _explain(listed, bank, quoted, start)
    if length is None:
        return _unexplained(listed, offset, start or bytes(len(quoted)))
    confirmed = listed.entries[:length]
    findings = _mismatches(confirmed) if convention == "padded" or bank == "sha1" else ()
    aggregate, others = _split_aggregate(confirmed, pcrs, handed_over, bank=bank, offset=offset)
    return RuntimeFacts(
        offset=offset,
        count=offset + length,
        value=quoted,
        convention=convention,
        violations=sum(1 for entry in confirmed if entry.violation),
        boot_aggregate=aggregate,
        entries=tuple(_entries(others, offset)),
        unread=len(listed.entries) - length,
        findings=findings,
    )


def _explain(
    listed: RuntimeList, bank: str, quoted: bytes, start: bytes | None
) -> tuple[Literal["bank", "padded"], int | None]:
    """Return the convention under which a prefix leads to the quoted value, and that prefix's length.

    Kernels before 5.8 extended the SHA-1 template digest, filled up with zeros, into every bank.
    """
    length = prefix_length(listed, bank, quoted, padded=False, start=start)
    if length is not None or bank == "sha1":
        return "bank", length
    return "padded", prefix_length(listed, bank, quoted, padded=True, start=start)


def _unexplained(listed: RuntimeList, offset: int, start: bytes) -> RuntimeFacts:
    finding = EvidenceFinding(
        Reason.RUNTIME_UNEXPLAINED,
        "a list of which some prefix leads to PCR 10",
        f"{len(listed.entries)} entries from entry {offset} on, none of which does",
        IMA_PCR,
    )
    return RuntimeFacts(
        offset=offset,
        count=offset,
        value=start,
        convention="bank",
        violations=0,
        boot_aggregate="earlier" if offset else "absent",
        entries=(),
        unread=len(listed.entries),
        findings=(finding,),
    )


def _mismatches(confirmed: tuple[ImaEntry, ...]) -> tuple[EvidenceFinding, ...]:
    """Return a finding where a template hash is not that of its data: these conventions extend the hash that is stated.

    Under the newer convention the hash is computed from the data, and what the list states is not used at all.
    """
    return tuple(
        EvidenceFinding(
            Reason.RUNTIME_UNEXPLAINED,
            "a template hash over the entry's data",
            f"entry {index} states another hash than that of its data",
            IMA_PCR,
            index,
        )
        for index in template_hash_mismatches(RuntimeList(confirmed))[:1]
    )


def _split_aggregate(
    confirmed: tuple[ImaEntry, ...],
    pcrs: Mapping[int, bytes],
    handed_over: Mapping[int, bytes],
    *,
    bank: str,
    offset: int,
) -> tuple[Aggregate, tuple[ImaEntry, ...]]:
    """Judge the boot aggregate and return the other entries.

    The kernel measures it before anything else, so the first entry of a boot may be one and no other: a file can have its
    name, and what an entry is called says nothing of what it is.
    """
    if offset or not confirmed:
        return "earlier" if offset else "absent", confirmed
    first = confirmed[0]
    if first.path != _AGGREGATE or first.pcr != IMA_PCR or first.violation or first.template not in _TEMPLATES:
        return "absent", confirmed
    return _aggregate(first, pcrs, handed_over, bank=bank), confirmed[1:]


def _aggregate(entry: ImaEntry, pcrs: Mapping[int, bytes], handed_over: Mapping[int, bytes], *, bank: str) -> Aggregate:
    algorithm, digest = entry.file_digest or ("", b"")
    if algorithm != bank:
        # The kernel took it over another bank than the one that was quoted. Nothing is lost: PCR 10 starts at zero with
        # every boot, and one quote covers it together with the boot's registers.
        return "unverified"
    complete = [count for count in _AGGREGATED if all(index in pcrs for index in range(count))]
    if not complete:
        return "unverified"
    new = hasher(bank)
    sides = [pcrs, {**pcrs, **handed_over}] if handed_over else [pcrs]
    values = (new(b"".join(side[index] for index in range(count))).digest() for side in sides for count in complete)
    return "matches" if digest in values else "differs"


def _entries(confirmed: Iterable[ImaEntry], offset: int) -> Iterable[RuntimeEntry]:
    for index, pcr, template_digest, template, _, _, path, file_digest, violation in confirmed:
        # What a violation says of its file was never extended, and another register's entries are not in PCR 10.
        if violation or pcr != IMA_PCR:
            continue
        if file_digest is None or path is None or template not in _TEMPLATES:
            # No profile can accept the algorithm's name, and appraisal excludes no such entry.
            yield RuntimeEntry(offset + index, b"template " + template.encode(), OPAQUE, template_digest)
        else:
            yield _made(RuntimeEntry, (offset + index, path, *file_digest))
