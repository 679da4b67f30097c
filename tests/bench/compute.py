"""What the verifier computes, without HTTP: CPU time of the services in this process, on SQLite."""

import tempfile
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import limit
import machines
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from report import Line

from attestd.api.application import settle
from attestd.evidence.ak import check_attestation_key, check_certification, check_device_key
from attestd.evidence.quote import authenticate_quote, check_pcr_values
from attestd.evidence.runtime import runtime_facts
from attestd.protocol import codec
from attestd.protocol.binding import Purpose
from attestd.protocol.messages import Attested, AttestRequest, EnrolProof, EnrolRequest
from attestd.services import enrol
from attestd.services.attest import attest_batch
from attestd.tpm.eventlog import parse_event_log
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
        settle()
        rounds = max(8, int(60 * scale))
        log = chips[0].event_log
        replayed = bound + limit.replay_us(len(parse_event_log(log).events), len(log))
        remembered = bound + limit.replay_us(0, len(log))
        share = "share of the limit"
        lines = [_share(f"core, log by reference: {share}", world, machines.routine(chips, nonces, rounds), bound, 0.8)]
        whole = machines.with_log(chips, nonces, rounds // 4)
        lines.append(_share(f"core, log remembered: {share} (with the log's hash)", world, whole, remembered, 0.8))
        fresh = machines.varied_logs(machines.with_log(chips, nonces, rounds // 4))
        lines.append(_share(f"core, log never seen before: {share} (with its replay)", world, fresh, replayed, 0.5))
        for name, key, target in (("P-256", _p256, None), ("RSA 2048", _rsa, 6), ("P-384", _p384, 32)):
            lines += _enrolment(f"enrolment, {name} endorsement key", world, key, v, target)
        return [*lines, _runtime(v)]


def _p256() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def _p384() -> Any:
    return ec.generate_private_key(ec.SECP384R1())


def _rsa() -> Any:
    return rsa.generate_private_key(65537, 2048)


def _share(name: str, world: World, requests: Sequence[AttestRequest], bound: float, target: float | None) -> Line:
    """Return how much of the limit's speed is reached: limit over CPU time of one proof, by the batch in the middle."""
    taken = []
    for at in range(0, len(requests), BATCH):
        begin = time.process_time()
        outcomes = attest_batch(world.verifier, requests[at : at + BATCH])
        taken.append(time.process_time() - begin)
        assert all(isinstance(outcome, Attested) for outcome in outcomes), outcomes
    each = median(taken) / BATCH * 1e6
    return Line(f"{name} ({each:.0f} µs each)", bound / each, "", None, target, len(requests), at_least=True)


def _enrolment(name: str, world: World, key: Callable[[], Any], v: float, target: float | None) -> list[Line]:
    """Return what an enrolment computes (chain, credential, certification, quote) without its log, and what it costs whole."""
    chips = [SoftChip(world.now_s, ek=key()) for _ in range(12)]
    machines.announce(world, chips)
    computed, whole = [], []
    for chip in chips:
        body = codec.encode(chip.request(), codec.CBOR)
        begin = time.process_time()
        challenge = enrol.challenge(world.verifier, codec.decode(EnrolRequest, body, codec.CBOR), body)
        first = time.process_time() - begin
        proof = chip.proof(body, challenge)
        begin = time.process_time()
        _check(world, chip, proof)
        computed.append(first + time.process_time() - begin)
        begin = time.process_time()
        enrol.prove(world.verifier, proof, codec.CBOR)
        whole.append(first + time.process_time() - begin)
    return [
        Line(f"{name}: what is computed", median(computed) * 1e6, "µs", v, target, len(chips)),
        Line(f"{name}: whole, with its log, storing and issuing", median(whole) * 1e6, "µs", v, None, len(chips)),
    ]


def _check(world: World, chip: SoftChip, proof: EnrolProof) -> None:
    """Check the certification and the quote of an enrolment, as the second message is."""
    nonces = tuple(activation.nonce for activation in proof.activations)
    request = codec.decode(EnrolRequest, proof.request, codec.CBOR)
    attestation_key = check_attestation_key(request.ak_public)
    check_certification(
        attestation_key,
        check_device_key(request.device_key),
        attest=proof.certify.attest,
        signature=proof.certify.signature,
        qualifying_data=chip.bound(Purpose.ENROL_CERTIFY, nonces),
    )
    selection = world.verifier.selection
    bound = chip.bound(Purpose.ENROL_QUOTE, nonces)
    quote = authenticate_quote(attestation_key, proof.quote, qualifying_data=bound, selection=selection)
    check_pcr_values(quote, proof.pcrs, selection)


def _runtime(v: float) -> Line:
    entries = b"".join(ima_entry(f"/usr/bin/program-{number}".encode()) for number in range(1000))
    listed = parse_ima(entries)
    *_, value = replay(listed, "sha256", padded=False)
    pcrs = {index: bytes(32) for index in range(15)} | {10: value}

    def once() -> None:
        facts = runtime_facts(parse_ima(entries), bank="sha256", pcrs=pcrs, offset=1, start=bytes(32))
        assert facts.count == 1001

    return Line("runtime list, 1,000 new entries", limit.cpu_us(once, 10), "µs", v, 42, 30)
