"""What a test of the reconciler's store sits at: books and files of a PSP of its own, and the rows that came of them.

Every test has a PSP of its own, so that its runs see its orders only. Files are the simulator's, read by Stripe's dialect.
"""

import io
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from loadtest.bench.reconcile_books import DAY_MS, Order, true_rows, write_books
from simulator.psp import settlement_file
from simulator.psp.settlement import AT, Row
from simulator.psp.settlement_file import Head
from tests.contract.house import SqlHouse, session
from zerosum.domain.fee_contract import STRIPE, FeeContract
from zerosum.domain.money import Money
from zerosum.psp.dialect import DIALECTS
from zerosum.reconciling import Difference, Imported, Incoming, RunKey, RunKind, RunRow
from zerosum.store.opening import open_reconciliation
from zerosum.store.reconciliation.store import Reconciliation, ReconciliationPolicy

DAY = "2026-03-02"
FROM_MS = 1_772_409_600_000
"""The day's first instant, UTC."""


@dataclass(frozen=True, slots=True)
class File:
    """A settlement file as handed in."""

    content: bytes
    manifest: str


class Desk:
    """One test's PSP."""

    def __init__(self, house: SqlHouse, folder: Path) -> None:
        self.psp = f"psp{uuid.uuid4().hex[:8]}"
        self.tenant = str(house.tenant)
        self._house = house
        self._folder = folder
        self._opened: list[Reconciliation] = []

    def open(self, contract: FeeContract = STRIPE, **policy: Any) -> Reconciliation:
        """The store, by a policy of the test's own."""
        wanted = ReconciliationPolicy(psps=(self.psp,), contracts={self.psp: contract}, **policy)
        made = open_reconciliation(self._house.urls["reconciler"], {self.psp: DIALECTS["stripe"]}, wanted)
        self._opened.append(made)
        return made

    def orders(self, count: int, *, day: int = 0, **changed: Any) -> list[Order]:
        """Orders of a day, charged unless `changed` says otherwise; a second call makes others."""
        name = uuid.uuid4().hex[:6]
        made = [
            Order(
                tenant=self.tenant, checkout_id=f"c-{name}-{number}", order_id=f"o-{name}-{number}",
                object_id=f"pi_{name}_{number:04}", money=Money(1_000 + 7 * number, "USD"),
                at_ms=FROM_MS + day * DAY_MS + number * 1_000, psp=self.psp,
            )
            for number in range(count)
        ]  # fmt: skip
        return [Order(**{**_fields(order), **changed}) for order in made]

    def write(self, orders: Sequence[Order]) -> None:
        """Puts orders into the payment service's books."""
        plain = make_url(self._house.urls["admin"]).set(drivername="postgresql")
        write_books(plain.render_as_string(hide_password=False), lambda: iter(orders))

    def stand(self, attempt: str, order: str) -> None:
        """Every attempt and every order of the test is in these states by now."""
        self.rows("UPDATE payment.attempts SET state = %s WHERE tenant = %s", attempt, self.tenant)
        self.rows("UPDATE payment.payment_orders SET payment_order_status = %s WHERE tenant = %s", order, self.tenant)

    def file(self, orders: Iterable[Order], *, day: int = 0, spoil: Callable[[list[Row]], list[Row]] = list) -> File:
        """The PSP's file of a day with these charges; `spoil` changes its rows before totals are made. A second file of the day
        is its next version."""
        head = Head(from_ms=FROM_MS + day * DAY_MS, to_ms=FROM_MS + (day + 1) * DAY_MS, created_ms=FROM_MS)
        rows = spoil([list(row) for row in true_rows(iter(orders), paid_at_ms=head.to_ms)])
        told = settlement_file.write(self._folder, iter(rows), head)
        return File(Path(told["path"]).read_bytes(), Path(told["manifest_path"]).read_text())

    async def take(self, reconciliation: Reconciliation, file: File) -> Imported:
        """Hands a file in."""
        return await reconciliation.files.take(io.BytesIO(file.content), self.told(file))

    def told(self, file: File) -> Incoming:
        """What goes with a file."""
        return Incoming(self.psp, "report.csv", file.manifest, "test")

    async def night(self, reconciliation: Reconciliation, day: str = DAY, **asked: Any) -> RunRow:
        """A run to its end."""
        found = await reconciliation.runs.run(RunKey(RunKind.NIGHTLY, self.psp, day), "test", **asked)
        assert found is not None
        return found

    async def differences(self, reconciliation: Reconciliation, before: RunRow, after: RunRow) -> list[Difference]:
        """What two runs say differently, a row a page; a page that has none is not the last one."""
        found: list[Difference] = []
        page = await reconciliation.runs.compare(before.run_id, after.run_id, 1, "")
        while page.after:
            found += page.rows
            page = await reconciliation.runs.compare(before.run_id, after.run_id, 1, page.after)
        return [*found, *page.rows]

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the administrator reads, or changes."""
        with session(self._house.urls["admin"]) as connection:
            cursor = connection.execute(statement.encode(), list(values))
            return cursor.fetchall() if cursor.description else []

    def cases(self) -> list[tuple[Any, ...]]:
        """Kind, class and state of each case of the PSP."""
        return self.rows(
            "SELECT kind, class, state FROM reconciliation.mismatches WHERE psp = %s ORDER BY kind, mismatch_id",
            self.psp,
        )

    def items(self, run: RunRow) -> Mapping[str, str]:
        """Item -> state."""
        rows = self.rows("SELECT item, state FROM reconciliation.items WHERE run_id = %s", run.run_id)
        return {str(item): str(state) for item, state in rows}

    def lines(self, file_id: str) -> list[tuple[Any, ...]]:
        """Number and id of each stored line of a file, in order."""
        return self.rows(
            "SELECT line_no, line_id FROM reconciliation.lines WHERE file_id = %s ORDER BY line_no", file_id
        )

    async def close(self) -> None:
        """Closes what was opened."""
        for opened in self._opened:
            await opened.close()


def _fields(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in Order.__slots__}


def without(*names: str) -> Callable[[list[Row]], list[Row]]:
    """Leaves out the lines of these orders."""
    column = AT["payment_metadata[payment_order_id]"]
    return lambda rows: [row for row in rows if row[column] not in names]


class Ledger:
    """A ledger that remembers what it was sent, and answers as the test says: a fake of `ports.LedgerPeer`."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self.posted: list[Any] = []
        self._answers = answers

    async def post(self, journal: Any) -> Any:
        """The next answer; an exception is raised."""
        self.posted.append(journal)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Payment:
    """A payment service likewise: a fake of `reconciling.PaymentPeer`."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self.told: list[Any] = []
        self._answers = answers

    async def report_settlement(self, report: Any) -> Any:
        """The next answer."""
        self.told.append(report)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def telling(**cells: str) -> Callable[[list[Row]], list[Row]]:
    """Changes these columns of every row."""

    def spoil(rows: list[Row]) -> list[Row]:
        for row in rows:
            for column, cell in cells.items():
                row[AT[column]] = cell
        return rows

    return spoil
