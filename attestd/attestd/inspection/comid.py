"""A CoMID: what an endorser says of one class of devices, as triples of an environment and its measurements or keys.

Proves the form of each triple (draft-ietf-rats-corim, 5.1) and that digests are as long as their algorithm says; where the manifest
names a profile that is known here, also that profile's rules. Says nothing of who wrote it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from attestd.inspection.cborread import Tag, plain_json
from attestd.inspection.refused import InspectionRefused

TRIPLES: Final = {
    0: "reference-values",
    1: "endorsed-values",
    2: "device-identity",
    3: "attestation-keys",
    4: "dependencies",
    5: "memberships",
    6: "software",
    8: "conditional-endorsement-series",
    10: "conditional-endorsements",
}
_MEASURED: Final = frozenset({0, 1})
_KEYED: Final = frozenset({2, 3})
_DIGESTS: Final = {1: ("sha256", 32), 7: ("sha384", 48), 8: ("sha512", 64), 10: ("sha3-256", 32)}
"""Named Information Hash Algorithm Registry (RFC 6920)."""
_UUID, _UEID, _BYTES, _IMPLEMENTATION = 37, 550, 560, 600


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """What one profile asks for; an empty tuple asks nothing. Numbers are CBOR tags."""

    class_ids: tuple[int, ...] = ()
    instance_ids: tuple[int, ...] = ()
    one_key: bool = False
    names_vendor: bool = False
    reference_values: bool = True
    digests: bool = False
    key_is_register: bool = False


_ARM: Final = ProfileRules(class_ids=(_BYTES, _IMPLEMENTATION), instance_ids=(_UEID,), digests=True)
PROFILES: Final[Mapping[str, ProfileRules]] = {
    "tag:arm.com,2025:psa": _ARM,
    "http://arm.com/psa/iot": _ARM,
    "tag:github.com/parallaxsecond,2023-03-03:tpm": ProfileRules(
        class_ids=(_UUID,), instance_ids=(_UEID, _BYTES), one_key=True, digests=True, key_is_register=True
    ),
    "tag:veraison-project.com,2026:riot": ProfileRules(names_vendor=True, reference_values=False),
}
"""Beginning of a profile's URI → its rules, as far as they are public."""


@dataclass(frozen=True, slots=True)
class ComidReport:
    """One CoMID: its identity, how many triples of each kind, and what it says of each environment."""

    identity: str
    triples: tuple[tuple[str, int], ...]
    statements: tuple[tuple[str, str, str], ...]
    """(kind of triple, environment, what is said of it)."""


def rules_for(profile: str | None) -> ProfileRules | None:
    """Return the rules of a profile that is known here."""
    found = (rules for beginning, rules in PROFILES.items() if profile is not None and profile.startswith(beginning))
    return next(found, None)


def read_comid(value: object, rules: ProfileRules | None = None) -> ComidReport:
    """Return what a CoMID says. *Raises* `InspectionRefused` ("comid-malformed", "comid-profile")."""
    comid = _map(value, "a CoMID")
    identity = _map(comid.get(1), "a tag identity")
    name = identity.get(0)
    if not isinstance(name, str | bytes) or name == "" or name == b"":
        raise _malformed("a tag identity without an id")
    triples = _map(comid.get(4), "the triples")
    if not triples:
        raise _malformed("there are no triples")
    counts: list[tuple[str, int]] = []
    statements: list[tuple[str, str, str]] = []
    for kind, found in triples.items():
        label = TRIPLES.get(kind, f"triples {plain_json(kind)}") if isinstance(kind, int) else str(plain_json(kind))
        entries = _list(found, label)
        counts.append((label, len(entries)))
        if kind in _MEASURED | _KEYED:
            for entry in entries:
                statements += _triple(int(kind), label, entry, rules)
    return ComidReport(name if isinstance(name, str) else name.hex(), tuple(counts), tuple(statements))


def _malformed(message: str) -> InspectionRefused:
    return InspectionRefused("comid-malformed", message)


def _unfit(message: str) -> InspectionRefused:
    return InspectionRefused("comid-profile", f"the manifest's profile does not allow {message}")


def _map(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _malformed(f"{what} is not a map")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _malformed(f"{what} is not a list with entries")
    return value


def _triple(kind: int, label: str, entry: object, rules: ProfileRules | None) -> Iterator[tuple[str, str, str]]:
    parts = _list(entry, f"a triple of {label}")
    if len(parts) < 2:
        raise _malformed(f"a triple of {label} has {len(parts)} parts")
    environment = _map(parts[0], "an environment")
    if not environment or not set(environment) <= {0, 1, 2}:
        raise _malformed("an environment is made of class, instance and group")
    described = _list(parts[1], f"what {label} say")
    if rules is not None:
        _check_environment(kind, environment, described, rules)
    place = environment_text(environment)
    for one in described:
        yield label, place, _key_text(one) if kind in _KEYED else _measurement(one, rules if kind == 0 else None)


def _check_environment(kind: int, environment: Mapping[Any, Any], described: list[Any], rules: ProfileRules) -> None:
    known = environment.get(0)
    names = known if isinstance(known, dict) else {}
    if rules.class_ids and not (isinstance(names.get(0), Tag) and names[0].number in rules.class_ids):
        raise _unfit("a class without an id of its kind")
    if rules.names_vendor and not (names.get(1) and names.get(2)):
        raise _unfit("a class without vendor and model")
    if kind == 0:
        if not rules.reference_values:
            raise _unfit("reference values")
        if 1 in environment and rules.instance_ids:
            raise _unfit("reference values of one instance")
    if kind == 3 and rules.instance_ids:
        instance = environment.get(1)
        if not (isinstance(instance, Tag) and instance.number in rules.instance_ids):
            raise _unfit("a key without an instance of its kind")
    if kind == 3 and rules.one_key and len(described) != 1:
        raise _unfit("several keys of one instance")


def _measurement(value: object, rules: ProfileRules | None) -> str:
    measurement = _map(value, "a measurement")
    values = _map(measurement.get(1), "a measurement's values")
    if not values:
        raise _malformed("a measurement without values")
    digests = [_digest(one) for one in _list(values[2], "the digests")] if 2 in values else []
    key = measurement.get(0)
    if rules is not None and rules.digests and not digests:
        raise _unfit("a measurement without digests")
    if rules is not None and rules.key_is_register and not (type(key) is int and 0 <= key < 24):
        raise _unfit("a measurement that names no register")
    named = "" if key is None else f"{_text(key)}: "
    others = ", ".join(str(plain_json(kind)) for kind in values if kind != 2)
    return named + (", ".join(digests) or f"values {others}")


def _digest(value: object) -> str:
    parts = _list(value, "a digest")
    if len(parts) != 2 or not isinstance(parts[1], bytes):
        raise _malformed("a digest is not made of an algorithm and bytes")
    name, size = _DIGESTS.get(parts[0], (str(parts[0]), 0)) if isinstance(parts[0], int) else (_text(parts[0]), 0)
    if size and len(parts[1]) != size:
        raise _malformed(f"a {name} digest of {len(parts[1])} bytes")
    return f"{name}:{parts[1].hex()}"


def _key_text(value: object) -> str:
    if isinstance(value, Tag) and isinstance(value.value, str):
        return " ".join(value.value.split())[:120]
    return _text(value)[:120]


def environment_text(environment: Mapping[Any, Any]) -> str:
    """Return an environment on one line: vendor, model, id, instance, group."""
    known = environment.get(0)
    names = known if isinstance(known, dict) else {}
    parts = [_text(names[key]) for key in (1, 2, 0) if key in names]
    parts += [f"layer {_text(names[3])}"] if 3 in names else []
    parts += [f"instance {_text(environment[1])}"] if 1 in environment else []
    parts += [f"group {_text(environment[2])}"] if 2 in environment else []
    return " ".join(parts) or "any"


def _text(value: object) -> str:
    inner = value.value if isinstance(value, Tag) else value
    return inner.hex() if isinstance(inner, bytes) else str(plain_json(inner))
