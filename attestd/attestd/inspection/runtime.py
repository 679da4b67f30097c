"""A Linux runtime list for a person: how many entries, which hashes are wrong, what PCR 10 would hold.

Proves what replay gives under both conventions, and that each template hash is that of its data, or which are not. A damaged list
is reported up to the damage, one in text without the lines that cannot be read. Does not say that any of it was measured: a quote
does; nor that a signature holds: keys are told by their identifiers.
"""

import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from attestd.inspection.contents import readable
from attestd.protocol.limits import INSPECTED_IMA
from attestd.tpm.algorithms import DIGEST_SIZES, hasher
from attestd.tpm.errors import Malformed
from attestd.tpm.ima import IMA_PCR, ImaEntry, RuntimeList, hashed_data, read_ima, template_hash_mismatches
from attestd.tpm.imatemplates import LEGACY, SHA1_SIZE, template_of
from attestd_pki.base64text import decode_base64
from attestd_pki.certificate import parse_certificate
from attestd_pki.errors import PkiError

BANKS: Final = ("sha1", "sha256", "sha384", "sha512")
_AGGREGATE: Final = b"boot_aggregate"
_SHOWN: Final = 100
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\r\n-]+")
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]+")
_LINE = re.compile(rb" *[0-9]{1,2} [0-9a-fA-F]{40}")

Registers = tuple[tuple[str, tuple[tuple[int, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """What the kernel measured that is no file (a key, a command line, a policy). `matches`: its hash is the entry's digest."""

    index: int
    name: str
    text: str
    matches: bool | None


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    """One list. `pcrs`, `padded` and `unhashed` are (bank, ((register, hex), …)) under each convention (tpm/ima.py, replay)."""

    runtime: RuntimeList
    reason: str | None
    message: str | None
    violations: tuple[int, ...]
    mismatches: tuple[int, ...]
    pcrs: Registers
    padded: Registers
    unhashed: Registers
    boot_aggregate: str | None
    templates: tuple[tuple[str, int], ...]
    buffers: tuple[Buffer, ...] = ()
    signers: tuple[tuple[str, int], ...] = ()

    @property
    def accepted(self) -> bool:
        """Return whether the list was read whole and every template hash is that of its data."""
        return self.reason is None

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "outcome": "parsed" if self.accepted else "refused",
            "reason": self.reason,
            "message": self.message,
            "template_hash_algorithm": self.runtime.bank,
            "entries": len(self.runtime.entries),
            "unparsable_lines": self.runtime.unreadable,
            "violations": len(self.violations),
            "template_hash_mismatches": len(self.mismatches),
            "mismatching_entries": list(self.mismatches[:_SHOWN]),
            "templates": dict(self.templates),
            "pcrs": _by_bank(self.pcrs),
            "pcrs_padded": _by_bank(self.padded),
            "pcrs_unhashed": _by_bank(self.unhashed),
            "boot_aggregate": self.boot_aggregate,
            "buffers": [
                {"entry": one.index, "name": one.name, "text": one.text, "digest_matches_data": one.matches}
                for one in self.buffers
            ],
            "signing_keys": dict(self.signers),
        }


def refused_ima(code: str, message: str) -> dict[str, Any]:
    """Return the document of a file that is not read at all: the same keys, with nothing in them."""
    return {**inspect_ima(b"").document(), "outcome": "refused", "reason": code, "message": message}


def _by_bank(registers: Registers) -> dict[str, dict[str, str]]:
    return {bank: {str(pcr): value for pcr, value in values} for bank, values in registers}


def inspect_ima(data: bytes) -> RuntimeReport:
    """Return the report on a list, binary or ASCII, also in base64 or hexadecimal; a fault is the report's reason."""
    runtime, fault = read_ima(_unarmoured(data), most=INSPECTED_IMA)
    mismatches = template_hash_mismatches(runtime)
    reason, message = _fault(fault, mismatches)
    templates: dict[str, int] = {}
    for entry in runtime.entries:
        templates[entry.template] = templates.get(entry.template, 0) + 1
    violations = tuple(entry.index for entry in runtime.entries if entry.violation)
    hashed = [hashed_data(entry) if entry.template == LEGACY else entry.data for entry in runtime.entries]
    stated = _with_sha1(runtime, hashed)
    padded = tuple((bank, _older(stated, bank)) for bank in BANKS[1:])
    return RuntimeReport(
        runtime=runtime,
        reason=reason,
        message=message,
        violations=violations,
        mismatches=mismatches,
        pcrs=tuple((bank, _newer(runtime, hashed, bank)) for bank in BANKS),
        padded=padded,
        unhashed=tuple((bank, _older(stated, bank, whole_ones=True)) for bank in BANKS[1:]) if violations else padded,
        boot_aggregate=_aggregate(runtime),
        templates=tuple(templates.items()),
        buffers=tuple(_buffers(runtime.entries)) if "ima-buf" in templates else (),
        signers=_signers(runtime.entries) if any(_has(name, "sig") for name in templates) else (),
    )


def _unarmoured(data: bytes) -> bytes:
    """Return what hexadecimal or base64 holds, where that begins as a list does; a list in text has blanks, which neither has."""
    if len(data) > INSPECTED_IMA or b" " in data[:64] or not _BASE64.fullmatch(data):
        return data
    digits = data.translate(None, b"\r\n")
    forms: list[Callable[[bytes], bytes]] = [decode_base64]
    if _HEXADECIMAL.fullmatch(digits):
        forms.insert(0, binascii.unhexlify)
    for decode in forms:
        try:
            found = decode(digits)
        except ValueError:
            continue
        if 0 in found[:4] or _LINE.match(found):
            return found
    return data


def _has(template: str, field: str) -> bool:
    return field in template_of(template.encode()).fields


def _buffers(entries: Iterable[ImaEntry]) -> Iterator[Buffer]:
    """Yield what the kernel measured besides files (ima_main.c, process_buffer_measurement)."""
    found = (entry for entry in entries if entry.template == "ima-buf" and len(entry.fields) == 3)
    for entry in islice(found, _SHOWN):
        data = entry.fields[2]
        algorithm, digest = entry.file_digest or ("", b"")
        known = algorithm in DIGEST_SIZES and algorithm != "sm3_256"
        name = (entry.path or b"").decode("utf-8", "backslashreplace")
        # Large buffers (a policy of SELinux) are measured by their hash, which then is the data.
        matches = (hasher(algorithm)(data).digest() == digest or data == digest) if known else None
        yield Buffer(entry.index, name, _buffer_text(data), matches)


def _buffer_text(data: bytes) -> str:
    if data[:2] == b"\x30\x82":
        try:
            return f"certificate {parse_certificate(data).subject.text or 'without a name'}"
        except PkiError:
            pass
    return readable(data)


def _signers(entries: Iterable[ImaEntry]) -> tuple[tuple[str, int], ...]:
    """Return how many entries carry a signature by which key (integrity.h, signature_v2_hdr), as far as it is said."""
    found: dict[str, int] = {}
    for entry in entries:
        if len(entry.fields) < 3 or not _has(entry.template, "sig"):
            continue
        signature = entry.fields[template_of(entry.template.encode()).fields.index("sig")]
        if len(signature) > 9 and signature[0] in (3, 5, 6) and signature[1] in (2, 3):
            key = signature[3:7].hex()
            found[key] = found.get(key, 0) + 1
    return tuple(sorted(found.items(), key=itemgetter(1), reverse=True)[:_SHOWN])


def _fault(fault: Malformed | None, mismatches: tuple[int, ...]) -> tuple[str | None, str | None]:
    if fault is not None:
        return fault.code, str(fault)
    if mismatches:
        more = f" and of {len(mismatches) - 1} more" if len(mismatches) > 1 else ""
        return "ima-template-hash", f"the hash of entry {mismatches[0]}{more} is not that of its data"
    return None, None


def _newer(runtime: RuntimeList, hashed: list[bytes], bank: str) -> tuple[tuple[int, str], ...]:
    """Replay every register: template data hashed in the bank's algorithm, ones for a violation (Linux 5.8 and later)."""
    new = hasher(bank)
    ones, stated = b"\xff" * DIGEST_SIZES[bank], bank == runtime.bank
    return _replay(
        runtime.entries,
        bank,
        lambda entry: (
            ones if entry.violation else entry.template_digest if stated else new(hashed[entry.index]).digest()
        ),
    )


def _with_sha1(runtime: RuntimeList, hashed: list[bytes]) -> tuple[ImaEntry, ...]:
    """Return the entries with the SHA-1 hashes that were extended: those that the list states, computed where it states others."""
    if runtime.bank == "sha1":
        return runtime.entries
    sha1 = hasher("sha1")
    return tuple(entry._replace(template_digest=sha1(hashed[entry.index]).digest()) for entry in runtime.entries)


def _older(entries: tuple[ImaEntry, ...], bank: str, *, whole_ones: bool = False) -> tuple[tuple[int, str], ...]:
    """Replay every register: the SHA-1 template hash filled up with zeros (before Linux 5.8).

    Later kernels do so in banks whose algorithm they lack, and extend ones of the whole size for a violation.
    """
    filler = bytes(DIGEST_SIZES[bank] - SHA1_SIZE)
    ones = b"\xff" * DIGEST_SIZES[bank] if whole_ones else b"\xff" * SHA1_SIZE + filler
    return _replay(entries, bank, lambda entry: ones if entry.violation else entry.template_digest + filler)


def _replay(
    entries: tuple[ImaEntry, ...], bank: str, digest_of: Callable[[ImaEntry], bytes]
) -> tuple[tuple[int, str], ...]:
    new, zero = hasher(bank), bytes(DIGEST_SIZES[bank])
    values: dict[int, bytes] = {IMA_PCR: zero}
    for entry in entries:
        values[entry.pcr] = new(values.get(entry.pcr, zero) + digest_of(entry)).digest()
    return tuple((pcr, value.hex()) for pcr, value in sorted(values.items()))


def _aggregate(runtime: RuntimeList) -> str | None:
    """Return the digest that the kernel took over the boot's registers, as "algorithm:hex"."""
    for entry in runtime.entries[:1]:
        if entry.path == _AGGREGATE and entry.file_digest is not None:
            algorithm, digest = entry.file_digest
            return f"{algorithm}:{digest.hex()}"
    return None
