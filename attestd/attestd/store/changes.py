"""Operator changes as rows: proposals, their approvals, and which were applied in which order.

Proves that changes are applied one after the other and only once, and that a proposal's approvals are only added to. Proves
nothing of what a change says: `attestd.changes` verifies each from its signatures whenever it is read. Assumes a
transaction of `Store.write()` for whatever writes.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Select, delete, func, select, update

from attestd.store import bounds
from attestd.store.errors import ProposalConflict
from attestd.store.rows import columns, insert, page, record, records, values
from attestd.store.tables import CHANGE


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """A change with its armored signatures; fields as in `attestd.changes.statement.Change`. `applied_at` None: a proposal."""

    sequence: int
    kind: str
    subject: str
    body: bytes
    previous: bytes
    proposed_by: str
    proposed_at: int
    signatures: tuple[str, ...] = ()
    applied_at: int | None = None


def load_changes(connection: Connection, after: int, *, limit: int = bounds.MAX_PAGE) -> tuple[ChangeRecord, ...]:
    """Return at most `limit` applied changes behind the sequence `after`, in their order, with their signatures."""
    applied = CHANGE.c.applied_at.is_not(None) & (CHANGE.c.sequence > after)
    query = select(*columns(CHANGE, ChangeRecord)).where(applied).order_by(CHANGE.c.sequence).limit(page(limit))
    return records(ChangeRecord, connection.execute(query).all())


def load_change(connection: Connection, sequence: int) -> ChangeRecord | None:
    """Return one change, applied or proposed, or None."""
    return record(ChangeRecord, connection.execute(_one(sequence)).first())


def open_proposal(connection: Connection) -> ChangeRecord | None:
    """Return the proposal that waits for approvals, or None. There is at most one: the next in the sequence."""
    query = select(*columns(CHANGE, ChangeRecord)).where(CHANGE.c.applied_at.is_(None)).order_by(CHANGE.c.sequence)
    return record(ChangeRecord, connection.execute(query.limit(1)).first())


def insert_proposal(connection: Connection, change: ChangeRecord) -> None:
    """Keep a proposal, with the signatures it came with. *Raises* ProposalConflict unless it is the next in the sequence."""
    if change.applied_at is not None or len(change.signatures) > bounds.MAX_SIGNATURES:
        raise ValueError("a proposal is not applied and has a bounded number of signatures")
    if change.sequence != _applied(connection) + 1:
        raise ProposalConflict(f"change {change.sequence} is not the next")
    added = insert(connection, CHANGE).values(values(change)).on_conflict_do_nothing().returning(CHANGE.c.sequence)
    if connection.execute(added).first() is None:
        raise ProposalConflict(f"change {change.sequence} is proposed already: apply or withdraw that one")


def add_signature(connection: Connection, sequence: int, signature: str) -> tuple[str, ...]:
    """Add one armored signature to an open proposal, once, and return all of them.

    *Assumes* that the caller has verified it. *Raises* ProposalConflict when there is no such open proposal, or no room.
    """
    proposal = record(ChangeRecord, connection.execute(_one(sequence).with_for_update()).first())
    if proposal is None or proposal.applied_at is not None:
        raise ProposalConflict(f"change {sequence} is not open")
    if signature in proposal.signatures:
        return proposal.signatures
    signatures = (*proposal.signatures, signature)
    if len(signatures) > bounds.MAX_SIGNATURES:
        raise ProposalConflict(f"change {sequence} has {bounds.MAX_SIGNATURES} signatures")
    connection.execute(update(CHANGE).where(CHANGE.c.sequence == sequence).values(signatures=signatures))
    return signatures


def apply_change(connection: Connection, sequence: int, *, now: int) -> None:
    """Mark an open proposal as applied. *Assumes* that its approvals are verified. *Raises* ProposalConflict.

    Of two that apply at once, one is refused: the row is applied once, and only when it is the next.
    """
    is_open = (CHANGE.c.sequence == sequence) & CHANGE.c.applied_at.is_(None)
    if sequence != _applied(connection) + 1:
        raise ProposalConflict(f"change {sequence} is not the next")
    if connection.execute(update(CHANGE).where(is_open).values(applied_at=now)).rowcount != 1:
        raise ProposalConflict(f"change {sequence} is not open")


def withdraw_proposal(connection: Connection, sequence: int) -> bool:
    """Delete an open proposal and return whether there was one. Applied changes stay for ever."""
    gone = delete(CHANGE).where((CHANGE.c.sequence == sequence) & CHANGE.c.applied_at.is_(None))
    return connection.execute(gone).rowcount == 1


def hold_policy(connection: Connection) -> None:
    """Keep other changes, and enrolments, waiting until the transaction ends.

    On PostgreSQL an enrolment that began before a withdrawal would otherwise not see it, nor be seen by it. On SQLite writers
    are one at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def share_policy(connection: Connection) -> None:
    """Keep changes of policy waiting until the transaction ends; others who share it do not wait for each other."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock_shared({_LOCK})")


_LOCK = 0x6174706F  # "atpo"


def _one(sequence: int) -> Select[tuple[object, ...]]:
    return select(*columns(CHANGE, ChangeRecord)).where(CHANGE.c.sequence == sequence)


def _applied(connection: Connection) -> int:
    query = select(func.coalesce(func.max(CHANGE.c.sequence), 0)).where(CHANGE.c.applied_at.is_not(None))
    return int(connection.execute(query).scalar_one())
