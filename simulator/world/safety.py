"""What must hold at every moment, however bad it is: looked at after every commit and every line of the PSP's book.

    slots       epochs never fall, seq rises by one with each entry of the log (I7)
    history     an order moves only along `MOVES` (I8)
    ledger      every journal that was posted sums to zero per currency (I1)
    PSP's book  at most one charge an order that was not given back (I4); nothing is given back undecided (I14)
    refunds     no journal says that money went back before the book does (I22)

Invariant: only what is new is looked at, so that looking costs little; nothing here asks the product's own rules.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from zerosum.store.memory_table import MemoryTable

WRONG_MAX: Final = 20
"""One broken rule breaks others: the first findings say most."""

MOVES: Final = frozenset(
    {
        ("NOT_STARTED", "EXECUTING"), ("NOT_STARTED", "FAILED"),
        ("EXECUTING", "PENDING"), ("EXECUTING", "AUTHORIZED"), ("EXECUTING", "SUCCESS"),
        ("EXECUTING", "FAILED"), ("EXECUTING", "CANCELED"),
        ("PENDING", "AUTHORIZED"), ("PENDING", "SUCCESS"), ("PENDING", "FAILED"), ("PENDING", "CANCELED"),
        ("AUTHORIZED", "SUCCESS"), ("AUTHORIZED", "CANCELED"),
    }
)  # fmt: skip
"""The arrows of docs/order-states.md."""


_GIVEN_BACK: Final = frozenset({"refund", "suspense_refund"})
"""Movements that say that the buyer has the money."""


class Safety:
    """`wrong`: what was found so far, in order."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._tables: dict[str, Mapping[str, MemoryTable]] = {}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._heads: dict[tuple[str, int], tuple[int, int]] = {}
        self._status: defaultdict[str, str] = defaultdict(lambda: "NOT_STARTED")
        self._live: Counter[str] = Counter()
        self._given_back: Counter[str] = Counter()

    def watch(self, service: str, tables: Mapping[str, MemoryTable]) -> None:
        """The tables to look at."""
        self._tables[service] = tables

    def look(self, service: str) -> None:
        """After a commit."""
        for row in self._new(service, "slot_log"):
            epoch, seq = self._heads.get((service, row["slot"]), (0, 0))
            if row["seq"] != seq + 1 or row["epoch"] < epoch:
                self.find(f"I7: {service} slot {row['slot']} went from {epoch}/{seq} to {row['epoch']}/{row['seq']}")
            self._heads[service, row["slot"]] = (row["epoch"], row["seq"])
        if service == "payment":
            for row in self._new(service, "history"):
                self._move(row)
        elif service == "ledger":
            sums: Counter[tuple[str, str]] = Counter()
            for row in self._new(service, "entries"):
                sums[row["journal_id"], row["currency"]] += row["amount_minor"]
            for (journal, currency), rest in sums.items():
                if rest:
                    self.find(f"I1: journal {journal} sums to {rest} {currency}")
            for row in self._new(service, "journals"):
                if row["movement"] in _GIVEN_BACK and not self._given_back[row["payment_order_id"]]:
                    self.find(f"I22: {row['movement']} of order {row['payment_order_id']} without a refund in the book")

    def charged(self, reference: str, change: int) -> None:
        """The PSP took money for this order (+1), or gave it back (-1)."""
        self._live[reference] += change
        if change < 0:
            self._given_back[reference] += 1
            if not any(key[3:5] == (reference, "refund") for key in self._tables["payment"]["operations"].rows):
                self.find(f"I14: order {reference} was given back before that was decided")
        if self._live[reference] > 1:
            self.find(f"I4: order {reference} is charged {self._live[reference]} times at once")

    def forget(self) -> None:
        """The rows were audited and are gone, but for the slots' heads."""
        self._seen.clear()
        self._status.clear()
        self._live.clear()
        self._given_back.clear()

    def find(self, what: str) -> None:
        """Something is wrong."""
        if len(self.wrong) < WRONG_MAX:
            self.wrong.append(what)

    def _move(self, row: Mapping[str, Any]) -> None:
        order, after = row["payment_order_id"], row["status"]
        if not order or not after:
            return
        before = self._status[order]
        if before != after and (before, after) not in MOVES:
            self.find(f"I8: order {order} went from {before} to {after}")
        self._status[order] = after

    def _new(self, service: str, table: str) -> Sequence[Mapping[str, Any]]:
        """Rows since the last look, oldest first. These tables only grow: what is undone was added last."""
        rows = self._tables[service][table].rows
        fresh = len(rows) - self._seen[service, table]
        if not fresh:
            return ()
        self._seen[service, table] = len(rows)
        newest = reversed(rows.values())
        return (next(newest),) if fresh == 1 else list(islice(newest, max(fresh, 0)))[::-1]
