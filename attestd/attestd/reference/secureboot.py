"""The policy of Secure Boot as it is measured: which variables, with which content, in which order (PCR 7).

Proves nothing: a machine's variables are what its firmware has. Assumes that the key files are the whole content of the variables,
and firmware that measures SecureBoot, PK, KEK, db and dbx and no other, as EDK2 does (firmware profile 1.06, 3.3.4.8).
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

GLOBAL_VARIABLE: Final = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY: Final = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
DATABASES: Final = {"PK": GLOBAL_VARIABLE, "KEK": GLOBAL_VARIABLE, "db": IMAGE_SECURITY, "dbx": IMAGE_SECURITY}
"""The variables with keys, in the order in which they are measured."""


@dataclass(frozen=True, slots=True)
class Database:
    """One variable's content as signature lists, and the files that it came from. `name` is a key of `DATABASES`."""

    name: str
    content: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable as it will be measured."""

    namespace: UUID
    name: str
    value: bytes
    source: str


def variables(databases: tuple[Database, ...], *, on: bool | None) -> tuple[Variable, ...]:
    """Return what is known of the five variables, in the order of their measurement; `on` is None where it is not known."""
    found = []
    if on is not None:
        found.append(Variable(GLOBAL_VARIABLE, "SecureBoot", b"\1" if on else b"\0", "--secure-boot"))
    by_name = {database.name: database for database in databases}
    for name, namespace in DATABASES.items():
        if name in by_name:
            found.append(Variable(namespace, name, by_name[name].content, by_name[name].source))
    return tuple(found)
