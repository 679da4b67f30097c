"""K01, K03, K04, K07, K09, K10 with software TPMs: keys of the wrong kind, secrets of another TPM, certifications by another key.

Every key here is a real object of a real TPM; nothing is forged but the intention.
"""

import hashlib
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import tpm_structures as structures
from attestd.protocol import codec
from attestd.protocol.reasons import Reason
from attestd_agent import tpm_templates as templates
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.manufacturer import Manufacturer
from attestd_agent.tpm import KeyBlob, TpmRefused
from attestd_agent.tpm_esys import EsysTpm
from exchanges import Attestation, Enrolment, refused, verifier_in_memory
from swtpm import SWTPM_MARKS, DeviceFactory
from tpmchip import OtherKeyTpm, TpmChip, attestation_key
from world import World

pytest_plugins = ("swtpm",)
pytestmark = SWTPM_MARKS

Announce = Callable[[TpmChip], TpmChip]


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer) -> Iterator[World]:
    """A verifier that trusts this manufacturer's TPMs."""
    anchors = tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(manufacturer.anchors))
    with verifier_in_memory(anchors=anchors) as made:
        yield made


@pytest.fixture
def announce(world: World) -> Announce:
    """Put a device into the inventory; the first one's boot is the profile of all."""

    def put(chip: TpmChip) -> TpmChip:
        with world.verifier.store.read() as connection:
            book = world.verifier.policy.book(connection)
        if not book.profiles:
            world.golden(chip)
        world.announce(chip, f"gate-{book.sequence}")
        return chip

    return put


# --- K01 ----------------------------------------------------------------------------------------------------------------

WRONG_KEYS = {
    "unrestricted": templates.RESTRICTED,
    "may leave": templates.FIXED_TPM | templates.FIXED_PARENT,
    "gone after a reboot": 1 << 2,
}


@pytest.mark.parametrize("difference", WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_k01_key_of_the_tpm_with_other_attributes_is_no_attestation_key(
    world: World, announce: Announce, device: SoftwareDevice, difference: int
) -> None:
    chip = announce(TpmChip(device))
    wrong = OtherKeyTpm(device.tcti, attestation_key(attributes=difference)).ak_public()
    refused(world, lambda: world.begin(chip.request(ak_public=wrong)), Reason.AK_ATTRIBUTES)
    assert world.enrol(chip).state == "trusted"


def test_k01_storage_endorsement_and_device_keys_of_the_tpm_are_no_attestation_keys(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    chip = announce(TpmChip(device))
    storage = OtherKeyTpm(device.tcti, templates.STORAGE_ROOT_KEY).ak_public()
    for wrong in (storage, structures.sized(chip.ek_area), chip.key.public):
        refused(world, lambda wrong=wrong: world.begin(chip.request(ak_public=wrong)), Reason.AK_ATTRIBUTES)
    assert world.enrol(chip).state == "trusted"


def test_k01_sealed_object_of_the_tpm_is_no_attestation_key(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    chip = announce(TpmChip(device))
    sealed = chip.tpm.seal(b"secret").public
    refused(world, lambda: world.begin(chip.request(ak_public=sealed)), Reason.AK_MALFORMED)
    assert world.enrol(chip).state == "trusted"


# --- K03, K04, K07 --------------------------------------------------------------------------------------------------------


def test_k03_tpm_opens_no_secret_for_a_key_that_it_holds_with_other_attributes(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    """The public area says restricted; the TPM holds the key unrestricted: the name differs, and the TPM says no."""
    chip = announce(TpmChip(device))
    loose = OtherKeyTpm(device.tcti, attestation_key(attributes=templates.RESTRICTED))
    area = loose.ak_public()[2:]
    claimed = area[:4] + structures.u32(int.from_bytes(area[4:8], "big") | templates.RESTRICTED) + area[8:]
    body = codec.encode(chip.request(ak_public=structures.sized(claimed)), codec.CBOR)
    challenge = world.begin(body)
    with pytest.raises(TpmRefused):
        loose.activate(challenge.challenges[0].credential_blob, challenge.challenges[0].encrypted_secret)
    guessing(chip)
    refused(world, lambda: world.prove(chip.proof(body, challenge)), Reason.ACTIVATION_FAILED)
    assert world.enrol(TpmChip(device)).state == "trusted"


def guessing(chip: TpmChip) -> None:
    chip.activate = lambda *_: hashlib.sha256(b"a guess").digest()  # type: ignore[method-assign]


def test_k04_certificate_and_key_of_one_tpm_serve_no_other_tpm(
    world: World, announce: Announce, swtpm_device: DeviceFactory
) -> None:
    mine, theirs = announce(TpmChip(swtpm_device())), announce(TpmChip(swtpm_device()))
    stolen = mine.request(ek_public=structures.sized(theirs.ek_area), ek_certificates=theirs.certificates)
    body = codec.encode(stolen, codec.CBOR)
    challenge = world.begin(body)
    with pytest.raises(TpmRefused):
        mine.activate(challenge.challenges[0].credential_blob, challenge.challenges[0].encrypted_secret)
    guessing(mine)
    refused(world, lambda: world.prove(mine.proof(body, challenge)), Reason.ACTIVATION_FAILED)
    other = mine.request(ek_certificates=theirs.certificates)
    refused(world, lambda: world.begin(other), Reason.EK_CERTIFICATE_MISMATCH)
    del mine.activate  # type: ignore[method-assign]
    assert world.enrol(mine).state == "trusted"
    assert world.enrol(theirs).state == "trusted"


def test_k05_tpm_whose_certificates_were_erased_is_refused(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    chip = announce(TpmChip(device))
    refused(world, lambda: world.begin(chip.request(ek_certificates=())), Reason.EK_CERTIFICATE_MISSING)
    assert world.enrol(chip).state == "trusted"


def test_k06_tpm_of_a_manufacturer_that_nobody_accepted_is_refused(
    world: World, announce: Announce, swtpm_device: DeviceFactory, other_manufacturer: Manufacturer
) -> None:
    chip = announce(TpmChip(swtpm_device(maker=other_manufacturer)))
    refused(world, lambda: world.begin(chip.request()), Reason.EK_CHAIN_UNTRUSTED)


def test_k07_secret_of_another_enrolment_is_refused(world: World, announce: Announce, device: SoftwareDevice) -> None:
    chip = announce(TpmChip(device))
    first, second = Enrolment(world, chip), Enrolment(world, chip)
    one = first.challenge.challenges[0]
    secret = chip.tpm.activate(one.credential_blob, one.encrypted_secret)
    chip.activate = lambda *_: secret  # type: ignore[method-assign]
    refused(world, second.send, Reason.ACTIVATION_FAILED)
    del chip.activate  # type: ignore[method-assign]
    assert second.send().state == "trusted"


# --- K09, K02 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", [0, templates.NO_DA], ids=["another label", "another attribute"])
def test_k09_known_tpm_that_comes_with_another_attestation_key_is_refused(
    world: World, announce: Announce, device: SoftwareDevice, difference: int
) -> None:
    """Same TPM, same endorsement key, a proper restricted key that it can activate: still not the one that is known."""
    routine = Attestation(world, announce(TpmChip(device)))
    other = TpmChip(device, tpm=OtherKeyTpm(device.tcti, attestation_key(attributes=difference)))
    assert other.device_id == routine.chip.device_id
    Enrolment(world, other).refuse(Reason.AK_CHANGED)
    assert routine.send().state == "trusted"


# --- K10 ----------------------------------------------------------------------------------------------------------------


def test_k10_certification_by_another_attestation_key_of_the_same_tpm_is_refused(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    chip = announce(TpmChip(device))
    enrolment = Enrolment(world, chip)
    made = OtherKeyTpm(device.tcti, attestation_key()).certify(chip.key, enrolment.certify_bound())
    honest = chip.certify(enrolment.certify_bound())
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=type(honest)(made.attest, made.signature))
    assert enrolment.send().state == "trusted"


def test_k10_certification_of_another_key_of_the_same_tpm_is_refused(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    chip = announce(TpmChip(device))
    enrolment = Enrolment(world, chip)
    honest = chip.key
    chip.key = chip.tpm.create_device_key()
    forged = chip.certify(enrolment.certify_bound())
    chip.key = honest
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=forged)
    assert enrolment.send().state == "trusted"


def test_k10_device_key_that_may_leave_is_refused_although_the_tpm_certified_it(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    chip = announce(TpmChip(device))
    chip.use_key(exportable_key(chip.tpm))
    assert chip.tpm.certify(chip.key, b"it really is an object of this TPM").attest
    refused(world, lambda: world.begin(chip.request()), Reason.DEVICE_KEY_ATTRIBUTES)
    chip.renew_keys()
    assert world.enrol(chip).state == "trusted"


def exportable_key(tpm: EsysTpm) -> KeyBlob:
    """Return a signing key that TPM2_Duplicate may take out of the TPM."""
    area = templates.DEVICE_KEY
    fixed = templates.FIXED_TPM | templates.FIXED_PARENT
    loose = int.from_bytes(area[4:8], "big") & ~fixed
    return tpm._create(area[:4] + structures.u32(loose) + area[8:], b"")


def test_k10_certification_without_the_nonce_of_this_enrolment_is_refused(
    world: World, announce: Announce, device: SoftwareDevice
) -> None:
    chip = announce(TpmChip(device))
    first, second = Enrolment(world, chip), Enrolment(world, chip)
    for data in (b"", first.certify_bound(), second.bound()):
        second.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=chip.certify(data))
    assert second.send().state == "trusted"
