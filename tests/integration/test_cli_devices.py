"""What operators decide about devices, through the command line: what ends, what is recorded, what is refused."""

import json
import subprocess
import time
from typing import Any

import pytest

from attestd.errors import Refused
from attestd.protocol.reasons import Reason
from attestd.store import StaleState, devices
from attestd_agent.lab.firmware import BootImage
from fleet import Fleet
from installation import ATTESTD

pytest_plugins = ("fleet",)


def refusal(fleet: Fleet, chip: object) -> Reason:
    with pytest.raises(Refused) as caught:
        fleet.enrol(chip)  # type: ignore[arg-type]
    return caught.value.reason


def test_ban_revokes_certificate_and_tunnel_at_once(fleet: Fleet) -> None:
    chip = fleet.trusted()
    serial = fleet.done("device", "show", "edge-1")["certificates"][0]["serial"]
    done = fleet.done("device", "ban", "edge-1", "--reason", "stolen from the van")
    assert (done["from"], done["to"], done["certificates_revoked"]) == ("trusted", "banned", [serial])
    assert fleet.revoked() == {serial}
    shown = fleet.done("device", "show", "edge-1")
    assert (shown["state"], shown["vpn_keys"]) == ("banned", [])
    assert not fleet.trust(chip).trusted


def test_ban_is_lifted_by_no_proof(fleet: Fleet) -> None:
    chip = fleet.trusted()
    fleet.done("device", "ban", "edge-1", "--reason", "stolen")
    assert refusal(fleet, chip) is Reason.DEVICE_BANNED
    assert fleet.state(chip) == "banned"


def test_c03_banned_device_gets_no_new_certificate(fleet: Fleet) -> None:
    chip = fleet.trusted()
    fleet.done("device", "ban", "edge-1", "--reason", "stolen")
    outcome = fleet.attest(chip)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.DEVICE_BANNED
    assert len(fleet.done("device", "show", "edge-1")["certificates"]) == 1


def test_unbanned_device_is_trusted_only_after_a_new_enrolment(fleet: Fleet) -> None:
    chip = fleet.trusted()
    fleet.done("device", "ban", "edge-1", "--reason", "stolen")
    fleet.done("device", "unban", "edge-1", "--reason", "found")
    assert (fleet.state(chip), fleet.trust(chip).trusted) == ("expired", False)
    fleet.enrol(chip)
    assert fleet.trust(chip).trusted


def test_ban_does_not_lose_against_a_move_at_the_same_moment(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = fleet.trusted()
    real, calls = devices.move_state, []

    def raced(*arguments: Any, **named: Any) -> int:
        calls.append(arguments)
        if len(calls) == 1:
            raise StaleState("the device's state changed meanwhile")
        return real(*arguments, **named)

    monkeypatch.setattr(devices, "move_state", raced)
    fleet.done("device", "ban", "edge-1", "--reason", "stolen")
    assert len(calls) == 2
    assert fleet.state(chip) == "banned"


def test_decision_is_recorded_with_actor_and_reason(fleet: Fleet) -> None:
    fleet.trusted()
    fleet.done("device", "ban", "edge-1", "--reason", "stolen from the van")
    move = fleet.done("device", "history", "edge-1")["history"][0]
    assert (move["event"], move["cause"]) == ("banned", {"reason": "stolen from the van"})
    assert move["actor"].startswith("user:")


def test_retired_device_gives_its_address_back_and_must_be_readmitted(fleet: Fleet) -> None:
    chip = fleet.trusted()
    fleet.done("device", "retire", "edge-1", "--reason", "replaced")
    assert refusal(fleet, chip) is Reason.DEVICE_RETIRED
    fleet.done("device", "readmit", "edge-1", "--reason", "needed after all")
    assert fleet.state(chip) == "expired"
    fleet.enrol(chip)
    assert fleet.trust(chip).trusted


def test_readmitted_device_has_lost_its_keys(fleet: Fleet) -> None:
    chip = fleet.trusted()
    serial = fleet.done("device", "show", "edge-1")["certificates"][0]["serial"]
    fleet.done("device", "readmit", "edge-1", "--reason", "TPM was cleared")
    assert fleet.revoked() == {serial}
    outcome = fleet.attest(chip)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.DEVICE_UNKNOWN


@pytest.mark.parametrize(("first", "second"), [("ban", "ban"), ("retire", "ban"), ("ban", "readmit")])
def test_illegal_move_changes_nothing(fleet: Fleet, first: str, second: str) -> None:
    chip = fleet.trusted()
    fleet.done("device", first, "edge-1", "--reason", "first")
    before = fleet.done("device", "show", "edge-1")
    spoken = fleet.attestd("device", second, "edge-1", "--reason", "second")
    assert (spoken.exit_code, spoken.error) == (1, "illegal-move")
    assert fleet.done("device", "show", "edge-1") == before
    assert fleet.state(chip) == before["state"]


@pytest.mark.parametrize("reason", ["", "   ", "two\nlines", "\x1b[31mred", "x" * 501])
def test_reason_is_one_printable_line(fleet: Fleet, reason: str) -> None:
    chip = fleet.trusted()
    assert fleet.attestd("device", "ban", "edge-1", "--reason", reason).exit_code == 2
    assert fleet.state(chip) == "trusted"


def test_unknown_device_is_refused_by_name(fleet: Fleet) -> None:
    spoken = fleet.attestd("device", "show", "edge-9")
    assert (spoken.exit_code, spoken.error) == (1, "device-unknown")


def test_device_is_found_by_the_beginning_of_its_id(fleet: Fleet) -> None:
    chip = fleet.trusted()
    assert fleet.done("device", "show", chip.device_id[:8])["device_id"] == chip.device_id


def test_device_that_nobody_announced_waits_until_it_is_approved(fleet: Fleet) -> None:
    chip = fleet.chip()
    assert refusal(fleet, chip) is Reason.DEVICE_UNANNOUNCED
    assert fleet.state(chip) == "pending"
    words = ("--name", "edge-1", "--site", "north", "--profile", "edge")
    change = fleet.done("device", "approve", chip.device_id[:10], *words)
    assert [(moved["from"], moved["to"]) for moved in change["moved"]] == [("pending", "admitted")]
    fleet.enrol(chip)
    shown = fleet.done("device", "show", "edge-1")
    assert (shown["state"], shown["site"]) == ("trusted", "north")


def test_approved_device_with_a_bad_boot_is_still_refused(fleet: Fleet) -> None:
    chip = fleet.chip()
    chip.boot(BootImage().with_tampered_kernel())
    refusal(fleet, chip)
    fleet.done("device", "approve", chip.device_id, "--name", "edge-1", "--site", "north", "--profile", "edge")
    assert refusal(fleet, chip) is Reason.EVIDENCE_REFUSED
    assert fleet.state(chip) == "untrusted"


def test_withdrawn_device_loses_everything_and_cannot_return(fleet: Fleet) -> None:
    chip = fleet.trusted()
    change = fleet.done("inventory", "withdraw", "edge-1")
    assert [(moved["from"], moved["to"]) for moved in change["moved"]] == [("trusted", "untrusted")]
    assert fleet.revoked() == set(change["moved"][0]["revoked"]) != set()
    assert refusal(fleet, chip) is Reason.INVENTORY_WITHDRAWN


def test_list_filters_by_state_and_site(fleet: Fleet) -> None:
    fleet.trusted("edge-1")
    chip = fleet.chip()
    fleet.announce(chip, "edge-2", site="south")
    fleet.enrol(chip)
    fleet.done("device", "ban", "edge-2", "--reason", "test")
    names = [one["name"] for one in fleet.done("device", "list")["devices"]]
    assert sorted(names) == ["edge-1", "edge-2"]
    assert [one["name"] for one in fleet.done("device", "list", "--state", "banned")["devices"]] == ["edge-2"]
    assert [one["name"] for one in fleet.done("device", "list", "--site", "north")["devices"]] == ["edge-1"]
    assert fleet.attestd("device", "list", "--state", "happy").exit_code == 2


def test_show_names_what_failed_and_where(fleet: Fleet) -> None:
    chip = fleet.trusted()
    chip.boot(BootImage().with_command_line("ro init=/bin/sh"))
    assert isinstance(fleet.attest(chip), Refused)
    text = fleet.attestd("device", "show", "edge-1").stdout
    assert "untrusted" in text
    assert "claim-mismatch kernel-command-line" in text
    assert "PCR 8" in text


def test_e11_text_of_a_device_is_escaped_wherever_it_is_shown(fleet: Fleet) -> None:
    chip = fleet.chip()
    fleet.announce(chip)
    chip.boot(BootImage().with_command_line("\x1b]0;owned\x07 ro"))
    refusal(fleet, chip)
    for command in (["device", "show", "edge-1"], ["device", "history", "edge-1"], ["log"], ["log", "--json"]):
        shown = fleet.attestd(*command).stdout
        assert shown
        assert "\x1b" not in shown
        assert "\x07" not in shown


def test_log_shows_refusals_and_moves_of_one_device(fleet: Fleet) -> None:
    chip = fleet.trusted("edge-1")
    fleet.trusted("edge-2")
    fleet.done("device", "ban", "edge-1", "--reason", "stolen")
    refusal(fleet, chip)
    lines = [json.loads(line) for line in fleet.attestd("log", "--device", "edge-1", "--json").stdout.splitlines()]
    assert {line["device_id"] for line in lines} == {chip.device_id}
    assert [line["kind"] for line in lines] == ["transition", "transition", "refusal"]
    assert lines[-1]["code"] == "device-banned"


def test_log_shows_every_proof_where_asked(fleet: Fleet) -> None:
    chip = fleet.trusted()
    chip.boot()
    assert not isinstance(fleet.attest(chip), Refused)
    lines = [json.loads(line) for line in fleet.attestd("log", "--routine", "--json").stdout.splitlines()]
    proofs = [(line["proof"], line["tier"]) for line in lines if line["kind"] == "attestation"]
    assert proofs == [("enrol", "affirming"), ("attest", "affirming")]


def test_piped_list_has_one_line_for_each_device(fleet: Fleet) -> None:
    fleet.trusted("edge-1")
    fleet.trusted("edge-2")
    lines = fleet.attestd("device", "list").stdout.splitlines()
    assert sorted(line.split()[1:4] for line in lines[1:]) == [
        [name, "north", "trusted"] for name in ("edge-1", "edge-2")
    ]


def test_log_goes_back_only_as_far_as_asked(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.trusted()
    assert fleet.attestd("log", "--since", "1h", "--json").stdout
    later = time.time_ns() // 1_000_000 + 7_200_000
    monkeypatch.setattr("attestd.clock.now_ms", lambda: later)
    assert fleet.attestd("log", "--since", "1h", "--json").stdout == ""
    assert fleet.attestd("log", "--since", "3h", "--json").stdout


def test_log_follows(fleet: Fleet) -> None:
    fleet.trusted()
    command = [ATTESTD, "log", "--follow", "--json", "--since", "1h", "-d", str(fleet.place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            first = json.loads(process.stdout.readline())
            fleet.done("device", "ban", "edge-1", "--reason", "now")
            last = json.loads(process.stdout.readline())
        finally:
            process.terminate()
    assert (first["to"], first["cause"]["findings"]) == ("trusted", [])
    assert (last["to"], last["cause"]) == ("banned", {"reason": "now"})
