"""Software identity tags for a person: CoSWID (RFC 9393, CBOR) and what a SWID tag (ISO 19770-2, XML) has in common with it.

Proves the form. A payload's hashes are what the tag's author says of files; nobody measured them here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from attestd.inspection.cborread import plain_json
from attestd.inspection.refused import InspectionRefused

_HASHES: Final = {1: "sha256", 7: "sha384", 8: "sha512"}
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
    """One file of a payload: path, size in bytes or None, hashes as "algorithm:hex"."""

    path: str
    size: int | None
    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CoswidReport:
    """One tag: identity, name and version of the software, entities with their roles, files of the payload."""

    identity: str
    name: str
    version: str | None
    entities: tuple[str, ...]
    files: tuple[File, ...]

    def document(self) -> dict[str, Any]:
        """Return the tag for programs."""
        return {
            "id": self.identity,
            "name": self.name,
            "version": self.version,
            "entities": list(self.entities),
            "files": [{"path": one.path, "size": one.size, "hashes": list(one.hashes)} for one in self.files],
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
    payload = value.get(6) or value.get(3)
    return CoswidReport(
        identity=identity if isinstance(identity, str) else identity.hex(),
        name=name,
        version=version if isinstance(version, str) else None,
        entities=tuple(_entities(value.get(2))),
        files=tuple(_files(payload)),
    )


def _entities(value: object) -> Iterator[str]:
    for one in _several(value):
        if not isinstance(one, dict) or not isinstance(one.get(31), str):
            raise _malformed("an entity has a name")
        roles = [_ROLES.get(role, str(role)) for role in _several(one.get(33)) if isinstance(role, int)]
        yield f"{one[31]} ({', '.join(roles) or 'no role'})"


def _several(value: object) -> list[Any]:
    """Return one or more of RFC 9393, 2.1, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _files(payload: object) -> Iterator[File]:
    """Yield the files of a payload; directories are walked with a list, not by recursion."""
    waiting: list[tuple[object, str, int]] = [(payload, "", 0)]
    while waiting:
        place, path, depth = waiting.pop()
        if not isinstance(place, dict) or depth > _MOST_DEPTH:
            continue
        for one in _several(place.get(17)):
            if not isinstance(one, dict):
                raise _malformed("a file is a map")
            digest = one.get(7)
            hashes = (_hash(digest),) if digest is not None else ()
            size = one.get(20)
            yield File(f"{path}{one.get(24, '')}", size if isinstance(size, int) else None, hashes)
        for one in _several(place.get(16)):
            if isinstance(one, dict):
                waiting.append((one.get(26), f"{path}{one.get(24, '')}/", depth + 1))


def _hash(value: object) -> str:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], bytes):
        raise _malformed("a hash is not made of an algorithm and bytes")
    return f"{_HASHES.get(value[0], plain_json(value[0])) if isinstance(value[0], int) else '?'}:{value[1].hex()}"
