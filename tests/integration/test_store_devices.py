from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from attestd.store import StaleState, Store, devices, log
from attestd.store.devices import DueDevice, EvidenceRecord
from store_records import device_name, device_record, enrol, move, state_record


def load(store: Store, number: int) -> devices.LoadedDevice:
    with store.read() as connection:
        loaded = devices.load_device(connection, device_name(number))
    assert loaded is not None
    return loaded


def test_an_enrolment_is_loaded_as_it_was_stored(store: Store) -> None:
    enrol(store, 1)
    loaded = load(store, 1)
    assert loaded.device == device_record(1)
    assert loaded.state == state_record(1, version=1)
    assert loaded.evidence == EvidenceRecord(device_name(1), b"pcrs", 2, b"r" * 32, {"good": 2})


def test_an_unknown_device_is_absent(store: Store) -> None:
    with store.read() as connection:
        assert devices.load_device(connection, device_name(1)) is None
        assert devices.load_evidence(connection, device_name(1)) is None


def test_a_device_without_evidence_has_none(store: Store) -> None:
    with store.write() as connection:
        devices.upsert_enrolment(connection, device_record(1), state_record(1), None, move(1), expected_version=None)
    assert load(store, 1).evidence is None


def test_a_second_enrolment_replaces_keys_and_keeps_certificate_and_history(store: Store) -> None:
    enrol(store, 1)
    device = device_record(1, ak_public=b"another ak", certificate_serial="ff")
    again = move(1, at=2_000, from_state="expired")
    with store.write() as connection:
        version = devices.upsert_enrolment(connection, device, state_record(1), None, again, expected_version=1)
    loaded = load(store, 1)
    assert version == loaded.state.version == 2
    assert loaded.device == replace(device, certificate_serial=None)
    with store.read() as connection:
        assert [row.from_state for row in log.list_transitions(connection)] == ["expired", None]


@pytest.mark.parametrize("expected", [None, 0, 2])
def test_k09_an_enrolment_on_another_version_is_refused_and_changes_nothing(store: Store, expected: int | None) -> None:
    enrol(store, 1)
    before = load(store, 1)
    other = device_record(1, ak_public=b"another ak")
    with pytest.raises(StaleState), store.write() as connection:
        devices.upsert_enrolment(connection, other, state_record(1), None, move(1), expected_version=expected)
    assert load(store, 1) == before


def test_k09_of_two_enrolments_of_one_key_at_the_same_time_one_stands(store: Store) -> None:
    def attempt(number: int) -> bool:
        device = device_record(1, ak_public=b"ak of attempt %d" % number)
        try:
            with store.write() as connection:
                devices.upsert_enrolment(connection, device, state_record(1), None, move(1), expected_version=None)
        except StaleState:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(attempt, range(6))) == [False] * 5 + [True]


def test_a_move_changes_the_state_counts_up_and_is_recorded(store: Store) -> None:
    enrol(store, 1)
    ban = move(1, "banned", at=9_000, from_state="trusted", event="banned", cause={"why": "lost\x00"}, actor="alice")
    with store.write() as connection:
        assert devices.move_state(connection, ban, version=1, deadline=None) == 2
    state = load(store, 1).state
    assert (state.state, state.since, state.deadline, state.version) == ("banned", 9_000, None, 2)
    with store.read() as connection:
        latest = log.list_transitions(connection, device_id=device_name(1))[0]
    assert (latest.from_state, latest.to_state, latest.cause, latest.actor) == (
        "trusted",
        "banned",
        {"why": "lost\x00"},
        "alice",
    )


@pytest.mark.parametrize(("from_state", "version"), [("trusted", 2), ("expired", 1)])
def test_a_move_from_another_state_or_version_is_refused(store: Store, from_state: str, version: int) -> None:
    enrol(store, 1)
    with pytest.raises(StaleState), store.write() as connection:
        devices.move_state(connection, move(1, "banned", from_state=from_state), version=version, deadline=None)
    assert load(store, 1).state.state == "trusted"


def test_keys_that_were_reset_are_gone_and_whoever_decided_on_them_is_refused(store: Store) -> None:
    enrol(store, 1)
    with store.write() as connection:
        assert devices.reset_keys(connection, device_name(1))
        assert not devices.reset_keys(connection, device_name(2))
    loaded = load(store, 1)
    assert (loaded.device.ak_public, loaded.device.device_key_spki, loaded.device.vpn_keys) == (None, None, ())
    with pytest.raises(StaleState), store.write() as connection:
        devices.move_state(connection, move(1, "banned", from_state="trusted"), version=1, deadline=None)


def test_devices_are_listed_by_state_site_and_prefix_in_pages(store: Store) -> None:
    ids = sorted(enrol(store, *range(5)))
    enrol(store, 7, state="expired")
    with store.write() as connection:
        devices.relabel(connection, ids[0], name="renamed", site="paris")
    with store.read() as connection:

        def listed(**filters: object) -> list[str]:
            return [row.device_id for row in devices.list_devices(connection, **filters)]  # type: ignore[arg-type]

        assert listed(states=["trusted"]) == ids
        assert listed(states=["expired", "banned"]) == [device_name(7)]
        assert listed(site="paris") == [ids[0]]
        assert listed(states=["trusted"], limit=2) == ids[:2]
        assert listed(states=["trusted"], limit=2, after=ids[1]) == ids[2:4]
        assert listed(prefix=ids[3][:9]) == [ids[3]]
        assert listed(prefix="%") == []


def test_a_device_is_found_by_its_name_or_the_beginning_of_its_id(store: Store) -> None:
    ids = enrol(store, 1, 2)
    with store.read() as connection:
        assert [row.device_id for row in devices.find_devices(connection, "edge-2")] == [ids[1]]
        assert [row.device_id for row in devices.find_devices(connection, ids[0][:8])] == [ids[0]]
        assert devices.find_devices(connection, "edge") == ()
        assert devices.find_devices(connection, "") == ()


def test_p05_devices_past_their_deadline_are_due(store: Store) -> None:
    enrol(store, 1, deadline=5_000)
    enrol(store, 2, deadline=5_001)
    enrol(store, 3, deadline=1, state="banned")
    enrol(store, 4, deadline=None)
    with store.write() as connection:
        due = devices.due_for_expiry(connection, 5_000, states=["trusted"], limit=10)
    assert due == (DueDevice(device_name(1), "trusted", 1, 5_000),)


def test_a_page_has_at_least_one_row(store: Store) -> None:
    with store.read() as connection, pytest.raises(ValueError, match="at least one"):
        devices.list_devices(connection, limit=0)
