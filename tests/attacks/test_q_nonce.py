"""Q06, Q07: freshness, and everything that a proof is bound to.

A nonce authenticates itself (evidence/challenge.py); that each is good for one proof only follows from the TPM's clock.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

import tpm_structures as tpm
from attestd.protocol import codec
from attestd.protocol.binding import Purpose
from attestd.protocol.messages import PATH_ATTEST, PATH_ENROL_PROOF, Activation, Attested, Enrolled
from attestd.protocol.reasons import Reason
from attestd.tpm.algorithms import CURVE_ORDERS
from exchanges import Attestation, Enrolment, Exchange, nonce_in, refused, snapshot
from softchip import SoftChip
from world import Problem, World

ChipFactory = Callable[..., SoftChip]


@pytest.fixture
def routine(world: World, chip: ChipFactory) -> Attestation:
    """A routine proof of an enrolled device."""
    return Attestation(world, chip())


# --- Q06: one nonce, one proof ----------------------------------------------------------------------------------------------


def test_q06_proof_is_accepted_once(routine: Attestation) -> None:
    body = codec.encode(routine.chip.attest_request(routine.nonce), codec.CBOR)
    routine.world.post(PATH_ATTEST, body, Attested)
    refused(routine.world, lambda: routine.world.post(PATH_ATTEST, body, Attested), Reason.REPLAYED)


def test_q06_enrolment_is_accepted_once(enrolment: Enrolment) -> None:
    body = codec.encode(enrolment.proof(), codec.CBOR)
    enrolment.world.post(PATH_ENROL_PROOF, body, Enrolled)
    refused(
        enrolment.world,
        lambda: enrolment.world.post(PATH_ENROL_PROOF, body, Enrolled),
        Reason.REPLAYED,
        recorded=enrolment.chip.device_id,
    )


def test_q06_proof_of_before_the_last_one_is_refused(routine: Attestation) -> None:
    old = routine.chip.quote(routine.bound())
    nonce = routine.nonce
    routine.send()
    routine.refuse(Reason.TPM_CLOCK_BACKWARDS, nonce=nonce, quote=old)
    assert routine.send().state == "trusted"


def test_q06_replay_under_the_other_form_of_the_signature_is_refused(routine: Attestation) -> None:
    """(r, n - s) is valid as well: what is compared must not be the bytes of the signature."""
    nonce, honest = routine.nonce, routine.chip.quote(routine.bound())
    routine.send(quote=honest)
    r, s = (int.from_bytes(honest.signature[at : at + 32], "big") for at in (6, 40))
    other = tpm.ecdsa_octets(r, CURVE_ORDERS["P-256"] - s)
    assert other != honest.signature
    routine.refuse(Reason.REPLAYED, nonce=nonce, quote=replace(honest, signature=other))
    assert routine.send().state == "trusted"


def test_q06_replay_announced_as_a_reboot_is_refused(routine: Attestation) -> None:
    nonce, honest = routine.nonce, routine.chip.quote(routine.bound())
    routine.send(quote=honest)
    routine.refuse(Reason.REPLAYED, nonce=nonce, quote=honest, rebooted=True)
    assert routine.send().state == "trusted"


def test_q06_of_equal_proofs_at_the_same_time_one_is_accepted(routine: Attestation) -> None:
    body = codec.encode(routine.chip.attest_request(routine.nonce), codec.CBOR)

    def send(_: int) -> str:
        try:
            return str(routine.world.post(PATH_ATTEST, body, Attested).state)
        except Problem as problem:
            return problem.code

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(send, range(8))) == sorted(["trusted", *["replayed"] * 7])


def test_a_lost_answer_may_be_made_up_for_by_a_new_proof_over_the_same_nonce(routine: Attestation) -> None:
    nonce = routine.nonce
    routine.send()
    assert routine.send(nonce=nonce, quote=routine.chip.quote(routine.bound(nonces=(nonce,)))).state == "trusted"


# --- Q06: nonces that are not ours, or not this device's -------------------------------------------------------------------


def bent_nonces(nonce: bytes, of_another: bytes) -> dict[str, bytes]:
    later = (int.from_bytes(nonce[16:24], "big") + 86_400_000).to_bytes(8, "big")
    return {
        "of another": of_another,
        "zeros behind it": nonce + bytes(16),
        "zeros before it": bytes(8) + nonce,
        "the random part": nonce[:16],
        "without its seal": nonce[:32],
        "cut by one byte": nonce[:-1],
        "all zero": bytes(48),
        "our own": bytes(range(48)),
        "a later end": nonce[:16] + later + nonce[24:],
        "a later issue": nonce[:24] + later + nonce[32:],
        "other randomness": bytes(16) + nonce[16:],
        "an empty seal": nonce[:32] + bytes(16),
        "the seal of another": nonce[:32] + of_another[32:],
    }


BENT = tuple(bent_nonces(bytes(48), bytes(48)))


@pytest.mark.parametrize("kind", BENT)
def test_q06_nonce_that_was_not_made_for_this_device_is_refused(world: World, chip: ChipFactory, kind: str) -> None:
    routine, other = Attestation(world, chip()), Attestation(world, chip())
    nonce = bent_nonces(routine.nonce, other.nonce)[kind]
    problem = refused(world, lambda: world.attest(routine.chip.attest_request(nonce)), Reason.NONCE_INVALID)
    again = nonce_in(problem)
    assert routine.send(nonce=again, quote=routine.chip.quote(routine.bound(nonces=(again,)))).state == "trusted"


@pytest.mark.parametrize("kind", BENT)
def test_q06_nonce_that_was_not_made_for_this_enrolment_is_refused(world: World, chip: ChipFactory, kind: str) -> None:
    """The TPM does its part for the nonce that is sent: nothing but the nonce is wrong."""
    enrolment, other = Enrolment(world, chip()), Enrolment(world, chip())
    honest = enrolment.proof()
    nonce = bent_nonces(enrolment.nonce, other.nonce)[kind]
    forged = Activation("attestd", nonce, honest.activations[0].secret)
    proof = replace(
        honest,
        activations=(forged,),
        certify=enrolment.chip.certify(enrolment.certify_bound(nonces=(nonce,))),
        quote=enrolment.chip.quote(enrolment.bound(nonces=(nonce,))),
    )
    refused(world, lambda: world.prove(proof), Reason.NONCE_INVALID)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("size", [0, 1, 15, 65])
def test_q06_nonce_that_is_empty_short_or_long_has_no_form(routine: Attestation, size: int) -> None:
    request = routine.chip.attest_request((routine.nonce * 2)[:size])
    refused(routine.world, lambda: routine.world.attest(request), Reason.MESSAGE_MALFORMED)
    assert routine.send().state == "trusted"


def test_q06_nonce_of_an_enrolment_is_none_of_a_routine_proof(world: World, chip: ChipFactory) -> None:
    enrolment = Enrolment(world, chip())
    enrolled = enrolment.send()
    request = enrolment.chip.attest_request(enrolment.nonce)
    refused(world, lambda: world.attest(request), Reason.NONCE_INVALID)
    assert world.attest(enrolment.chip.attest_request(enrolled.next.nonce)).state == "trusted"


def test_q06_nonce_of_a_routine_proof_is_none_of_an_enrolment(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    routine.chip.renew_keys()
    enrolment = Enrolment(world, routine.chip)
    honest = enrolment.proof()
    proof = replace(honest, activations=(replace(honest.activations[0], nonce=routine.nonce),))
    refused(world, lambda: world.prove(proof), Reason.NONCE_INVALID)
    assert enrolment.send().state == "trusted"


def test_q06_nonce_of_another_enrolment_of_the_same_device_is_refused(world: World, chip: ChipFactory) -> None:
    made = chip()
    first = Enrolment(world, made)
    made.renew_keys()
    second = Enrolment(world, made)
    proof = replace(second.proof(), activations=first.proof().activations)
    refused(world, lambda: world.prove(proof), Reason.NONCE_INVALID)
    assert second.send().state == "trusted"


def test_q06_challenges_that_are_not_those_of_the_answer_are_refused(enrolment: Enrolment) -> None:
    honest = enrolment.proof().activations
    stranger = replace(honest[0], challenger="somebody")
    for activations in ((stranger,), (*honest, stranger), honest * 2, (stranger, *honest)):
        proof = enrolment.proof(activations=activations)
        refused(enrolment.world, lambda proof=proof: enrolment.world.prove(proof), Reason.CHALLENGERS_MISMATCH)
    none = enrolment.proof(activations=())
    refused(enrolment.world, lambda: enrolment.world.prove(none), Reason.MESSAGE_MALFORMED)
    assert enrolment.send().state == "trusted"


def test_q06_enrolment_over_an_expired_nonce_is_refused(enrolment: Enrolment) -> None:
    proof = enrolment.proof()
    enrolment.world.pass_time(enrolment.challenge.expires_in + 1)
    refused(enrolment.world, lambda: enrolment.world.prove(proof), Reason.NONCE_EXPIRED)
    assert enrolment.world.enrol(enrolment.chip).state == "trusted"


def test_q06_routine_proof_over_an_expired_nonce_is_refused(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    old = routine.nonce
    world.pass_time(150)
    routine.send()
    world.pass_time(50)
    fresh = routine.send().next.nonce
    world.pass_time(101)
    request = routine.chip.attest_request(old)
    problem = refused(world, lambda: world.attest(request), Reason.NONCE_EXPIRED)
    assert len(nonce_in(problem)) == len(fresh)
    assert routine.send().state == "trusted"


def test_q06_no_two_challenges_are_equal_and_none_has_less_than_128_bits(world: World, chip: ChipFactory) -> None:
    """One request, sent again and again; one device, enrolled and asked again and again."""
    made = chip()
    body = codec.encode(made.request(), codec.CBOR)
    begun = [world.begin(body).challenges[0] for _ in range(24)]
    secrets = [made.activate(one.credential_blob, one.encrypted_secret) for one in begun]
    nonces = [one.nonce for one in begun]
    following = world.enrol(made).next.nonce
    for _ in range(8):
        nonces.append(following)
        following = world.attest(made.attest_request(following)).next.nonce
    assert min(len(nonce) for nonce in nonces) >= 16
    assert len({nonce[:16] for nonce in nonces}) == len(nonces) == 32
    assert len(set(secrets)) == 24
    assert min(len(secret) for secret in secrets) >= 16
    for position in range(16):  # no byte of the random part stands still
        assert len({nonce[position] for nonce in nonces}) > 1


# --- Q07 ----------------------------------------------------------------------------------------------------------------

OTHER_NAME = tpm.name_of(b"another device key")
BINDINGS: dict[str, dict[str, Any]] = {
    "another server": {"server": "verifier.example"},
    "another name of the server": {"server": "127.0.0.1"},
    "the server in capitals": {"server": "LOCALHOST"},
    "another device": {"device_id": "a" * 52},
    "another device key": {"device_key_name": OTHER_NAME},
    "no device key": {"device_key_name": b""},
    "another tunnel key": {"vpn_keys": (("wireguard", bytes(range(32))),)},
    "another kind of tunnel": {"vpn_keys": (("ipsec", bytes(range(32))),)},
    "no tunnel key": {"vpn_keys": ()},
    "another nonce": {"nonces": (b"n" * 40,)},
    "no nonce": {"nonces": ()},
}
PURPOSES = (Purpose.ENROL_QUOTE, Purpose.ENROL_CERTIFY, Purpose.ATTEST_QUOTE)


@pytest.mark.parametrize("changes", BINDINGS.values(), ids=BINDINGS)
def test_q07_quote_bound_to_something_else_is_refused(exchange: Exchange, changes: dict[str, Any]) -> None:
    exchange.refuse(Reason.QUOTE_BINDING, quote=exchange.chip.quote(exchange.bound(**changes)))
    assert exchange.send().state == "trusted"


def test_q07_quote_for_another_purpose_is_refused(exchange: Exchange) -> None:
    for purpose in PURPOSES:
        if purpose is not exchange.purpose:
            exchange.refuse(Reason.QUOTE_BINDING, quote=exchange.chip.quote(exchange.bound(purpose=purpose)))
    assert exchange.send().state == "trusted"


def test_q07_nonce_twice_is_another_binding(exchange: Exchange) -> None:
    twice = exchange.bound(nonces=(exchange.nonce, exchange.nonce))
    exchange.refuse(Reason.QUOTE_BINDING, quote=exchange.chip.quote(twice))
    assert exchange.send().state == "trusted"


def test_q07_qualifying_data_that_is_no_binding_is_refused(exchange: Exchange) -> None:
    bound = exchange.bound()
    for data in (b"", exchange.nonce, bound[:16], bound + b"\0", bytes(32), hashlib.sha256(exchange.nonce).digest()):
        exchange.refuse(Reason.QUOTE_BINDING, quote=exchange.chip.quote(data))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("changes", BINDINGS.values(), ids=BINDINGS)
def test_q07_certification_bound_to_something_else_is_refused(enrolment: Enrolment, changes: dict[str, Any]) -> None:
    forged = enrolment.chip.certify(enrolment.certify_bound(**changes))
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("server", ["verifier.example", "127.0.0.1", "localhost.", "LOCALHOST"])
def test_q07_routine_proof_for_another_server_is_refused(world: World, chip: ChipFactory, server: str) -> None:
    """A message that says one server and a quote that says the other, and both the other: the device was on its line."""
    routine = Attestation(world, chip())
    routine.refuse(Reason.QUOTE_BINDING, server=server)
    both = {"server": server, "quote": routine.chip.quote(routine.bound(server=server))}
    if server == "127.0.0.1":  # a name of this very verifier
        assert routine.send(**both).state == "trusted"
    else:
        routine.refuse(Reason.QUOTE_BINDING, **both)
    assert routine.send().state == "trusted"


def test_q07_enrolment_for_another_server_is_refused_at_once(world: World, chip: ChipFactory) -> None:
    made = chip(server="verifier.example")
    refused(world, lambda: world.begin(made.request()), Reason.QUOTE_BINDING)
    made.server = "localhost"
    assert world.enrol(made).state == "trusted"


def test_q07_quote_of_another_device_is_refused(world: World, chip: ChipFactory) -> None:
    """Its own key, its own nonce, all of it honest, under somebody else's name."""
    mine, theirs = Attestation(world, chip()), Attestation(world, chip())
    quote = theirs.chip.quote(theirs.bound())
    mine.refuse(Reason.QUOTE_SIGNATURE, quote=quote)
    request = replace(theirs.chip.attest_request(theirs.nonce), device_id=mine.chip.device_id)
    refused(world, lambda: world.attest(request), Reason.NONCE_INVALID)
    assert theirs.send(quote=quote).state == "trusted"
    assert mine.send().state == "trusted"


def test_q07_tunnel_key_swapped_on_the_way_is_refused(enrolment: Enrolment) -> None:
    (_, key), *_ = enrolment.chip.vpn_keys
    body = enrolment.body.replace(key, bytes(range(32)))
    assert body != enrolment.body
    refused(enrolment.world, lambda: enrolment.send(request=body), Reason.NONCE_INVALID)
    assert enrolment.send().state == "trusted"


def test_q07_tunnel_key_swapped_in_both_messages_is_refused(world: World, chip: ChipFactory) -> None:
    """Somebody in the middle from the first message on: the TPM has bound the key that it was given."""
    made = chip()
    body = codec.encode(replace(made.request(), vpn_keys=(("wireguard", bytes(range(32))),)), codec.CBOR)
    challenge = world.begin(body)
    refused(
        world,
        lambda: world.prove(made.proof(body, challenge)),
        Reason.DEVICE_KEY_NOT_CERTIFIED,
        recorded=made.device_id,
    )
    assert world.enrol(made).state == "trusted"


def test_q07_quote_of_the_enrolment_before_is_refused(world: World, chip: ChipFactory) -> None:
    made = chip()
    first = Enrolment(world, made)
    old = made.quote(first.bound())
    first.send()
    made.renew_keys()
    second = Enrolment(world, made)
    second.refuse(Reason.QUOTE_BINDING, quote=old)
    assert second.send().state == "trusted"


def test_q07_proof_with_the_keys_of_the_enrolment_before_is_refused(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    old = {"device_key_name": tpm.name_of(routine.chip.device_key_area), "vpn_keys": routine.chip.vpn_keys}
    routine.chip.renew_keys()
    routine.nonce = world.enrol(routine.chip).next.nonce
    before = snapshot(world)["certificate"]
    routine.refuse(Reason.QUOTE_BINDING, quote=routine.chip.quote(routine.bound(**old)))
    assert routine.send().state == "trusted"
    assert snapshot(world)["certificate"] == before
