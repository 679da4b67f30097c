"""Trying a profile on the evidence there is, through the command line: who would be refused, why, and that nothing happens."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from attestd_agent.lab.firmware import BootImage
from fleet import Fleet
from softchip import SoftChip
from world import golden_profile

pytest_plugins = ("fleet",)

OTHER_KERNEL = BootImage().with_command_line("root=/dev/sda1 quiet")


def draft(fleet: Fleet, chip: SoftChip, *, version: int = 2, **changes: Any) -> Path:
    """Write a profile that accepts what this machine booted, with members replaced."""
    file = fleet.place / f"draft-{version}.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(golden_profile(chip, version=version)), **changes}))
    return file


def updated(fleet: Fleet) -> SoftChip:
    """Return a machine that boots another command line than the fleet does."""
    chip = fleet.chip()
    chip.boot(OTHER_KERNEL)
    return chip


def rows(fleet: Fleet) -> dict[str, list[Any]]:
    with sqlite3.connect(fleet.place / "attestd.db") as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}


def effects(spoken: Any) -> dict[str, int]:
    return {name: count for name, count in spoken.document["counts"].items() if count}


def test_a_version_beside_the_active_one_harms_nobody(fleet: Fleet) -> None:
    fleet.trusted()
    spoken = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet)), "--json")
    assert (spoken.exit_code, effects(spoken)) == (0, {"unchanged": 1})


def test_a_version_alone_refuses_who_boots_something_else_and_says_why(fleet: Fleet) -> None:
    fleet.trusted("edge-1")
    fleet.trusted("edge-2")
    spoken = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet)), "--alone", "--json")
    assert (spoken.exit_code, effects(spoken)) == (1, {"refused": 2})
    (group,) = spoken.document["groups"]
    assert (sorted(group["variants"][0]["examples"]), group["boots"], group["before"]) == (
        ["edge-1", "edge-2"],
        1,
        "affirming",
    )
    assert {finding["code"] for finding in group["variants"][0]["findings"]} == {"claim-mismatch"}
    assert any("sentence" in one and one["pcr"] is not None for one in group["variants"][0]["findings"])


def test_people_read_the_same_in_words(fleet: Fleet) -> None:
    fleet.trusted("edge-1")
    spoken = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet)), "--alone")
    assert spoken.exit_code == 1
    assert spoken.stdout.startswith("1 device of edge: edge v1 now, ")
    assert "1  would be refused (trusted now); e.g. edge-1" in spoken.stdout
    assert "claim-mismatch" in spoken.stdout


def test_retiring_a_version_can_be_tried_without_a_draft(fleet: Fleet) -> None:
    fleet.trusted()
    fleet.activate(updated(fleet), version=2)
    kept = fleet.attestd("profile", "simulate", "--all-of", "edge", "--retire", "2", "--json")
    lost = fleet.attestd("profile", "simulate", "--all-of", "edge", "--retire", "1", "--json")
    assert (effects(kept), effects(lost)) == ({"unchanged": 1}, {"refused": 1})


def test_who_was_refused_and_would_be_trusted_is_told(fleet: Fleet) -> None:
    chip = fleet.trusted()
    chip.boot(OTHER_KERNEL)
    fleet.attest(chip)
    assert fleet.state(chip) == "untrusted"
    spoken = fleet.attestd("profile", "simulate", draft(fleet, chip), "--json")
    assert (spoken.exit_code, effects(spoken)) == (0, {"trusted": 1})


def test_nothing_is_written(fleet: Fleet) -> None:
    fleet.trusted()
    before = rows(fleet)
    fleet.attestd("profile", "simulate", draft(fleet, updated(fleet)), "--alone")
    assert rows(fleet) == before


def test_it_runs_while_the_service_has_a_transaction_open(fleet: Fleet) -> None:
    fleet.trusted()
    with fleet.serving() as verifier, verifier.store.write():
        spoken = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet)), "--json")
    assert effects(spoken) == {"unchanged": 1}


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("DELETE FROM event_log", "log-not-kept"),
        ("UPDATE event_log SET body = x'00'", "evidence-unsound"),
        ("UPDATE device_evidence SET pcrs = zeroblob(480)", "evidence-unsound"),
        ("UPDATE attestation SET signature = x'00'", "evidence-unsound"),
        ("UPDATE device SET ak_public = NULL", "no-evidence"),
    ],
)
def test_what_the_record_does_not_prove_cannot_be_told(fleet: Fleet, statement: str, cause: str) -> None:
    fleet.trusted()
    with sqlite3.connect(fleet.place / "attestd.db") as connection:
        connection.execute(statement)
    connection.close()
    spoken = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet)), "--alone", "--json")
    assert (spoken.exit_code, effects(spoken)) == (0, {"untold": 1})
    assert [group["cause"] for group in spoken.document["groups"]] == [cause]


def test_banned_devices_are_left_out(fleet: Fleet) -> None:
    chip = fleet.trusted()
    fleet.done("device", "ban", chip.device_id, "--reason", "lost")
    spoken = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet)), "--alone", "--json")
    assert (spoken.document["devices"], spoken.document["out_of_service"]) == (0, 1)


def test_one_device_can_be_asked_about(fleet: Fleet) -> None:
    fleet.trusted("edge-1")
    fleet.trusted("edge-2")
    spoken = fleet.attestd(
        "profile", "simulate", draft(fleet, updated(fleet)), "--alone", "--device", "edge-2", "--json"
    )
    assert spoken.document["groups"][0]["variants"][0]["examples"] == ["edge-2"]


def test_a_version_that_is_not_active_cannot_be_tried_as_retired(fleet: Fleet) -> None:
    spoken = fleet.attestd("profile", "simulate", "--all-of", "edge", "--retire", "7")
    assert (spoken.exit_code, spoken.error) == (1, "policy-unknown")
    assert "version 7 of edge is not active" in spoken.stderr


def test_nothing_to_try_is_wrong_usage(fleet: Fleet) -> None:
    assert fleet.attestd("profile", "simulate").exit_code == 2


def test_a_draft_whose_number_is_taken_is_tried_and_cannot_be_activated(fleet: Fleet) -> None:
    fleet.trusted()
    spoken = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet), version=1), "--json")
    assert "version 1 of this profile is active" in spoken.document["note"]
    fine = fleet.attestd("profile", "simulate", draft(fleet, updated(fleet), version=2), "--json")
    assert fine.document["note"] is None
