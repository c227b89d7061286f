"""A server of one's own for a bench, and a database of one's own beside ours: for what the bench compares us with.

Invariant: nothing is made twice, and nothing that stands there is changed.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from zerosum.store.embedded import EmbeddedPostgres


@contextmanager
def own_server() -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A server that is up, and a folder on its disk; both are gone after the block. Raises Unavailable, Misconfigured."""
    folder = Path(tempfile.mkdtemp(prefix="zerosum-bench-"))
    folder.chmod(0o711)  # the server's own account passes through it
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        yield server, folder
    finally:
        server.stop()
        shutil.rmtree(folder)


def make_database(admin_url: str, name: str) -> str:
    """Makes a database of this name where it is missing; its URL for the administrator."""
    with psycopg.connect(at_database(admin_url, "postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return at_database(admin_url, name)


def at_database(url: str, name: str) -> str:
    """The same role on the same server, in another database: a plain postgresql:// URL."""
    return urlsplit(url)._replace(scheme="postgresql", path=f"/{name}").geturl()
