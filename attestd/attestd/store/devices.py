"""Devices: who they are, what is believed of them, and the moves between states.

Proves that a write happens only on the version of the state that the caller decided on. Assumes a transaction of
`Store.write()` for whatever writes. Does not decide which moves are legal: `attestd.lifecycle` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, literal, or_, select, update

from attestd.store.columns import KeyPairs, Pairs, encode_document
from attestd.store.engine import driver
from attestd.store.errors import StaleState
from attestd.store.rows import columns, insert, page, records, values
from attestd.store.tables import DEVICE, DEVICE_EVIDENCE, DEVICE_STATE, TRANSITION


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """Who a device is. The four keys are None after `reset_keys`; `enrolled_at` is that of the latest enrolment."""

    device_id: str
    name: str | None
    site: str | None
    ek_public: bytes
    ek_certificate_sha256: bytes | None
    manufacturer: str | None
    model: str | None
    ek_deviations: tuple[str, ...]
    ak_public: bytes | None
    ak_name: bytes | None
    device_key_name: bytes | None
    device_key_spki: bytes | None
    vpn_keys: KeyPairs
    tpm_firmware: int | None
    enrolled_at: int
    labels: Pairs
    certificate_serial: str | None = None
    certificate_not_after: int | None = None


@dataclass(frozen=True, slots=True)
class StateRecord:
    """What is believed of a device. `deadline` None: silence ends nothing in this state. `vector` has 8 bytes."""

    device_id: str
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
    version: int = 0
    last_attestation: int | None = None


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """What the next proof is compared with: `runtime_value` is PCR 10 after `runtime_count` entries.

    `runtime_verdict` says which profile accepted those entries (a JSON value).
    """

    device_id: str
    pcrs: bytes
    runtime_count: int = 0
    runtime_value: bytes | None = None
    runtime_verdict: Any = None


@dataclass(frozen=True, slots=True)
class LoadedDevice:
    """Everything an enrolment needs to know of a device that exists."""

    device: DeviceRecord
    state: StateRecord
    evidence: EvidenceRecord | None


@dataclass(frozen=True, slots=True)
class Move:
    """One change of state. `from_state` is None for a device that did not exist; `cause` is a JSON value."""

    device_id: str
    at: int
    from_state: str | None
    to_state: str
    event: str
    cause: Any
    actor: str


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """One line of a listing."""

    device_id: str
    name: str | None
    site: str | None
    manufacturer: str | None
    model: str | None
    enrolled_at: int
    certificate_not_after: int | None
    state: str
    since: int
    deadline: int | None
    tier: str | None
    profile: str | None
    profile_version: int | None
    appraised_at: int | None


@dataclass(frozen=True, slots=True)
class DueDevice:
    """A device that has been silent past its deadline."""

    device_id: str
    state: str
    version: int
    deadline: int


_WIDTHS = (len(DeviceRecord.__slots__), len(StateRecord.__slots__))
_LOADED = [
    *columns(DEVICE, DeviceRecord),
    *columns(DEVICE_STATE, StateRecord),
    *columns(DEVICE_EVIDENCE, EvidenceRecord),
]
_WITH_STATE = DEVICE.join(DEVICE_STATE, DEVICE.c.device_id == DEVICE_STATE.c.device_id)
_WITH_ALL = _WITH_STATE.outerjoin(DEVICE_EVIDENCE, DEVICE.c.device_id == DEVICE_EVIDENCE.c.device_id)


def load_device(connection: Connection, device_id: str) -> LoadedDevice | None:
    """Return the device with its state and evidence, in one query, or None. Locks nothing: name the version when writing."""
    row = connection.execute(select(*_LOADED).select_from(_WITH_ALL).where(DEVICE.c.device_id == device_id)).first()
    if row is None:
        return None
    first, second = _WIDTHS[0], _WIDTHS[0] + _WIDTHS[1]
    evidence = None if row[second] is None else EvidenceRecord(*row[second:])
    return LoadedDevice(DeviceRecord(*row[:first]), StateRecord(*row[first:second]), evidence)


def state_of(connection: Connection, device_id: str) -> str | None:
    """Return the device's state as this transaction sees it, or None."""
    query = select(DEVICE_STATE.c.state).where(DEVICE_STATE.c.device_id == device_id)
    state: str | None = connection.execute(query).scalar()
    return state


def other_holder(connection: Connection, ak_name: bytes, device_id: str) -> str | None:
    """Return another device than `device_id` that has this attestation key, or None."""
    same = (DEVICE.c.ak_name == ak_name) & (DEVICE.c.device_id != device_id)
    found: str | None = connection.execute(select(DEVICE.c.device_id).where(same).limit(1)).scalar()
    return found


def load_evidence(connection: Connection, device_id: str) -> EvidenceRecord | None:
    """Return what the device's next proof is compared with, or None."""
    query = select(*columns(DEVICE_EVIDENCE, EvidenceRecord)).where(DEVICE_EVIDENCE.c.device_id == device_id)
    row = connection.execute(query).first()
    return None if row is None else EvidenceRecord(*row)


def store_evidence(connection: Connection, *evidence: EvidenceRecord) -> None:
    """Replace the evidence of devices. *Assumes* that they exist."""
    postgresql = connection.dialect.name == "postgresql"
    rows = [(*_evidence_values(one), encode_document(one.runtime_verdict)) for one in evidence]
    if rows:
        driver(connection).executemany(_STORE_EVIDENCE.format(*("%s" if postgresql else "?",) * len(_EVIDENCE)), rows)


_EVIDENCE: Final = EvidenceRecord.__slots__
_evidence_values: Final = attrgetter(*_EVIDENCE[:-1])
_STORE_EVIDENCE: Final = f"""
INSERT INTO device_evidence ({", ".join(_EVIDENCE)}) VALUES ({", ".join("{}" for _ in _EVIDENCE)})
ON CONFLICT (device_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _EVIDENCE[1:])}
"""  # noqa: S608 - field names of this file's dataclass


def upsert_enrolment(
    connection: Connection,
    device: DeviceRecord,
    state: StateRecord,
    evidence: EvidenceRecord | None,
    move: Move,
    *,
    expected_version: int | None,
) -> int:
    """Store an enrolment with its transition and return the state's new version.

    `expected_version` is the version that was loaded, or None for a device that did not exist: of two enrolments of one
    endorsement key at the same time, one is refused (K09). `state.version` and `state.last_attestation` are not written;
    nor are the certificate's columns (`credentials.insert_certificate` writes those).
    *Raises* StaleState.
    """
    if expected_version is None:
        _insert_device(connection, device, state)
    else:
        _replace_device(connection, device, state, expected_version)
    if evidence is not None:
        store_evidence(connection, evidence)
    connection.execute(TRANSITION.insert(), values(move))
    return (expected_version or 0) + 1


def _insert_device(connection: Connection, device: DeviceRecord, state: StateRecord) -> None:
    # Values go beside a statement, not into it: what SQLAlchemy prepared for it then serves every device.
    added = insert(connection, DEVICE).on_conflict_do_nothing().returning(DEVICE.c.device_id)
    if connection.execute(added, values(device)).first() is None:
        raise StaleState("the device was enrolled meanwhile")
    connection.execute(DEVICE_STATE.insert(), {**values(state), "version": 1, "last_attestation": None})


def _replace_device(connection: Connection, device: DeviceRecord, state: StateRecord, version: int) -> None:
    hot = {
        key: value for key, value in values(state).items() if key not in {"version", "last_attestation", "device_id"}
    }
    same = (DEVICE_STATE.c.device_id == device.device_id) & (DEVICE_STATE.c.version == version)
    if connection.execute(update(DEVICE_STATE).where(same).values(hot | {"version": version + 1})).rowcount != 1:
        raise StaleState("the device's state changed meanwhile")
    keep = {"device_id", "certificate_serial", "certificate_not_after"}
    cold = {key: value for key, value in values(device).items() if key not in keep}
    connection.execute(update(DEVICE).where(DEVICE.c.device_id == device.device_id).values(cold))


def move_state(connection: Connection, move: Move, *, version: int, deadline: int | None) -> int:
    """Move a device to another state with its transition row, and return the new version.

    *Assumes* that the lifecycle allows the move. *Raises* StaleState when the device is not in `move.from_state` at `version`.
    """
    same = (
        (DEVICE_STATE.c.device_id == move.device_id)
        & (DEVICE_STATE.c.version == version)
        & (DEVICE_STATE.c.state == move.from_state)
    )
    change = {"state": move.to_state, "since": move.at, "deadline": deadline, "version": version + 1}
    if connection.execute(update(DEVICE_STATE).where(same).values(change)).rowcount != 1:
        raise StaleState("the device's state changed meanwhile")
    connection.execute(TRANSITION.insert(), values(move))
    return version + 1


def reset_keys(connection: Connection, device_id: str) -> bool:
    """Forget a device's attestation, device and VPN keys, so that it may enrol with others; return whether it exists.

    Counts as a change of state: whoever decided on the old keys is refused. Issued certificates and VPN keys are the
    caller's to revoke, in the same transaction.
    """
    forgotten = {"ak_public": None, "ak_name": None, "device_key_name": None, "device_key_spki": None, "vpn_keys": ()}
    if connection.execute(update(DEVICE).where(DEVICE.c.device_id == device_id).values(forgotten)).rowcount != 1:
        return False
    bump = update(DEVICE_STATE).where(DEVICE_STATE.c.device_id == device_id)
    connection.execute(bump.values(version=DEVICE_STATE.c.version + 1))
    return True


def relabel(connection: Connection, device_id: str, *, name: str | None, site: str | None) -> bool:
    """Refresh the copies of the inventory's name and site that listings search; return whether the device exists."""
    change = update(DEVICE).where(DEVICE.c.device_id == device_id).values(name=name, site=site)
    return connection.execute(change).rowcount == 1


# --- Listings -----------------------------------------------------------------------------------------------------------

_SUMMARY = [(DEVICE.c if name in DEVICE.c else DEVICE_STATE.c)[name] for name in DeviceSummary.__slots__]


def list_devices(
    connection: Connection,
    *,
    states: Sequence[str] = (),
    site: str | None = None,
    prefix: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> tuple[DeviceSummary, ...]:
    """Return at most `limit` devices by rising id, from the one behind `after` on. Absent filters filter nothing."""
    query = select(*_SUMMARY).select_from(_WITH_STATE).order_by(DEVICE.c.device_id).limit(page(limit))
    if states:
        query = query.where(DEVICE_STATE.c.state.in_(list(states)))
    if site is not None:
        query = query.where(DEVICE.c.site == site)
    if prefix:
        query = query.where(_starts_with(prefix))
    if after is not None:
        query = query.where(DEVICE.c.device_id > after)
    return records(DeviceSummary, connection.execute(query).all())


def _starts_with(prefix: str) -> Any:
    # A range instead of LIKE: it uses the primary key on both databases, and % and _ mean nothing in it. "~" is the
    # last printable ASCII character, behind all of a device id's.
    return (DEVICE.c.device_id >= prefix) & (DEVICE.c.device_id < prefix + "~")


def find_devices(connection: Connection, name_or_prefix: str, *, limit: int = 10) -> tuple[DeviceSummary, ...]:
    """Return the devices with exactly this name, or whose id begins like this. More than one: the caller asks for more."""
    if not name_or_prefix:
        return ()
    either = or_(DEVICE.c.name == name_or_prefix, _starts_with(name_or_prefix))
    query = select(*_SUMMARY).select_from(_WITH_STATE).where(either).order_by(DEVICE.c.device_id).limit(page(limit))
    return records(DeviceSummary, connection.execute(query).all())


def due_for_expiry(connection: Connection, now: int, *, states: Sequence[str], limit: int) -> tuple[DueDevice, ...]:
    """Return at most `limit` devices in one of `states` whose deadline has passed, and lock them until the transaction ends.

    *Assumes* `Store.write()`: no attestation of these devices is stored between this and the moves that follow. Devices
    that are being attested this moment are skipped (PostgreSQL); the next sweep sees what became of them. Reads the
    whole narrow table: an index on the deadline would cost every attestation more than a sweep costs.
    """
    due = (DEVICE_STATE.c.deadline <= literal(now)) & DEVICE_STATE.c.state.in_(list(states))
    query = select(*columns(DEVICE_STATE, DueDevice)).where(due).limit(page(limit))
    return records(DueDevice, connection.execute(query.with_for_update(skip_locked=True)).all())
