"""A fleet for measuring: devices that are enrolled, and proofs made ahead of time.

A nonce is good until it expires and single use comes from the TPM's clock, so a device can sign any number of proofs over one
nonce before the clock starts: the measurement then holds the verifier's work alone.
"""

from collections.abc import Sequence
from dataclasses import replace

from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.protocol import codec
from attestd.protocol.messages import AttestRequest
from softchip import SoftChip
from world import World


def enrolled(world: World, count: int) -> tuple[list[SoftChip], list[bytes]]:
    """Enrol a fleet of one image and return the devices and their nonces."""
    chips = [SoftChip(world.now_s) for _ in range(count)]
    announce(world, chips)
    world.golden(chips[0], deadline=24 * 3600, interval=3600)
    return chips, [world.enrol(chip).next.nonce for chip in chips]


def announce(world: World, chips: Sequence[SoftChip]) -> None:
    """Put devices into the inventory by one change."""
    entries = [InventoryEntry(chip.device_id, f"bench-{chip.device_id[:20]}", "bench", "edge") for chip in chips]
    world.change("inventory", "inventory", inventory_document(entries))


def routine(chips: Sequence[SoftChip], nonces: Sequence[bytes], rounds: int) -> list[AttestRequest]:
    """Return `rounds` routine proofs of every device, in an order in which each device's clock rises."""
    return [chip.attest_request(nonce) for _ in range(rounds) for chip, nonce in zip(chips, nonces, strict=True)]


def with_log(chips: Sequence[SoftChip], nonces: Sequence[bytes], rounds: int) -> list[AttestRequest]:
    """Return proofs that bring their whole log, as after an orderly reboot."""
    made = []
    for _ in range(rounds):
        for chip, nonce in zip(chips, nonces, strict=True):
            chip.boot()
            made.append(chip.whole_attest_request(nonce))
    return made


def varied_logs(requests: Sequence[AttestRequest]) -> list[AttestRequest]:
    """Return the proofs with a padding that makes every log another one: nothing about it can be remembered."""
    import hashlib

    made = []
    for number, request in enumerate(requests):
        assert request.event_log is not None
        log = request.event_log + bytes(number + 1)
        made.append(replace(request, event_log=log, log=hashlib.sha256(log).digest()))
    return made


def bodies(requests: Sequence[AttestRequest]) -> list[bytes]:
    """Return the requests as they cross the wire."""
    return [codec.encode(request, codec.CBOR) for request in requests]
