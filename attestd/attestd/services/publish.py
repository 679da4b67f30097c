"""What the verifier publishes for everybody: its revocation list, the key of its results, that it is alive."""

from attestd.appraisal.ear import jwk
from attestd.errors import Refused
from attestd.protocol.reasons import Reason
from attestd.services.context import Verifier
from attestd.store import credentials
from attestd.store.credentials import CrlRecord
from attestd.store.errors import StoreConflict, StoreError
from attestd_pki.crl import build_crl

_ATTEMPTS = 3
"""Replicas that publish at the same moment take the next number; three rounds are enough for any real number of them."""


def current_crl(verifier: Verifier) -> bytes:
    """Return the newest revocation list (DER), made anew when it has passed half its life."""
    with verifier.store.read() as connection:
        latest = credentials.latest_crl(connection)
    if latest is None or (latest.this_update + latest.next_update) // 2 <= verifier.now():
        return refresh_crl(verifier)
    return latest.der


def refresh_crl(verifier: Verifier) -> bytes:
    """Sign and store a list of all certificates that are revoked now, and return it (DER)."""
    for _ in range(_ATTEMPTS):
        try:
            return _next_crl(verifier)
        except StoreConflict:
            continue
    raise Refused(Reason.SERVER_BUSY, "other replicas publish revocation lists", retry_after=5)


def _next_crl(verifier: Verifier) -> bytes:
    now = verifier.now()
    with verifier.store.write() as connection:
        latest = credentials.latest_crl(connection)
        number = latest.number + 1 if latest else 1
        listed = credentials.revoked_certificates(connection, now)
        begin, end = now // 1000, now // 1000 + verifier.timing.crl
        der = build_crl(
            verifier.issuer,
            ((int(entry.serial, 16), entry.revoked_at // 1000, entry.reason) for entry in listed),
            number=number,
            this_update=begin,
            next_update=end,
        )
        credentials.insert_crl(connection, CrlRecord(number, der, begin * 1000, end * 1000))
    return der


def result_jwk(verifier: Verifier) -> dict[str, str]:
    """Return the public key of attestation results as a JWK (RFC 8037)."""
    return jwk(verifier.result_key.private.public_key())


def check_database(verifier: Verifier) -> None:
    """Raise `Refused` (server-busy) unless the database answers and has this code's schema."""
    try:
        verifier.store.require_schema()
    except StoreError as error:
        raise Refused(Reason.SERVER_BUSY, error.code) from None
