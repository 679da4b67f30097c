"""The record: attestations, transitions, refusals and boot logs, appended and paged.

Proves of a boot log that it is handed out as it came in (its digest is checked again). Assumes a transaction of
`Store.write()` for whatever appends. Does not prove that nobody changed a row: that needs a log that others watch.

Pages go backwards in time: `before` is the id of the last row of the page before, None for the first page.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, literal, select, update

from attestd.protocol import limits
from attestd.store.engine import driver
from attestd.store.errors import StoreConflict, StoreError
from attestd.store.routine import AttestationRow
from attestd.store.rows import columns, page, records, values
from attestd.store.tables import ATTESTATION, DEVICE_STATE, EVENT_LOG, REFUSAL, TRANSITION


@dataclass(frozen=True, slots=True)
class AttestationRecord:
    """One attestation as recorded; `previous` is the id of the device's one before it. Fields as in AttestationRow."""

    id: int
    previous: int | None
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
    findings: Any


@dataclass(frozen=True, slots=True)
class TransitionRecord:
    """One change of a device's state as recorded."""

    id: int
    device_id: str
    at: int
    from_state: str | None
    to_state: str
    event: str
    cause: Any
    actor: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal to record. *Assumes* that the device proved possession of its endorsement key. `detail` is a JSON value."""

    device_id: str | None
    at: int
    code: str
    route: str
    detail: Any


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """One refusal as recorded."""

    id: int
    device_id: str | None
    at: int
    code: str
    route: str
    detail: Any


# --- Attestations ---------------------------------------------------------------------------------------------------------


def append_attestation(connection: Connection, row: AttestationRow) -> int:
    """Record one attestation that is not routine (an enrolment, a verdict that failed) and return its id.

    A routine proof that was loaded before and is stored after it is refused: it did not know of this one.
    *Raises* StoreConflict for a device that has no state.
    """
    state = select(DEVICE_STATE.c.last_attestation).where(DEVICE_STATE.c.device_id == row.device_id)
    held = connection.execute(state.with_for_update()).first()
    if held is None:
        raise StoreConflict("an attestation belongs to a device that has a state")
    added = ATTESTATION.insert().returning(ATTESTATION.c.id)
    number = int(connection.execute(added, {**values(row), "previous": held[0]}).scalar_one())
    link = update(DEVICE_STATE).where(DEVICE_STATE.c.device_id == row.device_id)
    connection.execute(link.values(last_attestation=number))
    return number


def list_attestations(
    connection: Connection, device_id: str, *, before: int | None = None, limit: int = 50
) -> tuple[AttestationRecord, ...]:
    """Return the device's attestations, latest first, by following their links (each step is one primary key)."""
    chain = _start(device_id, before).cte("chain", recursive=True)
    step = select(ATTESTATION.c.previous, chain.c.depth + 1).join(chain, ATTESTATION.c.id == chain.c.id)
    chain = chain.union_all(step.where(chain.c.depth < page(limit), ATTESTATION.c.previous.is_not(None)))
    query = select(*columns(ATTESTATION, AttestationRecord)).join(chain, ATTESTATION.c.id == chain.c.id)
    newest = query.where(ATTESTATION.c.device_id == device_id).order_by(ATTESTATION.c.id.desc())
    return records(AttestationRecord, connection.execute(newest).all())


def _start(device_id: str, before: int | None) -> Select[Any]:
    """Return the query for the first link: the device's latest attestation, or the one behind `before`."""
    one = literal(1).label("depth")
    if before is None:
        return select(DEVICE_STATE.c.last_attestation.label("id"), one).where(DEVICE_STATE.c.device_id == device_id)
    same = (ATTESTATION.c.id == before) & (ATTESTATION.c.device_id == device_id)
    return select(ATTESTATION.c.previous.label("id"), one).where(same)


def recent_attestations(
    connection: Connection, *, before: int | None = None, limit: int = 50
) -> tuple[AttestationRecord, ...]:
    """Return the whole fleet's attestations, latest first."""
    query = select(*columns(ATTESTATION, AttestationRecord))
    return records(AttestationRecord, connection.execute(_paged(query, ATTESTATION.c.id, before, limit)).all())


# --- Transitions and refusals -----------------------------------------------------------------------------------------------


def list_transitions(
    connection: Connection, *, device_id: str | None = None, before: int | None = None, limit: int = 50
) -> tuple[TransitionRecord, ...]:
    """Return changes of state, latest first, of one device or of all."""
    query = select(*columns(TRANSITION, TransitionRecord))
    if device_id is not None:
        query = query.where(TRANSITION.c.device_id == device_id)
    return records(TransitionRecord, connection.execute(_paged(query, TRANSITION.c.id, before, limit)).all())


def insert_refusal(connection: Connection, refusal: Refusal) -> None:
    """Record a refusal."""
    connection.execute(REFUSAL.insert(), values(refusal))


def list_refusals(
    connection: Connection, *, device_id: str | None = None, before: int | None = None, limit: int = 50
) -> tuple[RefusalRecord, ...]:
    """Return refusals, latest first, of one device or of all."""
    query = select(*columns(REFUSAL, RefusalRecord))
    if device_id is not None:
        query = query.where(REFUSAL.c.device_id == device_id)
    return records(RefusalRecord, connection.execute(_paged(query, REFUSAL.c.id, before, limit)).all())


def _paged(query: Select[Any], key: Any, before: int | None, limit: int) -> Select[Any]:
    if before is not None:
        query = query.where(key < before)
    return query.order_by(key.desc()).limit(page(limit))


# --- Boot logs ------------------------------------------------------------------------------------------------------------


def put_event_log(connection: Connection, log: bytes, *, now: int) -> bytes:
    """Keep a boot log, once however often it comes, and return its SHA-256. *Raises* ValueError beyond the bound."""
    digest = hashlib.sha256(log).digest()
    put_event_logs(connection, {digest: log}, now=now)
    return digest


def put_event_logs(connection: Connection, logs: Mapping[bytes, bytes], *, now: int) -> None:
    """Keep boot logs by their SHA-256, each once however often it comes. *Raises* ValueError beyond the bound.

    *Assumes* that the keys are the logs' digests (`get_event_log` hands out nothing else).
    """
    if any(len(log) > limits.MAX_EVENT_LOG for log in logs.values()):
        raise ValueError("the boot log is too large")
    # Looked for first: nearly every log of a fleet is known, and compressing costs a hundred times what looking does.
    known = known_event_logs(connection, logs)
    # In the order of their digests, so that two processes with the same new logs cannot wait for each other in a circle.
    added = [(digest, logs[digest]) for digest in sorted(logs) if digest not in known]
    if added:
        rows = [(digest, zlib.compress(log, _COMPRESSION), len(log), now) for digest, log in added]
        driver(connection).executemany(_INSERT_LOG.format(*_mark(connection) * 4), rows)


def get_event_log(connection: Connection, digest: bytes) -> bytes | None:
    """Return the boot log with this SHA-256, or None. *Raises* StoreError when the row is not what its key says."""
    query = select(EVENT_LOG.c.body, EVENT_LOG.c.length).where(EVENT_LOG.c.digest == digest)
    row = connection.execute(query).first()
    if row is None:
        return None
    try:
        log = zlib.decompressobj().decompress(row[0], min(row[1], limits.MAX_EVENT_LOG) + 1)
    except zlib.error as error:
        raise StoreError("a boot log was changed in the database") from error
    if len(log) != row[1] or hashlib.sha256(log).digest() != digest:
        raise StoreError("a boot log was changed in the database")
    return log


def known_event_logs(connection: Connection, digests: Iterable[bytes]) -> frozenset[bytes]:
    """Return those of the digests whose logs are kept."""
    wanted = list(digests)
    marks = ", ".join(_mark(connection) * len(wanted)) or "NULL"
    found = driver(connection).execute(_SELECT_LOGS.format(marks), wanted)
    return frozenset(bytes(row[0]) for row in found.fetchall())


def _mark(connection: Connection) -> tuple[str]:
    """Return how the driver writes a parameter in a statement."""
    return ("%b",) if connection.dialect.name == "postgresql" else ("?",)


_COMPRESSION: Final = 1
"""zlib's fastest level: on boot logs of real machines it leaves 44 % where the default leaves 43 %, in two thirds of the time."""
_INSERT_LOG: Final = """
INSERT INTO event_log (digest, body, length, first_seen) VALUES ({}, {}, {}, {}) ON CONFLICT DO NOTHING
"""
_SELECT_LOGS: Final = "SELECT digest FROM event_log WHERE digest IN ({})"
