"""All sources of one audit, and how strictly it looks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulator.audit.book import Book
from simulator.audit.client import ClientJournal
from simulator.audit.database import Database
from simulator.audit.heads import Heads
from simulator.audit.settlement import Settlement, SettlementFile

PENDING_LIMIT_MS: Final = 900_000
"""An order that waits for a person may do so for 15 minutes before it counts as stuck (failures.md, I9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How strictly.

    `in_flight_limit_ms`: age from which an unfinished order or to-do is stuck; 0 = the system has drained.
    `digests`: where the row digests of the run before are, and those of this run go; None = not compared.
    `canaries`: secrets planted on purpose, which must be found nowhere.
    """

    psp: str = "stripe"
    in_flight_limit_ms: int = 0
    pending_limit_ms: int = PENDING_LIMIT_MS
    do_dead_letters_count: bool = False
    digests: Path | None = None
    canaries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The sources; None where one was not given. `logs`: files and folders to be searched for card numbers.

    `delivered`: the settlement files that were handed to the product, damaged or not; `settlement` is the PSP's truth.
    `heads`: heads of the slots' logs, exported outside the database before.
    """

    database: Database
    book: Book | None = None
    client: ClientJournal | None = None
    settlement: Settlement | None = None
    delivered: list[SettlementFile] | None = None
    heads: Heads | None = None
    logs: tuple[Path, ...] = ()
    options: Options = Options()
