"""What Windows' boot manager and loader measure into PCR 12 to 14, as claims: settings, modules, policies, keys.

Every event holds many tagged events, and is a claim for each. All of them are content that the event's digest vouches for; what a
digest does not vouch for is the event's type, so a command line in PCR 12 could be called such an event: that is why everything but
numbers of at most eight bytes is under claims that a profile cannot ignore (E01).
wbcl.h of the Windows Driver Kit.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct, error
from typing import Final, NamedTuple

from attestd.tpm import wbcl
from attestd.tpm.algorithms import DIGEST_SIZES
from attestd.tpm.errors import Malformed

_STATES: Final = frozenset({0x00020002, 0x00020003, 0x00020004, 0x00020006, 0x00020007})
"""Counters and transfers of control, which differ from boot to boot; Windows has them in one register."""
_TEXTS: Final = frozenset({0x00050009, 0x0005000B})
_REVOCATIONS: Final = Struct("<QIH")
_POLICY: Final = Struct("<QHHI")
_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)
_HASHES: Final = {0x8004: "sha1", 0x800C: "sha256", 0x800D: "sha384", 0x800E: "sha512"}
"""Identifiers of Windows' cryptographic API (wincrypt.h, ALG_ID)."""
_TPM_HASHES: Final = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
_STATES_REGISTER: Final = 12
_KEYS_REGISTER: Final = 14
_ACCESS_REGISTER: Final = 11
_FLAG: Final = {b"\0": "off", b"\x01": "on"}


class Part(NamedTuple):
    """One tagged event: its claim, and its proven text."""

    claim: str
    text: str


def windows_parts(pcr: int, data: bytes) -> tuple[Part, ...]:
    """Return the claims of one event, or none where its data are not Windows' tagged events.

    *Assumes* that the event's digest vouches for all of the data.
    """
    if pcr == _ACCESS_REGISTER:
        return (Part("windows-state", f"BitLocker access control: {data.hex()}"),) if len(data) == 4 else ()
    try:
        return tuple(_parts(pcr, data, 0))
    except Malformed:
        return ()


def _parts(pcr: int, data: bytes, depth: int) -> Iterator[Part]:
    for kind, body in wbcl.tagged(data):
        if not wbcl.is_windows(kind):
            raise Malformed("eventdata-value", f"a tagged event of type 0x{kind:08x}")
        if kind == wbcl.TRUST_BOUNDARY and depth == 0:
            yield from _parts(pcr, body, depth + 1)
        elif kind == wbcl.MODULE:
            yield Part("windows-module", _module(dict(wbcl.tagged(body))))
        elif kind & wbcl.CONTAINER:
            yield Part("windows-policy", f"{_name(kind)}: {_listed(body)}")
        elif kind == wbcl.AUTHORITY_KEY and pcr == _KEYS_REGISTER:
            yield Part("windows-authority", f"key sha256:{sha256(body).hexdigest()}")
        else:
            yield _single(pcr, kind, body)


def _single(pcr: int, kind: int, body: bytes) -> Part:
    name = _name(kind)
    if pcr == _STATES_REGISTER and kind in _STATES and len(body) <= 8:
        return Part("windows-state", f"{name}: {int.from_bytes(body, 'little')}")
    if kind in (wbcl.BOOT_REVOCATIONS, wbcl.SYSTEM_REVOCATIONS):
        return Part("windows-policy", f"{name}: {_revocations(body)}")
    if kind == wbcl.INTEGRITY_POLICY:
        return Part("windows-policy", f"{name}: {_policy(body)}")
    return Part("windows-setting", f"{name}: {_value(kind, body)}")


def _name(kind: int) -> str:
    return wbcl.NAMES.get(kind, f"tag 0x{kind:08x}")


def _value(kind: int, body: bytes) -> str:
    if kind in _TEXTS:
        return _text(body)
    if len(body) == 1:
        return _FLAG.get(body, str(body[0]))
    if len(body) <= 8:
        number = int.from_bytes(body, "little")
        return str(number) if number < 1 << 16 else f"{number:#x}"
    return f"sha256:{sha256(body).hexdigest()}"


def _text(body: bytes) -> str:
    return body.decode("utf-16-le", "backslashreplace").rstrip("\0")


def _listed(body: bytes) -> str:
    """Return a container's tagged events as one line, each by its value or its hash."""
    return ", ".join(
        f"{_name(kind)} {_text(part) if kind == 0x00090001 else _value(kind, part)}" for kind, part in wbcl.tagged(body)
    )


def _module(fields: dict[int, bytes]) -> str:
    """Return an image by its publisher, its Authenticode digest and its path; in PCR 12 by its digest, since no more is said.

    The publisher stands in front: a pattern that begins with one is met by no path that has the same words in it.
    """
    digest = fields.get(wbcl.AUTHENTICODE, b"")
    number = int.from_bytes(fields.get(wbcl.HASH_ALGORITHM, b""), "little")
    name = _HASHES.get(number) or next((name for name, size in DIGEST_SIZES.items() if size == len(digest)), "digest")
    parts = [f"{name}:{digest.hex()}"]
    if wbcl.FILE_PATH in fields:
        signed = fields.get(wbcl.VALIDATED, b"\0") == b"\x01" and wbcl.PUBLISHER in fields
        parts = [_text(fields[wbcl.PUBLISHER]) if signed else "(not validated)", *parts, _text(fields[wbcl.FILE_PATH])]
    return " ".join(parts)


def _revocations(body: bytes) -> str:
    """Return a revocation list's day and digest."""
    try:
        ticks, size, algorithm = _REVOCATIONS.unpack_from(body)
    except error:
        return f"hex {body.hex()}"
    digest = body[_REVOCATIONS.size :]
    name = _TPM_HASHES.get(algorithm)
    if name is None or not len(digest) == size == DIGEST_SIZES[name]:
        return f"hex {body.hex()}"
    return f"{_day(ticks)} {name}:{digest.hex()}"


def _day(ticks: int) -> str:
    """Return the day of a FILETIME (100 ns since 1601), or the number where no calendar has it."""
    try:
        return (_EPOCH + timedelta(microseconds=ticks // 10)).strftime("%Y-%m-%d")
    except (OverflowError, ValueError):
        return str(ticks)


def _policy(body: bytes) -> str:
    """Return a code integrity policy's name, version and digest."""
    try:
        version, name_size, algorithm, digest_size = _POLICY.unpack_from(body)
    except error:
        return f"hex {body.hex()}"
    start = _POLICY.size + name_size
    hashed = _TPM_HASHES.get(algorithm)
    if hashed is None or len(body) != start + digest_size or digest_size != DIGEST_SIZES[hashed]:
        return f"hex {body.hex()}"
    numbers = ".".join(str(version >> shift & 0xFFFF) for shift in (48, 32, 16, 0))
    return f"{_text(body[_POLICY.size : start])} {numbers} {hashed}:{body[start:].hex()}"
