"""Software identity tags for a person: CoSWID (RFC 9393, CBOR), and what a SWID tag (swidxml.py) has in common with it.

Proves the form. A payload's hashes are what the tag's author says of files; nobody measured them here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from attestd.inspection.cborread import plain_json
from attestd.inspection.refused import InspectionRefused
from attestd.protocol.limits import INSPECTED_PATH

_HASHES: Final = {1: ("sha256", 32), 7: ("sha384", 48), 8: ("sha512", 64), 10: ("sha3-256", 32)}
"""Named Information Hash Algorithm Registry (RFC 6920), which RFC 9393, 2.9.1 refers to."""
_META: Final = {
    43: "activation-status",
    44: "channel-type",
    45: "colloquial-version",
    46: "description",
    47: "edition",
    50: "generator",
    51: "persistent-id",
    52: "product",
    53: "product-family",
    54: "revision",
    55: "summary",
}
_ROLES: Final = {
    1: "tag creator",
    2: "software creator",
    3: "aggregator",
    4: "distributor",
    5: "licensor",
    6: "maintainer",
}
_MOST_DEPTH: Final = 16
"""Directories inside directories of a payload."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a payload: path, size in bytes or None, hashes as "algorithm:hex".

    `kind` is "file"; "evidence" for what somebody found instead of shipped; else what a resource calls itself ("Measurement").
    """

    path: str
    size: int | None
    hashes: tuple[str, ...]
    kind: str = "file"

    def document(self) -> dict[str, Any]:
        """Return the file for programs."""
        return {"path": self.path, "size": self.size, "hashes": list(self.hashes), "kind": self.kind}


@dataclass(frozen=True, slots=True)
class CoswidReport:
    """One tag: identity, name and version of the software, entities with their roles, files of the payload.

    `manifest`: it is a reference manifest (TCG), whose files are support logs. `found` are files of evidence: what a tool saw on
    some machine, and no maker's word.
    """

    identity: str
    name: str
    version: str | None
    entities: tuple[str, ...]
    files: tuple[File, ...]
    manifest: bool = False
    found: tuple[File, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the tag for programs."""
        return {
            "id": self.identity,
            "name": self.name,
            "version": self.version,
            "entities": list(self.entities),
            "files": [one.document() for one in (*self.files, *self.found)],
        }


def _malformed(message: str) -> InspectionRefused:
    return InspectionRefused("coswid-malformed", message)


def read_coswid(value: object) -> CoswidReport:
    """Return what concise-swid-tag says (RFC 9393, 2.3). *Raises* `InspectionRefused` ("coswid-malformed")."""
    if not isinstance(value, dict):
        raise _malformed("a CoSWID is a map")
    identity, name = value.get(0), value.get(1)
    if not isinstance(identity, str | bytes) or not isinstance(name, str):
        raise _malformed("a CoSWID has a tag id and a software name")
    version = value.get(13)
    return CoswidReport(
        identity=identity if isinstance(identity, str) else identity.hex(),
        name=name,
        version=version if isinstance(version, str) else None,
        entities=tuple(_entities(value.get(2))),
        files=tuple(_files(value.get(6), "file")),
        found=tuple(_files(value.get(3), "evidence")),
    )


def software_meta(value: object) -> tuple[tuple[str, str], ...]:
    """Return what software-meta (5) says, under the names of RFC 9393, 6.2; what has no name here is left out."""
    found = []
    for one in _several(value.get(5) if isinstance(value, dict) else None):
        for number, said in one.items() if isinstance(one, dict) else ():
            if isinstance(number, int) and number in _META:
                found.append((_META[number], said.hex() if isinstance(said, bytes) else str(plain_json(said))))
    return tuple(found)


def _entities(value: object) -> Iterator[str]:
    for one in _several(value):
        if not isinstance(one, dict) or not isinstance(one.get(31), str):
            raise _malformed("an entity has a name")
        roles = [_ROLES.get(role, str(role)) for role in _several(one.get(33)) if isinstance(role, int)]
        yield f"{one[31]} ({', '.join(roles) or 'no role'})"


def _several(value: object) -> list[Any]:
    """Return one or more of RFC 9393, 2.1, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _files(payload: object, kind: str) -> Iterator[File]:
    """Yield the files of a payload; directories are walked with a list, not by recursion."""
    waiting: list[tuple[object, str, int]] = [(one, "", 0) for one in _several(payload)]
    while waiting:
        place, path, depth = waiting.pop()
        if not isinstance(place, dict) or depth > _MOST_DEPTH:
            continue
        for one in _several(place.get(17)):
            if not isinstance(one, dict):
                raise _malformed("a file is a map")
            size = one.get(20)
            yield File(_joined(path, one), size if isinstance(size, int) else None, _hashes(one.get(7)), kind)
        for one in _several(place.get(16)):
            if isinstance(one, dict):
                # Its elements belong under path-elements (26); some tools write them into the directory itself.
                waiting.append((one.get(26, one), _joined(path, one), depth + 1))


def _joined(path: str, item: dict[Any, Any]) -> str:
    """Return where a filesystem item lies: below its directory, or at root (25) and location (23) where it says them itself."""
    own = "/".join(part.rstrip("/") for key in (25, 23) if isinstance(part := item.get(key), str) and part)
    above = own if own and (own.startswith("/") or not path) else f"{path}/{own}" if own else path
    name = item.get(24, "")
    whole = f"{above.rstrip('/')}/{name}" if above else str(name)
    if len(whole) > INSPECTED_PATH:
        raise _malformed("a path that is longer than any file's")
    return whole


def _hashes(value: object) -> tuple[str, ...]:
    """Return one hash-entry, or the several that some tools write."""
    if value is None:
        return ()
    several = isinstance(value, list) and bool(value) and all(isinstance(one, list) for one in value)
    return tuple(_hash(one) for one in value) if several and isinstance(value, list) else (_hash(value),)


def _hash(value: object) -> str:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str):
        # Early tags have the digits (as python-uswid reads them).
        value = [value[0], _digits(value[1])]
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], bytes):
        raise _malformed("a hash is not made of an algorithm and bytes")
    known = _HASHES.get(value[0]) if isinstance(value[0], int) else None
    if known is None:
        return f"{plain_json(value[0]) if isinstance(value[0], int) else '?'}:{value[1].hex()}"
    name, size = known
    if len(value[1]) != size:
        raise _malformed(f"a {name} hash of {len(value[1])} bytes")
    return f"{name}:{value[1].hex()}"


def _digits(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
