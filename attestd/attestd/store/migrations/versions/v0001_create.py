"""Create every table."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# As in tables.py on the day of this step; a later change there is a later step here.
IDENTIFIER = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _attestation() -> None:
    op.create_table(
        "attestation",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("previous", sa.BigInteger(), nullable=True),
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", IDENTIFIER, nullable=False),
        sa.Column("tier", IDENTIFIER, nullable=False),
        sa.Column("state", IDENTIFIER, nullable=False),
        sa.Column("profile", IDENTIFIER, nullable=True),
        sa.Column("profile_version", sa.Integer(), nullable=True),
        sa.Column("log_digest", sa.LargeBinary(), nullable=True),
        sa.Column("pcr_digest", sa.LargeBinary(), nullable=True),
        sa.Column("reset_count", sa.BigInteger(), nullable=False),
        sa.Column("clock", sa.BigInteger(), nullable=False),
        sa.Column("attest", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_attestation"),
        sqlite_autoincrement=True,
    )


def _change() -> None:
    op.create_table(
        "change",
        sa.Column("sequence", SERIAL, nullable=False, autoincrement=False),
        sa.Column("kind", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("proposed_by", IDENTIFIER, nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("signatures", sa.Text(), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name="pk_change"),
    )


def _crl() -> None:
    op.create_table(
        "crl",
        sa.Column("number", SERIAL, nullable=False, autoincrement=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_crl"),
    )


def _device() -> None:
    op.create_table(
        "device",
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("name", IDENTIFIER, nullable=True),
        sa.Column("site", IDENTIFIER, nullable=True),
        sa.Column("ek_public", sa.LargeBinary(), nullable=False),
        sa.Column("ek_certificate_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("manufacturer", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("ek_deviations", sa.Text(), nullable=False),
        sa.Column("ak_public", sa.LargeBinary(), nullable=True),
        sa.Column("ak_name", sa.LargeBinary(), nullable=True),
        sa.Column("device_key_name", sa.LargeBinary(), nullable=True),
        sa.Column("device_key_spki", sa.LargeBinary(), nullable=True),
        sa.Column("vpn_keys", sa.Text(), nullable=False),
        sa.Column("tpm_firmware", sa.Text(), nullable=True),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("certificate_serial", IDENTIFIER, nullable=True),
        sa.Column("certificate_not_after", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name="pk_device"),
    )
    op.create_index("ix_device_name", "device", ["name"])
    op.create_index("ix_device_ak_name", "device", ["ak_name"])


def _event_log() -> None:
    op.create_table(
        "event_log",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_event_log"),
    )


def _refusal() -> None:
    op.create_table(
        "refusal",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("device_id", IDENTIFIER, nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("code", IDENTIFIER, nullable=False),
        sa.Column("route", IDENTIFIER, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_refusal"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_refusal_device_id", "refusal", ["device_id"])


def _token() -> None:
    op.create_table(
        "token",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", IDENTIFIER, nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("site", IDENTIFIER, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name="pk_token"),
    )


def _certificate() -> None:
    op.create_table(
        "certificate",
        sa.Column("serial", IDENTIFIER, nullable=False),
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", IDENTIFIER, nullable=True),
        sa.PrimaryKeyConstraint("serial", name="pk_certificate"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_certificate_device_id"),
    )
    op.create_index("ix_certificate_device_id", "certificate", ["device_id"])
    revoked = sa.text("revoked_at IS NOT NULL")
    op.create_index(
        "ix_certificate_revoked", "certificate", ["not_after"], sqlite_where=revoked, postgresql_where=revoked
    )


def _device_evidence() -> None:
    op.create_table(
        "device_evidence",
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("pcrs", sa.LargeBinary(), nullable=False),
        sa.Column("runtime_count", sa.Integer(), nullable=False),
        sa.Column("runtime_value", sa.LargeBinary(), nullable=True),
        sa.Column("runtime_verdict", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name="pk_device_evidence"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_device_evidence_device_id"),
    )


def _device_state() -> None:
    op.create_table(
        "device_state",
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("state", IDENTIFIER, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.Column("reset_count", sa.BigInteger(), nullable=False),
        sa.Column("restart_count", sa.BigInteger(), nullable=False),
        sa.Column("clock", sa.BigInteger(), nullable=False),
        sa.Column("pcr_digest", sa.LargeBinary(), nullable=True),
        sa.Column("log_digest", sa.LargeBinary(), nullable=True),
        sa.Column("tier", IDENTIFIER, nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("profile", IDENTIFIER, nullable=True),
        sa.Column("profile_version", sa.Integer(), nullable=True),
        sa.Column("appraised_at", sa.BigInteger(), nullable=True),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("last_attestation", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name="pk_device_state"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_device_state_device_id"),
        postgresql_with={"fillfactor": 60},
        sqlite_with_rowid=False,
    )


def _grant() -> None:
    op.create_table(
        "grant",
        sa.Column("grant_id", sa.LargeBinary(), nullable=False),
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("minted_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("redeemed_at", sa.BigInteger(), nullable=True),
        sa.Column("serial", IDENTIFIER, nullable=True),
        sa.PrimaryKeyConstraint("grant_id", name="pk_grant"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_grant_device_id"),
    )


def _transition() -> None:
    op.create_table(
        "transition",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("from_state", IDENTIFIER, nullable=True),
        sa.Column("to_state", IDENTIFIER, nullable=False),
        sa.Column("event", IDENTIFIER, nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", IDENTIFIER, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_transition"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_transition_device_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_transition_device_id", "transition", ["device_id"])


def _vpn_address() -> None:
    op.create_table(
        "vpn_address",
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("ipv4", sa.BigInteger(), nullable=False),
        sa.Column("ipv6", sa.LargeBinary(), nullable=False),
        sa.Column("name", IDENTIFIER, nullable=False),
        sa.Column("allocated_at", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name="pk_vpn_address"),
        sa.UniqueConstraint("ipv6", name="uq_vpn_address_ipv6"),
        sa.UniqueConstraint("ipv4", name="uq_vpn_address_ipv4"),
        sa.UniqueConstraint("name", name="uq_vpn_address_name"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_vpn_address_device_id"),
    )


def _vpn_credential() -> None:
    op.create_table(
        "vpn_credential",
        sa.Column("kind", IDENTIFIER, nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "public_key", name="pk_vpn_credential"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_vpn_credential_device_id"),
    )
    op.create_index("ix_vpn_credential_device_id", "vpn_credential", ["device_id"])


def upgrade() -> None:
    """Create every table."""
    _attestation()
    _change()
    _crl()
    _device()
    _event_log()
    _refusal()
    _token()
    _certificate()
    _device_evidence()
    _device_state()
    _grant()
    _transition()
    _vpn_address()
    _vpn_credential()


def downgrade() -> None:
    """Drop every table, those that point at others first."""
    for name in (
        "vpn_credential",
        "vpn_address",
        "transition",
        "grant",
        "device_state",
        "device_evidence",
        "certificate",
        "token",
        "refusal",
        "event_log",
        "device",
        "crl",
        "change",
        "attestation",
    ):
        op.drop_table(name)
