"""What a file is that was handed to the wrong command: the readers themselves are asked, one after the other.

Proves nothing about the file: that a reader finds something of its kind says which report to ask for, and the report judges. A
file that several readers take is what the first of them says; the order goes from forms that nothing else has to those that lie
inside of others (a certificate in a tuple).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from attestd.inspection.refused import InspectionRefused
from attestd.protocol import limits

_PACKED: Final = (
    (b"\x1f\x8b", "gzip", "gzip -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
)
"""How compressed files begin, and what unpacks them."""
_BY_CHANCE: Final = 3
"""Events that foreign bytes may look like before they do no longer: the form of 2.0 has few bits that must be zero."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of evidence: the command of `attestd inspect` that shows it, and what it is called."""

    command: str
    name: str


def _eventlog(data: bytes) -> bool:
    from attestd.inspection.eventlog import inspect_event_log

    found = inspect_event_log(data)
    return len(found.events) > (0 if found.fault is None else _BY_CHANCE)


def _ima(data: bytes) -> bool:
    from attestd.inspection.runtime import inspect_ima

    return bool(inspect_ima(data).runtime.entries)


def _statement(data: bytes, *types: str) -> bool:
    from attestd.inspection.statements import inspect_quote

    attest = inspect_quote(data).attest
    return attest is not None and attest.get("type") in types


def _quote(data: bytes) -> bool:
    return _statement(data, "quote")


def _certify(data: bytes) -> bool:
    return _statement(data, "certify", "creation")


def _platform(data: bytes) -> bool:
    from attestd.inspection.platform import inspect_platform

    inspect_platform(data, None, at=0)
    return True


def _rim(data: bytes) -> bool:
    from attestd.inspection.rim import inspect_rim

    inspect_rim(data, None, None, at=0)
    return True


def _corim(data: bytes) -> bool:
    from attestd.inspection.corim import inspect_corim

    try:
        inspect_corim(data, None, None, at=0)
    except InspectionRefused as refusal:
        return refusal.code == "comid-profile"  # it was read to its end, and breaks a rule of its own
    return True


def _ear(data: bytes) -> bool:
    from attestd.inspection.ear import inspect_ear

    found = inspect_ear(data, None, at=0)
    return bool(found.submods) or found.outcome != "refused"


def _ek(data: bytes) -> bool:
    from attestd.inspection.certificates import NOBODY, inspect_ek

    return not any(code.startswith("ek-") for code, _ in inspect_ek(data, NOBODY, at=0).reasons)


def _cert(data: bytes) -> bool:
    from attestd.inspection.certificates import NOBODY, inspect_certificate

    inspect_certificate(data, NOBODY, at=0)
    return True


def _registers(data: bytes) -> bool:
    from attestd.inspection.registers import read_registers

    return bool(read_registers(data))


_READERS: Final[tuple[tuple[Kind, Callable[[bytes], bool], int], ...]] = (
    (Kind("eventlog", "a boot log"), _eventlog, 2 * limits.MAX_EVENT_LOG),
    (Kind("ima", "a runtime list"), _ima, limits.INSPECTED_IMA),
    (Kind("quote", "a quote"), _quote, limits.INSPECTED_DOCUMENT),
    (Kind("certify", "a certification"), _certify, limits.INSPECTED_DOCUMENT),
    (Kind("platform", "a platform certificate"), _platform, limits.INSPECTED_CERTIFICATE),
    (Kind("rim", "a reference manifest"), _rim, limits.INSPECTED_DOCUMENT),
    (Kind("corim", "a CoRIM, or a tag of one"), _corim, limits.INSPECTED_DOCUMENT),
    (Kind("ear", "an attestation result or a token"), _ear, limits.INSPECTED_DOCUMENT),
    (Kind("ek", "an endorsement key certificate"), _ek, limits.INSPECTED_CERTIFICATE),
    (Kind("cert", "a certificate"), _cert, limits.INSPECTED_CERTIFICATE),
)


def kind_of(data: bytes, *, but: str | None = None) -> Kind | None:
    """Return what the bytes are, or None where no reader finds anything of its kind, or where that of command `but` does."""
    if not data or (
        but is not None and any(kind.command == but and _takes(reader, most, data) for kind, reader, most in _READERS)
    ):
        return None
    return next((kind for kind, reader, most in _READERS if kind.command != but and _takes(reader, most, data)), None)


def _takes(reader: Callable[[bytes], bool], most: int, data: bytes) -> bool:
    from attestd.tpm.errors import Malformed
    from attestd_pki.errors import PkiError

    try:
        return len(data) <= most and reader(data)
    except (InspectionRefused, Malformed, PkiError):
        return False


def hint_for(data: bytes, command: str) -> tuple[str, str] | None:
    """Return (what it looks like, the sentence that says so) for what a command could not use; None where that is not known."""
    kind = kind_of(data, but=command)
    if kind is not None:
        return kind.command, f"it looks like {kind.name}: attestd inspect {kind.command}"
    if _takes(_registers, limits.MAX_JSON_BODY, data):
        return "pcrs", "it looks like register values: attestd inspect eventlog LOG --pcrs FILE"
    for beginning, name, tool in _PACKED:
        if data.startswith(beginning):
            return name, f"it is compressed: {tool} FILE | attestd inspect {command} -"
    return None
