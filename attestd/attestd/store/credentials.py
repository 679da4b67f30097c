"""Grants, certificates, revocation lists and VPN keys.

Proves that a grant is redeemed at most once, a serial number issued at most once and a VPN key used at most once, also
under concurrency: each is one statement that the database decides. Assumes a transaction of `Store.write()` for whatever
writes. Does not check what a grant or a certificate says.
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select, update

from attestd.store.errors import StoreConflict, VpnKeyInUse
from attestd.store.rows import columns, insert, page, record, records, values
from attestd.store.tables import CERTIFICATE, CRL, DEVICE, GRANT, VPN_CREDENTIAL


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A grant: its encoding, and when it was redeemed for which certificate."""

    grant_id: bytes
    device_id: str
    body: bytes
    minted_at: int
    expires_at: int
    redeemed_at: int | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A certificate. `serial` is `serial_text(number)`; `reason` is the X.509 name of a revocation reason."""

    serial: str
    device_id: str
    not_before: int
    not_after: int
    der: bytes
    revoked_at: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """What a revocation list says of one certificate."""

    serial: str
    revoked_at: int
    reason: str


@dataclass(frozen=True, slots=True)
class CrlRecord:
    """One revocation list as issued."""

    number: int
    der: bytes
    this_update: int
    next_update: int


@dataclass(frozen=True, slots=True)
class VpnKeyRecord:
    """One VPN public key and the device it was issued to."""

    kind: str
    public_key: bytes
    device_id: str
    issued_at: int
    withdrawn_at: int | None = None


class Redemption(StrEnum):
    """What became of an attempt to redeem a grant."""

    REDEEMED = "redeemed"
    UNKNOWN = "unknown"
    USED = "used"
    EXPIRED = "expired"


def serial_text(serial: int) -> str:
    """Return a certificate's serial number as it is stored: lowercase hexadecimal without leading zeros."""
    return f"{serial:x}"


# --- Grants -------------------------------------------------------------------------------------------------------------


def insert_grant(connection: Connection, grant: GrantRecord) -> None:
    """Keep a grant that was just minted. *Raises* StoreConflict when its id exists."""
    added = insert(connection, GRANT).on_conflict_do_nothing().returning(GRANT.c.grant_id)
    if connection.execute(added, values(grant)).first() is None:
        raise StoreConflict("a grant with this id exists")


def load_grant(connection: Connection, grant_id: bytes) -> GrantRecord | None:
    """Return the grant, or None."""
    query = select(*columns(GRANT, GrantRecord)).where(GRANT.c.grant_id == grant_id)
    return record(GrantRecord, connection.execute(query).first())


def redeem_grant(connection: Connection, grant_id: bytes, device_id: str, *, now: int, serial: str) -> Redemption:
    """Redeem a grant of this device for the certificate `serial`: of any number of attempts, exactly one is REDEEMED.

    Another device's grant is UNKNOWN (C02). A grant that was used stays USED after it has expired.
    """
    open_grant = (
        (GRANT.c.grant_id == grant_id)
        & (GRANT.c.device_id == device_id)
        & GRANT.c.redeemed_at.is_(None)
        & (GRANT.c.expires_at > now)
    )
    if connection.execute(update(GRANT).where(open_grant).values(redeemed_at=now, serial=serial)).rowcount == 1:
        return Redemption.REDEEMED
    grant = load_grant(connection, grant_id)
    if grant is None or grant.device_id != device_id:
        return Redemption.UNKNOWN
    return Redemption.USED if grant.redeemed_at is not None else Redemption.EXPIRED


# --- Certificates -------------------------------------------------------------------------------------------------------


def insert_certificate(connection: Connection, certificate: CertificateRecord) -> None:
    """Keep a certificate and make it its device's current one. *Raises* StoreConflict when the serial number exists."""
    added = insert(connection, CERTIFICATE).on_conflict_do_nothing()
    if connection.execute(added.returning(CERTIFICATE.c.serial), values(certificate)).first() is None:
        raise StoreConflict("a certificate with this serial number exists")
    current = {"certificate_serial": certificate.serial, "certificate_not_after": certificate.not_after}
    connection.execute(update(DEVICE).where(DEVICE.c.device_id == certificate.device_id).values(current))


def load_certificate(connection: Connection, serial: str) -> CertificateRecord | None:
    """Return the certificate, or None."""
    query = select(*columns(CERTIFICATE, CertificateRecord)).where(CERTIFICATE.c.serial == serial)
    return record(CertificateRecord, connection.execute(query).first())


def list_certificates(connection: Connection, device_id: str, *, limit: int = 20) -> tuple[CertificateRecord, ...]:
    """Return the device's certificates, latest first."""
    query = select(*columns(CERTIFICATE, CertificateRecord)).where(CERTIFICATE.c.device_id == device_id)
    latest = query.order_by(CERTIFICATE.c.not_before.desc(), CERTIFICATE.c.serial).limit(page(limit))
    return records(CertificateRecord, connection.execute(latest).all())


def revoke_certificates(connection: Connection, device_id: str, *, now: int, reason: str) -> tuple[str, ...]:
    """Revoke all of the device's certificates that are still valid and return their serial numbers."""
    valid = (
        (CERTIFICATE.c.device_id == device_id) & CERTIFICATE.c.revoked_at.is_(None) & (CERTIFICATE.c.not_after > now)
    )
    revoked = update(CERTIFICATE).where(valid).values(revoked_at=now, reason=reason).returning(CERTIFICATE.c.serial)
    serials = tuple(sorted(row[0] for row in connection.execute(revoked).all()))
    gone = {"certificate_serial": None, "certificate_not_after": None}
    connection.execute(update(DEVICE).where(DEVICE.c.device_id == device_id).values(gone))
    return serials


def revoked_certificates(connection: Connection, now: int) -> tuple[RevokedCertificate, ...]:
    """Return the certificates that are revoked and not yet past their end, by serial: what the next list holds.

    All of them, without a page: a list that leaves one out would say that it is good.
    """
    listed = CERTIFICATE.c.revoked_at.is_not(None) & (CERTIFICATE.c.not_after > now)
    query = select(*columns(CERTIFICATE, RevokedCertificate)).where(listed).order_by(CERTIFICATE.c.serial)
    return records(RevokedCertificate, connection.execute(query).all())


# --- Revocation lists ---------------------------------------------------------------------------------------------------


def latest_crl(connection: Connection) -> CrlRecord | None:
    """Return the list with the highest number, or None."""
    query = select(*columns(CRL, CrlRecord)).order_by(CRL.c.number.desc()).limit(1)
    return record(CrlRecord, connection.execute(query).first())


def revoked_since(connection: Connection, at: int) -> bool:
    """Return whether any certificate was revoked at or after `at` (milliseconds)."""
    query = select(CERTIFICATE.c.serial).where(CERTIFICATE.c.revoked_at >= at).limit(1)
    return connection.execute(query).first() is not None


def insert_crl(connection: Connection, crl: CrlRecord) -> None:
    """Keep a list. *Raises* StoreConflict when its number was issued: the caller takes the next and signs again."""
    added = insert(connection, CRL).on_conflict_do_nothing().returning(CRL.c.number)
    if connection.execute(added, values(crl)).first() is None:
        raise StoreConflict("a revocation list with this number exists")


# --- VPN keys -----------------------------------------------------------------------------------------------------------


def insert_vpn_key(connection: Connection, key: VpnKeyRecord) -> None:
    """Keep a VPN key as issued. *Raises* VpnKeyInUse when it was ever issued before, to whomever."""
    added = insert(connection, VPN_CREDENTIAL).on_conflict_do_nothing()
    if connection.execute(added.returning(VPN_CREDENTIAL.c.kind), values(key)).first() is None:
        raise VpnKeyInUse("this VPN key was issued before")


def load_vpn_key(connection: Connection, kind: str, public_key: bytes) -> VpnKeyRecord | None:
    """Return what is known of a VPN key, or None for one that was never issued."""
    same = (VPN_CREDENTIAL.c.kind == kind) & (VPN_CREDENTIAL.c.public_key == public_key)
    return record(VpnKeyRecord, connection.execute(select(*columns(VPN_CREDENTIAL, VpnKeyRecord)).where(same)).first())


def active_vpn_keys(connection: Connection, device_id: str | None = None) -> tuple[VpnKeyRecord, ...]:
    """Return the VPN keys that are not withdrawn, of one device or of all: what a gateway's state is made of."""
    query = select(*columns(VPN_CREDENTIAL, VpnKeyRecord)).where(VPN_CREDENTIAL.c.withdrawn_at.is_(None))
    if device_id is not None:
        query = query.where(VPN_CREDENTIAL.c.device_id == device_id)
    return records(
        VpnKeyRecord, connection.execute(query.order_by(VPN_CREDENTIAL.c.device_id, VPN_CREDENTIAL.c.kind)).all()
    )


def withdraw_vpn_keys(connection: Connection, device_id: str, *, now: int) -> tuple[VpnKeyRecord, ...]:
    """Withdraw all of the device's VPN keys and return those that were active."""
    active = (VPN_CREDENTIAL.c.device_id == device_id) & VPN_CREDENTIAL.c.withdrawn_at.is_(None)
    gone = update(VPN_CREDENTIAL).where(active).values(withdrawn_at=now)
    return records(VpnKeyRecord, connection.execute(gone.returning(*columns(VPN_CREDENTIAL, VpnKeyRecord))).all())
