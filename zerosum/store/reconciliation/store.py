"""The reconciler's store as its processes see it: files, runs, calendar and outbox behind the protocols of `reconciling.py`.

Invariant: nothing is decided here; each part has its own module.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import structlog

from zerosum.domain.fee_contract import CONTRACTS, FeeContract
from zerosum.errors import Misconfigured, Retryable, Superseded, ZerosumError
from zerosum.limits import RECONCILE_CATCH_UP_DAYS, RECONCILE_LEASE_MS
from zerosum.ports import Dialect
from zerosum.readers import Page
from zerosum.reconciling import (
    SCHEDULE,
    Difference,
    FileRow,
    Imported,
    Incoming,
    LateFile,
    RunKey,
    RunKind,
    RunRow,
    RunState,
    Summary,
)
from zerosum.store.database import Database
from zerosum.store.reconciliation.calendar import DAY_MS, Calendar
from zerosum.store.reconciliation.compare import compare
from zerosum.store.reconciliation.file import FileStore
from zerosum.store.reconciliation.inside import Inside
from zerosum.store.reconciliation.nightly import Nightly
from zerosum.store.reconciliation.outbox import Peers, SqlOutbox
from zerosum.store.reconciliation.run import Claim, RunBook

_log = structlog.get_logger()

AFTER_CATCH_UP_DAYS = 14
"""Beyond what the schedule catches up by itself, people may still have a day run again: two weeks."""


@dataclass(frozen=True, slots=True)
class ReconciliationPolicy:
    """What a deployment sets. `psps`: whose files come daily.

    `file_due_ms`: how long after the end of its day (UTC) a file may take; `line_due_ms`: after its movement, a line.
    `kept_days`: how far back a day may be run again with what it began with.
    """

    psps: tuple[str, ...] = ("stripe",)
    file_due_ms: int = 12 * 3_600_000
    line_due_ms: int = 3 * DAY_MS
    lease_ms: int = RECONCILE_LEASE_MS
    kept_days: int = RECONCILE_CATCH_UP_DAYS + AFTER_CATCH_UP_DAYS
    contracts: Mapping[str, FeeContract] = field(default_factory=lambda: CONTRACTS)


class SqlFiles:
    """Implements `reconciling.Files`."""

    def __init__(self, database: Database, dialects: Mapping[str, Dialect], policy: ReconciliationPolicy) -> None:
        self.dialects = dialects
        self._store = FileStore(database, dialects)
        self._calendar = Calendar(database, policy.psps, policy.file_due_ms)

    async def take(self, content: BinaryIO, told: Incoming) -> Imported:
        """Takes a file, whole or not at all. Raises Misconfigured, Unavailable."""
        return await self._store.take(content, told)

    async def get(self, file_id: str) -> FileRow | None:
        """One file, as recorded."""
        return await self._store.get(file_id)

    async def list(self, psp: str, rows_max: int, after: str) -> Sequence[FileRow]:
        """Newest first."""
        return await self._store.list(psp, rows_max, after)

    async def refused(self) -> Sequence[FileRow]:
        """Files refused that none was accepted for since."""
        return await self._store.refused()

    async def late(self) -> Sequence[LateFile]:
        """Files that are due and not there; the new ones are marked as told."""
        return await self._calendar.late()


class SqlRuns:
    """Implements `reconciling.Runs`."""

    def __init__(self, database: Database, long_reads: Database, policy: ReconciliationPolicy) -> None:
        self._database = database
        self._book = RunBook(database, policy.lease_ms)
        self._inside = Inside(long_reads, self._book)
        self._nightly = Nightly(
            database,
            self._book,
            due_after_ms=policy.line_due_ms,
            contracts=policy.contracts,
            kept_days=policy.kept_days,
        )

    async def run(self, key: RunKey, holder: str, *, is_again: bool = False, asked_by: str = SCHEDULE) -> RunRow | None:
        """Runs a period to its end; FAILED with its reason where it met what cannot be, until it is asked for again.

        Raises Superseded (another holder took it over), Unavailable, Misconfigured: it is RUNNING, and the next call goes on.
        """
        if key.kind is RunKind.NIGHTLY:
            self._nightly.contract_of(key.psp)
        claim = await self._book.claim(key, holder, is_again=is_again, asked_by=asked_by)
        if not isinstance(claim, Claim):
            return claim
        work = self._nightly if key.kind is RunKind.NIGHTLY else self._inside
        try:
            return await work.go(claim)
        except (Retryable, Superseded, Misconfigured):
            raise
        except Exception as broken:  # noqa: BLE001 - the edge of a run: what is not going to pass ends it, and tells people
            _log.exception("a run met what cannot be", run=claim.run.run_id)
            reason = str(broken) if isinstance(broken, ZerosumError) else repr(broken)
            return await self._book.finish(claim, RunState.FAILED, Summary(reason=reason))

    async def get(self, run_id: str) -> RunRow | None:
        """One run."""
        return await self._book.get(run_id)

    async def list(self, kind: RunKind | None, rows_max: int, after: str) -> Sequence[RunRow]:
        """Newest first."""
        return await self._book.list(kind, rows_max, after)

    async def newest(self, keys: Collection[RunKey]) -> Sequence[RunRow]:
        """The newest attempt of each of these."""
        return await self._book.newest(keys)

    async def failed(self) -> Sequence[RunRow]:
        """What has FAILED and was not made good."""
        return await self._book.failed()

    async def compare(self, before: str, after: str, rows_max: int, position: str) -> Page[Difference]:
        """What differs between two runs."""
        return await compare(self._database, before, after, rows_max, position)


class Reconciliation:
    """All of it over one database. `long_reads`: the same one, by connections whose transactions may stay open."""

    def __init__(
        self,
        database: Database,
        long_reads: Database,
        dialects: Mapping[str, Dialect],
        policy: ReconciliationPolicy,
    ) -> None:
        self.database = database
        self._long_reads = long_reads
        self.files = SqlFiles(database, dialects, policy)
        self.runs = SqlRuns(database, long_reads, policy)

    def outbox(self, peers: Peers) -> SqlOutbox:
        """What carries out what was decided."""
        return SqlOutbox(self.database, peers)

    async def close(self) -> None:
        """Closes every connection."""
        await self._long_reads.close()
        await self.database.close()
