"""Looking back at devices with a runtime list, which is not kept: what can be told all the same, and what cannot."""

import hashlib
from collections.abc import Iterator

import pytest

from attestd.appraisal.policy import Tier
from attestd.appraisal.profile import parse_profile_yaml
from attestd.protocol.messages import RuntimeList
from attestd.services.kept import Hindsight, Kept, Opinion, Untold
from attestd.store.kept import kept_proofs
from attestd_agent.lab.firmware import BootImage
from softchip import SoftChip
from tpm_structures import ima_entry
from world import World, golden_profile

OLD, FIXED = (hashlib.sha256(text).digest() for text in (b"vulnerable 1.0", b"fixed 1.1"))


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A verifier without profiles."""
    with World(database_url).listening() as made:
        yield made
        made.verifier.store.close()


def allowing(*digests: bytes, **fields: str) -> str:
    listed = ", ".join(f'"sha256:{digest.hex()}"' for digest in digests)
    more = "".join(f"  {name}: {value}\n" for name, value in {"check": "required", **fields}.items())
    return f"runtime:\n{more}  allow:\n    /bin/app: [{listed}]\n"


def measure(chip: SoftChip, path: bytes, digest: bytes) -> bytes:
    """Return one entry of the kernel's list after extending PCR 10 by it."""
    entry = ima_entry(path, file_digest=digest, algorithm=b"sha256")
    data = entry[4 + 20 + 4 + len(b"ima-ng") + 4 :]
    chip.registers[10] = hashlib.sha256(chip.registers[10] + hashlib.sha256(data).digest()).digest()
    return entry


def running(world: World, runtime: str, *, listed: bool = True) -> SoftChip:
    """Return a device that enrolled with a runtime list under an active profile with this policy."""
    chip = SoftChip(world.now_s)
    world.announce(chip)
    world.activate(golden_profile(chip) + runtime)
    boot = hashlib.sha256(b"".join(chip.registers[index] for index in range(10))).digest()
    entries = measure(chip, b"boot_aggregate", boot) + measure(chip, b"/bin/app", OLD)
    world.enrol(chip, runtime=RuntimeList(0, entries) if listed else None)
    return chip


def told(world: World, chip: SoftChip, *yaml: str) -> Opinion | Untold:
    """Return what these profiles say of the device's kept proof."""
    profiles = [parse_profile_yaml(text) for text in yaml]
    with world.verifier.store.read() as connection:
        hindsight = Hindsight(world.verifier, world.verifier.policy.book(connection))
        kept = hindsight.prove(kept_proofs(connection, [chip.device_id])[0])
        assert isinstance(kept, Kept)
        return hindsight.judge(connection, kept, profiles, now=world.now())


def tier(opinion: Opinion | Untold) -> Tier | str:
    return opinion.cause if isinstance(opinion, Untold) else opinion.tier


def test_the_version_that_accepted_the_list_accepts_it_still(world: World) -> None:
    chip = running(world, allowing(OLD))
    assert tier(told(world, chip, golden_profile(chip) + allowing(OLD))) is Tier.AFFIRMING


def test_a_version_that_allows_more_accepts_it_too(world: World) -> None:
    chip = running(world, allowing(OLD))
    assert tier(told(world, chip, golden_profile(chip, version=2) + allowing(OLD, FIXED))) is Tier.AFFIRMING


def test_a_version_that_allows_something_else_cannot_tell(world: World) -> None:
    chip = running(world, allowing(OLD))
    assert tier(told(world, chip, golden_profile(chip, version=2) + allowing(FIXED))) == "runtime-not-kept"


def test_a_version_that_asks_for_no_list_needs_none(world: World) -> None:
    chip = running(world, allowing(OLD))
    assert tier(told(world, chip, golden_profile(chip, version=2))) is Tier.AFFIRMING


def test_a_version_that_asks_for_a_list_which_nobody_has_judged_cannot_tell(world: World) -> None:
    chip = running(world, "", listed=False)
    assert tier(told(world, chip, golden_profile(chip, version=2) + allowing(OLD))) == "runtime-not-kept"


def test_a_boot_that_is_refused_is_refused_whatever_the_list_says(world: World) -> None:
    chip = running(world, allowing(OLD))
    other = SoftChip(world.now_s, image=BootImage().with_firmware("LAB 9"))
    opinion = told(world, chip, golden_profile(other, version=2) + allowing(FIXED))
    assert tier(opinion) is Tier.CONTRAINDICATED
    assert isinstance(opinion, Opinion)
    assert "runtime" not in {one.claim for one in opinion.findings}


def test_one_version_that_tells_is_enough_where_another_cannot(world: World) -> None:
    chip = running(world, allowing(OLD))
    old, new = golden_profile(chip) + allowing(OLD), golden_profile(chip, version=2) + allowing(FIXED)
    assert tier(told(world, chip, new, old)) is Tier.AFFIRMING


def test_one_version_that_cannot_tell_keeps_the_answer_open_where_the_others_refuse(world: World) -> None:
    chip = running(world, allowing(OLD))
    other = SoftChip(world.now_s, image=BootImage().with_firmware("LAB 9"))
    refusing, open_ = golden_profile(other, version=2), golden_profile(chip, version=3) + allowing(FIXED)
    assert tier(told(world, chip, open_, refusing)) == "runtime-not-kept"


def test_an_untouched_register_needs_no_list(world: World) -> None:
    chip = SoftChip(world.now_s)
    world.announce(chip)
    world.golden(chip)
    world.enrol(chip)
    optional = golden_profile(chip, version=2) + allowing(OLD, check="optional")
    required = golden_profile(chip, version=3) + allowing(OLD)
    assert (tier(told(world, chip, optional)), tier(told(world, chip, required))) == (
        Tier.AFFIRMING,
        Tier.CONTRAINDICATED,
    )


def test_a_list_where_there_must_be_none_is_refused(world: World) -> None:
    chip = running(world, allowing(OLD))
    assert tier(told(world, chip, golden_profile(chip, version=2) + "runtime: {check: absent}\n")) is (
        Tier.CONTRAINDICATED
    )
