"""The limit of a routine attestation: what even a perfect verifier must do, measured here and now.

One ECDSA P-256 verification, one Ed25519 signature under the result, the hashes, and its share of a durable commit of 32.
"""

import hashlib
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BATCH = 32


def cpu_us(work: Callable[[], object], times: int) -> float:
    """Return the CPU time of one call in microseconds: the best of three rounds, since others share the machine."""
    rounds = []
    for _ in range(3):
        begin = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - begin) / times * 1e6)
    return min(rounds)


def verification_us() -> float:
    """Return V."""
    key = ec.generate_private_key(ec.SECP256R1())
    message = bytes(145)
    signature, public, scheme = (
        key.sign(message, ec.ECDSA(hashes.SHA256())),
        key.public_key(),
        ec.ECDSA(hashes.SHA256()),
    )
    return cpu_us(lambda: public.verify(signature, message, scheme), 1500)


def signature_us() -> float:
    """Return the cost of signing a result."""
    key, message = Ed25519PrivateKey.generate(), bytes(700)
    return cpu_us(lambda: key.sign(message), 1500)


def hashing_us() -> float:
    """Return the cost of the two digests of a proof by reference: its binding and its quote."""
    binding, quote = bytes(260), bytes(145)
    return cpu_us(lambda: (hashlib.sha256(binding).digest(), hashlib.sha256(quote).digest()), 5000)


def replay_us(events: int, size: int) -> float:
    """Return the cost of a log's hashes: one over its `size` bytes, and one for each event that extends a register."""
    log, extension = bytes(size), bytes(64)

    def replay() -> None:
        hashlib.sha256(log).digest()
        for _ in range(events):
            hashlib.sha256(extension).digest()

    return cpu_us(replay, 500)


def postgresql_commit_us(url: str) -> float:
    """Return this process's part in the same commit on PostgreSQL: one statement over arrays, by the bare driver."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as database:
        database.execute("CREATE TABLE bare_state (id text PRIMARY KEY, clock bigint, digest bytea)")
        database.execute(
            "CREATE TABLE bare_record (id bigserial, device text, attest bytea, signature bytea, nonce bytea)"
        )
        ids = [f"device-{number:048d}" for number in range(1000)]
        database.execute("INSERT INTO bare_state SELECT id, 0, %b FROM unnest(%b::text[]) AS t(id)", (bytes(32), ids))
        columns = (ids[:BATCH], [bytes(32)] * BATCH, [bytes(145)] * BATCH, [bytes(72)] * BATCH, [bytes(40)] * BATCH)

        def commit() -> None:
            with database.transaction():
                database.execute(_POSTGRESQL, columns, prepare=True)

        return cpu_us(commit, 60) / BATCH


_POSTGRESQL = """
WITH proof AS MATERIALIZED (
    SELECT * FROM unnest(%b::text[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[]) AS t(device, digest, a, s, n)
), moved AS (
    UPDATE bare_state SET clock = clock + 1, digest = proof.digest FROM proof WHERE id = device
)
INSERT INTO bare_record (device, attest, signature, nonce) SELECT device, a, s, n FROM proof
"""


def commit_us() -> float:
    """Return one proof's share of a durable commit of 32: an update and an insert, on SQLite, by the bare driver."""
    with tempfile.TemporaryDirectory() as directory:
        database = sqlite3.connect(Path(directory) / "limit.db", isolation_level=None)
        database.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE state (id TEXT PRIMARY KEY, clock INTEGER, digest BLOB) WITHOUT ROWID;"
            "CREATE TABLE record (id INTEGER PRIMARY KEY, device TEXT, attest BLOB, signature BLOB, nonce BLOB);"
        )
        ids = [f"device-{number:048d}" for number in range(1000)]
        database.executemany("INSERT INTO state VALUES (?, 0, ?)", [(one, bytes(32)) for one in ids])
        updates = [(bytes(32), one) for one in ids[:BATCH]]
        inserts = [(one, bytes(145), bytes(72), bytes(40)) for one in ids[:BATCH]]

        def commit() -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("UPDATE state SET clock = clock + 1, digest = ? WHERE id = ?", updates)
            database.executemany("INSERT INTO record (device, attest, signature, nonce) VALUES (?, ?, ?, ?)", inserts)
            database.execute("COMMIT")

        cost = cpu_us(commit, 60) / BATCH
        database.close()
    return cost
