"""A verdict that one device's failure left in the verifier's memory does not let the next device in."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from attacks.fixtures_pct import state_of, turned_away
from attestd.protocol.messages import RuntimeList
from softchip import SoftChip
from tpm_structures import ima_entry
from world import World, golden_profile

APP: Final = hashlib.sha256(b"an application").digest()
PROFILE: Final = f'runtime:\n  check: required\n  allow:\n    /bin/app: ["sha256:{APP.hex()}"]\n'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with World(f"sqlite:///{tmp_path}/attestd.db").listening() as made:
        yield made
        made.verifier.store.close()


def measured(chip: SoftChip, aggregate: bytes) -> RuntimeList:
    """Return a list whose first entry is `aggregate`, after extending PCR 10 by all of it."""
    entries = [ima_entry(b"boot_aggregate", file_digest=aggregate), ima_entry(b"/bin/app", file_digest=APP)]
    for entry in entries:
        data = entry[4 + 20 + 4 + len(b"ima-ng") + 4 :]
        chip.registers[10] = hashlib.sha256(chip.registers[10] + hashlib.sha256(data).digest()).digest()
    return RuntimeList(0, b"".join(entries))


@pytest.mark.attack("E08", reason="evidence-refused")
def test_e08_a_list_of_another_boot_is_refused_again_from_a_second_device_with_the_same_registers(fleet: World) -> None:
    chips = [SoftChip(fleet.now_s), SoftChip(fleet.now_s)]
    fleet.activate(golden_profile(chips[0]) + PROFILE)
    nonces = []
    for number, chip in enumerate(chips):
        fleet.announce(chip, f"gate-{number}")
        right = hashlib.sha256(b"".join(chip.registers[index] for index in range(10))).digest()
        nonces.append(fleet.enrol(chip, runtime=measured(chip, right)).next.nonce)
    for chip, nonce in zip(chips, nonces, strict=True):
        chip.boot()
        listed = measured(chip, bytes(32))
        with turned_away("evidence-refused"):
            fleet.attest(chip.attest_request(nonce, rebooted=True, pcrs=chip.values(), runtime=listed))
        assert state_of(fleet, chip) == "untrusted"
