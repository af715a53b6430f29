"""How Alembic reaches the database: by the connection it is handed, or by `sqlalchemy.url` on its command line."""

from alembic import context
from sqlalchemy import Connection

from storage.sql.database import AccountDatabase
from storage.sql.tables import Base


def run(connection: Connection) -> None:
    """Run the migrations in the connection's transaction."""
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    database = AccountDatabase(context.config.get_main_option("sqlalchemy.url") or "")
    with database.writing.begin() as own:
        run(own)
    database.close()
