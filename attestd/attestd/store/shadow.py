"""What staged versions of profiles say of devices: written beside the routine path, read by people.

Proves nothing. No service that decides reads this table (a test holds that). Assumes a transaction of `Store.write()` for
whatever writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from attestd.store.rows import columns, insert, page, records, values
from attestd.store.tables import DEVICE_STATE, SHADOW_VERDICT


@dataclass(frozen=True, slots=True)
class ShadowRecord:
    """One verdict. `outcome` is `pass`, `warn`, `fail` or `untold`; `findings` is a JSON value, None when there are none."""

    device_id: str
    profile_digest: bytes
    profile: str
    profile_version: int
    attestation: int
    log_digest: bytes | None
    pcr_digest: bytes | None
    outcome: str
    since: int
    findings: Any = None


def due_for_shadow(
    connection: Connection, digest: bytes, *, profile: str, after: str, without: Sequence[str], limit: int
) -> tuple[str, ...]:
    """Return devices whose newest proof this version has not judged, by rising id from the one behind `after` on.

    Those whose last result was of this profile, or of none; in none of the states `without`. Like the sweep, this reads the
    narrow table whole: an index would cost every attestation more.
    """
    same = (SHADOW_VERDICT.c.device_id == DEVICE_STATE.c.device_id) & (SHADOW_VERDICT.c.profile_digest == digest)
    judged = select(SHADOW_VERDICT.c.device_id).where(
        same,
        SHADOW_VERDICT.c.log_digest.is_not_distinct_from(DEVICE_STATE.c.log_digest),
        SHADOW_VERDICT.c.pcr_digest.is_not_distinct_from(DEVICE_STATE.c.pcr_digest),
    )
    query = select(DEVICE_STATE.c.device_id).where(
        DEVICE_STATE.c.device_id > after,
        DEVICE_STATE.c.last_attestation.is_not(None),
        DEVICE_STATE.c.profile.in_([profile, ""]),
        DEVICE_STATE.c.state.not_in(list(without)),
        ~judged.exists(),
    )
    found = connection.execute(query.order_by(DEVICE_STATE.c.device_id).limit(page(limit))).all()
    return tuple(row[0] for row in found)


def load_shadow(connection: Connection, digest: bytes, device_ids: Sequence[str]) -> dict[str, ShadowRecord]:
    """Return what a version says of these devices, by their ids."""
    wanted = (SHADOW_VERDICT.c.profile_digest == digest) & SHADOW_VERDICT.c.device_id.in_(list(device_ids))
    rows = connection.execute(select(*columns(SHADOW_VERDICT, ShadowRecord)).where(wanted)).all()
    return {one.device_id: one for one in records(ShadowRecord, rows)}


def store_shadow(connection: Connection, verdicts: Sequence[ShadowRecord]) -> None:
    """Keep verdicts, each in place of the one before it."""
    if not verdicts:
        return
    added = insert(connection, SHADOW_VERDICT)
    kept = {"device_id", "profile_digest"}
    replaced = {name: added.excluded[name] for name in ShadowRecord.__slots__ if name not in kept}
    statement = added.on_conflict_do_update(index_elements=["device_id", "profile_digest"], set_=replaced)
    # In one order, so that two processes with the same verdicts cannot wait for each other in a circle.
    ordered = sorted(verdicts, key=lambda one: (one.device_id, one.profile_digest))
    connection.execute(statement, [values(one) for one in ordered])


def forget_shadow(connection: Connection, keep: Sequence[bytes]) -> int:
    """Delete the verdicts of all versions but those with the digests `keep`; return how many those were."""
    gone = delete(SHADOW_VERDICT).where(SHADOW_VERDICT.c.profile_digest.not_in(list(keep)))
    return connection.execute(gone).rowcount


def has_shadow(connection: Connection, keep: Sequence[bytes]) -> bool:
    """Return whether there is a verdict of another version than those with the digests `keep`."""
    other = select(SHADOW_VERDICT.c.device_id).where(SHADOW_VERDICT.c.profile_digest.not_in(list(keep)))
    return connection.execute(other.limit(1)).first() is not None


def count_shadow(connection: Connection, digest: bytes) -> dict[str, int]:
    """Return how many devices a version gives each outcome that occurs."""
    query = select(SHADOW_VERDICT.c.outcome, func.count()).where(SHADOW_VERDICT.c.profile_digest == digest)
    return {row[0]: row[1] for row in connection.execute(query.group_by(SHADOW_VERDICT.c.outcome)).all()}


def count_judged(connection: Connection, profile: str, *, without: Sequence[str]) -> int:
    """Return how many devices, in none of the states `without`, had their last result by a version of this profile."""
    mine = (DEVICE_STATE.c.profile == profile) & DEVICE_STATE.c.state.not_in(list(without))
    return int(connection.execute(select(func.count()).select_from(DEVICE_STATE).where(mine)).scalar_one())


def list_shadow(
    connection: Connection, *, device_id: str | None = None, since: int = 0, limit: int = 1_000
) -> tuple[ShadowRecord, ...]:
    """Return verdicts that have stood since `since` or later, latest first, of one device or of all."""
    query = select(*columns(SHADOW_VERDICT, ShadowRecord)).where(SHADOW_VERDICT.c.since >= since)
    if device_id is not None:
        query = query.where(SHADOW_VERDICT.c.device_id == device_id)
    query = query.order_by(SHADOW_VERDICT.c.since.desc(), SHADOW_VERDICT.c.device_id, SHADOW_VERDICT.c.profile_version)
    return records(ShadowRecord, connection.execute(query.limit(page(limit))).all())
