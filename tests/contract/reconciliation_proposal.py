"""A case that one person has proposed to settle, for tests of what becomes of the proposal."""

from dataclasses import dataclass

from loadtest.bench.reconcile_books import Order
from tests.contract.reconciliation_desk import Desk
from zerosum.domain.case import Approve, Propose, Resolution
from zerosum.domain.refusal import Refusal
from zerosum.finance_queue import Acted, CaseView
from zerosum.store.reconciliation.queue import SqlFinanceQueue
from zerosum.store.reconciliation.store import Reconciliation


@dataclass(frozen=True, slots=True)
class Proposed:
    """A charge for an order we do not have, proposed to be written off by ann."""

    store: Reconciliation
    queue: SqlFinanceQueue
    mismatch_id: str
    number: int
    orders: tuple[Order, Order]

    async def view(self) -> CaseView:
        """The case as it is shown now."""
        found = await self.queue.case(self.mismatch_id)
        assert found is not None
        return found

    async def approve(self) -> Acted | Refusal | None:
        """Bob approves what he was shown before."""
        return await self.queue.act(self.mismatch_id, Approve(self.number), by="bob", key="k2")


async def proposed_write_off(desk: Desk) -> Proposed:
    """The PSP settles two charges, and our books know one of them: ann proposes to write the other off."""
    store = desk.open()
    known, unknown = desk.orders(2)
    desk.write([known])
    await desk.take(store, desk.file([known, unknown]))
    await desk.night(store)
    ((case,),) = desk.rows("SELECT mismatch_id FROM reconciliation.mismatches WHERE psp = %s", desk.psp)
    queue = SqlFinanceQueue(store.database)
    acted = await queue.act(case, Propose(Resolution.WRITE_OFF, "a restored backup"), by="ann", key="k1")
    assert isinstance(acted, Acted)
    assert acted.view.proposal is not None
    return Proposed(store, queue, case, acted.view.proposal.number, (known, unknown))
