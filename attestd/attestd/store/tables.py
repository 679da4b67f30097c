"""Every table, as SQLModel classes; the migrations create exactly these, and a test compares them.

Proves nothing. Times are milliseconds since the epoch. Three choices hold for all tables:

* Identifiers compare byte by byte on both databases (collation "C" on PostgreSQL), so that paging and prefixes agree.
* A document is canonical JSON in a text column, not `jsonb`: jsonb refuses U+0000, and a device must not be able to make
  the record of its own refusal fail by putting one in a label.
* `device_state` is narrow, has no secondary index and leaves room in its pages, so that an attestation on PostgreSQL
  updates one heap page and no index (a heap-only tuple).
"""

from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from attestd.store.columns import IDENTIFIER, SERIAL, Document, Keys, Labels, Texts, Unsigned64

NAMING: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
}


class Base(SQLModel):
    """What all tables share: one MetaData whose constraints have predictable names."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=NAMING)


_DEVICE: Final = "device.device_id"


class Device(Base, table=True):
    """Who a device is (cold). Keys are NULL after an operator reset them: the device must enrol again.

    `name` and `site` are copies for searching; what holds is the policy book. `vpn_keys` and `labels` are [[kind, value]…],
    the keys in hexadecimal.
    """

    __tablename__ = "device"
    __table_args__ = (Index("ix_device_name", "name"), Index("ix_device_ak_name", "ak_name"))

    device_id: str = Field(primary_key=True, sa_type=IDENTIFIER)
    name: str | None = Field(sa_type=IDENTIFIER)
    site: str | None = Field(sa_type=IDENTIFIER)
    ek_public: bytes = Field(sa_type=LargeBinary)
    ek_certificate_sha256: bytes | None = Field(sa_type=LargeBinary)
    manufacturer: str | None = Field(sa_type=Text)
    model: str | None = Field(sa_type=Text)
    ek_deviations: Any = Field(sa_type=Texts, nullable=False)
    ak_public: bytes | None = Field(sa_type=LargeBinary)
    ak_name: bytes | None = Field(sa_type=LargeBinary)
    device_key_name: bytes | None = Field(sa_type=LargeBinary)
    device_key_spki: bytes | None = Field(sa_type=LargeBinary)
    vpn_keys: Any = Field(sa_type=Keys, nullable=False)
    tpm_firmware: int | None = Field(sa_type=Unsigned64)
    enrolled_at: int = Field(sa_type=BigInteger)
    labels: Any = Field(sa_type=Labels, nullable=False)
    certificate_serial: str | None = Field(sa_type=IDENTIFIER)
    certificate_not_after: int | None = Field(sa_type=BigInteger)


class DeviceState(Base, table=True):
    """What is believed of a device now (hot). `version` counts the changes of state; the clock may only move forward."""

    __tablename__ = "device_state"
    __table_args__ = ({"postgresql_with": {"fillfactor": 60}, "sqlite_with_rowid": False},)

    device_id: str = Field(primary_key=True, sa_type=IDENTIFIER, foreign_key=_DEVICE)
    state: str = Field(sa_type=IDENTIFIER)
    since: int = Field(sa_type=BigInteger)
    deadline: int | None = Field(sa_type=BigInteger)
    reset_count: int = Field(sa_type=BigInteger)
    restart_count: int = Field(sa_type=BigInteger)
    clock: int = Field(sa_type=BigInteger)
    pcr_digest: bytes | None = Field(sa_type=LargeBinary)
    log_digest: bytes | None = Field(sa_type=LargeBinary)
    tier: str | None = Field(sa_type=IDENTIFIER)
    vector: bytes | None = Field(sa_type=LargeBinary)
    profile: str | None = Field(sa_type=IDENTIFIER)
    profile_version: int | None = Field(sa_type=Integer)
    appraised_at: int | None = Field(sa_type=BigInteger)
    interval: int = Field(sa_type=Integer)
    version: int = Field(sa_type=BigInteger)
    last_attestation: int | None = Field(sa_type=BigInteger)


class DeviceEvidence(Base, table=True):
    """What the next proof is compared with: PCR values, and how far the runtime list was read (PCR 10 at that point)."""

    __tablename__ = "device_evidence"

    device_id: str = Field(primary_key=True, sa_type=IDENTIFIER, foreign_key=_DEVICE)
    pcrs: bytes = Field(sa_type=LargeBinary)
    runtime_count: int = Field(sa_type=Integer)
    runtime_value: bytes | None = Field(sa_type=LargeBinary)
    runtime_verdict: Any = Field(sa_type=Document, nullable=True)


class Attestation(Base, table=True):
    """Every proof that was accepted or appraised; only ever appended to.

    No secondary index: `previous` links a device's rows from `device_state.last_attestation` backwards, so its history is
    read by primary key and an insert touches one index.
    """

    __tablename__ = "attestation"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    previous: int | None = Field(sa_type=BigInteger)
    device_id: str = Field(sa_type=IDENTIFIER)
    at: int = Field(sa_type=BigInteger)
    kind: str = Field(sa_type=IDENTIFIER)
    tier: str = Field(sa_type=IDENTIFIER)
    state: str = Field(sa_type=IDENTIFIER)
    profile: str | None = Field(sa_type=IDENTIFIER)
    profile_version: int | None = Field(sa_type=Integer)
    log_digest: bytes | None = Field(sa_type=LargeBinary)
    pcr_digest: bytes | None = Field(sa_type=LargeBinary)
    reset_count: int = Field(sa_type=BigInteger)
    clock: int = Field(sa_type=BigInteger)
    attest: bytes = Field(sa_type=LargeBinary)
    signature: bytes = Field(sa_type=LargeBinary)
    nonce: bytes = Field(sa_type=LargeBinary)
    findings: Any = Field(sa_type=Document, nullable=True)


class ShadowVerdict(Base, table=True):
    """What a staged version of a profile says of a device's newest proof: shown, and never asked by whoever decides.

    `attestation` is that proof, `since` when it first said so. Rows go when their version is staged no longer.
    """

    __tablename__ = "shadow_verdict"

    device_id: str = Field(primary_key=True, sa_type=IDENTIFIER, foreign_key=_DEVICE)
    profile_digest: bytes = Field(primary_key=True, sa_type=LargeBinary)
    profile: str = Field(sa_type=IDENTIFIER)
    profile_version: int = Field(sa_type=Integer)
    attestation: int = Field(sa_type=BigInteger)
    log_digest: bytes | None = Field(sa_type=LargeBinary)
    pcr_digest: bytes | None = Field(sa_type=LargeBinary)
    outcome: str = Field(sa_type=IDENTIFIER)
    since: int = Field(sa_type=BigInteger)
    findings: Any = Field(sa_type=Document, nullable=True)


class Transition(Base, table=True):
    """Every change of a device's state: when, from what to what, why, by whom."""

    __tablename__ = "transition"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    device_id: str = Field(sa_type=IDENTIFIER, foreign_key=_DEVICE, index=True)
    at: int = Field(sa_type=BigInteger)
    from_state: str | None = Field(sa_type=IDENTIFIER)
    to_state: str = Field(sa_type=IDENTIFIER)
    event: str = Field(sa_type=IDENTIFIER)
    cause: Any = Field(sa_type=Document, nullable=False)
    actor: str = Field(sa_type=IDENTIFIER)


class Refusal(Base, table=True):
    """Refusals of devices that proved possession of their endorsement key; a stranger writes nothing here (T04)."""

    __tablename__ = "refusal"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    device_id: str | None = Field(sa_type=IDENTIFIER, index=True)
    at: int = Field(sa_type=BigInteger)
    code: str = Field(sa_type=IDENTIFIER)
    route: str = Field(sa_type=IDENTIFIER)
    detail: Any = Field(sa_type=Document, nullable=False)


class EventLog(Base, table=True):
    """Boot logs by their SHA-256, each once, compressed (zlib). `length` is that of the log itself."""

    __tablename__ = "event_log"

    digest: bytes = Field(primary_key=True, sa_type=LargeBinary)
    body: bytes = Field(sa_type=LargeBinary)
    length: int = Field(sa_type=Integer)
    first_seen: int = Field(sa_type=BigInteger)


class Change(Base, table=True):
    """Operator changes with their approvals. Nothing here is believed before its signatures verify. NULL `applied_at`: open."""

    __tablename__ = "change"

    sequence: int = Field(primary_key=True, sa_type=SERIAL, sa_column_kwargs={"autoincrement": False})
    kind: str = Field(sa_type=IDENTIFIER)
    subject: str = Field(sa_type=IDENTIFIER)
    body: bytes = Field(sa_type=LargeBinary)
    previous: bytes = Field(sa_type=LargeBinary)
    proposed_by: str = Field(sa_type=IDENTIFIER)
    proposed_at: int = Field(sa_type=BigInteger)
    signatures: Any = Field(sa_type=Texts, nullable=False)
    applied_at: int | None = Field(sa_type=BigInteger)


class Grant(Base, table=True):
    """Grants, and whether they were redeemed: one UPDATE decides who does."""

    __tablename__ = "grant"

    grant_id: bytes = Field(primary_key=True, sa_type=LargeBinary)
    device_id: str = Field(sa_type=IDENTIFIER, foreign_key=_DEVICE)
    body: bytes = Field(sa_type=LargeBinary)
    minted_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    redeemed_at: int | None = Field(sa_type=BigInteger)
    serial: str | None = Field(sa_type=IDENTIFIER)


class Certificate(Base, table=True):
    """Every certificate issued. `serial` is lowercase hexadecimal without leading zeros."""

    __tablename__ = "certificate"
    __table_args__ = (
        Index(
            "ix_certificate_revoked",
            "not_after",
            sqlite_where=text("revoked_at IS NOT NULL"),
            postgresql_where=text("revoked_at IS NOT NULL"),
        ),
    )

    serial: str = Field(primary_key=True, sa_type=IDENTIFIER)
    device_id: str = Field(sa_type=IDENTIFIER, foreign_key=_DEVICE, index=True)
    not_before: int = Field(sa_type=BigInteger)
    not_after: int = Field(sa_type=BigInteger)
    der: bytes = Field(sa_type=LargeBinary)
    revoked_at: int | None = Field(sa_type=BigInteger)
    reason: str | None = Field(sa_type=IDENTIFIER)


class VpnCredential(Base, table=True):
    """Every VPN key ever issued; the primary key keeps each from being used twice, for ever."""

    __tablename__ = "vpn_credential"

    kind: str = Field(primary_key=True, sa_type=IDENTIFIER)
    public_key: bytes = Field(primary_key=True, sa_type=LargeBinary)
    device_id: str = Field(sa_type=IDENTIFIER, foreign_key=_DEVICE, index=True)
    issued_at: int = Field(sa_type=BigInteger)
    withdrawn_at: int | None = Field(sa_type=BigInteger)


class VpnAddress(Base, table=True):
    """Tunnel addresses. IPv4 as a number, IPv6 as 16 bytes. A released row keeps its address until somebody may reuse it."""

    __tablename__ = "vpn_address"
    __table_args__ = (UniqueConstraint("ipv4"), UniqueConstraint("ipv6"), UniqueConstraint("name"))

    device_id: str = Field(primary_key=True, sa_type=IDENTIFIER, foreign_key=_DEVICE)
    ipv4: int = Field(sa_type=BigInteger)
    ipv6: bytes = Field(sa_type=LargeBinary)
    name: str = Field(sa_type=IDENTIFIER)
    allocated_at: int = Field(sa_type=BigInteger)
    released_at: int | None = Field(sa_type=BigInteger)


class Crl(Base, table=True):
    """Every revocation list issued, by its number."""

    __tablename__ = "crl"

    number: int = Field(primary_key=True, sa_type=SERIAL, sa_column_kwargs={"autoincrement": False})
    der: bytes = Field(sa_type=LargeBinary)
    this_update: int = Field(sa_type=BigInteger)
    next_update: int = Field(sa_type=BigInteger)


class Token(Base, table=True):
    """Bearer tokens by the SHA-256 of the token: what is stored opens nothing (T09)."""

    __tablename__ = "token"

    hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    name: str = Field(sa_type=IDENTIFIER)
    scopes: Any = Field(sa_type=Texts, nullable=False)
    site: str | None = Field(sa_type=IDENTIFIER)
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int | None = Field(sa_type=BigInteger)
    revoked_at: int | None = Field(sa_type=BigInteger)


def _table(model: type[SQLModel]) -> Table:
    """Return the Core table of a model: queries are Core statements, not sessions."""
    table = Base.metadata.tables[str(model.__tablename__)]
    assert isinstance(table, Table)
    return table


DEVICE: Final = _table(Device)
DEVICE_STATE: Final = _table(DeviceState)
DEVICE_EVIDENCE: Final = _table(DeviceEvidence)
ATTESTATION: Final = _table(Attestation)
SHADOW_VERDICT: Final = _table(ShadowVerdict)
TRANSITION: Final = _table(Transition)
REFUSAL: Final = _table(Refusal)
EVENT_LOG: Final = _table(EventLog)
CHANGE: Final = _table(Change)
GRANT: Final = _table(Grant)
CERTIFICATE: Final = _table(Certificate)
VPN_CREDENTIAL: Final = _table(VpnCredential)
VPN_ADDRESS: Final = _table(VpnAddress)
CRL: Final = _table(Crl)
TOKEN: Final = _table(Token)
