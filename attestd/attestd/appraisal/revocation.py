"""At least these revocations: a rule for lists that grow, of which a device may have more than the profile knows.

Judges two things, both of proven content: the database of what may not boot (dbx), by the digests that it has; and the level below
which shim starts nothing (SBAT), by a generation for each component. Whether more was revoked is not judged: who revokes more
starts less. UEFI 2.10, 32.4.1; SBAT.md of shim.
"""

import re
from hashlib import sha256
from typing import Final

from attestd.tpm.errors import Malformed
from attestd.tpm.signaturelist import parse_signature_lists

_LEVEL: Final = "SbatLevel "
_GENERATION = re.compile(r"([A-Za-z0-9._-]{1,64}),([0-9]{1,10})(?:,([0-9]{1,12}))?")
_DATED: Final = "sbat"
"""The component that stands for the level itself; behind its generation the level has a date."""


def is_generation(text: str) -> bool:
    """Return whether a text names a component and the least generation of it that may start, such as "shim,2"."""
    return _GENERATION.fullmatch(text) is not None


def revokes(required: tuple[str, ...], *, value: str | None, data: bytes | None) -> bool:
    """Return whether everything required is revoked by a component's proven content: a level's text, or a database's bytes."""
    if data is not None:
        return frozenset(required) <= revoked_digests(data)
    if value is None or not value.startswith(_LEVEL):
        return False
    found = _generations(value.removeprefix(_LEVEL))
    return all(found.get(name, (0, 0)) >= least for name, least in _generations("\n".join(required)).items())


def _generations(text: str) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for line in text.split("\n"):
        match = _GENERATION.match(line)
        if match is not None:
            name, generation, date = match.groups()
            least = (int(generation), int(date or 0) if name == _DATED else 0)
            found[name] = max(found.get(name, (0, 0)), least)
    return found


def revoked_digests(data: bytes) -> frozenset[str]:
    """Return the digests that a database has, as a profile writes them; a certificate is told by the hash of itself."""
    try:
        lists = parse_signature_lists(data)
    except Malformed:
        return frozenset()
    found = set()
    for one in lists:
        for entry in one.signatures:
            if one.type == "x509":
                found.add(f"sha256:{sha256(entry.data).hexdigest()}")
            elif one.type in ("sha1", "sha256", "sha384", "sha512"):
                found.add(f"{one.type}:{entry.data.hex()}")
            elif one.type.startswith("x509-sha"):
                size = {"x509-sha256": 32, "x509-sha384": 48, "x509-sha512": 64}[one.type]
                found.add(f"{one.type.removeprefix('x509-')}:{entry.data[:size].hex()}")
    return frozenset(found)
