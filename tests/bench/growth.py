"""What a commit costs in a small fleet and in a large one: the store alone, batches of 32 of devices drawn by chance."""

import random
import time

from report import Line
from sqlalchemy import text

from attestd.store import Store
from attestd.store.routine import peek_routine, store_routine
from store_records import attestation, enrol, routine_update

BATCH = 32
SMALL, LARGE = 1_000, 100_000


def lines(name: str, url: str, rounds: int) -> list[Line]:
    """Measure a commit with few devices in the tables, then with many."""
    store = Store.open(url)
    store.migrate()
    (pattern,) = enrol(store, 0)
    few = _commit_us(store, _grown(store, pattern, 0, SMALL), rounds)
    many = _commit_us(store, _grown(store, pattern, SMALL, LARGE), rounds)
    store.close()
    label = f"a commit with {LARGE:,} devices against one with {SMALL:,}, {name} ({many:.0f} µs against {few:.0f})"
    return [Line(label, many / few, "", target=1.6, n=rounds * BATCH)]


def _grown(store: Store, pattern: str, begin: int, end: int) -> list[str]:
    """Add devices by copying the rows of one, and return the ids of all."""
    made = [{"made": f"{number:052d}"} for number in range(begin, end)]
    with store.write() as connection:
        for table in ("device", "device_state"):
            found = connection.execute(text(f"SELECT * FROM {table} LIMIT 0"))
            columns = [column for column in found.keys() if column != "device_id"]  # noqa: SIM118 - not a mapping
            listed = ", ".join(f'"{column}"' for column in columns)
            copied = f"SELECT :made, {listed} FROM {table} WHERE device_id = '{pattern}'"
            connection.execute(text(f"INSERT INTO {table} (device_id, {listed}) {copied}"), made)
    return [f"{number:052d}" for number in range(end)]


def _commit_us(store: Store, ids: list[str], rounds: int) -> float:
    """Return the CPU time of one proof's share in this process, reading and writing."""
    drawn = random.Random(7)
    spent = 0.0
    for _ in range(rounds):
        chosen = drawn.sample(ids, BATCH)
        begin = time.process_time()
        with store.read() as connection:
            rows = peek_routine(connection, chosen)
        spent += time.process_time() - begin
        updates = [routine_update(rows[one]) for one in chosen]
        records = [attestation(update) for update in updates]
        begin = time.process_time()
        with store.write() as connection:
            assert not store_routine(connection, updates, records)
        spent += time.process_time() - begin
    return spent / rounds / BATCH * 1e6
