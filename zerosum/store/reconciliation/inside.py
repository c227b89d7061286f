"""An hour inside: orders against wallet and ledger, the outbox against the ledger, clearing accounts, and payment's own cases.

Everything is read in one snapshot of all three services. An hour looks at what has changed since the last run, by the heads of
the services' logs. It looks at everything, the sums of the clearing accounts too, in the first run of a day, where it is asked
for again, and where a log does not lead through the heads the last run saw: a service was restored from a backup.
Rules: `domain.reconcile_inside`.

Every page is a step, whether it finds anything or not: a step renews the lease, and an hour that agrees takes as long.

Invariant: only what is not MATCHED is written as an item; a posting that is missing is sent again whole, under its own id.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from zerosum.domain.checkout_state import Checkout
from zerosum.domain.discrepancy import Discrepancy, Kind, Proposal, mismatch_id, rule_of
from zerosum.domain.identity import CheckoutId, Key, Tenant
from zerosum.domain.journal import Journal
from zerosum.domain.message import Mismatch
from zerosum.domain.money import Money
from zerosum.domain.reconcile_clearing import OpenItems, is_write_off_of_clearing
from zerosum.domain.reconcile_inside import (
    Posted,
    Promise,
    Side,
    Verdict,
    clearing_case,
    compare,
    promises_of,
)
from zerosum.domain.reconcile_item import State
from zerosum.domain.reconcile_judgement import told
from zerosum.domain.settlement_posting import settlement_owner
from zerosum.domain.todo import TodoState
from zerosum.domain.wallet import Transfer, TransferKind
from zerosum.reconciling import RunRow, RunState
from zerosum.store.database import Database
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.case import Right, close_settled
from zerosum.store.reconciliation.delivery import journal_body
from zerosum.store.reconciliation.outbox import journal_of
from zerosum.store.reconciliation.posted import Heads, Snapshot
from zerosum.store.reconciliation.record import Found, found_text, record_rows
from zerosum.store.reconciliation.run import Claim, RunBook
from zerosum.store.reconciliation.summary import summary_of
from zerosum.store.session import Session

CHECKOUTS_A_STEP = 200
"""Checkouts compared at once: 200 x 1 to 30 orders with all their rows are some 4 MB."""

_DAY = len("2026-11-26")
"""A period begins with its day."""

SENT_WITHIN_MS = 3_600_000
"""What was delivered up to an hour before the last run is looked at again: its record may have come after that snapshot."""


class Inside:
    """The hourly comparison. `long_reads`: a database whose transactions may stay open for as long as it takes."""

    def __init__(self, long_reads: Database, book: RunBook) -> None:
        self._long_reads = long_reads
        self._book = book

    async def go(self, claim: Claim) -> RunRow:
        """Compares, from its beginning where another holder died: one snapshot cannot be gone on with.

        Raises Superseded, Unavailable.
        """
        before = await self._book.last_before(claim.run.key)
        heads: Heads = json.loads(before["progress"]).get("heads", {}) if before else {}
        is_first = before is None or before["period"][:_DAY] != claim.run.key.period[:_DAY]
        is_whole = claim.run.attempt > 1 or is_first

        async def work(session: Session) -> _Hour:
            snapshot = Snapshot(session)
            since = {} if is_whole or not await snapshot.still_has(heads) else heads
            hour = _Hour(self._book, claim, snapshot, since, before["started_at_ms"] if before and since else 0)
            await hour.go()
            return hour

        hour = await self._long_reads.snapshot(work)
        return await self._book.finish(hour.claim, RunState.DONE, summary_of({"counts": hour.counts}))


class _Hour:
    """One comparison at work. `since`: heads to begin behind, {} = everything; `since_ms`: when they were read."""

    def __init__(self, book: RunBook, claim: Claim, snapshot: Snapshot, since: Heads, since_ms: int) -> None:
        self.claim = claim
        self.counts: Counter[str] = Counter()
        self._book = book
        self._snapshot = snapshot
        self._since = since
        self._since_ms = since_ms
        self._open = OpenItems()

    async def go(self) -> None:
        """All of it, a step at a time."""
        heads = await self._snapshot.heads()
        async for keys in self._snapshot.changed(self._since):
            for at in range(0, len(keys), CHECKOUTS_A_STEP):
                await self._checkouts(await self._snapshot.checkouts(keys[at : at + CHECKOUTS_A_STEP]))
        for side in Side:
            async for postings in self._snapshot.new_postings(side, self._since):
                await self._unpromised(postings)
        await self._outbox()
        if not self._since:
            await self._sums()
        self.claim = await self._book.step(self.claim, {"heads": heads, "counts": dict(self.counts)})

    async def _checkouts(self, checkouts: Sequence[Checkout]) -> None:
        """What these checkouts promise against what is there; payment's own cases."""
        promises = [promise for checkout in checkouts for promise in promises_of(checkout)]
        posted = [found for side in Side for found in await self._snapshot.postings(side, _ids(promises, side))]
        cases = [_payment_case(checkout, case) for checkout in checkouts for case in checkout.mismatches.values()]
        is_open = {case.id for checkout in checkouts for case in checkout.mismatches.values() if not case.is_resolved}
        still = [Found(found) for found, name in cases if name in is_open]
        right = [Right(found.id, "the payment service has resolved it") for found, name in cases if name not in is_open]
        await self._judge(promises, posted, more=still, right=right)

    async def _unpromised(self, postings: Sequence[Posted]) -> None:
        """What was posted and nobody promised. The reconciler's own journals are the outbox's."""
        own = [posted for posted in postings if _is_own(posted)]
        known = await self._snapshot.known_deliveries([posted.id for posted in own]) if own else set()
        extra = [posted for posted in own if posted.id not in known]
        others = [posted for posted in postings if not _is_own(posted)]
        if others:
            homes = await self._snapshot.homes(others)
            checkouts = await self._snapshot.checkouts(sorted(set(homes.values())))
            promised = {(promise.side, promise.id) for each in checkouts for promise in promises_of(each)}
            extra += [posted for posted in others if (posted.side, posted.id) not in promised]
        await self._judge([], extra)

    async def _outbox(self) -> None:
        """Journals of the outbox: what was delivered is in the ledger."""
        async for rows in self._snapshot.deliveries(max(self._since_ms - SENT_WITHIN_MS, 0)):
            journals = [(journal_of(json.loads(row["body"])), row) for row in rows]
            posted = await self._snapshot.postings(
                Side.LEDGER, [(journal.tenant, journal.journal_id) for journal, _ in journals]
            )
            promises = [_promise_of(journal, row) for journal, row in journals]
            off = {each.journal_id for each, row in journals if is_write_off_of_clearing(each, row["mismatch_id"])}
            await self._judge(promises, posted, written_off=off)

    async def _sums(self) -> None:
        """Each clearing account's entries against what was promised of it; a case whose account agrees by now is right."""
        found, right = [], []
        booked: Counter[tuple[Tenant, str]] = Counter()
        async for sums in self._snapshot.clearing():
            for owner, minor in sums.items():
                booked[owner] += minor
            await self._step()
        for tenant, account in sorted({*booked, *self._open.accounts}):
            case = self._open.compare(tenant, account, booked.get((tenant, account), 0))
            if case is not None:
                found.append(Found(case))
            else:
                right.append(Right(clearing_case(tenant, account), "the account is the sum of its open items"))
        await self._write([], found, right)

    # ---- judging ---------------------------------------------------------------------------------------------

    async def _judge(
        self, promises: Sequence[Promise], posted: Sequence[Posted], *, more: Iterable[Found] = (),
        right: Sequence[Right] = (), written_off: Collection[Key] = (),
    ) -> None:  # fmt: skip
        verdicts = compare(promises, posted)
        by_id = {(promise.side, promise.id): promise for promise in promises}
        found = found_of(verdicts, by_id)
        self._open.count(verdicts, by_id, posted, written_off=written_off)
        self.counts.update(f"state/{verdict.state}" for verdict in verdicts)
        self.counts["movements"] += len(verdicts)
        rows = [_row(self.claim.run.run_id, verdict) for verdict in verdicts if verdict.state is not State.MATCHED]
        await self._write(rows, [*found, *more], right)

    async def _write(self, rows: Sequence[Row], found: Sequence[Found], right: Sequence[Right]) -> None:
        if not (rows or found or right):
            await self._step()
            return
        self.counts.update(f"kind/{kind}" for kind in {each.case.id: each.case.kind for each in found}.values())
        run_id = self.claim.run.run_id

        async def write(session: Session, now_ms: int) -> None:
            await record_rows(session, run_id, rows, found, now_ms)
            await close_settled(session, run_id, right, now_ms)

        await self._step(write)

    async def _step(self, write: Callable[[Session, int], Awaitable[None]] | None = None) -> None:
        self.claim = await self._book.step(self.claim, self.claim.progress, write)


# ---- parts ---------------------------------------------------------------------------------------------------------


def _ids(promises: Iterable[Promise], side: Side) -> list[tuple[str, str]]:
    return [(promise.request.tenant, promise.id) for promise in promises if promise.side is side]


def _is_own(posted: Posted) -> bool:
    """A journal of the reconciler: it is written by a PSP, not by a seller."""
    return posted.side is Side.LEDGER and posted.owner.startswith(settlement_owner(""))


def _promise_of(journal: Journal, row: Row) -> Promise:
    """A journal of the outbox as a promise. One that was refused is a dead letter where a case waits for people; a file's
    settlement has none, and what is missing opens it."""
    is_waiting = row["state"] == "OPEN" or (row["state"] == "DEAD" and row["mismatch_id"])
    return Promise(Side.LEDGER, CheckoutId(""), journal, TodoState(row["state"]) if is_waiting else TodoState.DONE)


def _row(run_id: str, verdict: Verdict) -> Row:
    found = verdict.discrepancy
    return {
        "run_id": run_id, "item": f"{verdict.side}/{verdict.id}", "partner": "", "state": verdict.state,
        "matched_by": "", "mismatch_id": found.id if found is not None else "", "found": found_text(found),
    }  # fmt: skip


def found_of(verdicts: Iterable[Verdict], promises: Mapping[tuple[Side, Key], Promise]) -> list[Found]:
    """What does not agree, each with its automatic fix where it has one: the promise again, whole, under its own id."""
    return [
        _found(verdict.discrepancy, promises.get((verdict.side, verdict.id)))
        for verdict in verdicts
        if verdict.discrepancy is not None
    ]


def _found(found: Discrepancy, promise: Promise | None) -> Found:
    if promise is None or not found.proposal.command:
        return Found(found)
    if isinstance(promise.request, Journal):
        return Found(found, ("journal", journal_body(promise.request)))
    return Found(found, (_TRANSFERS[promise.request.kind], _transfer_body(promise.request)))


_TRANSFERS: Mapping[TransferKind, str] = {
    TransferKind.CREDIT_PENDING: "transfer", TransferKind.RETURN_PENDING: "transfer", TransferKind.DEBIT_PENDING: "debit",
}  # fmt: skip
"""The kind of a transfer's delivery: what brings money goes before what takes it (`outbox.BEHIND`)."""


def _transfer_body(transfer: Transfer) -> Mapping[str, Any]:
    """A transfer as the outbox keeps it."""
    return {
        "tenant": transfer.tenant, "transfer_id": transfer.transfer_id, "owner": transfer.owner, "kind": transfer.kind,
        "amount_minor": transfer.money.amount_minor, "currency": transfer.money.currency, "order_id": transfer.order_id,
    }  # fmt: skip


def _payment_case(checkout: Checkout, case: Mismatch) -> tuple[Discrepancy, str]:
    """A case of the payment service as one of the queue, with its own id.

    Nothing is off in clearing by it: what moved is in suspense already, by the payment service's own journal, and a write-off
    would put it there twice.
    """
    tenant = checkout.key.tenant
    found = Discrepancy(
        id=mismatch_id(Kind.PAYMENT_CASE, tenant, f"{checkout.key.id}/{case.id}"), kind=Kind.PAYMENT_CASE, psp=case.psp,
        tenant=tenant, checkout_id=checkout.key.id, order_id=case.order_id, object_id=case.object_id, line_id="",
        file_id="", field=case.kind, ours="", theirs=f"{case.detail} ({told(case.money)})",
        money=Money(0, case.money.currency),
        proposal=Proposal(rule_of(Kind.PAYMENT_CASE).action, (), ""),
    )  # fmt: skip
    return found, case.id
