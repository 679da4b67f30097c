"""A large fleet in a database, made without enrolling it: every device has a key, a signed quote, registers and a log of its own.

What is stored is what an enrolment stores, so that looking back at it works as on real devices; certificates and tunnels are
left out. There are no assertions here.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import tpm_structures as tpm
from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.store import devices, log
from attestd.store.devices import DeviceRecord, EvidenceRecord, Move, StateRecord
from attestd.store.routine import AttestationRow
from attestd.tpm.pcr import pcr_digest
from attestd_agent.lab.firmware import BootImage
from softchip import PCRS, SoftChip
from world import PROFILE, World

_TOGETHER = 1_000


def fill(world: World, count: int, image: Callable[[int], BootImage]) -> list[SoftChip]:
    """Store `count` announced and trusted devices, of which the one with number n booted `image(n)`; return them."""
    booted: dict[BootImage, SoftChip] = {}
    chips = []
    for number in range(count):
        chosen = image(number)
        if chosen not in booted:
            booted[chosen] = SoftChip(world.now_s, image=chosen)
        chips.append(_another(booted[chosen]))
    entries = [InventoryEntry(chip.device_id, f"edge-{number}", "north", PROFILE) for number, chip in enumerate(chips)]
    world.change("inventory", "inventory", inventory_document(entries))
    for begin in range(0, count, _TOGETHER):
        _store(world, chips[begin : begin + _TOGETHER], begin)
    return chips


def _another(chip: SoftChip) -> SoftChip:
    """Return another device that booted the same."""
    made = copy.copy(chip)
    made.ek, made.ak = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made.ek_area, made.ak_area = tpm.ek_area(made.ek), tpm.ecc_area(made.ak)
    return made


def _store(world: World, chips: Sequence[SoftChip], first: int) -> None:
    now = world.now()
    with world.verifier.store.write() as connection:
        log.put_event_logs(
            connection, {hashlib.sha256(chip.event_log).digest(): chip.event_log for chip in chips}, now=now
        )
        for number, chip in enumerate(chips, first):
            values = [chip.registers[index] for index in PCRS]
            named = (hashlib.sha256(chip.event_log).digest(), pcr_digest(values, "sha256"))
            state = _state(chip, *named, now)
            devices.upsert_enrolment(
                connection,
                _device(chip, f"edge-{number}", now),
                state,
                EvidenceRecord(chip.device_id, b"".join(values)),
                Move(chip.device_id, now, None, "trusted", "enrolled", {}, "verifier"),
                expected_version=None,
            )
            log.append_attestation(connection, _proof(chip, *named, now))


def _device(chip: SoftChip, name: str, now: int) -> DeviceRecord:
    return DeviceRecord(
        device_id=chip.device_id,
        name=name,
        site="north",
        ek_public=tpm.sized(chip.ek_area),
        ek_certificate_sha256=bytes(32),
        manufacturer="id:49465800",
        model="SLB9670",
        ek_deviations=(),
        ak_public=tpm.sized(chip.ak_area),
        ak_name=tpm.name_of(chip.ak_area),
        device_key_name=tpm.name_of(chip.device_key_area),
        device_key_spki=chip.device_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        vpn_keys=chip.vpn_keys,
        tpm_firmware=chip.firmware,
        enrolled_at=now,
        labels=(),
    )


def _state(chip: SoftChip, log_digest: bytes, digest: bytes, now: int) -> StateRecord:
    return StateRecord(
        device_id=chip.device_id,
        state="trusted",
        since=now,
        deadline=now + 3_600_000,
        reset_count=chip.reset_count,
        restart_count=chip.restart_count,
        clock=chip.clock,
        pcr_digest=digest,
        log_digest=log_digest,
        tier="affirming",
        vector=bytes(8),
        profile=PROFILE,
        profile_version=1,
        appraised_at=now,
        interval=60,
    )


def _proof(chip: SoftChip, log_digest: bytes, digest: bytes, now: int) -> AttestationRow:
    nonce = hashlib.sha256(chip.device_id.encode()).digest()
    signed = chip.quote(nonce)
    return AttestationRow(
        device_id=chip.device_id,
        at=now,
        kind="enrol",
        tier="affirming",
        state="trusted",
        profile=PROFILE,
        profile_version=1,
        log_digest=log_digest,
        pcr_digest=digest,
        reset_count=chip.reset_count,
        clock=chip.clock,
        attest=signed.attest,
        signature=signed.signature,
        nonce=nonce,
    )
