"""Groups with names, scopes and expiry of tokens, quotas, and the audit journal with the triggers that guard it."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_quotas_and_audit"
down_revision = "2026_11_21_accounts"
branch_labels = None
depends_on = None

ALL_SCOPES = "audit read write"
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SQLITE_GUARDS = (
    """CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END""",
    """CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit
    WHEN NOT EXISTS (SELECT 1 FROM audit_pruning WHERE before > OLD.time)
    BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END""",
    """CREATE TRIGGER audit_refuses_replace BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END""",
)
POSTGRESQL_GUARDS = (
    """CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit journal is append-only';
    END $$""",
    """CREATE FUNCTION audit_refuse_delete() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM audit_pruning WHERE before > OLD.time) THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'the audit journal is append-only';
    END $$""",
    """CREATE TRIGGER audit_refuses_update BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()""",
    """CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_delete()""",
)


def upgrade() -> None:
    """To this revision."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "account_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO account_version (id, number) VALUES (1, 1)")
    _add_groups()
    with op.batch_alter_table(
        "tokens",
        recreate="always" if sqlite else "never",
        table_kwargs={"sqlite_autoincrement": True},
    ) as tokens:
        tokens.add_column(sa.Column("scopes", sa.String(64), nullable=False, server_default=ALL_SCOPES))
        tokens.add_column(sa.Column("expires", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "quotas",
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        *(
            sa.Column(limit, sa.BigInteger(), nullable=True)
            for limit in ("spaces", "segments", "bytes", "tasks", "rate")
        ),
        sa.ForeignKeyConstraint(["uid"], ["accounts.uid"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("uid"),
    )
    _add_audit()
    for statement in SQLITE_GUARDS if sqlite else POSTGRESQL_GUARDS:
        op.execute(statement)


def _add_groups() -> None:
    groups = op.create_table(
        "groups",
        sa.Column("gid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("gid"),
    )
    gids = op.get_bind().scalars(sa.text("SELECT DISTINCT gid FROM account_groups")).all()
    now = datetime.now(UTC)
    op.bulk_insert(groups, [{"gid": gid, "name": f"gid-{gid}", "created": now} for gid in gids])
    with op.batch_alter_table("account_groups") as account_groups:
        account_groups.create_foreign_key("account_groups_gid_fkey", "groups", ["gid"], ["gid"])


def _add_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("uid", sa.BigInteger(), nullable=True),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("call", sa.String(64), nullable=False),
        sa.Column("target", sa.String(512), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("errno", sa.String(16), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_uid", "audit", ["uid", "id"])
    op.create_index("ix_audit_time", "audit", ["time"])
    op.create_table(
        "audit_pruning",
        sa.Column("before", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("before"),
    )


def downgrade() -> None:
    """To the one before, which knows neither scopes nor expiry: tokens that have either are revoked."""
    op.get_bind().execute(
        sa.text(
            "UPDATE tokens SET revoked = :now WHERE revoked IS NULL AND (expires IS NOT NULL OR scopes <> :all)"
        ).bindparams(sa.bindparam("now", datetime.now(UTC), sa.DateTime(timezone=True)), all=ALL_SCOPES)
    )
    op.drop_table("audit")
    op.drop_table("audit_pruning")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_refuse()")
        op.execute("DROP FUNCTION audit_refuse_delete()")
    op.drop_table("quotas")
    with op.batch_alter_table("tokens") as tokens:
        tokens.drop_column("scopes")
        tokens.drop_column("expires")
    with op.batch_alter_table("account_groups") as account_groups:
        account_groups.drop_constraint("account_groups_gid_fkey", type_="foreignkey")
    op.drop_table("groups")
    op.drop_table("account_version")
