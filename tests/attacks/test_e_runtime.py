"""The runtime list against the profile: what was judged under one policy is not judged under another.

Also what a file may be called, and a list that cannot be judged at all.
"""

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

OLD: Final = hashlib.sha256(b"vulnerable 1.0").digest()
FIXED: Final = hashlib.sha256(b"fixed 1.1").digest()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with World(f"sqlite:///{tmp_path}/attestd.db").listening() as made:
        yield made
        made.verifier.store.close()


def allowing(*digests: bytes, check: str = "required") -> str:
    listed = ", ".join(f'"sha256:{digest.hex()}"' for digest in digests)
    return f"runtime:\n  check: {check}\n  allow:\n    /bin/app: [{listed}]\n"


def measure(chip: SoftChip, path: bytes, digest: bytes, algorithm: bytes = b"sha256") -> bytes:
    """Return one entry of the kernel's list after extending PCR 10 by it."""
    entry = ima_entry(path, file_digest=digest, algorithm=algorithm)
    data = entry[4 + 20 + 4 + len(b"ima-ng") + 4 :]
    chip.registers[10] = hashlib.sha256(chip.registers[10] + hashlib.sha256(data).digest()).digest()
    return entry


def aggregate(chip: SoftChip) -> bytes:
    """Return the first entry of the list, over this boot's registers."""
    boot = hashlib.sha256(b"".join(chip.registers[index] for index in range(10))).digest()
    return measure(chip, b"boot_aggregate", boot)


@pytest.mark.attack("E08", reason="evidence-refused")
@pytest.mark.parametrize("algorithm", ["sha1", "sha512"])
def test_e08_a_file_that_is_called_boot_aggregate_is_judged(fleet: World, algorithm: str) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    fleet.activate(golden_profile(chip) + allowing(FIXED))
    listed = aggregate(chip) + measure(chip, b"/bin/app", FIXED)
    rootkit = hashlib.new(algorithm, b"rootkit").digest()
    listed += measure(chip, b"boot_aggregate", rootkit, algorithm.encode())
    with turned_away("evidence-refused"):
        fleet.enrol(chip, runtime=RuntimeList(0, listed))
    assert state_of(fleet, chip) == "untrusted"
