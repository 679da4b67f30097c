"""Keep what staged versions of profiles say of devices."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# As in tables.py on the day of this step; a later change there is a later step here.
IDENTIFIER = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table of shadow verdicts."""
    op.create_table(
        "shadow_verdict",
        sa.Column("device_id", IDENTIFIER, nullable=False),
        sa.Column("profile_digest", sa.LargeBinary(), nullable=False),
        sa.Column("profile", IDENTIFIER, nullable=False),
        sa.Column("profile_version", sa.Integer(), nullable=False),
        sa.Column("attestation", sa.BigInteger(), nullable=False),
        sa.Column("log_digest", sa.LargeBinary(), nullable=True),
        sa.Column("pcr_digest", sa.LargeBinary(), nullable=True),
        sa.Column("outcome", IDENTIFIER, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", "profile_digest", name="pk_shadow_verdict"),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name="fk_shadow_verdict_device_id"),
    )


def downgrade() -> None:
    """Drop it: staged versions are judged anew by whoever has it again."""
    op.drop_table("shadow_verdict")
