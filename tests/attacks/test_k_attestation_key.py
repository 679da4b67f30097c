"""K01, K02, K03, K10: attestation keys that are none, changed ones, names that a client chose, device keys that prove nothing."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import tpm_structures as tpm
from activation import WrongCredential, activate
from attestd.protocol import codec
from attestd.protocol.messages import PATH_ENROL, EnrolChallenge
from attestd.protocol.reasons import Reason
from attestd.tpm.public import Attribute
from exchanges import Attestation, Enrolment, refused
from softchip import DEVICE_KEY_ATTRIBUTES, SoftChip
from world import World

ChipFactory = Callable[..., SoftChip]
AK = tpm.AK_ATTRIBUTES


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


# --- K01 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attribute",
    [
        Attribute.RESTRICTED,
        Attribute.SIGN,
        Attribute.FIXED_TPM,
        Attribute.FIXED_PARENT,
        Attribute.SENSITIVE_DATA_ORIGIN,
    ],
    ids=lambda attribute: attribute.name,
)
def test_k01_key_without_an_attribute_is_no_attestation_key(
    world: World, chip: ChipFactory, attribute: Attribute
) -> None:
    made = chip()
    made.ak_area = tpm.ecc_area(made.ak, attributes=AK & ~attribute)
    refused(world, lambda: world.begin(made.request()), Reason.AK_ATTRIBUTES)
    made.ak_area = tpm.ecc_area(made.ak)
    assert world.enrol(made).state == "trusted"


@pytest.mark.parametrize(
    "attribute",
    [Attribute.DECRYPT, Attribute.ST_CLEAR, Attribute.ENCRYPTED_DUPLICATION],
    ids=lambda attribute: attribute.name,
)
def test_k01_key_with_a_forbidden_attribute_is_no_attestation_key(
    world: World, chip: ChipFactory, attribute: Attribute
) -> None:
    made = chip()
    made.ak_area = tpm.ecc_area(made.ak, attributes=AK | attribute)
    refused(world, lambda: world.begin(made.request()), Reason.AK_ATTRIBUTES)
    made.ak_area = tpm.ecc_area(made.ak)
    assert world.enrol(made).state == "trusted"


def test_k01_key_of_no_attributes_at_all_is_no_attestation_key(world: World, chip: ChipFactory) -> None:
    made = chip()
    for attributes in (0, int(Attribute.SIGN), int(Attribute.RESTRICTED | Attribute.SIGN), tpm.EK_ATTRIBUTES):
        made.ak_area = tpm.ecc_area(made.ak, attributes=attributes)
        refused(world, lambda: world.begin(made.request()), Reason.AK_ATTRIBUTES)
    made.ak_area = tpm.ecc_area(made.ak)
    assert world.enrol(made).state == "trusted"


@pytest.mark.parametrize("bit", [0, 3, 12, 15, 20, 31])
def test_k01_key_with_a_reserved_attribute_is_refused(world: World, chip: ChipFactory, bit: int) -> None:
    made = chip()
    made.ak_area = tpm.ecc_area(made.ak, attributes=AK | 1 << bit)
    refused(world, lambda: world.begin(made.request()), Reason.AK_MALFORMED)
    made.ak_area = tpm.ecc_area(made.ak)
    assert world.enrol(made).state == "trusted"


def test_k01_endorsement_key_and_device_key_are_no_attestation_keys(world: World, chip: ChipFactory) -> None:
    made = chip()
    honest = made.ak_area
    for area in (made.ek_area, made.device_key_area):
        made.ak_area = area
        refused(world, lambda: world.begin(made.request()), Reason.AK_ATTRIBUTES)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


@pytest.mark.parametrize("kind", ["keyed hash", "symmetric cipher"])
def test_k01_object_without_a_public_key_is_no_attestation_key(world: World, chip: ChipFactory, kind: str) -> None:
    made = chip()
    honest = made.ak_area
    head = tpm.u16(tpm.SHA256_ID) + tpm.u32(AK) + tpm.sized(b"")
    hashed = tpm.u16(8) + head + tpm.u16(5) + tpm.u16(tpm.SHA256_ID) + tpm.sized(bytes(32))
    cipher = tpm.u16(0x25) + head + tpm.aes_cfb(128) + tpm.sized(bytes(32))
    made.ak_area = hashed if kind == "keyed hash" else cipher
    refused(world, lambda: world.begin(made.request()), Reason.AK_MALFORMED)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


def test_k01_key_whose_name_has_a_weak_hash_is_refused(world: World, chip: ChipFactory) -> None:
    """Activation proves a name. Under SHA-1 somebody can make two public areas that have the same one."""
    made = chip()
    for weak in (tpm.SHA1_ID, 0x0012):
        made.ak_area = tpm.ecc_area(made.ak, name_algorithm=weak)
        refused(world, lambda: world.begin(made.request()), Reason.AK_SCHEME)
    made.ak_area = tpm.ecc_area(made.ak)
    assert world.enrol(made).state == "trusted"


def test_k01_rsa_key_of_1024_bits_is_refused(world: World, chip: ChipFactory) -> None:
    made = chip()
    honest = made.ak_area
    made.ak_area = tpm.rsa_area(tpm.rsa_key(1024))
    refused(world, lambda: world.begin(made.request()), Reason.AK_MALFORMED)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


@pytest.mark.parametrize("change", [lambda area: area[:-1], lambda area: area + b"\0", lambda area: b""])
def test_k01_public_area_of_another_length_is_refused(
    world: World, chip: ChipFactory, change: Callable[[bytes], bytes]
) -> None:
    made = chip()
    honest = made.ak_area
    made.ak_area = change(honest)
    refused(world, lambda: world.begin(made.request()), Reason.AK_MALFORMED)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


# --- K02 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", [Attribute.USER_WITH_AUTH, Attribute.ADMIN_WITH_POLICY, Attribute.NO_DA])
def test_k02_attribute_changed_after_the_activation_is_another_key(
    world: World, chip: ChipFactory, bit: Attribute
) -> None:
    """The challenge was for the honest area; the proof brings the same key with one other attribute."""
    enrolment = Enrolment(world, chip())
    changed = tpm.ecc_area(enrolment.chip.ak, attributes=AK ^ int(bit))
    body = enrolment.body.replace(enrolment.chip.ak_area, changed)
    assert body != enrolment.body
    refused(world, lambda: enrolment.send(request=body), Reason.NONCE_INVALID)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("bit", [Attribute.USER_WITH_AUTH, Attribute.ADMIN_WITH_POLICY, Attribute.NO_DA])
def test_k02_known_device_whose_key_has_another_attribute_is_refused(
    world: World, chip: ChipFactory, bit: Attribute
) -> None:
    made = Attestation(world, chip()).chip
    honest = made.ak_area
    made.renew_keys()
    made.ak_area = tpm.ecc_area(made.ak, attributes=AK ^ int(bit))
    Enrolment(world, made).refuse(Reason.AK_CHANGED)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


def test_k02_known_device_whose_key_has_a_policy_now_is_refused(world: World, chip: ChipFactory) -> None:
    made = Attestation(world, chip()).chip
    honest = made.ak_area
    made.renew_keys()
    made.ak_area = tpm.ecc_area(made.ak, policy=bytes(32))
    Enrolment(world, made).refuse(Reason.AK_CHANGED)
    made.ak_area = honest
    assert world.enrol(made).state == "trusted"


# --- K03 ----------------------------------------------------------------------------------------------------------------


def test_k03_secret_is_wrapped_for_the_name_of_the_area_that_was_sent(world: World, chip: ChipFactory) -> None:
    """An area that claims to be restricted, and a TPM that holds the same key unrestricted: it cannot open the secret."""
    made = chip()
    forged = Enrolment(world, made).challenge.challenges[0]
    inside = tpm.name_of(tpm.ecc_area(made.ak, attributes=AK & ~int(Attribute.RESTRICTED)))
    with pytest.raises(WrongCredential):
        activate(
            made.ek,
            inside,
            forged.credential_blob,
            forged.encrypted_secret,
            digest=tpm.HASHES[tpm.SHA256_ID],
            aes_bits=128,
        )


@pytest.mark.parametrize("field", ["ak_name", "name", "qualified_name", "device_id"])
def test_k03_name_that_the_client_computed_has_no_place_in_a_message(
    world: World, chip: ChipFactory, field: str
) -> None:
    made = chip()
    message = cbor2.loads(codec.encode(made.request(), codec.CBOR))
    for value in (tpm.name_of(made.ak_area), made.device_id):
        body = cbor2.dumps(message | {field: value})
        refused(world, lambda body=body: world.post(PATH_ENROL, body, EnrolChallenge), Reason.MESSAGE_MALFORMED)
    assert world.enrol(made).state == "trusted"


def test_k03_attestation_key_of_another_tpm_gets_no_further_than_the_challenge(world: World, chip: ChipFactory) -> None:
    """My endorsement key, your attestation key: my TPM has no object of that name, so I can only guess."""
    mine, yours = chip(), chip()
    honest = mine.ak_area
    mine.ak_area = yours.ak_area
    enrolment = Enrolment(world, mine)
    mine.ak_area = honest  # what my TPM can activate
    one = enrolment.challenge.challenges[0]
    with pytest.raises(WrongCredential):
        mine.activate(one.credential_blob, one.encrypted_secret)
    mine.activate = lambda *_: hashlib.sha256(b"a guess").digest()  # type: ignore[method-assign]
    refused(world, enrolment.send, Reason.ACTIVATION_FAILED)
    del mine.activate  # type: ignore[method-assign]
    assert world.enrol(mine).state == "trusted"


# --- K10 ----------------------------------------------------------------------------------------------------------------


def test_k10_device_key_that_another_key_certified_is_refused(enrolment: Enrolment) -> None:
    for other in (key(), enrolment.chip.device_key):
        forged = enrolment.chip.certify(enrolment.certify_bound(), key=other)
        enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


def test_k10_device_key_that_another_device_certified_is_refused(
    world: World, chip: ChipFactory, enrolment: Enrolment
) -> None:
    other = chip()
    forged = other.certify(enrolment.certify_bound(), area=enrolment.chip.device_key_area)
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


def test_k10_certification_of_another_key_is_refused(enrolment: Enrolment) -> None:
    others = (
        enrolment.chip.ak_area,
        enrolment.chip.ek_area,
        tpm.ecc_area(key(), attributes=DEVICE_KEY_ATTRIBUTES, scheme=tpm.NULL),
        tpm.ecc_area(enrolment.chip.device_key, attributes=DEVICE_KEY_ATTRIBUTES ^ 1 << 6, scheme=tpm.NULL),
    )
    for area in others:
        forged = enrolment.chip.certify(enrolment.certify_bound(), area=area)
        enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("place", ["qualified name", "signer", "behind another name", "inside a longer name", "nonce"])
def test_k10_name_that_stands_elsewhere_in_the_certification_is_refused(enrolment: Enrolment, place: str) -> None:
    name, other = tpm.name_of(enrolment.chip.device_key_area), tpm.name_of(b"a key that could leave")
    head = enrolment.chip.head()
    bound = enrolment.certify_bound()
    attest = {
        "qualified name": tpm.attest_head(0x8017, nonce=bound, **head) + tpm.sized(other) + tpm.sized(name),
        "signer": tpm.attest_head(0x8017, nonce=bound, signer=name, **head) + tpm.sized(other) * 2,
        "behind another name": tpm.attest_head(0x8017, nonce=bound, **head) + tpm.sized(other + name) + tpm.sized(name),
        "inside a longer name": tpm.attest_head(0x8017, nonce=bound, **head) + tpm.sized(name + b"\0") * 2,
        "nonce": tpm.attest_head(0x8017, nonce=name, **head) + tpm.sized(other) * 2,
    }[place]
    assert name in attest
    forged = replace(enrolment.chip.certify(bound), attest=attest, signature=enrolment.chip.sign(attest))
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("cut", [0, 2, 33])
def test_k10_beginning_of_the_name_is_not_the_name(enrolment: Enrolment, cut: int) -> None:
    name = tpm.name_of(enrolment.chip.device_key_area)[:cut]
    attest = tpm.attest_head(0x8017, nonce=enrolment.certify_bound(), **enrolment.chip.head()) + tpm.sized(name) * 2
    forged = replace(enrolment.chip.certify(b""), attest=attest, signature=enrolment.chip.sign(attest))
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (DEVICE_KEY_ATTRIBUTES & ~int(Attribute.FIXED_TPM), Reason.DEVICE_KEY_ATTRIBUTES),
        (DEVICE_KEY_ATTRIBUTES & ~int(Attribute.FIXED_PARENT), Reason.DEVICE_KEY_ATTRIBUTES),
        (DEVICE_KEY_ATTRIBUTES & ~int(Attribute.SENSITIVE_DATA_ORIGIN), Reason.DEVICE_KEY_ATTRIBUTES),
        (DEVICE_KEY_ATTRIBUTES & ~int(Attribute.SIGN), Reason.DEVICE_KEY_ATTRIBUTES),
        (DEVICE_KEY_ATTRIBUTES | int(Attribute.RESTRICTED), Reason.DEVICE_KEY_ATTRIBUTES),
        (DEVICE_KEY_ATTRIBUTES | int(Attribute.DECRYPT), Reason.DEVICE_KEY_ATTRIBUTES),
        (DEVICE_KEY_ATTRIBUTES | int(Attribute.ENCRYPTED_DUPLICATION), Reason.DEVICE_KEY_ATTRIBUTES),
        (0, Reason.DEVICE_KEY_ATTRIBUTES),
        (DEVICE_KEY_ATTRIBUTES | 1, Reason.DEVICE_KEY_MALFORMED),
    ],
    ids=[
        "leaves",
        "duplicable",
        "imported",
        "cannot sign",
        "restricted",
        "decrypts",
        "duplicates",
        "nothing",
        "reserved",
    ],
)
def test_k10_device_key_that_could_leave_or_cannot_sign_is_refused(
    world: World, chip: ChipFactory, attributes: int, reason: Reason
) -> None:
    made = chip()
    made.device_key_area = tpm.ecc_area(made.device_key, attributes=attributes, scheme=tpm.NULL)
    refused(world, lambda: world.begin(made.request()), reason)
    made.renew_keys()
    assert world.enrol(made).state == "trusted"


def test_k10_device_key_that_is_none_or_weak_is_refused(world: World, chip: ChipFactory) -> None:
    made = chip()
    weak_name = tpm.ecc_area(
        made.device_key, attributes=DEVICE_KEY_ATTRIBUTES, scheme=tpm.NULL, name_algorithm=tpm.SHA1_ID
    )
    short = tpm.rsa_area(tpm.rsa_key(1024), attributes=DEVICE_KEY_ATTRIBUTES, scheme=tpm.NULL)
    for area, reason in (
        (weak_name, Reason.DEVICE_KEY_ATTRIBUTES),
        (short, Reason.DEVICE_KEY_MALFORMED),
        (b"", Reason.DEVICE_KEY_MALFORMED),
        (made.ak_area, Reason.DEVICE_KEY_ATTRIBUTES),
        (made.ek_area, Reason.DEVICE_KEY_ATTRIBUTES),
    ):
        made.device_key_area = area
        refused(world, lambda: world.begin(made.request()), reason)
    made.renew_keys()
    assert world.enrol(made).state == "trusted"


def test_k10_certification_without_the_nonce_of_this_enrolment_is_refused(world: World, chip: ChipFactory) -> None:
    made = chip()
    first, second = Enrolment(world, made), Enrolment(world, made)
    for data in (b"", first.certify_bound(), second.nonce, bytes(32), second.certify_bound()[:31], second.bound()):
        second.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=made.certify(data))
    assert second.send().state == "trusted"


def test_k10_flipped_bit_in_the_certification_is_refused(enrolment: Enrolment) -> None:
    honest = enrolment.chip.certify(enrolment.certify_bound())
    for position in (0, 5, 60, 90, len(honest.attest) - 40, len(honest.attest) - 1):
        bent = bytearray(honest.attest)
        bent[position] ^= 1
        enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=replace(honest, attest=bytes(bent)))
    assert enrolment.send(certify=honest).state == "trusted"
