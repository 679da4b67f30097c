"""Bearer tokens of people and relying parties, by their hash.

Proves nothing about whoever shows one. Assumes that a token has at least 128 random bits, so that its SHA-256 cannot be
turned back (T09). Does not compare scopes.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from attestd.store.errors import StoreConflict
from attestd.store.rows import columns, insert, record, records, values
from attestd.store.tables import TOKEN


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token. `hash` is SHA-256 of the token's text; `site` None: all sites; `expires_at` None: until it is revoked."""

    hash: bytes
    name: str
    scopes: tuple[str, ...]
    site: str | None
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def valid(self, now: int) -> bool:
        """Return whether the token is good at `now` (milliseconds)."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def insert_token(connection: Connection, token: TokenRecord) -> None:
    """Keep a token's hash. *Raises* StoreConflict when it exists, ValueError for what is not a hash."""
    if len(token.hash) != 32:
        raise ValueError("only the SHA-256 of a token is kept")
    added = insert(connection, TOKEN).values(values(token)).on_conflict_do_nothing().returning(TOKEN.c.hash)
    if connection.execute(added).first() is None:
        raise StoreConflict("this token exists")


def load_token(connection: Connection, token_hash: bytes) -> TokenRecord | None:
    """Return the token with this hash, also a revoked or expired one, or None."""
    query = select(*columns(TOKEN, TokenRecord)).where(TOKEN.c.hash == token_hash)
    return record(TokenRecord, connection.execute(query).first())


def list_tokens(connection: Connection) -> tuple[TokenRecord, ...]:
    """Return all tokens, latest first."""
    query = select(*columns(TOKEN, TokenRecord)).order_by(TOKEN.c.created_at.desc(), TOKEN.c.hash)
    return records(TokenRecord, connection.execute(query).all())


def revoke_tokens(connection: Connection, name: str, *, now: int) -> int:
    """Revoke all tokens of this name that are not revoked yet and return how many those were."""
    open_tokens = (TOKEN.c.name == name) & TOKEN.c.revoked_at.is_(None)
    return connection.execute(update(TOKEN).where(open_tokens).values(revoked_at=now)).rowcount
