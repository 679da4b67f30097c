"""Bearer tokens of relying parties: made, listed, revoked.

A token is shown once, when it is made; what is stored is its SHA-256, which opens nothing (T09). Assumes `random` to be
unpredictable. Does not check a token that somebody shows: `services.relying` does.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from attestd.services.declined import Declined
from attestd.store import Store
from attestd.store import tokens as rows
from attestd.store.tokens import TokenRecord
from attestd_pki.errors import PkiError
from attestd_pki.names import parse_label

PREFIX: Final = "attestd_"
"""So that scanners of logs and repositories recognise a token that leaked."""
SECRET_BYTES: Final = 32
SCOPES: Final = {
    "trust:read": "ask whether a device is trusted",
    "devices:read": "list the devices and their states",
}


def create(
    store: Store,
    name: str,
    *,
    scopes: Sequence[str],
    site: str | None,
    expires_at: int | None,
    now: int,
    random: Callable[[int], bytes],
) -> tuple[str, TokenRecord]:
    """Make a token and return (its text, what is stored of it). Times are milliseconds.

    *Raises* Declined (token-name, token-scope, token-site), StoreError.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise Declined("token-scope", f"{', '.join(unknown) or 'no scope'}: the scopes are {', '.join(sorted(SCOPES))}")
    _label("token-name", name)
    if site is not None:
        _label("token-site", site)
    secret = PREFIX + base64.urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=").decode("ascii")
    token = TokenRecord(digest(secret), name, tuple(sorted(set(scopes))), site, now, expires_at)
    with store.write() as connection:
        rows.insert_token(connection, token)
    return secret, token


def digest(secret: str) -> bytes:
    """Return what is stored of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8")).digest()


def listed(store: Store) -> tuple[TokenRecord, ...]:
    """Return all tokens, latest first. *Raises* StoreError."""
    with store.read() as connection:
        return rows.list_tokens(connection)


def revoke(store: Store, name: str, *, now: int) -> int:
    """Revoke all tokens of this name at once; return how many. *Raises* Declined (token-unknown), StoreError."""
    with store.write() as connection:
        count = rows.revoke_tokens(connection, name, now=now)
    if not count:
        raise Declined("token-unknown", f"no valid token is called {name}: attestd token list")
    return count


def _label(code: str, text: str) -> None:
    try:
        parse_label(text)
    except PkiError as error:
        raise Declined(code, f"{text[:64]!r}: {error}") from None
