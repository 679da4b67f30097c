"""What the verifier publishes for everybody: its revocation list, the key of its results, that it is alive."""

from functools import cache

import structlog

from attestd.appraisal.ear import jwk
from attestd.errors import Refused
from attestd.protocol.reasons import Reason
from attestd.services.context import Verifier
from attestd.store import credentials, migrate
from attestd.store.credentials import CrlRecord
from attestd.store.errors import StoreConflict, StoreError
from attestd_pki.crl import build_crl
from attestd_pki.errors import PkiError

_log = structlog.get_logger("attestd.publish")

_ATTEMPTS = 3
"""Replicas that publish at the same moment take the next number; three rounds are enough for any real number of them."""


def current_crl(verifier: Verifier) -> bytes:
    """Return the newest revocation list (DER).

    Anybody may ask, so that asking writes nothing (T04): the sweep keeps the list fresh. Only the first one of all, and one
    after a list that has ended because nothing sweeps, is made here.
    """
    latest = _latest(verifier)
    if latest is None or latest.next_update <= verifier.now():
        return refresh_crl(verifier)
    return latest.der


def renew_crl(verifier: Verifier) -> None:
    """Make a new list when the newest has passed half its life, or somebody was revoked since.

    Whoever revokes publishes at once; this covers a process that ended in between. Where nobody has asked for a list yet, none
    is made.
    """
    with verifier.store.read() as connection:
        latest = credentials.latest_crl(connection)
        if latest is None:
            return
        missing = credentials.revoked_since(connection, latest.this_update)
    if missing or (latest.this_update + latest.next_update) // 2 <= verifier.now():
        refresh_crl(verifier)


def _latest(verifier: Verifier) -> CrlRecord | None:
    with verifier.store.read() as connection:
        return credentials.latest_crl(connection)


def refresh_crl(verifier: Verifier) -> bytes:
    """Sign and store a list of all certificates that are revoked now, and return it (DER)."""
    for _ in range(_ATTEMPTS):
        try:
            return _next_crl(verifier)
        except StoreConflict:
            continue
    raise Refused(Reason.SERVER_BUSY, "other replicas publish revocation lists", retry_after=5)


def publish_revocations(verifier: Verifier) -> None:
    """Publish what a transaction that is over has revoked. A failure is logged and is nobody's: the next sweep publishes it."""
    try:
        refresh_crl(verifier)
    except (StoreError, Refused) as error:
        _log.warning("revocation list delayed", why=str(error)[:300])


def _next_crl(verifier: Verifier) -> bytes:
    now = verifier.now()
    with verifier.store.write() as connection:
        latest = credentials.latest_crl(connection)
        number = latest.number + 1 if latest else 1
        listed = credentials.revoked_certificates(connection, now)
        begin, end = now // 1000, now // 1000 + verifier.timing.crl
        # Another replica's clock may be ahead of this one: what is revoked already is not listed as of tomorrow.
        entries = ((int(entry.serial, 16), min(entry.revoked_at // 1000, begin), entry.reason) for entry in listed)
        try:
            der = build_crl(verifier.issuer, entries, number=number, this_update=begin, next_update=end)
        except PkiError as error:
            raise Refused(Reason.INTERNAL, f"revocation list: {error}") from None
        credentials.insert_crl(connection, CrlRecord(number, der, begin * 1000, end * 1000))
    return der


def result_jwk(verifier: Verifier) -> dict[str, str]:
    """Return the public key of attestation results as a JWK (RFC 8037)."""
    return jwk(verifier.result_key.private.public_key())


def check_database(verifier: Verifier) -> None:
    """Raise `Refused` (server-busy) unless the database answers and has this code's schema."""
    try:
        found = verifier.store.schema_version()
    except StoreError as error:
        raise Refused(Reason.SERVER_BUSY, error.code) from None
    if found != _needed_schema():
        raise Refused(Reason.SERVER_BUSY, f"the database is at revision {found}")


@cache
def _needed_schema() -> str:
    """Return this code's revision, which is read from files: once, for anybody may ask how the verifier is (T04)."""
    return migrate.head()
