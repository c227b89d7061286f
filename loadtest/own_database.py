"""A database of one's own beside ours, on the same server with the same settings: for what the bench compares us with.

Invariant: nothing is made twice, and nothing that stands there is changed.
"""

from urllib.parse import urlsplit

import psycopg
from psycopg import sql


def make_database(admin_url: str, name: str) -> str:
    """Makes a database of this name where it is missing; its URL for the administrator."""
    with psycopg.connect(at_database(admin_url, "postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return at_database(admin_url, name)


def at_database(url: str, name: str) -> str:
    """The same role on the same server, in another database: a plain postgresql:// URL."""
    return urlsplit(url)._replace(scheme="postgresql", path=f"/{name}").geturl()
