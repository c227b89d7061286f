"""Schema revisions, run by Alembic through `zerosum.store.migrate` alone. See there for the rules."""
