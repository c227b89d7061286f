"""What Alembic runs for each command: the connection comes from `migrate`, never from a file.

Invariant: each step is committed by itself, so that both databases see one DDL statement a transaction. The connection commits
each statement; Alembic is to begin nothing of its own.
"""

from alembic import context

from zerosum.store.migrate import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE)
context.run_migrations()
