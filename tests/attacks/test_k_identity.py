"""K09, K11, K12: whose identity it is, whether it was announced, and proofs that this protocol does not take."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import tpm_structures as tpm
from attestd.changes.errors import ChangeRefused
from attestd.changes.inventory import InventoryEntry, inventory_document
from attestd.protocol import codec
from attestd.protocol.messages import (
    PATH_ATTEST,
    PATH_ENROL,
    PATH_ENROL_PROOF,
    Attested,
    EnrolChallenge,
    Enrolled,
)
from attestd.protocol.reasons import Reason
from exchanges import Attestation, Enrolment, nothing_changes, refused, snapshot
from softchip import SoftChip
from world import PROFILE, Problem, World

ChipFactory = Callable[..., SoftChip]


def rows(world: World, table: str, device_id: str) -> list[tuple[object, ...]]:
    return [row for row in snapshot(world)[table] if device_id in row]


def live(world: World, device_id: str) -> tuple[int, int, int]:
    """Return how many certificates, tunnel keys and addresses a device has that still count."""
    return (
        len([row for row in rows(world, "certificate", device_id) if row[5] is None]),
        len([row for row in rows(world, "vpn_credential", device_id) if row[4] is None]),
        len(rows(world, "vpn_address", device_id)),
    )


def new_key(chip: SoftChip) -> None:
    """Give the chip another attestation key."""
    chip.ak = ec.generate_private_key(ec.SECP256R1())
    chip.ak_area = tpm.ecc_area(chip.ak)


# --- K09 ----------------------------------------------------------------------------------------------------------------


def test_k09_known_device_with_another_attestation_key_is_refused(world: World, chip: ChipFactory) -> None:
    """Its own TPM activated the new key; still, a person must say that it may change."""
    routine = Attestation(world, chip())
    made = routine.chip
    keys = made.ak, made.ak_area, made.device_key, made.device_key_area, made.wireguard
    made.renew_keys()
    new_key(made)
    Enrolment(world, made).refuse(Reason.AK_CHANGED)
    made.ak, made.ak_area, made.device_key, made.device_key_area, made.wireguard = keys
    assert routine.send().state == "trusted"


def test_k09_attestation_key_of_a_known_device_under_another_endorsement_key_is_refused(
    world: World, chip: ChipFactory
) -> None:
    """One attestation key is in one chip: under a second endorsement key, the same chip would be a second device."""
    routine = Attestation(world, chip())
    other = chip(ak=routine.chip.ak)
    assert other.ak_area == routine.chip.ak_area
    assert other.device_id != routine.chip.device_id
    Enrolment(world, other).refuse(Reason.AK_IN_USE)
    assert routine.send().state == "trusted"
    new_key(other)
    assert world.enrol(other).state == "trusted"


def test_k09_another_endorsement_key_is_another_device(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    other = chip(announced=False)
    before = rows(world, "device", routine.chip.device_id)
    refused(world, lambda: world.enrol(other), Reason.DEVICE_UNANNOUNCED, changes=True)
    assert rows(world, "device", routine.chip.device_id) == before
    assert live(world, other.device_id) == (0, 0, 0)
    assert routine.send().state == "trusted"


def test_k09_labels_of_a_known_device_make_nobody_that_device(world: World, chip: ChipFactory) -> None:
    known, other = chip(), chip()
    labels = (("hostname", "gate-1"), ("serial", "S-1"), ("uuid", "c0ffee"), ("device_id", known.device_id))
    for made in (known, other):
        body = codec.encode(made.request(labels=labels), codec.CBOR)
        assert world.prove(made.proof(body, world.begin(body))).device_id == made.device_id
    assert rows(world, "device", known.device_id) != rows(world, "device", other.device_id)
    assert live(world, known.device_id) == live(world, other.device_id) == (1, 1, 1)


@pytest.mark.parametrize("field", ["device_id", "id", "uuid", "name", "serial"])
def test_k09_device_cannot_choose_its_id(world: World, chip: ChipFactory, field: str) -> None:
    made = chip()
    body = cbor2.dumps(cbor2.loads(codec.encode(made.request(), codec.CBOR)) | {field: "a" * 52})
    refused(world, lambda: world.post(PATH_ENROL, body, EnrolChallenge), Reason.MESSAGE_MALFORMED)
    assert world.enrol(made).device_id == made.device_id


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda name: name + "=", lambda name: name[:-1], lambda name: name + " ", lambda name: name[::-1]],
    ids=["capitals", "padded", "cut", "blank", "reversed"],
)
def test_k09_id_in_another_spelling_is_nobodys(world: World, chip: ChipFactory, change: Callable[[str], str]) -> None:
    routine = Attestation(world, chip())
    routine.refuse(Reason.NONCE_INVALID, device_id=change(routine.chip.device_id))
    assert routine.send().state == "trusted"


def test_k09_one_endorsement_key_in_two_encodings_is_one_device(world: World) -> None:
    """Some chips leave out the leading zeros of a coordinate; a second encoding must not be a second device."""
    key = next(key for key in map(derived, range(1, 5000)) if key.public_key().public_numbers().x < 1 << 248)
    made = SoftChip(world.now_s, ek=key)
    world.announce(made, "two-encodings")
    assert world.enrol(made).device_id == made.device_id
    x = key.public_key().public_numbers().x.to_bytes(32, "big")
    made.ek_area = made.ek_area.replace(tpm.sized(x), tpm.sized(x[1:]))
    made.renew_keys()
    assert world.enrol(made).device_id == made.device_id
    assert live(world, made.device_id) == (1, 1, 1)
    assert len(rows(world, "device", made.device_id)) == 1


def derived(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


@pytest.fixture
def busy(database_url: str) -> Iterator[World]:
    """A verifier on each kind of database."""
    with World(database_url).listening() as made:
        made.golden(SoftChip(made.now_s))
        yield made
        made.verifier.store.close()


def at_once(world: World, enrolments: list[Enrolment]) -> list[str]:
    """Send all proofs at the same moment and return the states or reason codes."""
    gate = Barrier(len(enrolments))

    def send(enrolment: Enrolment) -> str:
        proof = enrolment.proof()
        gate.wait()
        try:
            return world.prove(proof).state
        except Problem as problem:
            return problem.code

    with ThreadPoolExecutor(len(enrolments)) as threads:
        return list(threads.map(send, enrolments))


LOSERS = {"server-busy", "replayed", "tpm-clock-backwards", "vpn-key-in-use"}


def test_k09_enrolments_of_one_endorsement_key_at_once_leave_one_set_of_credentials(busy: World) -> None:
    """Each with device and tunnel keys of its own; those that come later and are newer replace the earlier ones."""
    made = SoftChip(busy.now_s)
    busy.announce(made)
    enrolments = []
    for _ in range(4):
        made.renew_keys()
        made.clock += 1000
        enrolments.append(Enrolment(busy, replace_chip(made)))
    outcomes = at_once(busy, enrolments)
    assert "trusted" in outcomes
    assert set(outcomes) <= {"trusted", *LOSERS}
    assert live(busy, made.device_id) == (1, 1, 1)
    assert len(rows(busy, "device", made.device_id)) == 1


def replace_chip(chip: SoftChip) -> SoftChip:
    """Return the chip as it stands, so that making new keys later does not change this enrolment."""
    twin = object.__new__(SoftChip)
    twin.__dict__.update(chip.__dict__)
    return twin


def test_k09_enrolments_with_two_attestation_keys_at_once_leave_one_of_them(busy: World) -> None:
    first = SoftChip(busy.now_s)
    busy.announce(first)
    second = replace_chip(first)
    second.renew_keys()
    new_key(second)
    outcomes = at_once(busy, [Enrolment(busy, first), Enrolment(busy, second)])
    assert outcomes.count("trusted") == 1
    assert set(outcomes) <= {"trusted", "server-busy", "ak-changed"}
    winner = (first, second)[outcomes.index("trusted")]
    assert live(busy, first.device_id) == (1, 1, 1)
    assert tpm.name_of(winner.ak_area) in rows(busy, "device", first.device_id)[0]


def test_k09_tunnel_key_enrolled_by_two_devices_at_once_belongs_to_one(busy: World) -> None:
    first, second = SoftChip(busy.now_s), SoftChip(busy.now_s)
    second.wireguard = first.wireguard
    busy.announce(first, "gate-1")
    busy.announce(second, "gate-2")
    outcomes = at_once(busy, [Enrolment(busy, first), Enrolment(busy, second)])
    assert sorted(outcomes) == ["trusted", "vpn-key-in-use"]


# --- K11 ----------------------------------------------------------------------------------------------------------------


def test_k11_device_that_nobody_announced_waits_and_gets_nothing(world: World, chip: ChipFactory) -> None:
    stranger = chip(announced=False)
    problem = refused(world, lambda: world.enrol(stranger), Reason.DEVICE_UNANNOUNCED, changes=True)
    assert live(world, stranger.device_id) == (0, 0, 0)
    assert rows(world, '"grant"', stranger.device_id) == []
    assert [row[1] for row in rows(world, "device_state", stranger.device_id)] == ["pending"]
    assert rows(world, "attestation", stranger.device_id) == []
    assert int(problem.headers["retry-after"]) > 0
    world.announce(stranger, "let-in")
    assert world.enrol(stranger).state == "trusted"


def test_k11_entry_withdrawn_between_challenge_and_proof_counts(world: World, chip: ChipFactory) -> None:
    enrolment = Enrolment(world, chip())
    world.withdraw(enrolment.chip)
    enrolment.refuse(Reason.INVENTORY_WITHDRAWN)
    assert live(world, enrolment.chip.device_id) == (0, 0, 0)
    world.announce(enrolment.chip, "back-again")
    assert enrolment.send().state == "trusted"


def test_k11_entry_withdrawn_between_nonce_and_proof_ends_trust(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    device = routine.chip.device_id
    assert live(world, device) == (1, 1, 1)
    world.withdraw(routine.chip)
    refused(world, routine.send, Reason.INVENTORY_WITHDRAWN, changes=True)
    assert live(world, device)[:2] == (0, 0)
    assert [row[1] for row in rows(world, "device_state", device)] == ["untrusted"]
    assert rows(world, "attestation", device)[-1][6] == "untrusted"


def test_k11_entry_withdrawn_before_another_enrolment_counts(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    routine.chip.renew_keys()
    enrolment = Enrolment(world, routine.chip)
    world.withdraw(routine.chip)
    enrolment.refuse(Reason.INVENTORY_WITHDRAWN)
    world.announce(routine.chip, "and-back")
    assert enrolment.send().state == "trusted"


def test_k11_entry_serves_one_endorsement_key_only(world: World, chip: ChipFactory) -> None:
    """A second chip of the same make, in the same place, with the same labels: it is not in the inventory."""
    known = Attestation(world, chip())
    other = chip(announced=False)
    refused(world, lambda: world.enrol(other), Reason.DEVICE_UNANNOUNCED, changes=True)
    assert known.send().state == "trusted"
    assert live(world, other.device_id) == (0, 0, 0)


def test_k11_name_cannot_be_given_to_two_devices_at_once(world: World, chip: ChipFactory) -> None:
    one, other = chip(announced=False), chip(announced=False)
    entries = [InventoryEntry(made.device_id, "one-name", "harbour", PROFILE) for made in (one, other)]
    with nothing_changes(world), pytest.raises(ChangeRefused) as refusal:
        inventory_document(entries)
    assert refusal.value.code == "inventory-duplicate"


def test_k11_name_that_a_device_still_holds_is_not_given_to_its_successor(world: World, chip: ChipFactory) -> None:
    """Gateways know a device by its tunnel name: two must never be seen under one, whatever the inventory says by then."""
    known, successor = chip(announced=False), chip(announced=False)
    world.announce(known, "held-name")
    routine = Attestation(world, known)
    world.announce(known, "renamed")
    world.announce(successor, "held-name")
    enrolment = Enrolment(world, successor)
    enrolment.refuse(Reason.INVENTORY_CLAIMED)
    assert live(world, successor.device_id) == (0, 0, 0)
    assert routine.send().state == "trusted"


# --- K12 ----------------------------------------------------------------------------------------------------------------

ATTACHED = {
    "idevid": b"\x30\x03\x02\x01\x00",
    "idevid_certificates": [b"\x30\x03\x02\x01\x00"],
    "iak_public": tpm.sized(tpm.ecc_area(tpm.ecc_key())),
    "iak": {"public": b"area", "certificate": b"certificate"},
    "ldevid": b"key",
    "platform_certificate": b"\x30\x03\x02\x01\x00",
}


@pytest.mark.parametrize("field", ATTACHED)
def test_k12_vendors_device_identity_attached_to_an_enrolment_is_refused(
    world: World, chip: ChipFactory, field: str
) -> None:
    """Nothing in the protocol would prove that such a key is in this TPM, so it has no place in any message."""
    made = chip()
    request = cbor2.dumps(cbor2.loads(codec.encode(made.request(), codec.CBOR)) | {field: ATTACHED[field]})
    refused(world, lambda: world.post(PATH_ENROL, request, EnrolChallenge), Reason.MESSAGE_MALFORMED)
    enrolment = Enrolment(world, made)
    proof = cbor2.dumps(cbor2.loads(codec.encode(enrolment.proof(), codec.CBOR)) | {field: ATTACHED[field]})
    refused(world, lambda: world.post(PATH_ENROL_PROOF, proof, Enrolled), Reason.MESSAGE_MALFORMED)
    inside = codec.encode(enrolment.proof(request=request), codec.CBOR)
    refused(world, lambda: world.post(PATH_ENROL_PROOF, inside, Enrolled), Reason.MESSAGE_MALFORMED)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("field", ATTACHED)
def test_k12_vendors_device_identity_attached_later_is_refused(world: World, chip: ChipFactory, field: str) -> None:
    """To the second registration of a known device, and to a routine proof."""
    routine = Attestation(world, chip())
    proof = cbor2.loads(codec.encode(routine.chip.attest_request(routine.nonce), codec.CBOR))
    body = cbor2.dumps(proof | {field: ATTACHED[field]})
    refused(world, lambda: world.post(PATH_ATTEST, body, Attested), Reason.MESSAGE_MALFORMED)
    assert routine.send().state == "trusted"
    routine.chip.renew_keys()
    request = cbor2.loads(codec.encode(routine.chip.request(), codec.CBOR))
    again = cbor2.dumps(request | {field: ATTACHED[field]})
    refused(world, lambda: world.post(PATH_ENROL, again, EnrolChallenge), Reason.MESSAGE_MALFORMED)
    assert world.enrol(routine.chip).state == "trusted"


def test_k12_second_registration_needs_every_proof_of_the_first(world: World, chip: ChipFactory) -> None:
    routine = Attestation(world, chip())
    routine.chip.renew_keys()
    enrolment = Enrolment(world, routine.chip)
    honest = enrolment.proof()
    nothing = replace(honest, activations=(replace(honest.activations[0], secret=b""),))
    refused(world, lambda: world.prove(nothing), Reason.ACTIVATION_FAILED)
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=routine.chip.certify(b""))
    enrolment.refuse(Reason.QUOTE_BINDING, quote=routine.chip.quote(b""))
    enrolment.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=())
    assert enrolment.send().state == "trusted"
