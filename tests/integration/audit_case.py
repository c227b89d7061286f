"""One audit on a database of its own, and the files that belong to it. Its fixtures are in conftest.py."""

from dataclasses import dataclass
from pathlib import Path

import psycopg

from simulator.audit.book import read_book
from simulator.audit.client import read_journal
from simulator.audit.database import open_database, plain_url
from simulator.audit.evidence import Evidence, Options
from simulator.audit.heads import Heads
from simulator.audit.report import AuditReport, audit
from simulator.audit.settlement import read_delivered, read_settlement

PATIENT = Options(pending_limit_ms=10**15)
"""The pending order of the good world waits for its buyer, and its clock stands still."""


@dataclass(frozen=True)
class Case:
    """A database of its own with the good world in it, and the files that belong to it."""

    url: str
    truth: list[bytes]
    journal: Path
    settlement: Path
    delivered: Path
    folder: Path

    def audit(self, options: Options = PATIENT, logs: tuple[Path, ...] = (), heads: Heads | None = None) -> AuditReport:
        """Audit all sources."""
        with open_database(self.url) as database:
            return audit(
                Evidence(
                    database=database,
                    book=read_book(self.truth),
                    client=read_journal([self.journal]),
                    settlement=read_settlement([self.settlement]),
                    delivered=read_delivered([self.delivered]),
                    heads=heads,
                    logs=logs,
                    options=options,
                )
            )

    def execute(self, statement: str) -> None:
        """Run one statement as the administrator."""
        with psycopg.connect(plain_url(self.url)) as connection:
            connection.execute(statement.encode())

    def tamper(self, *statements: str) -> None:
        """Do as a superuser who passes the triggers by: what grants and triggers cannot stop, the chain must show."""
        self.execute("; ".join(("SET session_replication_role = replica", *statements)))


def with_database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return f"{url.rpartition('/')[0]}/{name}"
