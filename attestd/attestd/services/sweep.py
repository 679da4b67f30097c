"""Time passes: devices that fell silent expire, the revocation list says so, and a list that ages is replaced."""

from attestd.lifecycle.table import MEANINGS, Event, State, move
from attestd.services.context import Verifier
from attestd.services.issue import withdraw
from attestd.services.publish import refresh_crl, renew_crl
from attestd.store import devices
from attestd.store.devices import Move

_BATCH = 200
"""Devices in one transaction: a fleet that fell silent at once must not hold the database for seconds."""
_MORTAL = tuple(state.value for state, meaning in MEANINGS.items() if meaning.keeps)


def expire_silent(verifier: Verifier) -> tuple[str, ...]:
    """Expire every device whose deadline has passed and return their ids. Silence never leads anywhere but down."""
    expired: list[str] = []
    while True:
        batch = _expire_batch(verifier)
        expired += batch
        if len(batch) < _BATCH:
            break
    if expired:
        refresh_crl(verifier)
    else:
        renew_crl(verifier)
    return tuple(expired)


def _expire_batch(verifier: Verifier) -> list[str]:
    now = verifier.now()
    with verifier.store.write() as connection:
        due = devices.due_for_expiry(connection, now, states=_MORTAL, limit=_BATCH)
        for device in due:
            before = State(device.state)
            after = move(before, Event.SILENT)
            cause = {"deadline": device.deadline}
            step = Move(device.device_id, now, before.value, after.value, Event.SILENT.value, cause, "clock")
            devices.move_state(connection, step, version=device.version, deadline=None)
            withdraw(connection, device.device_id, now=now, reason="cessationOfOperation")
    return [device.device_id for device in due]
