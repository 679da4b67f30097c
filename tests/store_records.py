"""Records for tests of the store: plausible devices, proofs and credentials, made from a number."""

from dataclasses import replace
from typing import Any

from attestd.store import Store, devices
from attestd.store.devices import DeviceRecord, EvidenceRecord, Move, StateRecord
from attestd.store.routine import AttestationRow, RoutineRow, RoutineUpdate
from attestd_pki.names import device_id

DAY = 24 * 3600 * 1000


def device_name(number: int) -> str:
    """Return the id of the device with this number."""
    return device_id(b"endorsement key %d" % number)


def device_record(number: int, **fields: Any) -> DeviceRecord:
    """Return a device of which everything is known."""
    record = DeviceRecord(
        device_id=device_name(number),
        name=f"edge-{number}",
        site="berlin",
        ek_public=b"ek%d" % number,
        ek_certificate_sha256=bytes(32),
        manufacturer="id:49465800",
        model="SLB9670",
        ek_deviations=("no-aki",),
        ak_public=b"ak%d" % number,
        ak_name=b"\x00\x0b" + bytes(32),
        device_key_name=b"\x00\x0b" + bytes(32),
        device_key_spki=b"spki%d" % number,
        vpn_keys=(("wireguard", bytes(31) + bytes([number % 256])),),
        tpm_firmware=0xFFFF_0001_0002_0003,
        enrolled_at=1_000,
        labels=(("hostname", "r\u00e9gion \x00"),),
    )
    return replace(record, **fields)


def state_record(number: int, **fields: Any) -> StateRecord:
    """Return the state of a trusted device after its first boot."""
    record = StateRecord(
        device_id=device_name(number),
        state="trusted",
        since=1_000,
        deadline=301_000,
        reset_count=3,
        restart_count=0,
        clock=5_000,
        pcr_digest=b"p" * 32,
        log_digest=b"l" * 32,
        tier="affirming",
        vector=bytes(8),
        profile="edge",
        profile_version=1,
        appraised_at=1_000,
        interval=60,
    )
    return replace(record, **fields)


def move(number: int, to_state: str = "trusted", **fields: Any) -> Move:
    """Return the move of an enrolment."""
    record = Move(device_name(number), 1_000, None, to_state, "enrolled", {"profile": "edge"}, "device")
    return replace(record, **fields)


def enrol(store: Store, *numbers: int, **state: Any) -> list[str]:
    """Enrol these devices and return their ids."""
    with store.write() as connection:
        for number in numbers:
            devices.upsert_enrolment(
                connection,
                device_record(number),
                state_record(number, **state),
                EvidenceRecord(device_name(number), b"pcrs", 2, b"r" * 32, {"good": 2}),
                move(number),
                expected_version=None,
            )
    return [device_name(number) for number in numbers]


def routine_update(row: RoutineRow, **fields: Any) -> RoutineUpdate:
    """Return what a good proof makes of a loaded row: the TPM's clock moves on by one second."""
    record = RoutineUpdate(
        device_id=row.device_id,
        version=row.version,
        previous_attestation=row.last_attestation,
        deadline=(row.deadline or 0) + 1_000,
        reset_count=row.reset_count,
        restart_count=row.restart_count,
        clock=row.clock + 1_000,
        pcr_digest=b"q" * 32,
        log_digest=b"m" * 32,
        tier="affirming",
        vector=b"\x02" * 8,
        profile="edge",
        profile_version=2,
        appraised_at=(row.appraised_at or 0) + 1_000,
        interval=60,
    )
    return replace(record, **fields)


def attestation(update: RoutineUpdate, **fields: Any) -> AttestationRow:
    """Return the row that records an update."""
    record = AttestationRow(
        device_id=update.device_id,
        at=update.appraised_at,
        kind="routine",
        tier=update.tier,
        state="trusted",
        profile=update.profile,
        profile_version=update.profile_version,
        log_digest=update.log_digest,
        pcr_digest=update.pcr_digest,
        reset_count=update.reset_count,
        clock=update.clock,
        attest=b"attest" * 20,
        signature=b"signature" * 8,
        nonce=b"n" * 32,
    )
    return replace(record, **fields)
