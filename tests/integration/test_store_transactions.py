import signal
import subprocess
import sys
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from attestd.store import Store, StoreConflict, StoreError, StoreUnavailable, bounds, devices
from store_records import device_name, device_record, enrol, move, state_record

_HELD = """
import sys, time
from attestd.store import Store
from store_records import *
from attestd.store import devices
with Store.open(sys.argv[1]).write() as connection:
    devices.upsert_enrolment(connection, device_record(1), state_record(1), None, move(1), expected_version=None)
    print("written", flush=True)
    time.sleep(60)
"""


def test_an_exception_in_a_transaction_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as connection:
            devices.upsert_enrolment(connection, *_enrolment(), expected_version=None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert _count(store) == 0


def test_a_process_that_is_killed_in_a_transaction_leaves_nothing_and_no_lock(database_url: str) -> None:
    command = [sys.executable, "-c", _HELD, database_url]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    store = Store.open(database_url)
    assert _count(store) == 0
    enrol(store, 1)
    assert _count(store) == 1
    store.close()


def test_a_reading_transaction_cannot_write(store: Store) -> None:
    with pytest.raises((StoreError, DBAPIError)), store.read() as connection:
        connection.execute(text("DELETE FROM device"))


def test_a_reading_transaction_sees_one_snapshot(store: Store) -> None:
    with store.read() as connection:
        assert len(devices.list_devices(connection)) == 0
        enrol(store, 1)
        assert len(devices.list_devices(connection)) == 0
    assert _count(store) == 1


def test_writers_of_one_process_wait_for_each_other(store: Store) -> None:
    enrol(store, 1)

    def count_up() -> None:
        for _ in range(10):
            with store.write() as connection:
                loaded = devices.load_device(connection, device_name(1))
                assert loaded is not None
                connection.execute(text("UPDATE device SET enrolled_at = enrolled_at + 1"))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        loaded = devices.load_device(connection, device_name(1))
    assert loaded is not None
    assert loaded.device.enrolled_at == 1_040


def test_who_waits_too_long_for_a_lock_is_told_to_come_back(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BUSY_MILLISECONDS", 50)
    first, second = Store.open(database_url), Store.open(database_url)
    enrol(first, 1)
    with first.write() as connection:
        connection.execute(text("UPDATE device SET enrolled_at = 5"))
        with pytest.raises(StoreUnavailable), second.write() as waiting:
            waiting.execute(text("UPDATE device SET enrolled_at = 6"))
    first.close()
    second.close()


def test_a_row_that_points_nowhere_is_a_conflict(store: Store) -> None:
    with pytest.raises(StoreConflict), store.write() as connection:
        devices.store_evidence(connection, devices.EvidenceRecord(device_name(9), b""))


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite:///{directory}/none/attestd.db"])
def test_a_database_that_cannot_be_reached_is_unavailable(url: str, tmp_path: object) -> None:
    with pytest.raises(StoreUnavailable), Store.open(url.format(directory=tmp_path)).read():
        raise AssertionError("there is no such database")


def _enrolment() -> tuple[devices.DeviceRecord, devices.StateRecord, None, devices.Move]:
    return device_record(1), state_record(1), None, move(1)


def _count(store: Store) -> int:
    with store.read() as connection:
        return len(devices.list_devices(connection))
