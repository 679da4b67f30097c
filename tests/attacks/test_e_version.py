"""What a device says of itself decides nothing: neither admission nor the reference values it is held against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from attestd.changes.rules import AdmissionRule, rules_document
from attestd.protocol import codec
from attestd_agent.lab.firmware import BootImage
from softchip import SoftChip
from world import Problem, World, golden_profile, sqlite_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with sqlite_world(tmp_path) as made:
        yield made


def enrol_with_labels(world: World, chip: SoftChip, *labels: tuple[str, str]) -> str:
    body = codec.encode(chip.request(labels=labels), codec.CBOR)
    try:
        return world.prove(chip.proof(body, world.begin(body))).state
    except Problem as problem:
        return problem.code


@pytest.mark.attack("E09", reason="device-unannounced")
def test_e09_a_label_admits_nobody(world: World) -> None:
    chip = SoftChip(world.now_s)
    world.golden(chip)
    world.change("rules", "rules", rules_document((AdmissionRule("id:DEADBEEF", "trusted-model", "edge"),)))
    told = enrol_with_labels(
        world, chip, ("manufacturer", "id:DEADBEEF"), ("model", "trusted-model"), ("profile", "edge")
    )
    assert told == "device-unannounced"


@pytest.mark.attack("E09", reason="evidence-refused")
def test_e09_a_version_that_a_device_claims_does_not_choose_its_profile(world: World) -> None:
    chip = SoftChip(world.now_s, image=BootImage().with_firmware("LAB 0.9.0"))
    world.activate(golden_profile(SoftChip(world.now_s)))
    lenient = golden_profile(chip).replace("profile: edge", "profile: legacy")
    world.activate(lenient)
    world.announce(chip)
    told = enrol_with_labels(world, chip, ("profile", "legacy"), ("firmware", "LAB 0.9.0"), ("version", "1"))
    assert told == "evidence-refused"


def test_e09_the_profile_that_the_inventory_names_is_the_one_that_counts(world: World) -> None:
    chip = SoftChip(world.now_s, image=BootImage().with_firmware("LAB 0.9.0"))
    world.activate(golden_profile(chip).replace("profile: edge", "profile: legacy"))
    world.announce(chip, profile="legacy")
    assert enrol_with_labels(world, chip, ("profile", "edge")) == "trusted"
