import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from attestd.store import Store, bounds, changes, devices, log, routine
from attestd.store.changes import ChangeRecord
from attestd.store.routine import RoutineRow, RoutineUpdate
from postgres import Server
from store_records import DAY, attestation, device_name, device_record, enrol, move, routine_update, state_record


def prove(store: Store, update: RoutineUpdate) -> frozenset[str]:
    """Store one proof in a transaction of its own."""
    with store.write() as connection:
        return routine.store_routine(connection, [update], [attestation(update)])


def load(store: Store, number: int = 1) -> RoutineRow:
    with store.read() as connection:
        return routine.peek_routine(connection, [device_name(number)])[device_name(number)]


def test_one_statement_loads_identity_state_and_the_policys_head(store: Store) -> None:
    enrol(store, 1)
    with store.write() as connection:
        connection.execute(text("UPDATE device SET certificate_not_after = 77"))
        row = routine.load_routine(connection, [device_name(1)])[device_name(1)]
    device, state = device_record(1), state_record(1, version=1)
    cut = RoutineRow.__slots__.index("certificate_not_after")
    assert row == RoutineRow(
        **{field: getattr(device, field) for field in RoutineRow.__slots__[:cut]},
        certificate_not_after=77,
        **{field: getattr(state, field) for field in RoutineRow.__slots__[cut + 1 : -1]},
        policy_head=0,
    )


def test_unknown_devices_and_devices_without_keys_are_absent(store: Store) -> None:
    enrol(store, 1, 2)
    with store.write() as connection:
        devices.reset_keys(connection, device_name(2))
        rows = routine.load_routine(connection, [device_name(number) for number in range(5)])
    assert set(rows) == {device_name(1)}


def test_p04_a_loaded_row_carries_the_head_of_the_policy(store: Store) -> None:
    enrol(store, 1)
    with store.write() as connection:
        changes.insert_proposal(connection, ChangeRecord(1, "rules", "rules", b"{}", bytes(32), "alice", 0))
    assert load(store).policy_head == 0
    with store.write() as connection:
        changes.apply_change(connection, 1, now=5)
        assert routine.policy_head(connection) == 1
    assert load(store).policy_head == 1


def test_a_proof_moves_the_row_and_is_recorded(store: Store) -> None:
    enrol(store, 1)
    before = load(store)
    update = routine_update(before)
    assert prove(store, update) == frozenset()
    row = load(store)
    moved = {field: getattr(update, field) for field in RoutineUpdate.__slots__[3:]}
    assert row == replace(before, **moved, last_attestation=row.last_attestation)
    with store.read() as connection:
        (record,) = log.list_attestations(connection, device_name(1))
    assert record.id == row.last_attestation
    assert {field: getattr(record, field) for field in attestation(update).__slots__} == {
        field: getattr(attestation(update), field) for field in attestation(update).__slots__
    }


def test_findings_are_recorded_as_a_document(store: Store) -> None:
    enrol(store, 1)
    update = routine_update(load(store))
    findings = [{"code": "claim-mismatch", "component": "a\x00b \N{ROCKET}"}]
    with store.write() as connection:
        routine.store_routine(connection, [update], [attestation(update, findings=findings)])
    with store.read() as connection:
        assert log.list_attestations(connection, device_name(1))[0].findings == findings


@pytest.mark.parametrize(
    "stale",
    [
        {"clock": 5_000},
        {"clock": 4_999},
        {"reset_count": 2, "clock": 9_000},
        {"version": 2},
        {"version": 0},
        {"previous_attestation": 1},
        {"device_id": device_name(99)},
        {"clock": 2**63},
        {"clock": -1},
    ],
    ids=str,
)
def test_q06_a_proof_that_does_not_move_the_row_forward_stores_nothing(store: Store, stale: dict[str, Any]) -> None:
    enrol(store, 1)
    before = load(store)
    update = routine_update(before, **stale)
    assert prove(store, update) == {update.device_id}
    assert load(store) == before
    with store.read() as connection:
        assert log.recent_attestations(connection) == ()


def test_q11_a_reboot_may_set_the_clock_back(store: Store) -> None:
    enrol(store, 1)
    update = routine_update(load(store), reset_count=4, clock=10)
    assert prove(store, update) == frozenset()


def test_q06_a_proof_sent_twice_is_stored_once(store: Store) -> None:
    enrol(store, 1)
    update = routine_update(load(store))
    assert prove(store, update) == frozenset()
    assert prove(store, update) == {device_name(1)}
    with store.read() as connection:
        assert len(log.recent_attestations(connection)) == 1


def test_q06_of_one_proof_sent_twice_at_the_same_time_exactly_one_wins(database_url: str) -> None:
    # Two stores are two processes: nothing but the database stands between them.
    stores = [Store.open(database_url) for _ in range(2)]
    enrol(stores[0], *range(8))
    barrier = threading.Barrier(2)

    def attempt(store: Store) -> int:
        won = 0
        for number in range(8):
            update = routine_update(load(store, number), clock=6_000)
            barrier.wait()
            won += not prove(store, update)
        return won

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(attempt, stores)) == 8
    with stores[0].read() as connection:
        assert len(log.recent_attestations(connection)) == 8
    for store in stores:
        store.close()


def test_batches_of_two_processes_over_the_same_devices_do_not_deadlock(database_url: str) -> None:
    stores = [Store.open(database_url) for _ in range(2)]
    ids = enrol(stores[0], *range(16))

    def attempt(number: int) -> int:
        stored = 0
        for _ in range(10):
            batch = ids if number else ids[::-1]
            with stores[number].write() as connection:
                rows = routine.load_routine(connection, batch)
                updates = [routine_update(rows[device]) for device in batch]
                stored += len(ids) - len(routine.store_routine(connection, updates, list(map(attestation, updates))))
        return stored

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(attempt, range(2))) == 2 * 10 * 16
    for store in stores:
        store.close()


def test_in_a_batch_only_the_stale_proof_is_refused(store: Store) -> None:
    ids = enrol(store, *range(6))
    with store.write() as connection:
        rows = routine.load_routine(connection, ids)
        updates = [routine_update(rows[device], clock=1 if device == ids[2] else 9_000) for device in ids]
        refused = routine.store_routine(connection, updates, [attestation(update) for update in updates])
    assert refused == {ids[2]}
    assert [load(store, number).clock for number in range(6)] == [9_000, 9_000, 5_000, 9_000, 9_000, 9_000]
    with store.read() as connection:
        assert {row.device_id for row in log.recent_attestations(connection)} == set(ids) - {ids[2]}


def test_a_change_of_state_since_the_row_was_loaded_refuses_the_proof(store: Store) -> None:
    enrol(store, 1)
    update = routine_update(load(store))
    with store.write() as connection:
        ban = move(1, "banned", from_state="trusted", event="banned")
        devices.move_state(connection, ban, version=1, deadline=None)
    assert prove(store, update) == {device_name(1)}
    assert load(store).state == "banned"


@pytest.mark.parametrize("shape", ["twice", "misplaced", "missing"])
def test_a_batch_of_another_shape_is_refused(store: Store, shape: str) -> None:
    enrol(store, 1, 2)
    first, second = routine_update(load(store, 1)), routine_update(load(store, 2))
    updates = [first, first] if shape == "twice" else [first, second]
    rows = {"twice": [first, first], "misplaced": [second, first], "missing": [first]}[shape]
    with store.write() as connection, pytest.raises(ValueError, match="one update"):
        routine.store_routine(connection, updates, [attestation(update) for update in rows])


def test_an_empty_batch_stores_nothing(store: Store) -> None:
    with store.write() as connection:
        assert routine.load_routine(connection, []) == {}
        assert routine.store_routine(connection, [], []) == frozenset()


def test_a_batch_is_bounded(store: Store) -> None:
    with store.write() as connection, pytest.raises(ValueError, match="too large"):
        routine.load_routine(connection, ["x"] * (bounds.MAX_BATCH + 1))


@pytest.mark.postgresql
def test_every_routine_update_is_heap_only(postgresql_server: Server, migrated_postgresql: str) -> None:
    with postgresql_server.database(migrated_postgresql) as url:
        store = Store.open(url)
        ids = enrol(store, *range(160))
        for step in range(80):
            # Every twentieth device: a batch of a real fleet meets a page once or twice, not all of its rows.
            batch = ids[step % 20 :: 20]
            with store.write() as connection:
                rows = routine.load_routine(connection, batch)
                updates = [routine_update(rows[device], deadline=DAY + step) for device in batch]
                assert not routine.store_routine(connection, updates, [attestation(update) for update in updates])
        with store.write() as connection:
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
        with store.write() as connection:
            query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'device_state'"
            updated, heap_only = connection.execute(text(query)).one()
        assert updated == 640
        assert heap_only == updated
        store.close()
