# ruff: noqa: S608 - statements here are made of names of ours
"""One night: the accepted files of a PSP's day against our movements, step by step.

    carry, stage    movements set aside: those the last run left EXPECTED, and old days run again since, and those of checkouts
                    stored since
    refunds, cases  and those of orders that were refunded, or got a case of the payment service, since
    objects         pass 1 over lines in the order of their PSP object; what an earlier file told already goes no further
    references      pass 2 over what is left, with every movement of the order, also such as were not set aside
    amounts         pass 3 over lines that name nothing
    lines           what no pass took
    movements       movements without a line: expected, settled by another file, or missing; the settled are put away
    settle          what the lines settle, into the outbox
    close           cases that have become right by themselves
    prune           movements of nights so long ago that no run begins with them any more

Each step commits its rows and how far it is in one transaction, fenced by the run's epoch. Rules: `domain.reconcile`.

What movements and lines have got from other nights is asked in every pass (`elsewhere.py`).

Invariant: a run that dies and goes on, or runs twice at once, ends with the same items as one that did not.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import text

from zerosum.domain.fee_contract import FeeContract
from zerosum.domain.reconcile import conclude, match_amount, match_object, match_reference, set_apart
from zerosum.domain.reconcile_item import Item, Movement, Outcome, Rules, State
from zerosum.domain.settlement import Line
from zerosum.errors import Misconfigured
from zerosum.reconciling import RunRow, RunState
from zerosum.store.database import Database
from zerosum.store.mapping import Row
from zerosum.store.reconciliation.books import Books, Home, Moment, News, Place
from zerosum.store.reconciliation.case import close_settled, find_settled
from zerosum.store.reconciliation.elsewhere import (
    disputes_without_fee,
    first_told,
    still_to_be_judged,
    with_what_they_got,
)
from zerosum.store.reconciliation.leftover import amount_group, leftover_rows, unsigned, used_leftovers
from zerosum.store.reconciliation.line import Groups, RunRows, movement_row, position_of
from zerosum.store.reconciliation.prune import oldest_left, prune_page, put_away
from zerosum.store.reconciliation.record import record
from zerosum.store.reconciliation.run import Claim, RunBook
from zerosum.store.reconciliation.settle import settle_part
from zerosum.store.reconciliation.summary import counted, summary_of
from zerosum.store.reconciliation.table import FILES, LEFTOVERS, MOVEMENTS
from zerosum.store.session import Session
from zerosum.store.statement import insert
from zerosum.store.wire import compiled

STAGE_CHECKOUTS = 1_000
"""Checkouts a step sets aside: 1,000 x 1 to 30 movements."""

COMMITTED_AFTER_MS = 15_000
"""A checkout's time is its turn's; its commit follows within the statement timeout of 5 s, or not at all. Thrice that and it is
there: a checkout is never stored behind the place up to which the books were read."""

Progress = dict[str, Any]


class Nightly:
    """The steps of a nightly run."""

    def __init__(
        self,
        database: Database,
        book: RunBook,
        *,
        due_after_ms: int,
        contracts: Mapping[str, FeeContract],
        kept_days: int,
    ) -> None:
        """`due_after_ms`: a movement's line is expected for so long before it is missing. `contracts`: by PSP. `kept_days`: so
        far back a day may be run, or run again.
        """
        self._database = database
        self._book = book
        self._books = Books(database)
        self._due_after_ms = due_after_ms
        self._contracts = contracts
        self._kept_days = kept_days

    async def go(self, claim: Claim) -> RunRow:
        """Goes on from where the run stands to its end. Raises Superseded, Unavailable, Misconfigured."""
        contract = self.contract_of(claim.run.key.psp)
        if not claim.progress:
            claim = await self._book.step(claim, await self._begin(claim))
        rules = Rules(claim.progress["now_ms"], self._due_after_ms, contract)
        night = _Night(self._database, self._book, self._books, claim, rules, self._kept_days)
        await night.go()
        return await self._book.finish(night.claim, RunState.DONE, summary_of(night.progress))

    def contract_of(self, psp: str) -> FeeContract:
        """What the PSP may keep. Raises Misconfigured where there is no contract: its lines could not be judged."""
        contract = self._contracts.get(psp)
        if contract is None:
            raise Misconfigured(f"there is no fee contract with {psp}: its lines cannot be judged")
        return contract

    async def _begin(self, claim: Claim) -> Progress:
        key = claim.run.key
        files = await self._database.look(_FILES.call({"psp": key.psp, "day": key.period}))
        before = await self._book.last_before(key)
        others = await self._book.ended_since(key, before) if before else ()
        read_to_ms = _progress(await self._read_to(claim)).get("before_ms", claim.now_ms - COMMITTED_AFTER_MS)
        return {
            "phase": PHASES[0], "at": None, "files": [file_id for (file_id,) in files], "now_ms": claim.now_ms,
            "from_ms": _progress(before).get("before_ms", 0), "carry": [before["run_id"], *others] if before else [],
            "before_ms": read_to_ms, "counts": {},
        }  # fmt: skip

    async def _read_to(self, claim: Claim) -> Mapping[str, Any] | None:
        """The run that reads the books no further than this one may; None = it reads all there is.

        Where no later period has run, the next one begins where this one stops. Else what came since is theirs: an old day
        stops where its first attempt did, and one that never ran where the day after it did.
        """
        following = await self._book.next_after(claim.run.key)
        is_first = claim.run.attempt == 1
        return following if following is None or is_first else await self._book.first_attempt(claim.run.key)


class _Night:
    """One run at work."""

    def __init__(
        self, database: Database, book: RunBook, books: Books, claim: Claim, rules: Rules, kept_days: int
    ) -> None:
        self.claim = claim
        self.progress: Progress = dict(claim.progress)
        self._database = database
        self._book = book
        self._books = books
        self._rules = rules
        self._kept_days = kept_days
        self._run_id, self._psp = claim.run.run_id, claim.run.key.psp
        self._rows = RunRows(database, self._run_id, self._psp, self.progress["files"])

    async def go(self) -> None:
        """Every phase from the present one on."""
        for phase in PHASES[PHASES.index(self.progress["phase"]) : -1]:
            step = _STEPS[phase]
            while self.progress["phase"] == phase:
                await step(self)

    # ---- what our books know ---------------------------------------------------------------------------------

    async def carry(self) -> None:
        """A page of what the last run, and old days that were run again since, left EXPECTED, as the books tell it now."""
        runs: Sequence[str] = self.progress["carry"]
        number, after = self.progress["at"] or (0, None)
        left = [RunRows(self._database, run_id, self._psp, ()) for run_id in runs[number : number + 1]]
        rows = await left[0].movements_with_state(after) if left else []
        wanted = {(movement.tenant, movement.order_id) for movement, _ in rows}
        homes = {Home(movement.tenant, movement.checkout_id) for movement, _ in rows}
        found = await self._books.movements(self._psp, homes)
        aside = [movement for movement in found if (movement.tenant, movement.order_id) in wanted]
        next_run = [number + 1, None] if number + 1 < len(runs) else None
        await self._set_aside(aside, [number, position_of(rows[-1][0])] if rows else next_run)

    async def stage(self) -> None:
        """A page of the checkouts stored since the last run."""
        place = Place(*self.progress["at"]) if self.progress["at"] else None
        homes, place = await self._books.checkouts(
            place, from_ms=self.progress["from_ms"], before_ms=self.progress["before_ms"], rows_max=STAGE_CHECKOUTS
        )
        at = [place.slot, place.tenant, place.after_ms, place.after_id] if place else None
        await self._set_aside(await self._books.movements(self._psp, homes), at)

    async def refunds(self) -> None:
        """A page of the orders that were refunded since, whenever they were charged."""
        await self._set_aside_news(News.REFUNDS)

    async def cases(self) -> None:
        """A page of the orders of which the payment service has opened a case since: a late charge, a second one."""
        await self._set_aside_news(News.CASES)

    async def _set_aside_news(self, news: News) -> None:
        moment = Moment(*self.progress["at"]) if self.progress["at"] else None
        orders, moment = await self._books.orders_with(
            news,
            moment,
            from_ms=self.progress["from_ms"],
            before_ms=self.progress["before_ms"],
            rows_max=STAGE_CHECKOUTS,
        )
        found = await self._books.movements(self._psp, {home for home, _ in orders})
        wanted = {(home.tenant, order_id) for home, order_id in orders}
        aside = [movement for movement in found if (movement.tenant, movement.order_id) in wanted]
        await self._set_aside(aside, list(moment) if moment else None)

    async def _set_aside(self, movements: Sequence[Movement], at: Any) -> None:
        rows = [movement_row(self._run_id, movement) for movement in movements]
        await self._step(at, writes=[(MOVEMENTS, rows)])

    # ---- passes ----------------------------------------------------------------------------------------------

    async def objects(self) -> None:
        """Pass 1: first the lines that name no object, then those that do."""
        at = self.progress["at"]
        if at is None or isinstance(at, list):
            lines, after = await self._rows.lines_without_object(at)
            groups: Groups = [("", lines)] if lines else []
            position: Any = list(after) if after else ""
            movements: list[Movement] = []
        else:
            groups, position = await self._rows.by_object(at)
            movements = await self._rows.movements_of_objects([name for name, _ in groups]) if groups else []
        by_object: dict[str, list[Movement]] = {}
        for movement in await self._with_what_they_got(movements):
            by_object.setdefault(movement.object_id, []).append(movement)
        every = [line for _, lines in groups for line in lines]
        told = await first_told(self._database.look, self._psp, self.progress["files"], every)
        firsts = {item: first.line for item, first in told.items()}
        disputes = await self._disputes_of(every)

        def match(name: str, lines: list[Line]) -> Outcome:
            items, others = set_apart(lines, firsts, self._rules)
            found = match_object(others, by_object.get(name, ()), self._rules, _about(others, disputes))
            return replace(found, items=(*items, *found.items))

        await self._pass(position, groups, match)

    async def references(self) -> None:
        """Pass 2: with all movements of the order, wherever they are, and what has them already."""
        groups, position = await self._rows.left(2, self.progress["at"] or "")
        by_order = await self._movements_of([name for name, _ in groups]) if groups else {}
        disputes = await self._disputes_of([line for _, lines in groups for line in lines])

        def match(name: str, lines: list[Line]) -> Outcome:
            return match_reference(lines, by_order.get(name, ()), self._rules, disputes.get(name, ()))

        await self._pass(position, groups, match, number=2)

    async def _disputes_of(self, lines: Sequence[Line]) -> Mapping[str, Sequence[Line]]:
        return await disputes_without_fee(self._database.look, self._psp, self.progress["files"], lines)

    async def _movements_of(self, orders: Sequence[str]) -> dict[str, list[Movement]]:
        wanted, homes = set(orders), await self._books.homes_of(orders)
        every = await self._books.movements(self._psp, set(homes))
        taken = await self._rows.taken([movement for movement in every if movement.order_id in wanted])
        found: dict[str, list[Movement]] = {}
        for movement in await self._with_what_they_got(taken):
            found.setdefault(movement.order_id, []).append(movement)
        return found

    async def _with_what_they_got(self, movements: Sequence[Movement]) -> list[Movement]:
        return await with_what_they_got(self._database.look, self.claim.run.key, movements)

    async def amounts(self) -> None:
        """Pass 3: lines that name neither object nor order."""
        groups, position = await self._rows.left(3, self.progress["at"] or "")
        monies = [unsigned(lines[0].gross) for _, lines in groups]
        by_amount: dict[str, list[Movement]] = {}
        for movement in await self._with_what_they_got(await self._rows.movements_of_amounts(monies) if groups else []):
            by_amount.setdefault(amount_group(movement.money), []).append(movement)
        await self._pass(
            position, groups, lambda name, lines: match_amount(lines, by_amount.get(name, ()), self._rules), number=3
        )

    async def lines(self) -> None:
        """What no pass took of the files."""
        lines, after = await self._rows.left_alone(4, self.progress["at"])
        items = await _in_thread(conclude, lines, (), self._rules)
        used = used_leftovers(self._run_id, 4, [("", lines)])
        await self._step(list(after) if after else None, items=items, call=used)

    async def movements(self) -> None:
        """Movements without a line; of all that were set aside only those still EXPECTED are kept for the next run."""
        rows = await self._rows.movements_with_state(self.progress["at"])
        alone = await self._with_what_they_got([movement for movement, state in rows if not state])
        waiting = [movement for movement in alone if not movement.settled_by]
        unjudged = await still_to_be_judged(self._database.look, self._psp, self.progress["files"], waiting)
        due = [movement for movement in alone if movement.item not in unjudged]
        not_due = [movement for movement in alone if movement.item in unjudged]
        items = await _in_thread(conclude, (), due, self._rules)
        items += await _in_thread(conclude, (), not_due, replace(self._rules, now_ms=0))
        kept = {item.movement.item for item in items if item.movement and item.state is State.EXPECTED}
        kept |= {movement.item for movement, state in rows if state == State.EXPECTED}
        done = [movement for movement, _ in rows if movement.item not in kept]
        away = put_away(self._run_id, done) if done else None
        await self._step(position_of(rows[-1][0]) if rows else None, items=items, call=away)

    async def _pass(
        self, at: Any, groups: Groups, match: Callable[[str, list[Line]], Outcome], *, number: int = 1
    ) -> None:
        outcomes = await _in_thread(lambda: [match(name, lines) for name, lines in groups])
        items = [item for outcome in outcomes for item in outcome.items]
        left = [line for outcome in outcomes for line in outcome.lines]
        rows = leftover_rows(self._run_id, self.progress["phase"], left)
        used = used_leftovers(self._run_id, number, groups)
        await self._step(at, items=items, writes=[(LEFTOVERS, rows)], call=used)

    # ---- what follows ----------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """A part of a file into the outbox."""
        await self._step_with(lambda session, now_ms, at: settle_part(
            session, self._run_id, self._psp, self.progress["files"], at, now_ms
        ))  # fmt: skip

    async def close(self) -> None:
        """A page of the cases that are open."""
        right, at = await find_settled(self._database, self.claim.run, self.progress["at"])
        after = self._after(at, ())

        async def write(session: Session, now_ms: int) -> None:
            await close_settled(session, self._run_id, right, now_ms)

        self.claim, self.progress = await self._book.step(self.claim, after, write), after

    async def prune(self) -> None:
        """A page of what the oldest night left."""
        run_id = await oldest_left(self._database, self._psp, self.claim.run.key.period, self._kept_days)
        await self._step(run_id, call=prune_page(run_id) if run_id else None)

    # ---- one step --------------------------------------------------------------------------------------------

    async def _step(
        self, at: Any, *, items: Sequence[Item] = (), writes: Iterable[tuple[Any, list[Row]]] = (), call: Any = None
    ) -> None:
        """Commits what was found and where to go on; `at` None = with the next phase."""
        after = self._after(at, items)

        async def write(session: Session, now_ms: int) -> None:
            calls = [session.call(insert(table), rows) for table, rows in writes if rows]
            if call is not None:
                calls.append(call)
            if calls:
                (await session.send(calls)).all()
            await record(session, self._run_id, items, now_ms)

        self.claim, self.progress = await self._book.step(self.claim, after, write), after

    def _after(self, at: Any, items: Sequence[Item]) -> Progress:
        following = PHASES[PHASES.index(self.progress["phase"]) + 1] if at is None else self.progress["phase"]
        counts = counted(self.progress["counts"], items)
        return {**self.progress, "phase": following, "at": at, "counts": counts}

    async def _step_with(self, work: Callable[[Session, int, Any], Awaitable[Any]]) -> None:
        """A step whose work tells where to go on. The place is a step of its own: the work may be done again."""
        at: Any = None

        async def write(session: Session, now_ms: int) -> None:
            nonlocal at
            at = await work(session, now_ms, self.progress["at"])

        self.claim = await self._book.step(self.claim, self.progress, write)
        await self._step(at)


_STEPS: Mapping[str, Callable[[_Night], Awaitable[None]]] = {
    "carry": _Night.carry, "stage": _Night.stage, "refunds": _Night.refunds, "cases": _Night.cases,
    "objects": _Night.objects, "references": _Night.references, "amounts": _Night.amounts, "lines": _Night.lines,
    "movements": _Night.movements, "settle": _Night.settle, "close": _Night.close, "prune": _Night.prune,
}  # fmt: skip
PHASES = (*_STEPS, "done")


def _about(lines: Sequence[Line], disputes: Mapping[str, Sequence[Line]]) -> list[Line]:
    """The disputes of the orders that these lines name."""
    return [dispute for name in sorted({line.reference for line in lines}) for dispute in disputes.get(name, ())]


async def _in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """Matching is CPU: beside the loop, so that the lease and whoever shares the process go on."""
    return await asyncio.to_thread(work, *arguments)


def _progress(row: Mapping[str, Any] | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(row["progress"]) if row else {}
    return found


# ---- statements ----------------------------------------------------------------------------------------------------

_FILES = compiled(
    text(
        f"SELECT file_id FROM {FILES.fullname} WHERE psp = :psp AND day = :day AND state = 'ACCEPTED' ORDER BY file_id"
    )
)
