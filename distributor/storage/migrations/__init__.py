"""alembic's environment; one file for each change of the tables in ``versions``."""
