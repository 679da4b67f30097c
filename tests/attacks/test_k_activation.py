"""K07, K08: activation secrets that are wrong, of elsewhere, late or guessed; and what a wrong one does to a device that exists."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import tpm_structures as tpm
from attestd.lifecycle.table import Event
from attestd.protocol import codec
from attestd.protocol.messages import PATH_ENROL_PROOF, EnrolProof
from attestd.protocol.reasons import Reason
from attestd.services import custody
from exchanges import SWEEP, Attestation, Enrolment, nothing_changes, refused
from softchip import SoftChip
from world import World

ChipFactory = Callable[..., SoftChip]


def wrong_secrets(right: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "zeros": bytes(32),
        "one byte of it": right[:1],
        "all but one byte": right[:-1],
        "more than it": right + b"\0",
        "twice": right * 2,
        "first bit flipped": bytes((right[0] ^ 0x80,)) + right[1:],
        "last bit flipped": right[:-1] + bytes((right[-1] ^ 1,)),
        "reversed": right[::-1],
        "its digest": hashlib.sha256(right).digest(),
    }


WRONG = tuple(wrong_secrets(bytes(32)))


def with_secret(enrolment: Enrolment, secret: bytes) -> EnrolProof:
    """Return the honest proof with another secret."""
    honest = enrolment.proof()
    return replace(honest, activations=(replace(honest.activations[0], secret=secret),))


# --- K07 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRONG)
def test_k07_wrong_secret_is_refused(enrolment: Enrolment, kind: str) -> None:
    secret = wrong_secrets(enrolment.proof().activations[0].secret)[kind]
    refused(enrolment.world, lambda: enrolment.world.prove(with_secret(enrolment, secret)), Reason.ACTIVATION_FAILED)
    assert enrolment.send().state == "trusted"


def test_k07_secret_longer_than_any_digest_has_no_form(enrolment: Enrolment) -> None:
    proof = with_secret(enrolment, bytes(65))
    refused(enrolment.world, lambda: enrolment.world.prove(proof), Reason.MESSAGE_MALFORMED)
    assert enrolment.send().state == "trusted"


def test_k07_secret_of_another_enrolment_of_this_device_is_refused(world: World, chip: ChipFactory) -> None:
    made = chip()
    first, second = Enrolment(world, made), Enrolment(world, made)
    (other,) = first.proof().activations
    refused(world, lambda: world.prove(with_secret(second, other.secret)), Reason.ACTIVATION_FAILED)
    assert second.send().state == "trusted"


def test_k07_secret_of_another_device_is_refused(world: World, chip: ChipFactory) -> None:
    mine, theirs = Enrolment(world, chip()), Enrolment(world, chip())
    (other,) = theirs.proof().activations
    refused(world, lambda: world.prove(with_secret(mine, other.secret)), Reason.ACTIVATION_FAILED)
    whole = replace(mine.proof(), activations=(other,))
    refused(world, lambda: world.prove(whole), Reason.NONCE_INVALID)
    assert mine.send().state == "trusted"


def test_k07_activation_of_a_finished_enrolment_is_no_second_one(world: World, chip: ChipFactory) -> None:
    """The secret is right and its time has not passed: the TPM's clock and the tunnel key still stand in the way."""
    enrolment = Enrolment(world, chip())
    used = enrolment.proof()
    world.prove(used)
    refused(world, lambda: world.prove(used), Reason.REPLAYED, recorded=enrolment.chip.device_id)
    enrolment.refuse(Reason.VPN_KEY_IN_USE)


def test_k07_activation_of_a_finished_enrolment_serves_no_other_keys(world: World, chip: ChipFactory) -> None:
    first = Enrolment(world, chip())
    used = first.proof()
    world.prove(used)
    first.chip.renew_keys()
    second = Enrolment(world, first.chip)
    proof = replace(second.proof(), activations=used.activations)
    refused(world, lambda: world.prove(proof), Reason.NONCE_INVALID)
    assert second.send().state == "trusted"


def test_k07_right_secret_after_its_time_is_refused(enrolment: Enrolment) -> None:
    proof = enrolment.proof()
    enrolment.world.pass_time(enrolment.challenge.expires_in + 1)
    refused(enrolment.world, lambda: enrolment.world.prove(proof), Reason.NONCE_EXPIRED)
    assert enrolment.world.enrol(enrolment.chip).state == "trusted"


def test_k07_right_secret_without_the_attestation_key_is_refused(enrolment: Enrolment) -> None:
    """Whoever stole the secret on its way has no key that signs for this TPM."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    enrolment.refuse(
        Reason.DEVICE_KEY_NOT_CERTIFIED, certify=enrolment.chip.certify(enrolment.certify_bound(), key=stranger)
    )
    enrolment.refuse(Reason.QUOTE_SIGNATURE, quote=enrolment.chip.quote(enrolment.bound(), key=stranger))
    assert enrolment.send().state == "trusted"


def test_k07_all_wrong_guesses_get_the_same_answer_byte_by_byte(world: World, chip: ChipFactory) -> None:
    """Announced or not, known or not, banned or not, near or far: one status, one document, the same headers."""
    answers = set()
    banned = Attestation(world, chip()).chip
    custody.decide(world.verifier, banned.device_id, Event.BANNED, actor="alice", reason="stolen")
    for made in (chip(), chip(announced=False), Attestation(world, chip()).chip, banned):
        made.renew_keys()
        enrolment = Enrolment(world, made)
        right = enrolment.proof().activations[0].secret
        for secret in wrong_secrets(right).values():
            status, headers, body = post(world, with_secret(enrolment, secret))
            answers.add((status, tuple(sorted(headers.items())), body))
    assert len(answers) == 1
    ((status, _, body),) = answers
    assert (status, codec.json.loads(body)["code"]) == (403, "activation-failed")


def post(world: World, proof: EnrolProof) -> tuple[int, dict[str, str], bytes]:
    status, headers, body = world.call(
        "POST", PATH_ENROL_PROOF, codec.encode(proof, codec.CBOR), {"content-type": codec.CBOR}
    )
    headers.pop("date", None)
    return status, headers, body


def test_k07_every_guess_is_compared_whole_and_in_constant_time(
    enrolment: Enrolment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock would measure the machine's load; what is held here is that no guess takes another way than the right one."""
    right = enrolment.proof().activations[0].secret
    seen: list[tuple[bytes, bytes]] = []
    original = hmac.compare_digest

    def watched(one: Any, other: Any) -> bool:
        seen.append((bytes(one), bytes(other)))
        return original(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    ways = []
    for secret in (*wrong_secrets(right).values(), right):
        seen.clear()
        post(enrolment.world, with_secret(enrolment, secret))
        ways.append([pair for pair in seen if right in pair])
        assert ways[-1] == [(right, secret)]
    assert len(ways) == len(WRONG) + 1


def test_k07_wrong_guess_asks_the_database_nothing(enrolment: Enrolment, monkeypatch: pytest.MonkeyPatch) -> None:
    """So neither a device's existence nor its state can be read off the time that a refusal takes."""
    opened: list[str] = []
    store = type(enrolment.world.verifier.store)
    for name in ("read", "write"):
        original = getattr(store, name)
        monkeypatch.setattr(
            store, name, lambda self, name=name, original=original: opened.append(name) or original(self)
        )
    with SWEEP:
        opened.clear()
        refusal, _, _ = post(enrolment.world, with_secret(enrolment, bytes(32)))
        assert (refusal, opened) == (403, [])


# --- K08 ----------------------------------------------------------------------------------------------------------------


def test_k08_wrong_activations_leave_a_device_as_it_is(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    victim = routine.chip
    keys = victim.device_key, victim.device_key_area, victim.wireguard
    victim.renew_keys()
    with nothing_changes(world):
        enrolment = Enrolment(world, victim)
        for secret in wrong_secrets(enrolment.proof().activations[0].secret).values():
            refused(world, lambda secret=secret: world.prove(with_secret(enrolment, secret)), Reason.ACTIVATION_FAILED)
    victim.device_key, victim.device_key_area, victim.wireguard = keys
    assert routine.send().state == "trusted"


def test_k08_strangers_keys_under_a_known_endorsement_key_change_nothing(world: World, chip: ChipFactory) -> None:
    """The endorsement key and its certificate are public: anybody can begin an enrolment in a device's name."""
    routine = Attestation(world, chip())
    victim = routine.chip
    stranger = SoftChip(world.now_s)
    stranger.ek, stranger.ek_area, stranger.certificates = victim.ek, victim.ek_area, victim.certificates
    stranger.activate = lambda *_: hashlib.sha256(b"a guess").digest()  # type: ignore[method-assign]
    assert stranger.device_id == victim.device_id
    assert tpm.name_of(stranger.ak_area) != tpm.name_of(victim.ak_area)
    for _ in range(20):
        refused(world, lambda: world.enrol(stranger), Reason.ACTIVATION_FAILED)
    assert routine.send().state == "trusted"
    victim.renew_keys()
    assert world.enrol(victim).state == "trusted"


def test_k08_challenges_that_nobody_answers_change_nothing(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    with nothing_changes(world):
        for _ in range(10):
            routine.world.begin(routine.chip.request())
    assert routine.send().state == "trusted"


def test_k08_wrong_activation_does_not_unban(world: World, chip: ChipFactory) -> None:
    banned = Attestation(world, chip()).chip
    custody.decide(world.verifier, banned.device_id, Event.BANNED, actor="alice", reason="stolen")
    banned.renew_keys()
    enrolment = Enrolment(world, banned)
    refused(world, lambda: world.prove(with_secret(enrolment, bytes(32))), Reason.ACTIVATION_FAILED)
    enrolment.refuse(Reason.DEVICE_BANNED)
    custody.decide(world.verifier, banned.device_id, Event.UNBANNED, actor="alice", reason="found")
    assert enrolment.send().state == "trusted"
