"""Run alembic's migrations on the connection that `hookline migrate` holds."""

from alembic import context

from schemas.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
