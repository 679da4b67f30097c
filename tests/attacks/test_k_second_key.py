"""One chip under two endorsement keys; a stranger's chip that comes again and again; keys that change without credentials."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attacks.fixtures_pct import refused, state_of, turned_away
from attestd.changes import rules
from attestd.lifecycle.table import Event
from attestd.services import custody
from attestd.store import credentials, devices, log
from softchip import SoftChip
from world import World, golden_profile


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with World(f"sqlite:///{tmp_path}/attestd.db").listening() as made:
        yield made
        made.verifier.store.close()


# --- One chip, two endorsement keys -----------------------------------------------------------------------------------


@pytest.mark.attack("K09", reason="ak-in-use")
@pytest.mark.parametrize("event", [Event.BANNED, Event.RETIRED])
def test_k09_a_chip_that_was_shut_out_does_not_come_back_under_its_other_endorsement_key(
    fleet: World, event: Event
) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.golden(chip)
    fleet.change("rules", "rules", rules.rules_document([rules.AdmissionRule("*", "*", "edge")]))
    fleet.enrol(chip)
    custody.decide(fleet.verifier, chip.device_id, event, actor="alice", reason="stolen")
    other = SoftChip(fleet.now_s, ak=chip.ak)
    with refused(fleet, "ak-in-use"):
        fleet.enrol(other)


def test_a_chip_whose_first_identity_was_readmitted_may_enrol_under_the_other(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.golden(chip)
    fleet.change("rules", "rules", rules.rules_document([rules.AdmissionRule("*", "*", "edge")]))
    fleet.enrol(chip)
    custody.decide(fleet.verifier, chip.device_id, Event.READMITTED, actor="alice", reason="another key from now on")
    assert fleet.enrol(SoftChip(fleet.now_s, ak=chip.ak)).state == "trusted"


# --- A chip that nobody announced -------------------------------------------------------------------------------------


def logs_kept(world: World) -> int:
    with world.verifier.store.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM event_log").scalar_one())


@pytest.mark.attack("T04", reason="device-unannounced")
def test_t04_a_chip_that_nobody_announced_writes_one_small_row_however_often_it_comes(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    with turned_away("device-unannounced"):
        fleet.enrol(chip)
    assert (state_of(fleet, chip), logs_kept(fleet)) == ("pending", 0)
    with fleet.verifier.store.read() as connection:
        assert log.list_attestations(connection, chip.device_id) == ()
    fleet.verifier.refusals._items.clear()
    for _ in range(3):
        fleet.pass_time(61)
        chip.boot()
        with refused(fleet, "device-unannounced"):
            fleet.enrol(chip)
    assert logs_kept(fleet) == 0
    with fleet.verifier.store.read() as connection:
        assert log.list_refusals(connection, device_id=chip.device_id) == ()


@pytest.mark.attack("T04", reason="device-unannounced")
def test_t04_a_device_that_lost_its_rule_writes_nothing_either(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.change("rules", "rules", rules.rules_document([rules.AdmissionRule("*", "*", "edge")]))
    with turned_away("policy-missing"):
        fleet.enrol(chip)
    fleet.change("rules", "rules", rules.rules_document([]))
    with refused(fleet, "device-unannounced"):
        fleet.enrol(chip)


# --- Keys without credentials -----------------------------------------------------------------------------------------


@pytest.mark.attack("C03", reason="quote-binding")
def test_c03_an_enrolment_that_only_warns_leaves_the_keys_that_the_credentials_are_for(fleet: World) -> None:
    chip = SoftChip(fleet.now_s)
    fleet.announce(chip)
    fleet.activate(golden_profile(chip) + "tiers:\n  boot-order: warning\n  boot-entry: warning\n")
    enrolled = fleet.enrol(chip)
    keys, first = (chip.device_key, chip.device_key_area, chip.wireguard), chip.vpn_keys
    good = chip.image
    chip.boot(replace(good, boot_order=(0, 1)))
    chip.renew_keys()
    with turned_away("evidence-refused"):
        fleet.enrol(chip)
    with fleet.verifier.store.read() as connection:
        known = devices.load_device(connection, chip.device_id)
        active = credentials.active_vpn_keys(connection, chip.device_id)
    assert known is not None
    assert (known.state.state, known.device.vpn_keys) == ("suspect", first)
    assert [key.public_key for key in active] == [first[0][1]]
    chip.boot(good)
    with refused(fleet, "quote-binding"):
        fleet.attest(chip.whole_attest_request(enrolled.next.nonce))
    chip.device_key, chip.device_key_area, chip.wireguard = keys
    assert fleet.attest(chip.whole_attest_request(enrolled.next.nonce)).state == "trusted"
