import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from attestd.protocol import limits
from attestd.store import Store, StoreConflict, StoreError, log, routine
from attestd.store.log import Refusal
from store_records import attestation, device_name, enrol, routine_update

LOG = b"a boot log " * 4_000


def prove(store: Store, number: int, times: int) -> None:
    for _ in range(times):
        with store.write() as connection:
            row = routine.load_routine(connection, [device_name(number)])[device_name(number)]
            update = routine_update(row)
            assert not routine.store_routine(connection, [update], [attestation(update)])


def test_a_devices_attestations_are_paged_backwards_among_those_of_others(store: Store) -> None:
    enrol(store, 1, 2)
    for _ in range(5):
        prove(store, 1, 1)
        prove(store, 2, 1)
    with store.read() as connection:
        every = log.list_attestations(connection, device_name(1))
        first = log.list_attestations(connection, device_name(1), limit=2)
        second = log.list_attestations(connection, device_name(1), limit=2, before=first[-1].id)
        third = log.list_attestations(connection, device_name(1), limit=2, before=second[-1].id)
    assert [row.clock for row in every] == [10_000, 9_000, 8_000, 7_000, 6_000]
    assert (*first, *second, *third) == every
    assert {row.device_id for row in every} == {device_name(1)}
    assert every[-1].previous is None


def test_a_page_does_not_go_on_from_another_devices_attestation(store: Store) -> None:
    enrol(store, 1, 2)
    prove(store, 1, 2)
    prove(store, 2, 1)
    with store.read() as connection:
        foreign = log.list_attestations(connection, device_name(2))[0].id
        assert log.list_attestations(connection, device_name(1), before=foreign) == ()


def test_a_device_without_attestations_has_none(store: Store) -> None:
    enrol(store, 1)
    with store.read() as connection:
        assert log.list_attestations(connection, device_name(1)) == ()
        assert log.list_attestations(connection, device_name(9)) == ()


def test_the_fleets_attestations_are_paged_backwards(store: Store) -> None:
    enrol(store, 1, 2)
    prove(store, 1, 2)
    prove(store, 2, 1)
    with store.read() as connection:
        page = log.recent_attestations(connection, limit=2)
        rest = log.recent_attestations(connection, before=page[-1].id)
    assert [row.device_id for row in (*page, *rest)] == [device_name(2), device_name(1), device_name(1)]


def test_an_attestation_that_is_not_routine_joins_the_chain(store: Store) -> None:
    enrol(store, 1)
    prove(store, 1, 1)
    with store.write() as connection:
        update = routine_update(routine.load_routine(connection, [device_name(1)])[device_name(1)])
        number = log.append_attestation(connection, attestation(update, kind="enrolment", tier="contraindicated"))
        assert routine.store_routine(connection, [update], [attestation(update)]) == {device_name(1)}
    prove(store, 1, 1)
    with store.read() as connection:
        rows = log.list_attestations(connection, device_name(1))
    assert [row.kind for row in rows] == ["routine", "enrolment", "routine"]
    assert rows[1].id == number


def test_an_attestation_of_an_unknown_device_is_refused(store: Store) -> None:
    enrol(store, 1)
    with store.write() as connection:
        row = routine.load_routine(connection, [device_name(1)])[device_name(1)]
    with pytest.raises(StoreConflict), store.write() as connection:
        log.append_attestation(connection, attestation(routine_update(row, device_id=device_name(2))))


def test_refusals_are_paged_by_device(store: Store) -> None:
    with store.write() as connection:
        for at in range(5):
            device = device_name(at % 2)
            log.insert_refusal(connection, Refusal(device, at, "quote-signature", "/v1/attest", {"at": at}))
        log.insert_refusal(connection, Refusal(None, 9, "ek-chain-untrusted", "/v1/enrol", {"text": "\x00\x1b[2J"}))
    with store.read() as connection:
        mine = log.list_refusals(connection, device_id=device_name(0), limit=2)
        rest = log.list_refusals(connection, device_id=device_name(0), before=mine[-1].id)
        everything = log.list_refusals(connection)
    assert [row.at for row in (*mine, *rest)] == [4, 2, 0]
    assert everything[0].detail == {"text": "\x00\x1b[2J"}
    assert len(everything) == 6


def test_transitions_are_paged(store: Store) -> None:
    enrol(store, 1, 2, 3)
    with store.read() as connection:
        page = log.list_transitions(connection, limit=2)
        rest = log.list_transitions(connection, limit=2, before=page[-1].id)
    assert [row.device_id for row in (*page, *rest)] == [device_name(3), device_name(2), device_name(1)]


# --- Boot logs --------------------------------------------------------------------------------------------------------------


def test_a_boot_log_is_kept_once_and_compressed(store: Store) -> None:
    with store.write() as connection:
        digest = log.put_event_log(connection, LOG, now=1)
        assert log.put_event_log(connection, LOG, now=2) == digest == hashlib.sha256(LOG).digest()
        count, size = connection.execute(text("SELECT count(*), max(length(body)) FROM event_log")).one()
        assert count == 1
        assert size < len(LOG) / 10
        assert log.get_event_log(connection, digest) == LOG
        assert log.get_event_log(connection, bytes(32)) is None
        assert log.known_event_logs(connection, (digest, bytes(32))) == {digest}
        assert log.known_event_logs(connection, ()) == frozenset()


def test_a_boot_log_that_comes_many_times_at_once_is_kept_once(database_url: str) -> None:
    stores = [Store.open(database_url) for _ in range(4)]
    body = os.urandom(50_000)

    def put(store: Store) -> bytes:
        with store.write() as connection:
            return log.put_event_log(connection, body, now=1)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(put, stores)) == {hashlib.sha256(body).digest()}
    for store in stores:
        store.close()


def test_e06_a_boot_log_beyond_the_bound_is_not_kept(store: Store) -> None:
    with store.write() as connection, pytest.raises(ValueError, match="too large"):
        log.put_event_log(connection, bytes(limits.MAX_EVENT_LOG + 1), now=1)


@pytest.mark.parametrize("change", ["body = x'00'", "body = other", "length = length - 1"])
def test_l01_a_boot_log_that_was_changed_in_the_database_is_not_handed_out(store: Store, change: str) -> None:
    with store.write() as connection:
        digest = log.put_event_log(connection, LOG, now=1)
        log.put_event_log(connection, LOG + b"!", now=1)
        if store.dialect == "postgresql":
            change = change.replace("x'00'", "'\\x00'::bytea")
        change = change.replace("other", "(SELECT o.body FROM event_log o WHERE o.digest <> event_log.digest)")
        connection.execute(text(f"UPDATE event_log SET {change} WHERE digest = :digest"), {"digest": digest})
        with pytest.raises(StoreError, match="changed"):
            log.get_event_log(connection, digest)
