"""A profile learnt from a reference machine's evidence accepts that machine, and evidence that does not hold teaches nothing."""

import json
from pathlib import Path

import pytest

from attestd_agent.lab.firmware import BootImage
from fleet import Fleet
from installation import attestd
from softchip import PCRS, SoftChip
from tpm_structures import sized

pytest_plugins = ("fleet",)

NONCE = b"n" * 32


def evidence(place: Path, chip: SoftChip, name: str = "evidence") -> Path:
    """Write what `attestd-agent quote -o` writes."""
    quote = chip.quote(NONCE)
    files = {
        "quote.attest": quote.attest,
        "quote.sig": quote.signature,
        "ak.tpm2b_public": sized(chip.ak_area),
        "ek.tpm2b_public": sized(chip.ek_area),
        "nonce.bin": NONCE,
        "pcrs.json": json.dumps({"sha256": {str(index): chip.registers[index].hex() for index in PCRS}}).encode(),
        "eventlog.bin": chip.event_log,
        "ima.bin": b"",
    }
    directory = place / name
    directory.mkdir()
    for file, data in files.items():
        (directory / file).write_bytes(data)
    return directory


def test_learnt_profile_accepts_the_reference_machine_and_its_like(empty_fleet: Fleet) -> None:
    fleet = empty_fleet
    output = fleet.place / "edge.yaml"
    spoken = attestd("profile", "learn", evidence(fleet.place, fleet.chip()), "-o", output, "--json")
    assert spoken.document["profile"] == "edge"
    fleet.done("profile", "add", output, "--activate")
    chip = fleet.trusted()
    assert fleet.trust(chip).trusted


def test_two_machines_teach_what_they_have_in_common(empty_fleet: Fleet) -> None:
    place = empty_fleet.place
    one, other = empty_fleet.chip(), empty_fleet.chip()
    other.boot(BootImage().with_kernel("6.1.0-30-amd64"))
    directories = (evidence(place, one, "one"), evidence(place, other, "other"))
    spoken = attestd("profile", "learn", *directories, "-o", place / "edge.yaml", "--json")
    assert (spoken.exit_code, spoken.document["machines"]) == (0, 2)
    assert attestd("profile", "check", place / "edge.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("quote.sig", "evidence-refused"),
        ("nonce.bin", "evidence-refused"),
        ("eventlog.bin", "evidence-unsound"),
        ("pcrs.json", "evidence-refused"),
    ],
)
def test_altered_evidence_teaches_nothing(empty_fleet: Fleet, file: str, code: str) -> None:
    directory = evidence(empty_fleet.place, empty_fleet.chip())
    data = bytearray((directory / file).read_bytes())
    # The last byte of a file, or the last digit of the last register.
    place = -1 if file != "pcrs.json" else data.rindex(b'"') - 1
    data[place] ^= 1
    (directory / file).write_bytes(data)
    spoken = attestd("profile", "learn", directory, "-o", empty_fleet.place / "edge.yaml")
    assert (spoken.exit_code, spoken.error) == (1, code)
    assert not (empty_fleet.place / "edge.yaml").exists()


@pytest.mark.parametrize("name", ["quote.sig", "eventlog.bin", "ima.bin"])
def test_incomplete_evidence_says_what_is_missing(empty_fleet: Fleet, name: str) -> None:
    directory = evidence(empty_fleet.place, empty_fleet.chip())
    (directory / name).unlink()
    spoken = attestd("profile", "learn", directory, "-o", empty_fleet.place / "edge.yaml")
    assert (spoken.exit_code, spoken.error) == (1, "evidence-incomplete")
    assert f"{directory}: {name} missing" in spoken.stderr


def test_file_beyond_its_bound_is_refused(empty_fleet: Fleet) -> None:
    directory = evidence(empty_fleet.place, empty_fleet.chip())
    (directory / "nonce.bin").write_bytes(bytes(100))
    spoken = attestd("profile", "learn", directory, "-o", empty_fleet.place / "edge.yaml")
    assert (spoken.exit_code, spoken.error) == (1, "evidence-too-large")


def test_learning_overwrites_nothing(empty_fleet: Fleet) -> None:
    output = empty_fleet.place / "edge.yaml"
    output.write_text("mine")
    spoken = attestd("profile", "learn", evidence(empty_fleet.place, empty_fleet.chip()), "-o", output)
    assert (spoken.exit_code, spoken.error) == (1, "file-exists")
    assert output.read_text() == "mine"
