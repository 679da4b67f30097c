"""What the verifier computes, without HTTP: CPU time of the services in this process, on SQLite."""

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import machines
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from report import Line

from attestd.evidence.runtime import runtime_facts
from attestd.protocol import codec
from attestd.protocol.messages import Attested, AttestRequest
from attestd.services import enrol
from attestd.services.attest import attest_batch
from attestd.tpm.ima import parse_ima, replay
from softchip import SoftChip
from tpm_structures import ima_entry
from world import World

BATCH = 32


def core(bound: float, v: float, scale: float) -> list[Line]:
    """Measure batches of 32 proofs, enrolments, and a runtime list."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(f"sqlite:///{directory}/attestd.db")
        with world.listening():
            chips, nonces = machines.enrolled(world, BATCH)
        rounds = max(4, int(60 * scale))
        return [
            _share(
                "core, log by reference: share of the limit", world, machines.routine(chips, nonces, rounds), bound, 0.8
            ),
            _share(
                "core, log remembered: share of the limit",
                world,
                machines.with_log(chips, nonces, rounds // 4),
                bound,
                None,
            ),
            _share(
                "core, full replay: share of the limit",
                world,
                machines.varied_logs(machines.with_log(chips, nonces, rounds // 4)),
                bound,
                0.5,
            ),
            _enrolment(
                "enrolment, P-256 endorsement key", world, lambda: ec.generate_private_key(ec.SECP256R1()), v, 6
            ),
            _enrolment(
                "enrolment, RSA 2048 endorsement key", world, lambda: rsa.generate_private_key(65537, 2048), v, 6
            ),
            _runtime(v),
        ]


def _share(name: str, world: World, requests: Sequence[AttestRequest], bound: float, target: float | None) -> Line:
    """Return how much of the limit's speed is reached: limit over CPU time of one proof."""
    batches = [requests[at : at + BATCH] for at in range(0, len(requests), BATCH)]
    begin = time.process_time()
    for batch in batches:
        outcomes = attest_batch(world.verifier, batch)
        assert all(isinstance(outcome, Attested) for outcome in outcomes), outcomes
    each = (time.process_time() - begin) / len(requests) * 1e6
    return Line(f"{name} ({each:.0f} µs each)", bound / each, "", None, target, len(requests), at_least=True)


def _enrolment(name: str, world: World, key: Callable[[], Any], v: float, target: float) -> Line:
    chips = [SoftChip(world.now_s, ek=key()) for _ in range(12)]
    machines.announce(world, chips)
    spent = 0.0
    for chip in chips:
        body = codec.encode(chip.request(), codec.CBOR)
        begin = time.process_time()
        challenge = enrol.challenge(world.verifier, codec.decode(type(chip.request()), body, codec.CBOR), body)
        spent += time.process_time() - begin
        proof = chip.proof(body, challenge)
        begin = time.process_time()
        enrol.prove(world.verifier, proof, codec.CBOR)
        spent += time.process_time() - begin
    return Line(f"{name}, with storing and issuing", spent / len(chips) * 1e6, "µs", v, target, len(chips))


def _runtime(v: float) -> Line:
    entries = b"".join(ima_entry(f"/usr/bin/program-{number}".encode()) for number in range(1000))
    listed = parse_ima(entries)
    *_, value = replay(listed, "sha256", padded=False)
    pcrs = {index: bytes(32) for index in range(15)} | {10: value}
    begin = time.process_time()
    for _ in range(5):
        facts = runtime_facts(parse_ima(entries), bank="sha256", pcrs=pcrs, offset=1, start=bytes(32))
        assert facts.count == 1001
    each = (time.process_time() - begin) / 5 * 1e6
    return Line("runtime list, 1,000 new entries", each, "µs", v, 42, 5)
