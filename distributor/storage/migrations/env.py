"""What alembic runs: the migrations, on the connection that ``upgrade`` gives."""

from __future__ import annotations

from alembic import context

from distributor.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite cannot alter a table in place
)
with context.begin_transaction():
    context.run_migrations()
