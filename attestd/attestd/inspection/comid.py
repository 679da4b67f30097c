"""A CoMID: what an endorser says of one class of devices, as triples of an environment and its measurements or keys.

Proves the form of each triple (draft-ietf-rats-corim, 5.1); where the manifest names a profile that is known here, also that
profile's rules. Says nothing of who wrote it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from attestd.inspection.cborread import Tag, plain_json
from attestd.inspection.comidprofiles import ProfileRules, check_environment, check_measurements
from attestd.inspection.measurement import (
    SHOWN,
    Measurement,
    environment_text,
    key_text,
    malformed,
    read_measurement,
    text_of,
)

REFERENCE_VALUES: Final = "reference-values"
TRIPLES: Final = {
    0: REFERENCE_VALUES,
    1: "endorsed-values",
    2: "device-identity",
    3: "attestation-keys",
    4: "dependencies",
    5: "memberships",
    6: "software",
    8: "conditional-endorsement-series",
    9: "conditional-endorsement-series",
    10: "conditional-endorsements",
}
_MEASURED: Final = frozenset({0, 1})
_KEYED: Final = frozenset({2, 3})
_DOMAINS: Final = frozenset({4, 5})
_MOST_SAID: Final = 10_000
"""Statements of one CoMID that are written out: more can nobody read, and a few bytes of CBOR may make many."""


@dataclass(frozen=True, slots=True)
class ComidReport:
    """One CoMID: its identity and version, how many triples of each kind, and what it says of each environment.

    `measured` are its reference values as (environment, measurement).
    """

    identity: str
    triples: tuple[tuple[str, int], ...]
    statements: tuple[tuple[str, str, str], ...]
    """(kind of triple, environment, what is said of it)."""
    version: int | None = None
    measured: tuple[tuple[str, Measurement], ...] = ()


def read_comid(value: object, rules: ProfileRules | None = None) -> ComidReport:
    """Return what a CoMID says. *Raises* `InspectionRefused` ("comid-malformed", "comid-profile")."""
    comid = _map(value, "a CoMID")
    identity = _map(comid.get(1), "a tag identity")
    name = identity.get(0)
    if isinstance(name, Tag):
        name = text_of(name)
    if not isinstance(name, str | bytes) or name == "" or name == b"":
        raise malformed("a tag identity without an id")
    triples = _map(comid.get(4), "the triples")
    if not triples:
        raise malformed("there are no triples")
    counts: list[tuple[str, int]] = []
    statements: list[tuple[str, str, str]] = []
    measured: list[tuple[str, Measurement]] = []
    for kind, found in triples.items():
        label = TRIPLES.get(kind, f"triples {plain_json(kind)}") if isinstance(kind, int) else str(plain_json(kind))
        entries = _list(found, label)
        counts.append((label, len(entries)))
        for entry in entries:
            statements += _statements(kind, label, entry, rules, measured)
    version = identity.get(1)
    return ComidReport(
        name if isinstance(name, str) else name.hex(),
        tuple(counts),
        tuple(statements[:_MOST_SAID]),
        version if isinstance(version, int) else None,
        tuple(measured),
    )


def _map(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise malformed(f"{what} is not a map")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise malformed(f"{what} is not a list with entries")
    return value


def _statements(
    kind: object,
    label: str,
    entry: object,
    rules: ProfileRules | None,
    measured: list[tuple[str, Measurement]],
) -> Iterator[tuple[str, str, str]]:
    """Yield what one triple says; reference values are added to `measured`."""
    if kind in _MEASURED | _KEYED and isinstance(kind, int):
        yield from _triple(kind, label, entry, rules, measured)
    elif kind in _DOMAINS:
        parts = _list(entry, f"a triple of {label}")
        for one in _list(parts[1] if len(parts) > 1 else None, f"what {label} say"):
            yield label, _place(parts[0]), _place(one)
    elif kind == 6:
        parts = _list(entry, f"a triple of {label}")
        tags = parts[1] if len(parts) > 1 and isinstance(parts[1], list) else []
        yield label, _place(parts[0]), f"software tags {', '.join(map(text_of, tags))}"
    elif kind in (8, 9):
        yield from _series(label, entry)
    elif kind == 10:
        yield from _conditional(label, entry)
    else:
        yield label, "any", text_of(entry)[:SHOWN]


def _triple(
    kind: int, label: str, entry: object, rules: ProfileRules | None, measured: list[tuple[str, Measurement]]
) -> Iterator[tuple[str, str, str]]:
    parts = _list(entry, f"a triple of {label}")
    if len(parts) < 2:
        raise malformed(f"a triple of {label} has {len(parts)} parts")
    environment = _map(parts[0], "an environment")
    if not environment or not set(environment) <= {0, 1, 2}:
        raise malformed("an environment is made of class, instance and group")
    # Earlier drafts have one measurement where later ones have a list of them.
    several = [parts[1]] if kind in _MEASURED and isinstance(parts[1], dict) else parts[1]
    described = _list(several, f"what {label} say")
    if rules is not None:
        check_environment(kind, environment, described, rules)
    place = environment_text(environment)
    if kind in _KEYED:
        yield from ((label, place, key_text(one)) for one in described)
        return
    measurements = [read_measurement(one) for one in described]
    if kind == 0:
        if rules is not None:
            check_measurements(measurements, rules)
        measured += [(place, one) for one in measurements]
    yield from ((label, place, one.text) for one in measurements)


def _place(value: object) -> str:
    return environment_text(value) if isinstance(value, dict) else text_of(value)[:SHOWN]


def _said(value: object) -> str:
    """Return measurements on one line, whether there is one or a list of them, and no more than a line: it may be repeated."""
    found = [value] if isinstance(value, dict) else value
    if not isinstance(found, list):
        return text_of(value)[:SHOWN]
    said = "; ".join(read_measurement(one).text if isinstance(one, dict) else text_of(one) for one in found)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"


def _condition(value: object) -> tuple[str, str]:
    """Return environment and claims of stateful-environment-record (5.1.8)."""
    parts = value if isinstance(value, list) and value else [value]
    return _place(parts[0]), _said(parts[1]) if len(parts) > 1 else ""


def _series(label: str, entry: object) -> Iterator[tuple[str, str, str]]:
    """Yield each case of a series: which measurements select it, and what is endorsed then; the first that fits counts."""
    parts = _list(entry, f"a triple of {label}")
    place, given = _condition(parts[0])
    for one in _list(parts[1] if len(parts) > 1 else None, "a series"):
        case = one if isinstance(one, list) and len(one) > 1 else [None, one]
        when = "; ".join(filter(None, (given, _said(case[0]) if case[0] is not None else "")))
        yield label, place, f"if {when or 'anything'} then {_said(case[1])}"


def _conditional(label: str, entry: object) -> Iterator[tuple[str, str, str]]:
    """Yield each endorsement with the conditions that all of them have."""
    parts = _list(entry, f"a triple of {label}")
    conditions = [_condition(one) for one in _list(parts[0], "the conditions")]
    when = " and ".join(f"{place} has {given}" for place, given in conditions)
    for one in _list(parts[1] if len(parts) > 1 else None, "the endorsements"):
        place, said = _condition(one)
        yield label, place, f"if {when} then {said}"
