"""The services that the reconciler's outbox talks to, in one fake.

Tests share an outbox: each looks at what concerns its own PSP.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zerosum.domain.journal import Journal
from zerosum.ports import Done, ItemOutcome
from zerosum.reconciling import SettlementReport
from zerosum.store.reconciliation.outbox import Peers


class World:
    """Ledger, wallet and payment service in one fake: it remembers what came of this PSP, and answers as the test says."""

    def __init__(self, psp: str) -> None:
        self.journals: list[Journal] = []
        self.reports: list[SettlementReport] = []
        self.answer: Callable[[], ItemOutcome] = Done
        self._psp = psp

    async def post(self, journal: Journal) -> ItemOutcome:
        """As `ports.LedgerPeer`."""
        if journal.owner != f"psp:{self._psp}":
            return Done()
        self.journals.append(journal)
        return self.answer()

    async def apply(self, transfer: Any) -> ItemOutcome:
        """As `ports.WalletPeer`."""
        return Done()

    async def report_settlement(self, report: SettlementReport) -> ItemOutcome:
        """As `reconciling.PaymentPeer`."""
        if report.line.psp != self._psp:
            return Done()
        self.reports.append(report)
        return self.answer()

    def peers(self) -> Peers:
        """All three."""
        return Peers(self, self, self)

    def sums(self) -> Mapping[str, int]:
        """Account -> sum of everything that was posted under an id of its own."""
        sums: dict[str, int] = {}
        for journal in {journal.journal_id: journal for journal in self.journals}.values():
            for entry in journal.entries:
                sums[entry.account] = sums.get(entry.account, 0) + entry.money.amount_minor
        return {account.replace(self._psp, "psp"): minor for account, minor in sums.items() if minor}

    def written_off(self) -> set[int]:
        """What each posting of two people moved between clearing and suspense: an outbox promises no order among them."""
        accounts = {f"psp:{self._psp}:clearing:USD", "suspense:USD"}
        return {
            abs(entry.money.amount_minor)
            for journal in self.journals
            if {entry.account for entry in journal.entries} == accounts
            for entry in journal.entries
        }
