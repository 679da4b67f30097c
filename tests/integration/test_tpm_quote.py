"""The agent's quotes, made by a software TPM and checked with other programs."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from attestd_agent import tpm_esys
from attestd_agent.lab.device import SoftwareDevice
from attestd_agent.tpm import TpmRefused
from attestd_agent.tpm_connection import Connection
from attestd_agent.tpm_esys import EsysTpm, LabTpm
from swtpm import SWTPM_MARKS, DeviceFactory
from tpm_wire import attributes_of, name_of, parse_attest, sized, verify

pytest_plugins = ("swtpm",)
pytestmark = SWTPM_MARKS

NONCE = hashlib.sha256(b"challenge").digest()
BOOT = (*range(10), 14)


def test_quote_is_signed_by_the_ak_over_exactly_what_was_asked(tpm: EsysTpm) -> None:
    result = tpm.quote(NONCE, bank="sha256", pcrs=BOOT)
    verify(tpm.ak_public(), result.signature, result.attest)
    attest = parse_attest(result.attest)
    assert (attest.magic, attest.kind, attest.extra_data) == (b"\xffTCG", 0x8018, NONCE)
    assert attest.rest[:10] == bytes.fromhex("00000001000b03ff4300")
    digest, rest = sized(attest.rest[10:])
    assert not rest
    assert digest == hashlib.sha256(b"".join(value for _, value in result.pcrs)).digest()
    assert tuple(index for index, _ in result.pcrs) == BOOT


def test_quote_is_accepted_by_checkquote(tpm: EsysTpm, tmp_path: Path) -> None:
    result = tpm.quote(NONCE, bank="sha256", pcrs=(0, 1, 2, 3))
    for name, data in (
        ("ak", tpm.ak_public()),
        ("attest", result.attest),
        ("signature", result.signature),
        ("nonce", NONCE),
    ):
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        ["tpm2_checkquote", "-u", "ak", "-m", "attest", "-s", "signature", "-q", NONCE.hex()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_one_flipped_bit_breaks_the_signature(tpm: EsysTpm) -> None:
    result = tpm.quote(NONCE, bank="sha256", pcrs=(0,))
    forged = bytes([*result.attest[:-1], result.attest[-1] ^ 1])
    with pytest.raises(InvalidSignature):
        verify(tpm.ak_public(), result.signature, forged)


def test_values_are_those_of_the_registers(tpm: EsysTpm, lab_tpm: LabTpm) -> None:
    assert tpm.quote(NONCE, bank="sha256", pcrs=BOOT).pcrs == lab_tpm.read_pcrs("sha256", BOOT)


def test_quote_after_a_measurement_shows_it(tpm: EsysTpm, lab_tpm: LabTpm) -> None:
    before = dict(tpm.quote(NONCE, bank="sha256", pcrs=BOOT).pcrs)
    lab_tpm.extend([(14, {"sha256": b"m" * 32})])
    after = dict(tpm.quote(NONCE, bank="sha256", pcrs=BOOT).pcrs)
    assert after[14] == hashlib.sha256(before[14] + b"m" * 32).digest()
    assert {index for index in BOOT if before[index] != after[index]} == {14}


def test_second_bank_is_quoted_too(swtpm_device: DeviceFactory) -> None:
    device = swtpm_device(banks=("sha1", "sha256"))
    result = device.open_tpm().quote(NONCE, bank="sha1", pcrs=(0, 7))
    assert [len(value) for _, value in result.pcrs] == [20, 20]


def test_q04_bank_that_is_not_active_is_refused(tpm: EsysTpm) -> None:
    with pytest.raises(TpmRefused) as refused:
        tpm.quote(NONCE, bank="sha1", pcrs=(0,))
    assert refused.value.code == "bank_not_active"


@pytest.mark.parametrize(
    ("bank", "pcrs", "qualifying"),
    [
        ("sha256", (), NONCE),
        ("sha256", (0, 0), NONCE),
        ("sha256", (24,), NONCE),
        ("sha256", (-1,), NONCE),
        ("md5", (0,), NONCE),
        ("sha256", (0,), b"n" * 65),
    ],
)
def test_q03_selection_that_does_not_exist_never_reaches_the_tpm(
    tpm: EsysTpm, bank: str, pcrs: tuple[int, ...], qualifying: bytes
) -> None:
    with pytest.raises(TpmRefused) as refused:
        tpm.quote(qualifying, bank=bank, pcrs=pcrs)
    assert refused.value.code == "malformed_input"
    assert tpm.commands == 0


def extending_before(commands: set[str], times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something measured into PCR 10 just before the first ``times`` commands of these kinds."""
    left = [times]
    original: Callable[..., Any] = Connection.run

    def run(self: Connection, name: str, *args: Any, **kwargs: Any) -> Any:
        if name in commands and left[0]:
            left[0] -= 1
            digests = tpm_esys._digest_values(self, {"sha256": b"x" * 32})
            original(self, "pcr_extend", self.tss.ESYS_TR(10), digests)
        return original(self, name, *args, **kwargs)

    monkeypatch.setattr(Connection, "run", run)


def test_register_that_moves_between_quote_and_read_is_quoted_again(
    tpm: EsysTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    extending_before({"pcr_read"}, 2, monkeypatch)
    result = tpm.quote(NONCE, bank="sha256", pcrs=(0, 10))
    attest = parse_attest(result.attest)
    assert attest.rest.endswith(hashlib.sha256(b"".join(value for _, value in result.pcrs)).digest())


def test_register_that_never_stands_still_ends_in_a_refusal(tpm: EsysTpm, monkeypatch: pytest.MonkeyPatch) -> None:
    extending_before({"quote", "pcr_read"}, 1000, monkeypatch)
    with pytest.raises(TpmRefused) as refused:
        tpm.quote(NONCE, bank="sha256", pcrs=(0, 10))
    assert refused.value.code == "pcrs_moved"


def test_routine_quote_costs_three_commands(tpm: EsysTpm) -> None:
    tpm.quote(NONCE, bank="sha256", pcrs=tuple(range(16)))
    before = tpm.commands
    tpm.quote(NONCE, bank="sha256", pcrs=tuple(range(16)))
    assert tpm.commands - before == 3


def test_quote_after_a_measurement_costs_one_read_for_eight_registers(tpm: EsysTpm, lab_tpm: LabTpm) -> None:
    tpm.quote(NONCE, bank="sha256", pcrs=tuple(range(16)))
    lab_tpm.extend([(10, {"sha256": b"m" * 32})])
    before = tpm.commands
    tpm.quote(NONCE, bank="sha256", pcrs=tuple(range(16)))
    assert tpm.commands - before == 5


def test_reboot_moves_the_reset_count_by_one(device: SoftwareDevice, tpm: EsysTpm) -> None:
    before = parse_attest(tpm.quote(NONCE, bank="sha256", pcrs=(0,)).attest)
    device.boot()
    after = parse_attest(tpm.quote(NONCE, bank="sha256", pcrs=(0,)).attest)
    assert after.reset_count == before.reset_count + 1
    assert after.clock >= before.clock
    assert after.safe


def test_q11_power_cut_is_a_reset_that_is_not_safe(device: SoftwareDevice, tpm: EsysTpm) -> None:
    before = parse_attest(tpm.quote(NONCE, bank="sha256", pcrs=(0,)).attest)
    device.tpm.power_cut()
    device.boot()
    after = parse_attest(tpm.quote(NONCE, bank="sha256", pcrs=(0,)).attest)
    assert after.reset_count == before.reset_count + 1
    assert not after.safe


def test_k01_ak_is_restricted_fixed_and_made_here(tpm: EsysTpm) -> None:
    fixed_tpm, fixed_parent, made_here, user, no_da, restricted, sign = (1 << bit for bit in (1, 4, 5, 6, 10, 16, 18))
    wanted = fixed_tpm | fixed_parent | made_here | user | no_da | restricted | sign
    assert attributes_of(tpm.ak_public()) == wanted


def test_ak_is_the_same_after_every_file_was_lost(device: SoftwareDevice, tpm: EsysTpm) -> None:
    before = name_of(tpm.ak_public())
    device.boot()
    assert name_of(device.open_tpm().ak_public()) == before


def test_ak_is_the_same_after_the_owner_hierarchy_was_cleared(device: SoftwareDevice, lab_tpm: LabTpm) -> None:
    before = lab_tpm.ak_public(), lab_tpm.ek_public()
    lab_tpm.clear()
    fresh = device.open_tpm()
    assert (fresh.ak_public(), fresh.ek_public()) == before


def test_quote_works_after_the_owner_hierarchy_was_cleared(tpm: EsysTpm, lab_tpm: LabTpm) -> None:
    tpm.quote(NONCE, bank="sha256", pcrs=(0,))
    lab_tpm.clear()
    result = tpm.quote(NONCE, bank="sha256", pcrs=(0,))
    verify(tpm.ak_public(), result.signature, result.attest)


def test_two_tpms_have_two_aks(swtpm_device: DeviceFactory) -> None:
    first, second = (swtpm_device(booted=False) for _ in range(2))
    first.tpm.power_on()
    second.tpm.power_on()
    assert first.open_tpm().ak_public() != second.open_tpm().ak_public()


def test_q16_copied_state_is_the_same_identity_twice(swtpm_device: DeviceFactory, tmp_path: Path) -> None:
    device = swtpm_device()
    device.tpm.power_off()
    with device.tpm.clone(tmp_path / "twin") as twin:
        device.boot()
        assert EsysTpm(twin.tcti).ak_public() == device.open_tpm().ak_public()
