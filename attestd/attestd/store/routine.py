"""The routine path: one statement to load a batch, one (PostgreSQL) or one for each device (SQLite) to store it.

Proves of every device whose id `store_routine` does not return that its row moved forward: its TPM's (reset count, clock)
is greater than the stored one, and nothing else changed its state since it was loaded. That is what makes a stateless
nonce single-use: of two proofs that race, one stands. Assumes a transaction of `Store.write()`, and that the caller
answers only after it has ended. Written in the databases' own SQL, because on this path the mapping layers cost more than
the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection

from attestd.store import bounds
from attestd.store.columns import KeyPairs, decode_keys, encode_document
from attestd.store.engine import driver


@dataclass(frozen=True, slots=True)
class RoutineRow:
    """What a routine proof is verified against: identity, state, and the policy's head at this moment."""

    device_id: str
    ak_public: bytes
    ak_name: bytes
    device_key_name: bytes
    device_key_spki: bytes
    vpn_keys: KeyPairs
    tpm_firmware: int | None
    ek_certificate_sha256: bytes | None
    manufacturer: str | None
    model: str | None
    certificate_not_after: int | None
    state: str
    since: int
    deadline: int | None
    reset_count: int
    restart_count: int
    clock: int
    pcr_digest: bytes | None
    log_digest: bytes | None
    tier: str | None
    vector: bytes | None
    profile: str | None
    profile_version: int | None
    appraised_at: int | None
    interval: int
    version: int
    last_attestation: int | None
    policy_head: int


@dataclass(frozen=True, slots=True)
class RoutineUpdate:
    """A device's row after a proof. `version` and `previous_attestation` are `version` and `last_attestation` as loaded.

    The state itself stays: a proof that changes it goes on with `devices.move_state` in the same transaction.
    """

    device_id: str
    version: int
    previous_attestation: int | None
    deadline: int | None
    reset_count: int
    restart_count: int
    clock: int
    pcr_digest: bytes
    log_digest: bytes
    tier: str
    vector: bytes
    profile: str
    profile_version: int
    appraised_at: int
    interval: int


@dataclass(frozen=True, slots=True)
class AttestationRow:
    """One row of the append-only record. `findings` is a JSON value, None when there are none."""

    device_id: str
    at: int
    kind: str
    tier: str
    state: str
    profile: str | None
    profile_version: int | None
    log_digest: bytes | None
    pcr_digest: bytes | None
    reset_count: int
    clock: int
    attest: bytes
    signature: bytes
    nonce: bytes
    findings: Any = None


_HEAD: Final = "SELECT coalesce(max(sequence), 0) FROM change WHERE applied_at IS NOT NULL"

_SELECT: Final = f"""
SELECT s.device_id, d.ak_public, d.ak_name, d.device_key_name, d.device_key_spki, d.vpn_keys, d.tpm_firmware,
       d.ek_certificate_sha256, d.manufacturer, d.model, d.certificate_not_after, s.state, s.since, s.deadline,
       s.reset_count, s.restart_count,
       s.clock, s.pcr_digest, s.log_digest, s.tier, s.vector, s.profile, s.profile_version, s.appraised_at, s.interval,
       s.version, s.last_attestation, ({_HEAD})
FROM device_state s JOIN device d ON d.device_id = s.device_id
WHERE d.ak_public IS NOT NULL AND s.device_id
"""  # noqa: S608 - constants of this file
_SELECT_SQLITE: Final = _SELECT + "IN (SELECT value FROM json_each(?))"  # noqa: S608 - as above
_SELECT_POSTGRESQL: Final = _SELECT + "= ANY(%b::text[])"
_LOCK_POSTGRESQL: Final = " ORDER BY s.device_id FOR NO KEY UPDATE OF s"


def policy_head(connection: Connection) -> int:
    """Return the sequence of the latest applied change, 0 when there is none."""
    (head,) = driver(connection).execute(_HEAD).fetchone()
    return int(head)


def load_routine(connection: Connection, device_ids: Sequence[str]) -> dict[str, RoutineRow]:
    """Return the rows of these devices, and hold them until the transaction ends.

    Unknown devices, and those whose keys were reset, are absent. *Assumes* `Store.write()`; rows are locked in the order
    of their ids, so batches of several processes cannot wait for each other in a circle.
    """
    return _load(connection, device_ids, _SELECT_POSTGRESQL + _LOCK_POSTGRESQL)


def peek_routine(connection: Connection, device_ids: Sequence[str]) -> dict[str, RoutineRow]:
    """Return the rows of these devices without holding them: for `Store.read()`.

    What is decided on them is still safe to store: `store_routine` refuses whatever moved meanwhile.
    """
    return _load(connection, device_ids, _SELECT_POSTGRESQL)


def _load(connection: Connection, device_ids: Sequence[str], postgresql: str) -> dict[str, RoutineRow]:
    if len(device_ids) > bounds.MAX_BATCH:
        raise ValueError("the batch is too large")
    if connection.dialect.name == "postgresql":
        result = driver(connection).execute(postgresql, (list(device_ids),), binary=True)
    else:
        result = driver(connection).execute(_SELECT_SQLITE, (encode_document(list(device_ids)),))
    return {row[0]: _routine_row(row) for row in result.fetchall()}


def _routine_row(row: Any) -> RoutineRow:
    """Return a selected row as the record; columns 5 and 6 are encoded (`columns.Keys`, `columns.Unsigned64`)."""
    decoded = (decode_keys(row[5]), None if row[6] is None else int(row[6], 16))
    fields: tuple[Any, ...] = (*row[:5], *decoded, *row[7:])
    return RoutineRow(*fields)


# --- Storing --------------------------------------------------------------------------------------------------------------

_UPDATED: Final = RoutineUpdate.__slots__
_RECORDED: Final = AttestationRow.__slots__
_update_values: Final = attrgetter(*_UPDATED)
_record_values: Final = attrgetter(*_RECORDED[:-1])


def store_routine(
    connection: Connection, updates: Sequence[RoutineUpdate], attestations: Sequence[AttestationRow]
) -> frozenset[str]:
    """Store a batch and return the ids of the devices that were NOT updated (nothing is stored for those).

    `attestations[i]` records what `updates[i]` does; a device occurs once in a batch. Not updated: the TPM's (reset count,
    clock) does not move forward, or the state's version or last attestation is not the one named.
    *Raises* ValueError for a batch of another shape.
    """
    devices = [update.device_id for update in updates]
    if devices != [row.device_id for row in attestations] or len(set(devices)) != len(devices):
        raise ValueError("a batch has one update and one attestation for each of its devices, in the same order")
    if len(devices) > bounds.MAX_BATCH:
        raise ValueError("the batch is too large")
    # A TPM that claims a clock beyond the column's range must not make the whole batch fail.
    pairs = [pair for pair in zip(updates, attestations, strict=True) if _storable(pair[0])]
    if not pairs:
        return frozenset(devices)
    store = _store_postgresql if connection.dialect.name == "postgresql" else _store_sqlite
    return frozenset(devices) - store(connection, pairs)


def _storable(update: RoutineUpdate) -> bool:
    return 0 <= update.clock <= bounds.MAX_SIGNED and 0 <= update.reset_count <= bounds.MAX_SIGNED


_TYPES: Final = {
    **dict.fromkeys(("device_id", "tier", "profile", "kind", "state", "findings"), "text"),
    **dict.fromkeys(("pcr_digest", "log_digest", "vector", "attest", "signature", "nonce"), "bytea"),
    **dict.fromkeys(("profile_version", "interval"), "integer"),
}


def _array(name: str) -> str:
    return f"%b::{_TYPES.get(name, 'bigint')}[]"


_SET: Final = _UPDATED[3:]
_STORE_POSTGRESQL: Final = f"""
WITH proof AS MATERIALIZED (
    SELECT * FROM unnest({", ".join(map(_array, _UPDATED))}, {", ".join(map(_array, _RECORDED[1:]))})
    AS proof({", ".join(f"u_{name}" for name in _UPDATED)}, {", ".join(_RECORDED[1:])})
), moved AS (
    UPDATE device_state s
    SET {", ".join(f"{name} = u_{name}" for name in _SET)}, last_attestation = nextval('attestation_id_seq')
    FROM proof
    WHERE s.device_id = u_device_id AND s.version = u_version
      AND (s.reset_count, s.clock) < (u_reset_count, u_clock)
      AND s.last_attestation IS NOT DISTINCT FROM u_previous_attestation
    RETURNING s.device_id, s.last_attestation
), recorded AS (
    INSERT INTO attestation (id, previous, {", ".join(_RECORDED)})
    SELECT moved.last_attestation, u_previous_attestation, u_device_id, {", ".join(f"proof.{name}" for name in _RECORDED[1:])}
    FROM proof JOIN moved ON moved.device_id = u_device_id
)
SELECT device_id FROM moved
"""  # noqa: S608 - field names of this file's dataclasses


def _store_postgresql(connection: Connection, pairs: Sequence[tuple[RoutineUpdate, AttestationRow]]) -> set[str]:
    """Store all pairs by one statement over arrays, one for each column; return the ids that were updated."""
    updates = zip(*(_update_values(update) for update, _ in pairs), strict=True)
    recorded = zip(*((*_record_values(row)[1:], encode_document(row.findings)) for _, row in pairs), strict=True)
    arrays = tuple(list(column) for column in (*updates, *recorded))
    return {row[0] for row in driver(connection).execute(_STORE_POSTGRESQL, arrays).fetchall()}


_LAST_SQLITE: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'attestation'"
_UPDATE_SQLITE: Final = f"""
UPDATE device_state SET {", ".join(f"{name} = ?" for name in _SET)}, last_attestation = ?
WHERE device_id = ? AND version = ? AND last_attestation IS ? AND (reset_count, clock) < (?, ?)
"""  # noqa: S608 - field names of this file's dataclasses
_INSERT_SQLITE: Final = f"""
INSERT INTO attestation (id, previous, {", ".join(_RECORDED)}) VALUES ({", ".join("?" * (len(_RECORDED) + 2))})
"""  # noqa: S608 - field names of this file's dataclasses


def _store_sqlite(connection: Connection, pairs: Sequence[tuple[RoutineUpdate, AttestationRow]]) -> set[str]:
    """Store the pairs one by one on the driver's cursor (a call costs a few microseconds); return the ids updated."""
    # This transaction is the only writer, so the next ids are known.
    direct = driver(connection)
    number = int(direct.execute(_LAST_SQLITE).fetchone()[0])
    updated: list[tuple[Any, ...]] = []
    for update, row in pairs:
        values = _update_values(update)
        guard = (*values[:3], update.reset_count, update.clock)
        if direct.execute(_UPDATE_SQLITE, (*values[3:], number + 1, *guard)).rowcount == 1:
            number += 1
            updated.append((number, values[2], *_record_values(row), encode_document(row.findings)))
    direct.executemany(_INSERT_SQLITE, updated)
    return {record[2] for record in updated}
