"""What relying parties may know: a device's trust, as it is at this moment.

Trust is never read from a state alone: a device whose deadline has passed is not trusted, whether or not anything has
noticed yet.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from attestd.appraisal.policy import Tier
from attestd.errors import Refused
from attestd.lifecycle.table import MEANINGS, State
from attestd.protocol.reasons import Reason
from attestd.services import records
from attestd.services.context import Verifier
from attestd.store import Connection, addresses, devices, log, tokens
from attestd.store.devices import LoadedDevice
from attestd_pki import names
from attestd_pki.errors import PkiError


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever showed a valid token: what it may do, and for which site (None: all)."""

    name: str
    scopes: frozenset[str]
    site: str | None


@dataclass(frozen=True, slots=True)
class Trust:
    """The answer to a relying party. Times are seconds since the epoch; `result` is an EAR or None."""

    device_id: str
    name: str | None
    site: str | None
    state: str
    trusted: bool
    since: int
    expires: int | None
    certificate_serial: str | None
    addresses: list[str]
    result: str | None

    def fields(self) -> dict[str, Any]:
        """Return the answer as plain values."""
        return asdict(self)

    @property
    def etag(self) -> str:
        """Return what changes exactly when the answer does."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:32]


def authenticate(verifier: Verifier, digest: bytes) -> Caller:
    """Return the caller whose token has this SHA-256. Raises `Refused` (token-invalid) for an unknown or ended one."""
    now = verifier.now()
    with verifier.store.read() as connection:
        token = tokens.load_token(connection, digest)
    if token is None or not token.valid(now):
        raise Refused(Reason.TOKEN_INVALID)
    return Caller(token.name, frozenset(token.scopes), token.site)


def trust(verifier: Verifier, device_id: str, *, caller: Caller) -> Trust:
    """Return a device's trust. Raises `Refused` (device-unknown), also for a device of a site that is not the caller's."""
    if not _is_device_id(device_id):
        raise Refused(Reason.DEVICE_UNKNOWN)
    try:
        return _trust(verifier, device_id, caller)
    except Refused as refused:
        if refused.reason is not Reason.POLICY_UNAPPROVED:
            raise
        # A snapshot that is older than a change of this moment looks like a roll-back (PolicySource.book): look again.
        return _trust(verifier, device_id, caller)


def _trust(verifier: Verifier, device_id: str, caller: Caller) -> Trust:
    with verifier.store.read() as connection:
        known = devices.load_device(connection, device_id)
        if known is None or (caller.site is not None and known.device.site != caller.site):
            raise Refused(Reason.DEVICE_UNKNOWN)
        address = addresses.load_address(connection, device_id)
        result = _result(verifier, connection, known)
    state = _state_now(known, verifier.now())
    meaning = MEANINGS[state]
    return Trust(
        device_id=device_id,
        name=known.device.name,
        site=known.device.site,
        state=state.value,
        trusted=meaning.trusted,
        since=known.state.since // 1000,
        expires=known.state.deadline // 1000 if known.state.deadline and meaning.keeps else None,
        certificate_serial=known.device.certificate_serial if meaning.keeps else None,
        addresses=[str(one) for one in address.addresses] if address and meaning.keeps else [],
        result=result,
    )


def _is_device_id(text: str) -> bool:
    try:
        names.parse_device_id(text)
    except PkiError:
        return False
    return True


def _state_now(known: LoadedDevice, now: int) -> State:
    state, deadline = State(known.state.state), known.state.deadline
    if MEANINGS[state].keeps and (deadline is None or deadline <= now):
        return State.EXPIRED
    return state


def _result(verifier: Verifier, connection: Connection, known: LoadedDevice) -> str | None:
    """Return the device's last result as an EAR. One whose trust has ended is never shown as affirming."""
    last = log.list_attestations(connection, known.device.device_id, limit=1)
    if not last or known.state.appraised_at is None:
        return None
    ended = not MEANINGS[_state_now(known, verifier.now())].keeps
    tier = max(Tier[last[0].tier.upper()], Tier.CONTRAINDICATED if ended else Tier.NONE)
    result = records.stored_result(verifier.policy.book(connection), known, last[0], tier=tier)
    if result is None:
        return None
    issued = known.state.since if ended else known.state.appraised_at
    expires = issued + RESULT_SECONDS * 1000 if ended or known.state.deadline is None else known.state.deadline
    return records.sign_stored(verifier, result, issued_ms=issued, expires_ms=expires)


RESULT_SECONDS = 24 * 3600
"""Life of a token that says that trust has ended: a relying party that keeps it keeps the right answer."""


def list_devices(
    verifier: Verifier, *, caller: Caller, after: str | None, state: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Return (lines, id to continue from or None).

    Raises `Refused` (message-malformed) for an unknown state, or for an id that is none: a database may choke on one.
    """
    if state is not None and state not in {one.value for one in State}:
        raise Refused(Reason.MESSAGE_MALFORMED, "no such state")
    if after is not None and not _is_device_id(after):
        raise Refused(Reason.MESSAGE_MALFORMED, "not a device id")
    with verifier.store.read() as connection:
        found = devices.list_devices(
            connection, states=(state,) if state else (), site=caller.site, after=after, limit=limit
        )
    lines = [
        {"device_id": one.device_id, "name": one.name, "site": one.site, "state": one.state, "since": one.since // 1000}
        for one in found
    ]
    return lines, found[-1].device_id if len(found) == limit else None
