"""Operator changes on their way: drafted, signed, and applied once enough operators approve.

load → `attestd.changes` → persist. Proves nothing by itself: every reader verifies the chain again (services.policy). What
is done here in one transaction: the change's place in the chain, its signatures, and what it means for devices that exist.
Does not sign: keys stay with the operators.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attestd.changes.book import fold, verify_chain
from attestd.changes.errors import ChangeRefused
from attestd.changes.inventory import read_inventory
from attestd.changes.operators import Operators, verify_approval
from attestd.changes.statement import Change, Kind
from attestd.services import custody
from attestd.services.context import Verifier
from attestd.services.declined import Declined
from attestd.services.policy import change_of
from attestd.services.publish import refresh_crl
from attestd.store import Connection, shadow
from attestd.store import changes as rows
from attestd.store.changes import ChangeRecord


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a change stands: who approved it, how many more must, and what it did to devices when it was applied."""

    change: Change
    approvers: tuple[str, ...]
    missing: int
    applied_at: int | None
    moved: tuple[custody.Moved, ...] = ()


def draft(verifier: Verifier, kind: Kind, subject: str, *, body: bytes, proposer: str) -> Change:
    """Return the change that would come next in the chain. Nothing is stored.

    *Raises* ChangeRefused where it does not fit the book, Refused (policy-unapproved), Declined (change-open).
    """
    with verifier.store.read() as connection:
        waiting = rows.open_proposal(connection)
        book = verifier.policy.book(connection)
    if waiting is not None:
        raise Declined(
            "change-open",
            f"change {waiting.sequence} ({waiting.kind} {waiting.subject}) waits for approvals: "
            f"attestd change approve {waiting.sequence}, or attestd change withdraw {waiting.sequence}",
        )
    # Not before the change before it: clocks of two hosts may differ, and the chain's order is what counts.
    at = max(verifier.now(), book.changed_at)
    change = Change(book.sequence + 1, kind, subject, body, book.digest, proposer, at)
    fold(book, change)
    return change


def submit(verifier: Verifier, operators: Operators, change: Change, *, signatures: Sequence[str]) -> Standing:
    """Store a drafted change with its signatures, and apply it at once where they are enough.

    *Raises* ChangeRefused (another change came in between, a signature is wrong), Refused, StoreError.
    """
    operators = _standing_operators(verifier, operators, change)
    with verifier.store.write() as connection:
        rows.hold_policy(connection)
        fold(verifier.policy.book(connection), change)
        approvers = _approvers(change, signatures, operators)
        rows.insert_proposal(connection, _record(change, signatures))
        if len(approvers) < operators.threshold:
            return Standing(change, approvers, operators.threshold - len(approvers), None)
        standing = _apply(verifier, connection, change, signatures, operators)
    return _published(verifier, standing)


def approve(verifier: Verifier, operators: Operators, sequence: int, *, signature: str) -> Standing:
    """Add one operator's signature to an open change, and apply it where that makes enough.

    *Raises* ChangeRefused (approval-invalid, approval-unknown-operator, …), Declined (change-unknown), StoreError.
    """
    with verifier.store.write() as connection:
        rows.hold_policy(connection)
        change = change_of(_open(connection, sequence))
        operators = _standing_operators(verifier, operators, change)
        verify_approval(change, signature, operators)
        signatures = rows.add_signature(connection, sequence, signature)
        approvers = _approvers(change, signatures, operators)
        if len(approvers) < operators.threshold:
            return Standing(change, approvers, operators.threshold - len(approvers), None)
        standing = _apply(verifier, connection, change, signatures, operators)
    return _published(verifier, standing)


def withdraw(verifier: Verifier, sequence: int) -> None:
    """Forget an open change. *Raises* Declined (change-unknown), StoreError."""
    with verifier.store.write() as connection:
        if not rows.withdraw_proposal(connection, sequence):
            raise Declined("change-unknown", f"there is no open change {sequence}: attestd change list")


def standing(connection: Connection, operators: Operators, sequence: int) -> Standing:
    """Return where a change stands. *Raises* Declined (change-unknown), ChangeRefused for a signature that is wrong."""
    record = rows.load_change(connection, sequence)
    if record is None:
        raise Declined("change-unknown", f"there is no change {sequence}: attestd change list")
    return standing_of(record, operators)


def standing_of(record: ChangeRecord, operators: Operators) -> Standing:
    """Return where a stored change stands. *Raises* ChangeRefused for a signature that is wrong."""
    change = change_of(record)
    approvers = _approvers(change, record.signatures, operators)
    missing = 0 if record.applied_at is not None else max(0, operators.threshold - len(approvers))
    return Standing(change, approvers, missing, record.applied_at)


def listed(connection: Connection, *, after: int = 0, limit: int = 100) -> tuple[ChangeRecord, ...]:
    """Return applied changes behind `after` in their order, then the open one where there is one."""
    applied = rows.load_changes(connection, after, limit=limit)
    waiting = rows.open_proposal(connection)
    return applied if waiting is None or len(applied) == limit else (*applied, waiting)


def _standing_operators(verifier: Verifier, operators: Operators, change: Change) -> Operators:
    """Return the operators who may decide now, about a change that was proposed lately.

    *Raises* ChangeRefused (change-time): a change from the future would force its time upon every later one.
    """
    now = verifier.now()
    if not now - PROPOSAL_AGE_MS <= change.proposed_at <= now + CLOCK_SKEW_MS:
        raise ChangeRefused("change-time", "the change was not proposed within the last week: propose it again")
    return operators.valid_at(now)


PROPOSAL_AGE_MS = 7 * 24 * 3600 * 1000
"""Approvals may take a week: operators sign off line, with keys that lie in a safe."""
CLOCK_SKEW_MS = 10 * 60 * 1000


def _open(connection: Connection, sequence: int) -> ChangeRecord:
    record = rows.load_change(connection, sequence)
    if record is None or record.applied_at is not None:
        raise Declined("change-unknown", f"there is no open change {sequence}: attestd change list")
    return record


def _record(change: Change, signatures: Sequence[str]) -> ChangeRecord:
    return ChangeRecord(
        change.sequence,
        change.kind,
        change.subject,
        change.body,
        change.previous,
        change.proposed_by,
        change.proposed_at,
        tuple(signatures),
    )


def _approvers(change: Change, signatures: Sequence[str], operators: Operators) -> tuple[str, ...]:
    return tuple(sorted({verify_approval(change, signature, operators) for signature in signatures}))


def _apply(
    verifier: Verifier, connection: Connection, change: Change, signatures: Sequence[str], operators: Operators
) -> Standing:
    book = verify_chain([(change, signatures)], operators, book=verifier.policy.book(connection))
    now = verifier.now()
    rows.apply_change(connection, change.sequence, now=now)
    if change.kind.startswith("profile-"):
        # What a version said while it was staged is over with that.
        staged = [one.digest for name in book.profiles for one in book.staged(name)]
        shadow.forget_shadow(connection, staged)
    approvers = _approvers(change, signatures, operators)
    moved = _consequences(connection, change, actor=",".join(approvers), now=now)
    return Standing(change, approvers, 0, now, moved)


def _consequences(connection: Connection, change: Change, *, actor: str, now: int) -> tuple[custody.Moved, ...]:
    """Carry an inventory change out on the devices that are known already; what is only policy waits for the next proof."""
    if change.kind != "inventory":
        return ()
    told = read_inventory(change.body)
    cause = {"change": change.sequence}
    moved = [custody.announced(connection, entry, cause=cause, actor=actor, now=now) for entry in told.add]
    moved += [
        custody.unannounced(connection, device_id, cause=cause, actor=actor, now=now) for device_id in told.withdraw
    ]
    return tuple(one for one in moved if one is not None)


def _published(verifier: Verifier, standing: Standing) -> Standing:
    if any(moved.revoked for moved in standing.moved):
        refresh_crl(verifier)
    return standing
