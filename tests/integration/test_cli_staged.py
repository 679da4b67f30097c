"""A version's life through the command line: draft, staged, active, retired; what people see of it at every step."""

import sqlite3
from typing import Any

import pytest

from attestd.errors import Refused
from attestd.protocol.messages import Attested
from attestd.services import shadow
from attestd_agent.lab.firmware import BootImage
from fleet import Fleet
from softchip import SoftChip
from world import golden_profile

pytest_plugins = ("fleet",)

UPDATE = BootImage().with_command_line("root=/dev/sda1 quiet")


def updated(fleet: Fleet) -> SoftChip:
    """Return a machine that runs the update."""
    chip = fleet.chip()
    chip.boot(UPDATE)
    return chip


def staged(fleet: Fleet, chip: SoftChip, *, version: int = 2) -> None:
    """Keep a draft that accepts what this machine booted, and stage it."""
    file = fleet.place / f"staged-{version}.yaml"
    file.write_text(golden_profile(chip, version=version))
    fleet.done("profile", "add", file)
    fleet.done("profile", "stage", "edge", str(version))


def watch(fleet: Fleet) -> None:
    """Let the service look once at everything."""
    with fleet.serving() as verifier:
        shadow.look(verifier, shadow.Watch())


def listed(fleet: Fleet) -> list[tuple[int, str, Any]]:
    return [(one["version"], one["status"], one.get("shadow")) for one in fleet.done("profile", "list")["profiles"]]


def test_a_staged_version_is_listed_with_what_it_says_of_the_fleet(fleet: Fleet) -> None:
    fleet.trusted("edge-1")
    staged(fleet, updated(fleet))
    counts = {"passes": 0, "warns": 0, "fails": 0, "untold": 0, "unseen": 1}
    assert listed(fleet) == [(1, "active", None), (2, "staged", counts)]
    watch(fleet)
    assert listed(fleet)[1][2] == {**counts, "fails": 1, "unseen": 0}
    assert "0 would pass, 1 would fail" in fleet.attestd("profile", "list").stdout


def test_shadow_shows_who_would_fail_and_why(fleet: Fleet) -> None:
    fleet.trusted("edge-1")
    staged(fleet, updated(fleet))
    spoken = fleet.attestd("profile", "shadow", "edge", "2", "--json")
    assert (spoken.exit_code, spoken.document["counts"]["refused"]) == (1, 1)
    assert spoken.document["groups"][0]["variants"][0]["examples"] == ["edge-1"]
    assert "would be refused (trusted now); e.g. edge-1" in fleet.attestd("profile", "shadow", "edge", "2").stdout


@pytest.mark.parametrize("version", ["1", "9"])
def test_shadow_of_what_is_not_staged_is_refused(fleet: Fleet, version: str) -> None:
    spoken = fleet.attestd("profile", "shadow", "edge", version)
    assert (spoken.exit_code, spoken.error) == (1, "policy-unknown")


def test_a_device_shows_what_staged_versions_say_of_it(fleet: Fleet) -> None:
    chip = fleet.trusted()
    staged(fleet, updated(fleet))
    watch(fleet)
    (told,) = fleet.done("device", "show", chip.device_id)["shadow"]
    assert (told["profile"], told["version"], told["outcome"]) == ("edge", 2, "fail")
    assert {one["code"] for one in told["findings"]} == {"claim-mismatch"}
    shown = fleet.attestd("device", "show", chip.device_id).stdout
    assert "shadow edge v2" in shown
    assert "would be refused since" in shown


def test_the_log_tells_of_devices_that_would_be_refused(fleet: Fleet) -> None:
    chip = fleet.trusted()
    staged(fleet, updated(fleet))
    watch(fleet)
    shown = fleet.attestd("log").stdout
    assert "in shadow" in shown
    assert "would be refused by edge v2, which is staged" in shown
    assert "would be refused" in fleet.attestd("log", "--device", chip.device_id).stdout


def test_staging_changes_no_devices_state(fleet: Fleet) -> None:
    chip = fleet.trusted()
    staged(fleet, updated(fleet))
    watch(fleet)
    assert isinstance(fleet.attest(chip), Attested)
    assert fleet.state(chip) == "trusted"


def test_an_update_window_from_draft_to_retired(fleet: Fleet) -> None:
    chip = fleet.trusted()
    staged(fleet, updated(fleet))
    assert fleet.attestd("profile", "shadow", "edge", "2").exit_code == 1
    fleet.done("profile", "activate", "edge", "2")
    assert isinstance(fleet.attest(chip), Attested)
    chip.boot(UPDATE)
    assert isinstance(fleet.attest(chip), Attested)
    trial = fleet.attestd("profile", "simulate", "--all-of", "edge", "--retire", "1")
    assert trial.exit_code == 0, "everybody has the update"
    fleet.done("profile", "retire", "edge", "1")
    assert [(version, status) for version, status, _ in listed(fleet)] == [(1, "retired"), (2, "active")]
    chip.boot(BootImage())
    assert isinstance(fleet.attest(chip), Refused)


def test_a_staged_version_is_activated_by_whoever_does_not_have_the_draft(fleet: Fleet) -> None:
    staged(fleet, updated(fleet))
    (fleet.place / "profiles" / "edge-2.yaml").unlink()
    fleet.done("profile", "activate", "edge", "2")
    assert [(version, status) for version, status, _ in listed(fleet)] == [(1, "active"), (2, "active")]


def test_a_draft_is_kept_once_and_the_next_steps_are_said(fleet: Fleet) -> None:
    file = fleet.place / "next.yaml"
    file.write_text(golden_profile(updated(fleet), version=2))
    first, again = (fleet.attestd("profile", "add", file) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "Kept edge v2 as a draft" in first.stdout
    assert "edge v2 is kept already" in again.stdout
    for step in ("simulate", "stage", "activate"):
        assert f"attestd profile {step} " in first.stdout
    file.write_text(golden_profile(fleet.chip(), version=2))
    other = fleet.attestd("profile", "add", file)
    assert (other.exit_code, other.error) == (1, "file-exists")


def test_another_draft_under_the_number_of_a_staged_version_is_not_activated(fleet: Fleet) -> None:
    staged(fleet, updated(fleet))
    (fleet.place / "profiles" / "edge-2.yaml").write_text(golden_profile(fleet.chip(), version=2))
    spoken = fleet.attestd("profile", "activate", "edge", "2")
    assert (spoken.exit_code, spoken.error) == (1, "policy-staged")


def test_e10_a_withdrawn_version_never_comes_back(fleet: Fleet) -> None:
    chip = fleet.trusted()
    staged(fleet, updated(fleet))
    watch(fleet)
    fleet.done("profile", "retire", "edge", "2")
    assert [(version, status) for version, status, _ in listed(fleet)] == [(1, "active"), (2, "withdrawn")]
    assert fleet.done("device", "show", chip.device_id)["shadow"] == []
    for command in ("stage", "activate"):
        spoken = fleet.attestd("profile", command, "edge", "2")
        assert (spoken.exit_code, spoken.error) == (1, "policy-rollback")


def test_a_staged_document_can_be_read(fleet: Fleet) -> None:
    staged(fleet, updated(fleet))
    assert fleet.done("profile", "show", "edge", "2")["version"] == 2
    assert fleet.done("profile", "show", "edge")["version"] == 1, "the latest that is active"


def test_what_shadow_verdicts_say_is_escaped(fleet: Fleet) -> None:
    fleet.trusted()
    staged(fleet, updated(fleet))
    watch(fleet)
    with sqlite3.connect(fleet.place / "attestd.db") as connection:
        connection.execute("""UPDATE shadow_verdict SET findings = '[{"code":"\\u001b[31m","claim":"x"}]'""")
    connection.close()
    assert "\x1b" not in fleet.attestd("log").stdout
