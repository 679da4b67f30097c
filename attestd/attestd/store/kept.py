"""The newest proof of each device, as the record has it: for looking back, never for deciding.

Proves nothing: whoever reads a proof here verifies its signature again (`services.kept`). Reads by primary keys alone, a page
at a time, so that looking at a whole fleet holds no transaction open for long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from attestd.store import bounds
from attestd.store.rows import records
from attestd.store.tables import ATTESTATION, DEVICE, DEVICE_EVIDENCE, DEVICE_STATE


@dataclass(frozen=True, slots=True)
class KeptProof:
    """A device with its newest proof. None stands for what is not kept: a device that was reset, or never appraised."""

    device_id: str
    name: str | None
    manufacturer: str | None
    model: str | None
    ek_certificate_sha256: bytes | None
    ak_public: bytes | None
    state: str
    tier: str | None
    last_attestation: int | None
    log_digest: bytes | None
    pcr_digest: bytes | None
    pcrs: bytes | None
    runtime_value: bytes | None
    runtime_verdict: Any
    attest: bytes | None
    signature: bytes | None


_SOURCES: Final = (
    (DEVICE, ("device_id", "name", "manufacturer", "model", "ek_certificate_sha256", "ak_public")),
    (DEVICE_STATE, ("state", "tier", "last_attestation", "log_digest", "pcr_digest")),
    (DEVICE_EVIDENCE, ("pcrs", "runtime_value", "runtime_verdict")),
    (ATTESTATION, ("attest", "signature")),
)
_COLUMNS: Final = [table.c[name] for table, names in _SOURCES for name in names]
_JOINED: Final = (
    DEVICE.join(DEVICE_STATE, DEVICE.c.device_id == DEVICE_STATE.c.device_id)
    .outerjoin(DEVICE_EVIDENCE, DEVICE.c.device_id == DEVICE_EVIDENCE.c.device_id)
    .outerjoin(ATTESTATION, ATTESTATION.c.id == DEVICE_STATE.c.last_attestation)
)


def kept_proofs(connection: Connection, device_ids: Sequence[str]) -> tuple[KeptProof, ...]:
    """Return these devices with their newest proofs, by rising id; unknown ones are absent. *Raises* ValueError beyond a page."""
    if len(device_ids) > bounds.MAX_PAGE:
        raise ValueError("a page of proofs is as long as a page of devices")
    query = select(*_COLUMNS).select_from(_JOINED).where(DEVICE.c.device_id.in_(list(device_ids)))
    return records(KeptProof, connection.execute(query.order_by(DEVICE.c.device_id)).all())
