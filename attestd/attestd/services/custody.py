"""What an operator's word does to devices: admit, ban, retire, readmit, withdraw.

load → `attestd.lifecycle` → persist. Whoever leaves trust loses certificates and VPN keys in the same transaction; the
revocation list follows at once. No word here makes a device trusted: that takes its own proof (P05).
"""

from dataclasses import dataclass
from typing import Any

from attestd.changes.inventory import InventoryEntry
from attestd.lifecycle.table import MEANINGS, Event, IllegalMove, State, move
from attestd.services.context import Verifier
from attestd.services.declined import Declined
from attestd.services.publish import refresh_crl
from attestd.store import Connection, addresses, credentials, devices
from attestd.store.devices import DeviceSummary, LoadedDevice, Move
from attestd.store.errors import StaleState

DECISIONS = {
    "ban": Event.BANNED,
    "unban": Event.UNBANNED,
    "retire": Event.RETIRED,
    "readmit": Event.READMITTED,
}
"""What a person can decide about one device without a signed change: each takes trust away, or asks for a new proof."""

_REASONS = {
    Event.BANNED: "privilegeWithdrawn",
    Event.RETIRED: "cessationOfOperation",
    Event.READMITTED: "superseded",
    Event.WITHDRAWN: "privilegeWithdrawn",
}


_ATTEMPTS = 3
"""A device changes its state a few times a day; three looks are enough to meet it standing still."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One device's move: the state before and after, and the serial numbers of the certificates that it cost."""

    device_id: str
    before: State
    after: State
    revoked: tuple[str, ...]
    vpn_keys: int


def find(connection: Connection, wanted: str) -> DeviceSummary:
    """Return the device with this name, or whose id begins like this.

    *Raises* Declined (device-unknown, device-ambiguous).
    """
    found = devices.find_devices(connection, wanted)
    if not found:
        raise Declined("device-unknown", f"no device is called or begins with {wanted[:64]!r}: attestd device list")
    if len(found) > 1:
        ids = ", ".join(one.device_id[:12] for one in found[:5])
        raise Declined("device-ambiguous", f"{len(found)} devices fit {wanted[:64]!r}: {ids}; write more of the id")
    return found[0]


def decide(verifier: Verifier, wanted: str, event: Event, *, actor: str, reason: str) -> Moved:
    """Carry a person's decision out. `wanted` is a name or the beginning of an id; `reason` is recorded as it is.

    A device that moves at the same moment is looked at again: a ban must not lose against a proof.
    *Raises* Declined, IllegalMove, StaleState, StoreError; then nothing has changed.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _decide(verifier, wanted, event, actor=actor, reason=reason)
        except StaleState:
            continue
    return _decide(verifier, wanted, event, actor=actor, reason=reason)


def _decide(verifier: Verifier, wanted: str, event: Event, *, actor: str, reason: str) -> Moved:
    now = verifier.now()
    with verifier.store.write() as connection:
        known = devices.load_device(connection, find(connection, wanted).device_id)
        if known is None:
            raise Declined("device-unknown", "the device is gone: attestd device list")
        moved = _move(connection, known, event, cause={"reason": reason}, actor=actor, now=now)
        if event is Event.READMITTED:
            devices.reset_keys(connection, moved.device_id)
        if event is Event.RETIRED:
            addresses.release_address(connection, moved.device_id, now=now)
    if moved.revoked:
        refresh_crl(verifier)
    return moved


def announced(
    connection: Connection, entry: InventoryEntry, *, cause: dict[str, Any], actor: str, now: int
) -> Moved | None:
    """Carry an inventory entry out on its device: its name and site are shown, and if it waits it is let in.

    Returns None where the device is not known yet, or where the entry changes no state.
    """
    if not devices.relabel(connection, entry.device_id, name=entry.name, site=entry.site):
        return None
    return _try_move(connection, entry.device_id, Event.APPROVED, cause=cause, actor=actor, now=now)


def unannounced(connection: Connection, device_id: str, *, cause: dict[str, Any], actor: str, now: int) -> Moved | None:
    """Carry a withdrawal out: whatever the device holds is revoked. None where it is not known or has nothing to lose."""
    return _try_move(connection, device_id, Event.WITHDRAWN, cause=cause, actor=actor, now=now)


def _try_move(
    connection: Connection, device_id: str, event: Event, *, cause: dict[str, Any], actor: str, now: int
) -> Moved | None:
    known = devices.load_device(connection, device_id)
    if known is None:
        return None
    try:
        return _move(connection, known, event, cause=cause, actor=actor, now=now)
    except IllegalMove:
        return None  # a banned device stays banned, a trusted one stays trusted: the entry alone decides nothing there


def _move(
    connection: Connection, known: LoadedDevice, event: Event, *, cause: dict[str, Any], actor: str, now: int
) -> Moved:
    device_id, before = known.device.device_id, State(known.state.state)
    after = move(before, event)
    step = Move(device_id, now, before.value, after.value, event.value, cause, actor)
    devices.move_state(connection, step, version=known.state.version, deadline=None)
    if MEANINGS[after].keeps:
        return Moved(device_id, before, after, (), 0)
    keys = credentials.withdraw_vpn_keys(connection, device_id, now=now)
    reason = _REASONS.get(event, "unspecified")
    revoked = credentials.revoke_certificates(connection, device_id, now=now, reason=reason)
    return Moved(device_id, before, after, revoked, len(keys))
