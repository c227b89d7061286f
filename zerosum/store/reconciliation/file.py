# ruff: noqa: S608 - statements here are made of names of ours
"""Settlement files into the store: streaming, whole or not at all, the same however often and by however many at once.

    read       the whole file through its dialect's reader: hash and controls, the lines into a spool on the disk
    load       the spool, in chunks, under state LOADING: they do not count yet
    decide     one transaction: LOADING -> ACCEPTED, and the version before it -> SUPERSEDED (or itself, if it is the older)

A crash at any point leaves a row that the next call with the same bytes goes on from. Two calls at once write the same rows
under the same keys. Source: failures.md P31, L10.

Invariant: the stored lines of a file are a prefix of it, and only an ACCEPTED file has all of them.
"""

import asyncio
import marshal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final

from sqlalchemy import text

from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Category, Line
from zerosum.domain.settlement_control import Controls, Manifest
from zerosum.errors import Misconfigured
from zerosum.ports import Dialect
from zerosum.reconciling import FileRow, FileState, Imported, Incoming
from zerosum.store import statement
from zerosum.store.database import Database
from zerosum.store.loading import CLOCK
from zerosum.store.mapping import Row, canonical_json
from zerosum.store.reconciliation.settle import reverse_settlement
from zerosum.store.reconciliation.table import FILES, LINES
from zerosum.store.session import Session
from zerosum.store.wire import compiled

CHUNK_LINES = 2_000
"""Lines a transaction: 2,000 x ~400 B = 0.8 MB and some 40 ms."""

PAYOUTS_MAX = 1_000
"""Payouts of one file that has no manifest: a day has one a currency; more is no file of a day."""

REFUSED_DAYS = 30
"""For so long a refused file waits for one that counts: a month's closing; what nobody has sent anew by then is let be."""


class FileStore:
    """Implements `reconciling.Files.take`, `list` and `refused`."""

    def __init__(self, database: Database, dialects: Mapping[str, Dialect]) -> None:
        """`dialects`: how each PSP's files are read."""
        self._database = database
        self._dialects = dialects

    async def take(self, content: BinaryIO, told: Incoming) -> Imported:
        """Takes a file, whole or not at all. Raises Misconfigured (no dialect for this PSP), Unavailable."""
        dialect = self._dialects.get(told.psp)
        if dialect is None:
            raise Misconfigured(f"no settlement files of {told.psp} can be read")
        with TemporaryFile() as spool:
            read = await asyncio.to_thread(_read, content, told.manifest, dialect, spool)
            before = await self.get(read.file_id)
            file = await self._record(told, read)
            if file.state is not FileState.LOADING:
                return Imported(file, is_known=before is not None)
            if (
                read.refused
            ):  # another taking of the same bytes is under way, or died: this one's manifest is no part of it
                return Imported(replace(file, state=FileState.REFUSED, reason=read.refused))
            await self._load(read, spool)
            return await self._accept(file, read)

    async def list(self, psp: str, rows_max: int, after: str) -> Sequence[FileRow]:
        """Newest first. `after`: the file_id of the last row of the page before."""
        query = (_NEXT_PAGE if after else _FIRST_PAGE)[bool(psp)]
        values = {"psp": psp, "rows": rows_max, "after": after}
        return [file_of(row) for row in await self._database.look(query.call(values))]

    async def refused(self) -> Sequence[FileRow]:
        """Refused of late, and none accepted for it since; oldest first."""
        return [file_of(row) for row in await self._database.look(_UNREPLACED.call({"days": REFUSED_DAYS}))]

    async def get(self, file_id: str) -> FileRow | None:
        """One file, as recorded."""
        rows = await self._database.look(_GET.call({"file_id": file_id}))
        return file_of(rows[0]) if rows else None

    # ---- steps ---------------------------------------------------------------------------------------------------

    async def _record(self, told: Incoming, read: "_Read") -> FileRow:
        """The file's row: made, or as it is. One that was REFUSED for want of the right manifest loads when it has come."""

        async def work(session: Session) -> FileRow:
            of_day = {"psp": told.psp, "day": read.day, "file_id": read.file_id}
            clock, others = (await session.send([CLOCK, _OF_THE_DAY.call(of_day)])).all()
            is_mixed = any(has_manifest is not bool(read.manifest) for (has_manifest,) in others)
            checked = replace(read, refused=read.refused or _MIXED) if is_mixed else read
            row = _new_row(told, checked, clock[0][0])
            calls = [session.call(statement.insert(FILES), [row]), _GET.call(row)]
            if not checked.refused:
                calls.insert(1, _RELOAD.call(row))
            return file_of((await session.send(calls)).all()[-1][0])

        return await self._database.write_again(work)

    async def _load(self, read: "_Read", spool: BinaryIO) -> None:
        ((loaded,),) = await self._database.look(_LOADED.call({"file_id": read.file_id}))
        spool.seek(0)
        for _ in range(read.chunks):
            chunk = [row for row in marshal.load(spool) if row[0] > loaded]  # noqa: S302 - what this very call has written
            if chunk:
                rows = [dict(zip(_LINE_NAMES, (read.file_id, *row), strict=True)) for row in chunk]
                await self._database.write_again(lambda session, rows=rows: _insert_lines(session, rows))  # type: ignore[misc] # mypy takes the default for a third type

    async def _accept(self, file: FileRow, read: "_Read") -> Imported:
        values = {"file_id": file.file_id, "psp": file.psp, "series": read.series, "day": read.day}
        values["manifest"] = read.manifest

        async def work(session: Session) -> Imported:
            rows, ((newest,),) = (await session.send([_GET.call(values), _NEWEST_VERSION.call(values)])).all()
            known = file_of(rows[0])
            if known.state is not FileState.LOADING:  # another importer of the same bytes was first
                return Imported(known, is_known=True)
            version = read.version or newest + 1
            is_newest = version >= newest  # a version may arrive after the one that takes its place
            state = FileState.ACCEPTED if is_newest else FileState.SUPERSEDED
            calls = [_DECIDE.call({**values, "version": version, "state": state}), CLOCK]
            if is_newest:
                calls = [_SUPERSEDE.call(values), *calls, _ARRIVED.call(values)]
            replies = (await session.send(calls)).all()
            decided, clock = replies[-3:-1] if is_newest else replies
            superseded = sorted(old for (old,) in replies[0]) if is_newest else []
            for old in superseded:  # exactly what counts no more: one that stayed posted would be settled twice
                await reverse_settlement(session, old, clock[0][0])
            return Imported(file_of(decided[0]), superseded=superseded[0] if superseded else "")

        return await self._database.write_again(work)


# ---- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """What a whole reading told. `chunks`: how many the spool has. `version`: 0 = the PSP does not count.

    `period_ms`: [from, to), (0, 0) where not even a line was read. `day`: that of its last instant.
    `refused`: why the file may not count, "" where it may. `manifest`: what was understood of it, "" where nothing was.
    """

    file_id: str
    lines: int
    chunks: int
    day: str
    series: str
    period_ms: tuple[int, int]
    version: int
    refused: str
    manifest: str


def _read(content: BinaryIO, manifest: str, dialect: Dialect, spool: BinaryIO) -> _Read:
    content.seek(0)
    told = dialect.read_manifest(manifest.encode()) if manifest else None
    controls, payouts, wrong = Controls(), set[str](), None
    chunk: list[tuple[str | int, ...]] = []
    chunks = 0
    for line in dialect.read_lines(content, controls):
        if isinstance(line, Refusal):
            wrong = line
            break
        if line.category is Category.PAYOUT and len(payouts) < PAYOUTS_MAX:
            payouts.add(line.payout_id)
        chunk.append(_spooled(line))
        if len(chunk) == CHUNK_LINES:
            marshal.dump(chunk, spool)
            chunk, chunks = [], chunks + 1
    marshal.dump(chunk, spool)
    while block := content.read(1 << 20):  # what is behind the fault belongs to the hash as well
        controls.feed(block)
    manifest_of = told if isinstance(told, Manifest) else None
    refused = wrong or (told if isinstance(told, Refusal) else controls.check(manifest_of))
    period_ms = (manifest_of.period_from_ms, manifest_of.period_to_ms) if manifest_of else controls.period_ms
    series = manifest_of.series if manifest_of else "+".join(sorted(payouts))
    day = datetime.fromtimestamp(max(period_ms[1] - 1, 0) / 1_000, UTC).strftime("%Y-%m-%d")
    reason = _reason(refused) if refused else ""
    version = manifest_of.version if manifest_of else 0
    understood = _manifest_text(manifest_of) if manifest_of else ""
    return _Read(controls.sha256, controls.rows, chunks + 1, day, series, period_ms, version, reason, understood)


def _manifest_text(manifest: Manifest) -> str:
    """What was understood of a manifest, as JSON: whatever else stood in it is not kept."""
    sums = {currency: [each.gross_minor, each.fee_minor, each.net_minor] for currency, each in manifest.sums.items()}
    return canonical_json({
        "rows": manifest.rows, "sums": sums, "payouts": [[*key, minor] for key, minor in manifest.payouts.items()],
        "sha256": manifest.sha256, "series": manifest.series, "version": manifest.version,
        "period_ms": [manifest.period_from_ms, manifest.period_to_ms],
    })  # fmt: skip


def _reason(refused: Refusal) -> str:
    return (
        f"{refused.reason}: {refused.field}: {refused.message}"
        if refused.field
        else f"{refused.reason}: {refused.message}"
    )


_MIXED: Final = "MALFORMED: manifest: the day has files with and without one, and the same lines would count twice"
"""A file is told from its re-issue by what its manifest says, or by its payouts: of one day it must be the same for all."""


def _new_row(told: Incoming, read: _Read, now_ms: int) -> Row:
    state = FileState.REFUSED if read.refused else FileState.LOADING
    return {
        "file_id": read.file_id, "psp": told.psp, "name": told.name, "series": read.series, "version": 0, "state": state,
        "reason": read.refused, "manifest": read.manifest, "lines": read.lines, "day": read.day,
        "period_from_ms": read.period_ms[0], "period_to_ms": read.period_ms[1], "received_by": told.received_by,
        "received_at_ms": now_ms, "decided_at_ms": now_ms if read.refused else None,
    }  # fmt: skip


_LINE_NAMES = (
    "file_id", "line_no", "line_id", "category", "psp_object_id", "tenant", "checkout_id", "reference", "refund_key",
    "currency", "gross_minor", "fee_minor", "net_minor", "booked_at_ms", "payout_id",
)  # fmt: skip


def _spooled(line: Line) -> tuple[str | int, ...]:
    """A line as the spool keeps it: its row without the file's id, which is known at the end."""
    return (
        line.number, line.id, line.category.value, line.object_id, line.tenant, line.checkout_id, line.reference,
        line.refund_key, line.gross.currency, line.gross.amount_minor, line.fee_minor, line.net_minor,
        line.created_at_ms, line.payout_id,
    )  # fmt: skip


async def _insert_lines(session: Session, rows: Sequence[Row]) -> None:
    (await session.send([session.call(statement.insert(LINES), rows)])).all()


def file_of(row: Sequence[Any]) -> FileRow:
    """The file a row of `_COLUMNS` stands for."""
    made = dict(zip(_NAMES, row, strict=True))
    return FileRow(**{**made, "state": FileState(made["state"])})


# ---- statements ----------------------------------------------------------------------------------------------------

_NAMES = tuple(field.name for field in fields(FileRow))
_COLUMNS = ", ".join(_NAMES)
_NOW = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS INT8)"
_F = FILES.fullname

_GET = compiled(text(f"SELECT {_COLUMNS} FROM {_F} WHERE file_id = :file_id"))


def _page(condition: str) -> str:
    return (
        f"SELECT {_COLUMNS} FROM {_F} AS t WHERE {condition}t.received_at_ms > 0 "
        "ORDER BY t.received_at_ms DESC, t.file_id DESC LIMIT CAST(:rows AS INT8)"
    )


def _page_after(condition: str) -> str:
    beyond = (
        "t.received_at_ms <= a.received_at_ms AND (t.received_at_ms, t.file_id) < (a.received_at_ms, a.file_id) AND "
    )
    return (
        f"SELECT p.* FROM {_F} AS a CROSS JOIN LATERAL ({_page(condition + beyond)}) AS p "
        "WHERE a.file_id = CAST(:after AS TEXT) ORDER BY p.received_at_ms DESC, p.file_id DESC"
    )


_CONDITIONS = {False: "", True: "t.psp = CAST(:psp AS TEXT) AND "}
_FIRST_PAGE = {is_of_psp: compiled(text(_page(condition))) for is_of_psp, condition in _CONDITIONS.items()}
_NEXT_PAGE = {is_of_psp: compiled(text(_page_after(condition))) for is_of_psp, condition in _CONDITIONS.items()}
"""Of one PSP or of all, each in the order of an index of its own."""
_UNREPLACED = compiled(
    text(
        f"SELECT {_COLUMNS} FROM {_F} AS f WHERE state = 'REFUSED' "
        f"AND decided_at_ms > {_NOW} - CAST(:days AS INT8) * 86400000 AND NOT EXISTS (SELECT 1 FROM {_F} AS s "
        "WHERE s.psp = f.psp AND s.state IN ('ACCEPTED', 'SUPERSEDED') AND s.decided_at_ms > f.decided_at_ms "
        "AND (s.series = f.series AND f.series <> '' OR f.manifest = '' AND "
        "(f.period_to_ms > 0 AND s.day = f.day OR f.period_to_ms = 0 AND s.name = f.name))) "
        "ORDER BY received_at_ms, file_id LIMIT 1000"
    )
)
"""Its successor was decided after it: the version that a re-issue was to take the place of is none."""
_LOADED = compiled(text(f"SELECT coalesce(max(line_no), 0) FROM {LINES.fullname} WHERE file_id = :file_id"))
_RELOAD = compiled(
    text(
        f"UPDATE {_F} SET state = 'LOADING', reason = '', manifest = :manifest, lines = CAST(:lines AS INT8), day = :day, "
        "series = :series, period_from_ms = CAST(:period_from_ms AS INT8), period_to_ms = CAST(:period_to_ms AS INT8), "
        f"decided_at_ms = NULL WHERE file_id = :file_id AND state = 'REFUSED' RETURNING {_COLUMNS}"
    )
)
_OF_THE_DAY = compiled(
    text(
        f"SELECT manifest <> '' FROM {_F} WHERE psp = :psp AND day = :day AND state IN ('ACCEPTED', 'LOADING') "
        "AND file_id <> :file_id"
    )
)
_NEWEST_VERSION = compiled(
    text(f"SELECT coalesce(max(version), 0) FROM {_F} WHERE psp = :psp AND series = :series AND version > 0")
)
_SUPERSEDE = compiled(
    text(
        f"UPDATE {_F} SET state = 'SUPERSEDED' WHERE psp = :psp AND series = :series AND version > 0 "
        "AND state = 'ACCEPTED' RETURNING file_id"
    )
)
_DECIDE = compiled(
    text(
        f"UPDATE {_F} SET state = :state, version = CAST(:version AS INT4), series = :series, day = :day, "
        f"manifest = :manifest, decided_at_ms = {_NOW} WHERE file_id = :file_id AND state = 'LOADING' RETURNING {_COLUMNS}"
    )
)
_ARRIVED = compiled(
    text(
        "INSERT INTO reconciliation.expected_files (psp, day, due_at_ms, file_id) VALUES (:psp, :day, 0, :file_id) "
        "ON CONFLICT (psp, day) DO UPDATE SET file_id = excluded.file_id"
    )
)
