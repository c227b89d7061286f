"""What a test of the hourly comparison sits at: orders that were paid, what was posted of them, and the hours as they run."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from sqlalchemy import make_url

from loadtest.bench.reconcile_books import Order, write_books
from tests.contract.house import session
from tests.contract.reconciliation_desk import FROM_MS
from zerosum.domain.case import Approve, Propose, Resolution
from zerosum.domain.identity import EntityKey, Key, OrderId, Tenant, slot_of
from zerosum.domain.journal import Entry, Journal, Movement
from zerosum.domain.money import Money
from zerosum.domain.reconcile_inside import Promise, promises_of
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.wallet import Transfer
from zerosum.finance_queue import Acted
from zerosum.ports import Done
from zerosum.reconciling import RunKey, RunKind, RunRow
from zerosum.store.opening import open_reader, open_reconciliation
from zerosum.store.reconciliation.outbox import Peers
from zerosum.store.reconciliation.queue import SqlFinanceQueue

TENANT = Tenant("shop")


class Inside:
    """A database of its own, in which orders were paid and posted."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.store = open_reconciliation(urls["reconciler"], {})
        self._reader = open_reader("payment", urls["payment"])
        self._admin = make_url(urls["admin"]).set(drivername="postgresql").render_as_string(hide_password=False)
        self._seq = count(1)
        self._days = (f"2026-03-{day:02}" for day in count(3))
        self._hours = (f"2026-03-02T{hour:02}" for hour in count(1))

    async def paid(self, name: str) -> list[Promise]:
        """An order that is SUCCESS, its to-dos long gone; what it promises."""
        order = Order(TENANT, f"c-{name}", f"o-{name}", f"pi_{name}", Money(1_250, "USD"), FROM_MS)
        write_books(self._admin, lambda: iter([order]))
        self.sql("UPDATE payment.payment_events SET fingerprint = '1:f' WHERE checkout_id = %s", order.checkout_id)
        self.touch(name)
        checkout = await self._reader.checkout(EntityKey(TENANT, order.checkout_id))
        assert checkout is not None
        return list(promises_of(checkout))

    def touch(self, name: str) -> None:
        """Something happens to the checkout."""
        slot = slot_of(TENANT, f"c-{name}")
        self.sql(
            "INSERT INTO payment.history VALUES (%s, %s, 0, %s, %s, %s, 'X', '', '', '{}', 1)",
            slot, next(self._seq), TENANT, f"c-{name}", next(self._seq),
        )  # fmt: skip

    def post(self, promise: Promise, *, minor: int = 0) -> None:
        """Posts what was promised; `minor` more of the first side, and of the last one less."""
        request = promise.request
        seq = next(self._seq)
        if isinstance(request, Transfer):
            self.sql(
                "INSERT INTO wallet.entries VALUES (%s, %s, 0, %s, %s, 1, %s, 'pending', %s, %s, %s, 1)",
                slot_of(request.tenant, f"{request.owner}:USD"), seq, request.tenant, f"{request.owner}:USD",
                request.transfer_id, request.money.amount_minor + minor, "USD", request.order_id,
            )  # fmt: skip
        else:
            self._post_journal(request, seq, minor)

    def _post_journal(self, journal: Journal, seq: int, minor: int) -> None:
        slot = slot_of(journal.tenant, journal.owner)
        self.sql(
            "INSERT INTO ledger.journals VALUES (%s, %s, 0, %s, %s, %s, %s, %s, %s, 1)",
            slot, seq, journal.tenant, journal.owner, seq, journal.journal_id, journal.movement, journal.order_id,
        )  # fmt: skip
        for line, entry in enumerate(journal.entries):
            more = {0: minor, len(journal.entries) - 1: -minor}.get(line, 0)
            self.sql(
                "INSERT INTO ledger.entries VALUES (%s, %s, 0, %s, %s, %s, %s, 'USD', %s, 1)",
                slot, seq, line, journal.tenant, journal.journal_id, entry.account, entry.money.amount_minor + more,
            )  # fmt: skip

    def heads(self) -> None:
        """Moves the services' heads to what was written, as their commits would have."""
        for service, table in (("payment", "history"), ("wallet", "entries"), ("ledger", "journals")):
            self.sql(
                f"INSERT INTO {service}.slot_log SELECT DISTINCT slot, seq, 1, '\\x01'::bytea, 1 FROM {service}.{table} "  # noqa: S608 - names of ours
                "ON CONFLICT DO NOTHING"
            )
            self.sql(
                f"INSERT INTO {service}.slots SELECT slot, 1, max(seq), '\\x01'::bytea, 't' FROM {service}.{table} "  # noqa: S608 - names of ours
                "GROUP BY slot ON CONFLICT (slot) DO UPDATE SET seq = excluded.seq"
            )

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """As the administrator."""
        with session(self._admin) as connection:
            cursor = connection.execute(statement.encode(), list(values))
            return cursor.fetchall() if cursor.description else []

    async def hour(self) -> RunRow:
        """The next hour's run."""
        self.heads()
        found = await self.store.runs.run(RunKey(RunKind.INSIDE, "", next(self._hours)), "test")
        assert found is not None
        return found

    async def midnight(self, hour: str = "T00") -> RunRow:
        """The next day's first run: everything is looked at."""
        self.heads()
        found = await self.store.runs.run(RunKey(RunKind.INSIDE, "", next(self._days) + hour), "test")
        assert found is not None
        return found

    def stray(self, name: str, journal_id: str, *, sign: int = 1) -> None:
        """The journal of an order is in the ledger once more, under an id that nobody promised; `sign` -1: reversed."""
        entries = (
            Entry("psp:stripe:clearing:USD", Money(sign * 1_250, "USD")),
            Entry("suspense:USD", Money(-sign * 1_250, "USD")),
        )
        made = Journal(TENANT, Key(journal_id), "s", Movement.SUSPENSE_CHARGE, entries, OrderId(f"o-{name}"))
        self._post_journal(made, next(self._seq), 0)

    async def settle(self, resolution: Resolution) -> None:
        """Two people settle the clearing account's case; what it posts is posted."""
        queue = SqlFinanceQueue(self.store.database)
        ((case,),) = self.sql(
            "SELECT mismatch_id FROM reconciliation.mismatches WHERE kind = 'clearing_not_open_items'"
        )
        proposed = await queue.act(case, Propose(resolution, "found out"), by="ann", key=f"p{next(self._seq)}")
        assert isinstance(proposed, Acted)
        assert proposed.view.proposal is not None
        number = proposed.view.proposal.number
        assert isinstance(await queue.act(case, Approve(number), by="bob", key=f"a{number}"), Acted)
        ledger: Any = _Ledger(self)
        await self.store.outbox(Peers(ledger, ledger, ledger)).deliver(100)

    async def refuse(self) -> None:
        """The outbox is sent, and the ledger takes nothing of it."""
        ledger: Any = _Ledger(self, Refusal(Reason.ACCOUNT_CLOSED, "owner", "it is closed"))
        await self.store.outbox(Peers(ledger, ledger, ledger)).deliver(100)

    def take(self, journal: Journal) -> None:
        """The ledger posts what is sent to it."""
        self._post_journal(journal, next(self._seq), 0)

    def clearing(self) -> list[tuple[Any, ...]]:
        """State, both sides and money of the clearing account's case."""
        return self.sql(
            "SELECT state, ours, theirs, amount_minor FROM reconciliation.mismatches WHERE kind = 'clearing_not_open_items'"
        )

    def cases(self) -> list[tuple[Any, ...]]:
        """Kind and state of each case, by kind."""
        return self.sql("SELECT kind, state FROM reconciliation.mismatches ORDER BY kind, mismatch_id")

    async def close(self) -> None:
        """Closes what was opened."""
        await self.store.close()
        await self._reader.close()


class _Ledger:
    """A fake of `ports.LedgerPeer`: what is sent is posted, or refused."""

    def __init__(self, inside: Inside, refusal: Refusal | None = None) -> None:
        self._inside = inside
        self._refusal = refusal

    async def post(self, journal: Journal) -> Done | Refusal:
        """Once."""
        if self._refusal is not None:
            return self._refusal
        self._inside.take(journal)
        return Done()
