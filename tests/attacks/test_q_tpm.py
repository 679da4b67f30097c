"""Q01 to Q04, Q06, Q11, Q12, Q16 with a software TPM: what the TPM itself refuses, and what only the verifier can.

Every signature here is by the TPM. Each attack ends with the honest proof of the same device.
"""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestd.protocol.messages import SignedAttest
from attestd.protocol.reasons import Reason
from attestd_agent import tpm_templates as templates
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.lab.manufacturer import Manufacturer
from attestd_agent.tpm import TpmRefused
from attestd_agent.tpm_esys import EsysTpm
from exchanges import Attestation, Enrolment, nonce_in, refused, verifier_in_memory
from softchip import PCRS
from swtpm import SWTPM_MARKS, DeviceFactory
from tpmchip import OtherKeyTpm, TpmChip, attestation_key
from world import World

pytest_plugins = ("swtpm",)
pytestmark = SWTPM_MARKS

RESTRICTED = templates.RESTRICTED


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer) -> Iterator[World]:
    """A verifier that trusts this manufacturer's TPMs."""
    anchors = tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(manufacturer.anchors))
    with verifier_in_memory(anchors=anchors) as made:
        yield made


@pytest.fixture
def announce(world: World) -> Callable[[TpmChip], TpmChip]:
    """Put a device into the inventory; the first one's boot is the profile of all."""

    def put(chip: TpmChip) -> TpmChip:
        with world.verifier.store.read() as connection:
            book = world.verifier.policy.book(connection)
        if not book.profiles:
            world.golden(chip)
        world.announce(chip, f"gate-{book.sequence}")
        return chip

    return put


@pytest.fixture
def routine(world: World, announce: Callable[[TpmChip], TpmChip], device: SoftwareDevice) -> Attestation:
    """An enrolled device."""
    return Attestation(world, announce(TpmChip(device)))


def test_an_honest_tpm_enrols_and_proves_itself(routine: Attestation) -> None:
    assert routine.enrolled.state == "trusted"
    assert [routine.send().state for _ in range(2)] == ["trusted", "trusted"]


# --- Q01 ----------------------------------------------------------------------------------------------------------------


def test_q01_restricted_key_of_a_tpm_does_not_sign_a_forged_quote(routine: Attestation) -> None:
    """The TPM refuses what begins like its own structures; without that beginning it signs, and the verifier refuses."""
    forged = forge(routine)
    mine = OtherKeyTpm(routine.chip.device.tcti, templates.ATTESTATION_KEY)  # type: ignore[attr-defined]
    assert mine.ak_public()[2:] == routine.chip.ak_area
    with pytest.raises(TpmRefused):
        mine.sign_bytes(forged)
    other = b"\0" + forged[1:]
    routine.refuse(Reason.QUOTE_MAGIC, quote=SignedAttest(other, mine.sign_bytes(other)))
    assert routine.send().state == "trusted"


def test_q01_quote_that_an_unrestricted_key_of_the_tpm_signed_is_refused(routine: Attestation) -> None:
    forged = forge(routine)
    loose = OtherKeyTpm(routine.chip.device.tcti, attestation_key(attributes=RESTRICTED))  # type: ignore[attr-defined]
    routine.refuse(Reason.QUOTE_SIGNATURE, quote=SignedAttest(forged, loose.sign_bytes(forged)))
    assert routine.send().state == "trusted"


def test_q01_unrestricted_key_of_the_tpm_is_no_attestation_key(
    world: World, announce: Callable[[TpmChip], TpmChip], device: SoftwareDevice
) -> None:
    loose = TpmChip(device, tpm=OtherKeyTpm(device.tcti, attestation_key(attributes=RESTRICTED)))
    announce(loose)
    refused(world, lambda: world.begin(loose.request()), Reason.AK_ATTRIBUTES)
    assert world.enrol(TpmChip(device)).state == "trusted"


def forge(routine: Attestation) -> bytes:
    """Return a quote that no TPM made: good registers, the right nonce, a clock that is a little later."""
    honest = routine.chip.quote(routine.bound()).attest
    digest = hashlib.sha256(b"".join(one.value for one in routine.chip.values())).digest()
    assert honest.endswith(digest)
    clock = 8 + 36 + 2 + 32
    later = int.from_bytes(honest[clock : clock + 8], "big") + 1000
    return honest[:clock] + later.to_bytes(8, "big") + honest[clock + 8 :]


# --- Q02, Q03, Q04 --------------------------------------------------------------------------------------------------------


def test_q02_certification_and_time_by_the_attestation_key_are_no_quotes(routine: Attestation) -> None:
    mine = OtherKeyTpm(routine.chip.device.tcti, templates.ATTESTATION_KEY)  # type: ignore[attr-defined]
    routine.refuse(Reason.QUOTE_TYPE, quote=routine.chip.certify(routine.bound()))
    routine.refuse(Reason.QUOTE_TYPE, quote=mine.time(routine.bound()))
    assert routine.send().state == "trusted"


def test_q02_quote_is_no_certification_of_the_device_key(
    world: World, announce: Callable[[TpmChip], TpmChip], device: SoftwareDevice
) -> None:
    enrolment = Enrolment(world, announce(TpmChip(device)))
    quote = enrolment.chip.quote(enrolment.certify_bound())
    enrolment.refuse(Reason.DEVICE_KEY_NOT_CERTIFIED, certify=quote)
    assert enrolment.send().state == "trusted"


@pytest.mark.parametrize("pcrs", [PCRS[:-1], (*PCRS, 15), (*(i for i in PCRS if i != 10), 16), (23,), (10,)])
def test_q03_quote_over_other_registers_is_refused(routine: Attestation, pcrs: tuple[int, ...]) -> None:
    quote = routine.chip.quote(routine.bound(), pcrs=pcrs)
    routine.refuse(Reason.QUOTE_SELECTION, quote=quote, pcrs=routine.chip.values(pcrs))
    routine.refuse(Reason.QUOTE_SELECTION, quote=quote)
    assert routine.send().state == "trusted"


def test_q04_quote_over_the_weak_bank_of_the_same_tpm_is_refused(
    world: World, announce: Callable[[TpmChip], TpmChip], swtpm_device: DeviceFactory
) -> None:
    chip = announce(TpmChip(swtpm_device(banks=("sha1", "sha256"))))
    enrolment = Enrolment(world, chip)
    enrolment.refuse(Reason.QUOTE_SELECTION, quote=chip.quote(enrolment.bound(), bank="sha1"))


def test_q04_bank_that_the_firmware_never_extended_is_refused(
    world: World, announce: Callable[[TpmChip], TpmChip], swtpm_device: DeviceFactory
) -> None:
    """The TPM was switched on and nothing was measured; whoever comes first could extend whatever looks good."""
    device = swtpm_device()
    announce(TpmChip(device))
    log = device.event_log.read_bytes()
    device.tpm.reset()
    enrolment = Enrolment(world, TpmChip(device))
    enrolment.refuse(Reason.PCR_BANK_INACTIVE, event_log=log)
    device.boot()
    assert world.enrol(TpmChip(device)).state == "trusted"


def test_q06_quote_of_a_tpm_is_accepted_once(routine: Attestation) -> None:
    nonce, quote = routine.nonce, routine.chip.quote(routine.bound())
    routine.send(quote=quote)
    routine.refuse(Reason.REPLAYED, nonce=nonce, quote=quote)
    assert routine.send().state == "trusted"


# --- Q11, Q12 -------------------------------------------------------------------------------------------------------------


def test_an_announced_reboot_and_a_power_cut_of_a_tpm_pass(routine: Attestation) -> None:
    device: SoftwareDevice = routine.chip.device  # type: ignore[attr-defined]
    device.boot()
    assert routine.send(rebooted=True).state == "trusted"
    device.tpm.power_cut()
    device.boot()
    assert routine.send(rebooted=True).state == "trusted"
    assert routine.send().state == "trusted"


def test_suspend_and_resume_of_a_tpm_pass(routine: Attestation) -> None:
    """TPM2_Shutdown(STATE), power off, TPM2_Startup(STATE): registers stay, restartCount grows by one."""
    chip: TpmChip = routine.chip  # type: ignore[assignment]
    before = chip.device.lab_tpm().clock()
    sleep(chip.device)
    startup(chip.device, state=True)
    after = chip.device.lab_tpm().clock()
    assert (after[1], after[2]) == (before[1], before[2] + 1)
    chip.tpm.close()
    assert routine.send().state == "trusted"


def test_q11_reboot_of_a_tpm_that_nobody_announced_is_refused(routine: Attestation) -> None:
    routine.chip.device.boot()  # type: ignore[attr-defined]
    nonce = nonce_in(routine.refuse(Reason.TPM_RESET_UNANNOUNCED))
    quote = routine.chip.quote(routine.bound(nonces=(nonce,)))
    assert routine.send(nonce=nonce, quote=quote, rebooted=True).state == "trusted"


def test_q12_tpm_that_was_reset_and_got_the_good_digests_again_is_refused(routine: Attestation) -> None:
    """The bus attack: the machine goes on running what it likes, the TPM is reset alone and told a healthy boot."""
    device: SoftwareDevice = routine.chip.device  # type: ignore[attr-defined]
    honest = routine.chip.registers
    assert device.last_boot is not None
    device.tpm.reset()
    device.lab_tpm().extend(device.last_boot.extends)
    assert routine.chip.registers == honest
    routine.refuse(Reason.TPM_RESET_UNANNOUNCED)
    routine.refuse(Reason.TPM_RESET_UNANNOUNCED, pcrs=(), event_log=None)


def test_known_limit_a_restart_of_the_tpm_alone_looks_like_a_resume(routine: Attestation) -> None:
    """TPM2_Shutdown(STATE), then TPM2_Startup(CLEAR): registers are cleared, and resetCount stays (Part 1, 12.2.3.2).

    Nothing in a quote tells this from a suspend that ended well, so whoever can reset the chip alone gets past Q12 this way.
    The test holds the limit that the threat model names: should it fail, something tells them apart now.
    """
    chip: TpmChip = routine.chip  # type: ignore[assignment]
    honest, before = chip.registers, chip.device.lab_tpm().clock()
    sleep(chip.device)
    startup(chip.device, state=False)
    assert chip.registers != honest
    assert chip.device.last_boot is not None
    chip.device.lab_tpm().extend(chip.device.last_boot.extends)
    after = chip.device.lab_tpm().clock()
    assert (chip.registers, after[1], after[2]) == (honest, before[1], before[2] + 1)
    chip.tpm.close()
    assert routine.send().state == "trusted"


def sleep(device: SoftwareDevice) -> None:
    """Tell the TPM that the machine is suspended: TPM2_Shutdown(STATE)."""
    with device.lab_tpm()._open() as tpm:
        tpm.run("shutdown", tpm.tss.TPM2_SU.STATE)


def startup(device: SoftwareDevice, *, state: bool) -> None:
    """Give the TPM its power back, and start it as firmware does."""
    subprocess.run(["swtpm_ioctl", "--unix", str(device.tpm._control), "-i"], check=True, capture_output=True)
    with device.lab_tpm()._open() as tpm:
        tpm.run("startup", tpm.tss.TPM2_SU.STATE if state else tpm.tss.TPM2_SU.CLEAR)


def advance(device: SoftwareDevice) -> None:
    """Set the TPM's clock an hour ahead: TPM2_ClockSet (Part 3, 29.2), so that no test waits for a clock."""
    with device.lab_tpm()._open() as tpm:
        clock = int(tpm.run("read_clock").clockInfo.clock)
        tpm.run("clock_set", clock + 3_600_000)


# --- Q16 ------------------------------------------------------------------------------------------------------------------


def test_q16_copied_tpm_and_its_original_cannot_both_go_on(routine: Attestation, tmp_path: Path) -> None:
    """The state of a software TPM is a directory: both copies boot, and hold the same keys."""
    chip: TpmChip = routine.chip  # type: ignore[assignment]
    device = chip.device
    device.tpm.power_off()
    with device.tpm.clone(tmp_path / "twin") as twin_tpm:
        device.boot()
        assert routine.send(rebooted=True).state == "trusted"
        twin = SoftwareDevice("twin", twin_tpm)
        twin.boot()  # its second start: its resets are ahead of the original's
        advance(twin)
        copy = TpmChip.__new__(TpmChip)
        copy.__dict__.update(chip.__dict__, device=twin, tpm=EsysTpm(twin_tpm.tcti))
        answer = routine.world.attest(copy.whole_attest_request(routine.nonce))
        assert answer.state == "trusted"
        routine.nonce = answer.next.nonce
        routine.refuse(Reason.TPM_RESET_BACKWARDS)
        routine.refuse(Reason.TPM_RESET_BACKWARDS, rebooted=True)


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [(False, Reason.TPM_RESET_BACKWARDS), (True, Reason.TPM_DIVERGED)],
    ids=["older", "on its own way"],
)
def test_q16_copied_tpm_with_fewer_resets_is_refused(
    routine: Attestation, tmp_path: Path, ahead: bool, reason: Reason
) -> None:
    chip: TpmChip = routine.chip  # type: ignore[assignment]
    device = chip.device
    device.tpm.power_off()
    with device.tpm.clone(tmp_path / "twin") as twin_tpm:
        for _ in range(3):
            device.boot()
            routine.send(rebooted=True)
        twin = SoftwareDevice("twin", twin_tpm)
        twin.boot()  # its second start; the original has had three
        if ahead:
            advance(twin)
        else:
            advance(device)
            routine.send()
        copy = TpmChip.__new__(TpmChip)
        copy.__dict__.update(chip.__dict__, device=twin, tpm=EsysTpm(twin_tpm.tcti))
        refused(
            routine.world,
            lambda: routine.world.attest(copy.whole_attest_request(routine.nonce)),
            reason,
            recorded=chip.device_id,
        )
        assert routine.send().state == "trusted"
