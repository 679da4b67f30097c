"""The runtime list against the profile: what was judged under one policy is not judged under another.

Also what a file may be called, and a list that cannot be judged at all.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from attacks.fixtures_pct import refused, state_of, turned_away
from attestd.protocol.messages import Enrolled, RuntimeList
from attestd.store import devices
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


def measure(
    chip: SoftChip, path: bytes, digest: bytes, algorithm: bytes = b"sha256", *, buffer: bytes | None = None
) -> bytes:
    """Return one entry of the kernel's list, of a file or of a buffer, after extending PCR 10 by it."""
    template, extra = (b"ima-ng", ()) if buffer is None else (b"ima-buf", (buffer,))
    entry = ima_entry(path, file_digest=digest, algorithm=algorithm, template=template, extra=extra)
    data = entry[4 + 20 + 4 + len(template) + 4 :]
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


@pytest.fixture
def updated(fleet: World) -> tuple[SoftChip, Enrolled, bytes]:
    """A device that runs the old program under version 1, which allows it; version 2, beside it, does not."""
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    first, second = golden_profile(chip), golden_profile(chip, version=2)
    fleet.activate(first + allowing(OLD))
    listed = aggregate(chip) + measure(chip, b"/bin/app", OLD)
    enrolled = fleet.enrol(chip, runtime=RuntimeList(0, listed))
    fleet.activate(second + allowing(FIXED))
    return chip, enrolled, listed


def judged_by(world: World, chip: SoftChip) -> tuple[str | None, int | None]:
    """Return the profile and the version that the device is credited with."""
    with world.verifier.store.read() as connection:
        known = devices.load_device(connection, chip.device_id)
    assert known is not None
    return known.state.profile, known.state.profile_version


@pytest.mark.attack("E10", reason="runtime-needed")
@pytest.mark.parametrize("sent", [None, RuntimeList(2, b"")], ids=["nothing", "an empty continuation"])
def test_e10_what_a_retired_version_let_in_is_not_taken_over_by_its_successor(
    fleet: World, updated: tuple[SoftChip, Enrolled, bytes], sent: RuntimeList | None
) -> None:
    chip, enrolled, listed = updated
    while_both = fleet.attest(chip.attest_request(enrolled.next.nonce, runtime=sent))
    assert judged_by(fleet, chip) == ("edge", 1)
    fleet.change("profile-retire", "edge", b'{"profile":"edge","versions":[1]}')
    with refused(fleet, "runtime-needed"):
        fleet.attest(chip.attest_request(while_both.next.nonce, runtime=sent))
    with turned_away("evidence-refused"):
        fleet.attest(chip.attest_request(while_both.next.nonce, runtime=RuntimeList(0, listed)))
    assert state_of(fleet, chip) == "untrusted"


@pytest.mark.attack("E10", reason="runtime-needed")
def test_e10_an_update_that_only_the_successor_allows_does_not_leave_the_old_file_unjudged(
    fleet: World, updated: tuple[SoftChip, Enrolled, bytes]
) -> None:
    chip, enrolled, listed = updated
    more = measure(chip, b"/bin/app", FIXED)
    with refused(fleet, "runtime-needed"):
        fleet.attest(chip.attest_request(enrolled.next.nonce, pcrs=chip.values(), runtime=RuntimeList(2, more)))
    whole = RuntimeList(0, listed + more)
    with turned_away("evidence-refused"):
        fleet.attest(chip.attest_request(enrolled.next.nonce, pcrs=chip.values(), runtime=whole))


def test_a_version_that_allows_both_takes_the_whole_list_and_goes_on_from_there(
    fleet: World, updated: tuple[SoftChip, Enrolled, bytes]
) -> None:
    chip, enrolled, listed = updated
    boot = golden_profile(SoftChip(fleet.now_s), version=3)
    fleet.activate(boot + allowing(OLD, FIXED))
    listed += measure(chip, b"/bin/app", FIXED)
    told = fleet.attest(chip.attest_request(enrolled.next.nonce, pcrs=chip.values(), runtime=RuntimeList(0, listed)))
    assert judged_by(fleet, chip) == ("edge", 3)
    more = measure(chip, b"/bin/app", FIXED)
    again = fleet.attest(chip.attest_request(told.next.nonce, pcrs=chip.values(), runtime=RuntimeList(3, more)))
    assert (again.state, judged_by(fleet, chip)) == ("trusted", ("edge", 3))


@pytest.mark.attack("E10", reason="runtime-needed")
def test_e10_another_profile_with_the_same_version_number_judges_the_whole_list(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    boot = golden_profile(chip)
    fleet.activate(boot.replace("profile: edge", "profile: lab") + allowing(OLD))
    fleet.activate(boot + allowing(FIXED))
    fleet.announce(chip, profile="lab")
    listed = aggregate(chip) + measure(chip, b"/bin/app", OLD)
    enrolled = fleet.enrol(chip, runtime=RuntimeList(0, listed))
    assert judged_by(fleet, chip) == ("lab", 1)
    fleet.announce(chip, profile="edge")
    with refused(fleet, "runtime-needed"):
        fleet.attest(chip.attest_request(enrolled.next.nonce))


def test_a_runtime_list_that_no_profile_asks_for_is_not_read(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    fleet.golden(chip)
    enrolled = fleet.enrol(chip)
    told = fleet.attest(chip.attest_request(enrolled.next.nonce, runtime=RuntimeList(0, b"no list at all")))
    assert told.state == "trusted"


def test_e08_a_whole_list_sent_again_is_held_against_what_the_kernel_was_handed(fleet: World) -> None:
    """The running system closes registers that the kernel's aggregate is over: a remembered boot must not forget that."""
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    first = aggregate(chip)
    closed = hashlib.sha256(b"os-separator").digest()
    for index in (*range(8), 9, 12, 13, 14):
        chip.registers[index] = hashlib.sha256(chip.registers[index] + closed).digest()
    fleet.activate(golden_profile(chip) + allowing(OLD))
    whole = RuntimeList(0, first + measure(chip, b"/bin/app", OLD))
    enrolled = fleet.enrol(chip, runtime=whole)
    again = fleet.attest(chip.attest_request(enrolled.next.nonce, pcrs=chip.values(), runtime=whole))
    assert (enrolled.state, again.state) == ("trusted", "trusted")


KEY: Final = b"0\x82 a certificate that the owner trusts"
PLANTED: Final = b"0\x82 a certificate that an intruder has put beside it"


@pytest.mark.attack("E08", reason="evidence-refused")
@pytest.mark.parametrize("added", [KEY, PLANTED], ids=["the owner's", "a planted one"])
def test_e08_a_key_in_a_keyring_is_accepted_by_its_digest_alone(fleet: World, added: bytes) -> None:
    """Whoever can put a key into the keyring that vouches for files can vouch for any."""
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    known = hashlib.sha256(KEY).hexdigest()
    fleet.activate(golden_profile(chip) + allowing(FIXED) + f'    .ima: ["sha256:{known}"]\n')
    listed = aggregate(chip) + measure(chip, b"/bin/app", FIXED)
    listed += measure(chip, b".ima", hashlib.sha256(added).digest(), buffer=added)
    if added == KEY:
        assert fleet.enrol(chip, runtime=RuntimeList(0, listed)).state == "trusted"
        return
    with turned_away("evidence-refused"):
        fleet.enrol(chip, runtime=RuntimeList(0, listed))
    assert state_of(fleet, chip) == "untrusted"
