import hashlib

import pytest

from attestd.store import Store, StoreConflict, tokens
from attestd.store.tokens import TokenRecord

TOKEN = "attestd_a-secret-of-128-bits"
RECORD = TokenRecord(hashlib.sha256(TOKEN.encode()).digest(), "controller", ("devices:read",), None, 10, 100)


def test_t09_a_token_is_found_by_its_hash_and_stored_nowhere(store: Store, tmp_path: object) -> None:
    with store.write() as connection:
        tokens.insert_token(connection, RECORD)
        assert tokens.load_token(connection, RECORD.hash) == RECORD
        assert tokens.load_token(connection, hashlib.sha256(b"another").digest()) is None
        columns = connection.exec_driver_sql("SELECT * FROM token").one()
    assert not any(TOKEN in str(value) for value in columns)


def test_what_is_not_a_hash_is_not_stored(store: Store) -> None:
    with store.write() as connection, pytest.raises(ValueError, match="SHA-256"):
        tokens.insert_token(connection, TokenRecord(TOKEN.encode(), "controller", (), None, 10))


def test_a_token_exists_once(store: Store) -> None:
    with store.write() as connection:
        tokens.insert_token(connection, RECORD)
    with pytest.raises(StoreConflict), store.write() as connection:
        tokens.insert_token(connection, RECORD)


def test_a_revoked_or_expired_token_is_not_valid(store: Store) -> None:
    with store.write() as connection:
        tokens.insert_token(connection, RECORD)
        assert RECORD.valid(99)
        assert not RECORD.valid(100)
        assert tokens.revoke_tokens(connection, "controller", now=50) == 1
        assert tokens.revoke_tokens(connection, "controller", now=60) == 0
        (revoked,) = tokens.list_tokens(connection)
    assert revoked.revoked_at == 50
    assert not revoked.valid(60)
