"""One measurement of a CoMID: what it is of, its digests, and everything else it says in words.

Proves the form (draft-ietf-rats-corim, 5.1.4.1.4) and that digests are as long as their algorithm says. A value that is not known
here is shown by its number and as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from uuid import UUID

from attestd.inspection.cborread import Tag, plain_json
from attestd.inspection.refused import InspectionRefused

_DIGESTS: Final = {1: ("sha256", 32), 7: ("sha384", 48), 8: ("sha512", 64), 10: ("sha3-256", 32)}
"""Named Information Hash Algorithm Registry (RFC 6920)."""
_NAMED: Final = {"sha-256": ("sha256", 32), "sha-384": ("sha384", 48), "sha-512": ("sha512", 64)}
_OID, _UUID, _MIN_SVN, _MASKED = 111, 37, 553, 563
_KEY, _VALUES, _AUTHORIZED = 0, 1, 2
_DIGESTS_OF, _REGISTERS = 2, 14
_FLAGS: Final = (
    "configured",
    "secure",
    "recovery",
    "debug",
    "replay-protected",
    "integrity-protected",
    "runtime-measured",
    "immutable",
    "tcb",
    "confidentiality-protected",
)
SHOWN: Final = 400
"""Characters of a text that many lines may repeat: an environment, a condition, a value that is not known."""
Digest = tuple[str, bytes]


def malformed(message: str) -> InspectionRefused:
    """Return the refusal of a CoMID that is not one."""
    return InspectionRefused("comid-malformed", message)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement. `key` names what was measured (a number, a text, a `Tag`, or None); `registers` are integrity registers.

    `others` says in words what there is beside digests; `authorized`: it counts only where one of so many keys signed; `values` are
    all of them as they came.
    """

    key: Any
    digests: tuple[Digest, ...]
    registers: tuple[tuple[int | str, tuple[Digest, ...]], ...]
    others: tuple[str, ...]
    authorized: int = 0
    values: Mapping[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def text(self) -> str:
        """Return the measurement on one line."""
        named = "" if self.key is None else f"{text_of(self.key)}: "
        said = [digest_text(one) for one in self.digests]
        said += [f"register {name} {', '.join(map(digest_text, values))}" for name, values in self.registers]
        said += self.others
        return named + ", ".join([*said, f"if one of {self.authorized} keys signed"] if self.authorized else said)


def read_measurement(value: object) -> Measurement:
    """Return one measurement-map. *Raises* `InspectionRefused` ("comid-malformed")."""
    if not isinstance(value, dict) or not isinstance(value.get(_VALUES), dict):
        raise malformed("a measurement, or its values, is not a map")
    values = value[_VALUES]
    if not values:
        raise malformed("a measurement without values")
    digests = tuple(_digest(one) for one in _list(values[_DIGESTS_OF])) if _DIGESTS_OF in values else ()
    others = [_said(name, one) for name, one in values.items() if name not in (_DIGESTS_OF, _REGISTERS)]
    keys = value.get(_AUTHORIZED)
    authorized = len(keys) if isinstance(keys, list) else int(keys is not None)
    registers = tuple(_registers(values.get(_REGISTERS, {})))
    return Measurement(value.get(_KEY), digests, registers, tuple(others), authorized, values)


def digest_text(digest: Digest) -> str:
    """Return `algorithm:hex`."""
    return f"{digest[0]}:{digest[1].hex()}"


def _registers(value: object) -> Iterator[tuple[int | str, tuple[Digest, ...]]]:
    if not isinstance(value, dict):
        raise malformed("integrity registers are not a map")
    for name, digests in value.items():
        yield name if isinstance(name, int | str) else text_of(name), tuple(_digest(one) for one in _list(digests))


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise malformed("the digests are not a list with entries")
    return value


def _digest(value: object) -> Digest:
    parts = _list(value)
    if len(parts) != 2 or not isinstance(parts[1], bytes):
        raise malformed("a digest is not made of an algorithm and bytes")
    name, size = (str(plain_json(parts[0]))[:40], 0)
    if isinstance(parts[0], int):
        name, size = _DIGESTS.get(parts[0], (name, 0))
    elif isinstance(parts[0], str):
        name, size = _NAMED.get(parts[0].lower(), (name, 0))
    if size and len(parts[1]) != size:
        raise malformed(f"a {name} digest of {len(parts[1])} bytes")
    return name, parts[1]


def _said(name: object, value: Any) -> str:
    """Return one value in words (measurement-values-map)."""
    reader = _READERS.get(name) if isinstance(name, int) else None
    text = reader(value) if reader is not None else f"value {plain_json(name)} {text_of(value)}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _version(value: Any) -> str:
    return f"version {text_of(value.get(0))}" if isinstance(value, dict) else f"version {text_of(value)}"


def _security_version(value: Any) -> str:
    least = isinstance(value, Tag) and value.number == _MIN_SVN
    return f"security version {'at least ' if least else ''}{text_of(value)}"


def _flags(value: Any) -> str:
    if not isinstance(value, dict):
        return f"flags {text_of(value)}"
    named = (
        (_FLAGS[number] if isinstance(number, int) and 0 <= number < len(_FLAGS) else str(plain_json(number)), state)
        for number, state in value.items()
    )
    return "flags " + " ".join(name if state is True else f"not-{name}" for name, state in named)


def _raw(value: Any) -> str:
    if isinstance(value, Tag) and value.number == _MASKED and isinstance(value.value, list) and len(value.value) == 2:
        return f"raw value {text_of(value.value[0])} under mask {text_of(value.value[1])}"
    return f"raw value {text_of(value)}"


def _address(value: Any) -> str:
    if isinstance(value, bytes) and len(value) in (4, 16):
        return f"address {ip_address(value)}"
    return f"address {text_of(value)}"


def _range(value: Any) -> str:
    inner = value.value if isinstance(value, Tag) else value
    if isinstance(inner, list) and len(inner) == 2:
        low, high = ("unbounded" if one is None else text_of(one) for one in inner)
        return f"between {low} and {high}"
    return f"range {text_of(value)}"


_READERS: Final = {
    0: _version,
    1: _security_version,
    3: _flags,
    4: _raw,
    5: lambda value: f"mask {text_of(value)}",
    6: lambda value: f"hardware address {value.hex(':') if isinstance(value, bytes) else text_of(value)}",
    7: _address,
    8: lambda value: f"serial number {text_of(value)}",
    9: lambda value: f"UEID {text_of(value)}",
    10: lambda value: f"UUID {_uuid(value)}",
    11: lambda value: f"name {text_of(value)}",
    13: lambda value: f"keys {', '.join(map(key_text, value)) if isinstance(value, list) else text_of(value)}",
    15: _range,
}


def key_text(value: object) -> str:
    """Return a cryptographic key on one line: PEM without its line breaks, anything else as it is."""
    if isinstance(value, Tag) and isinstance(value.value, str):
        return " ".join(value.value.split())[:120]
    return text_of(value)[:120]


def text_of(value: object) -> str:
    """Return an item on one line: bytes in hexadecimal, object identifiers and UUIDs as people write them."""
    if isinstance(value, Tag) and value.number == _OID and isinstance(value.value, bytes):
        return _object_identifier(value.value)
    if isinstance(value, Tag) and value.number == _UUID:
        return _uuid(value.value)
    inner = value.value if isinstance(value, Tag) else value
    return inner.hex() if isinstance(inner, bytes) else str(plain_json(inner))


def _uuid(value: object) -> str:
    return str(UUID(bytes=value)) if isinstance(value, bytes) and len(value) == 16 else text_of(value)


def _object_identifier(octets: bytes) -> str:
    """Return dotted numbers (X.690, 8.19); what is no identifier in hexadecimal."""
    if not 0 < len(octets) <= 64 or octets[-1] & 0x80:
        return octets.hex()
    numbers, value = [], 0
    for octet in octets:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def environment_text(environment: Mapping[Any, Any]) -> str:
    """Return an environment on one line: vendor, model, id, layer, index, instance, group."""
    known = environment.get(0)
    names = known if isinstance(known, dict) else {}
    parts = [text_of(names[key]) for key in (1, 2, 0) if key in names]
    parts += [f"layer {text_of(names[3])}"] if 3 in names else []
    parts += [f"index {text_of(names[4])}"] if 4 in names else []
    parts += [f"instance {text_of(environment[1])}"] if 1 in environment else []
    parts += [f"group {text_of(environment[2])}"] if 2 in environment else []
    return " ".join(parts)[:SHOWN] or "any"
