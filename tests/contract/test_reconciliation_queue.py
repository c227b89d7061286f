"""Finance's queue on real databases: an act and its effect in one commit, once, whoever repeats it and whoever races it.

Each test has its own PSP and cases. Rows O1 and P32 of failures.md; issue 4, point 5.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, make_url, select, text, update

from tests.contract.house import SqlHouse
from tests.contract.proxy import Cut, CutProxy
from zerosum.domain.case import Approve, Assign, CaseState, Comment, Propose, Reject, Resolution
from zerosum.domain.discrepancy import Action, Class, Kind
from zerosum.domain.refusal import Reason, Refusal
from zerosum.finance_queue import Acted, CaseView, MismatchFilter
from zerosum.readers import MalformedPosition
from zerosum.store.database import Database
from zerosum.store.engine import open_engine
from zerosum.store.paging import position_of
from zerosum.store.reconciliation import queue as reconciliation_queue
from zerosum.store.reconciliation.queue import SqlFinanceQueue
from zerosum.store.reconciliation.table import ACTS, DELIVERIES, MISMATCHES
from zerosum.store.session import Session
from zerosum.store.wire import Call, Query

HOUR_MS = 3_600_000
DRY_RUN = [["psp:stripe:clearing:USD", 1_000, "USD"], ["suspense:USD", -1_000, "USD"]]


class Desk:
    """A queue on a database, with cases of one PSP."""

    def __init__(self, house: SqlHouse) -> None:
        self.kind = house.kind
        self.urls = house.urls
        self.psp = f"psp{uuid.uuid4().hex[:10]}"
        self.database = Database(open_engine(house.urls["reconciler"], connections_max=4))
        self.queue = SqlFinanceQueue(self.database)
        self._engine = create_engine(house.urls["admin"].replace("postgresql://", "postgresql+psycopg://", 1))
        with self._engine.connect() as connection:
            clock = "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS INT8)"
            self.now_ms: int = connection.execute(text(clock)).scalar_one()

    def open(self, name: str = "m1", **changed: Any) -> str:
        """Puts a case there, an hour old, as a run would; returns its id."""
        row = {
            "mismatch_id": f"{self.psp}/{name}", "kind": Kind.UNKNOWN_CHARGE, "class": Class.MANUAL, "state": "OPEN",
            "version": 1, "psp": self.psp, "tenant": "", "checkout_id": "", "payment_order_id": "", "line_id": "txn_1",
            "file_id": "f1", "field": "reference", "ours": "", "theirs": "ghost-1", "likely_cause": "a backup",
            "proposal": json.dumps({"action": Action.WRITE_OFF_TO_SUSPENSE, "postings": DRY_RUN, "command": "c"}),
            "amount_minor": 1_000, "currency": "USD", "assignee": "", "proposed_by": "",
            "opened_at_ms": self.now_ms - HOUR_MS, "closed_at_ms": None, "first_run": "r1", "last_run": "r1",
        }  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(insert(MISMATCHES).values({**row, **changed}))
        return str(row["mismatch_id"])

    async def explained(self, query: Query, values: Mapping[str, Any]) -> str:
        """The plan of a statement, where a sequential read costs too much to be chosen for a small table's sake."""
        call = query.call(values)

        async def work(session: Session) -> str:
            await session.send([Call(b"SET LOCAL enable_seqscan = off")])
            (rows,) = (await session.send([Call(b"EXPLAIN " + call.sql, call.values)])).all()
            return "\n".join(line for (line,) in rows)

        return await self.database.write_unless_conflict(work)

    def put(self, table: Any, **row: Any) -> None:
        """Puts any row there."""
        with self._engine.begin() as connection:
            connection.execute(insert(table).values(row))

    def rows(self, table: Any, mismatch_id: str) -> list[Mapping[str, Any]]:
        """Rows of a case, in the order of their key."""
        with self._engine.connect() as connection:
            of_case = select(table).where(table.c.mismatch_id == mismatch_id)
            found = connection.execute(of_case.order_by(*table.primary_key.columns))
            return [dict(row) for row in found.mappings()]

    async def close(self) -> None:
        """Takes its commands out of the outbox, for another test's would be told what they hold, and closes both ways."""
        with self._engine.begin() as connection:
            ours = DELIVERIES.c.mismatch_id.like(f"{self.psp}/%")
            connection.execute(update(DELIVERIES).where(ours, DELIVERIES.c.state == "OPEN").values(state="DONE"))
        self._engine.dispose()
        await self.database.close()


@pytest.fixture
async def desk(sql_house: SqlHouse) -> Any:
    """A desk on each SQL database in turn."""
    made = Desk(sql_house)
    yield made
    await made.close()


def keys() -> Iterator[str]:
    """Fresh keys."""
    while True:
        yield uuid.uuid4().hex


KEYS = keys()


async def done(desk: Desk, case: str, asked: Any, *, by: str = "ada", key: str = "") -> CaseView:
    """The case after an act that must not be refused."""
    acted = await desk.queue.act(case, asked, by=by, key=key or next(KEYS))
    assert isinstance(acted, Acted)
    return acted.view


async def test_a_write_off_by_two_people_is_one_delivery_of_what_was_proposed(desk: Desk) -> None:
    """Propose, four eyes, approve: acts in order, and one row in the outbox with the dry run's postings."""
    case = desk.open()
    proposed = await done(desk, case, Propose(Resolution.WRITE_OFF, "the PSP confirmed it"))
    assert proposed.proposal is not None
    refused = await desk.queue.act(case, Approve(proposed.proposal.number), by="ada", key="own")
    approved = await done(desk, case, Approve(proposed.proposal.number), by="ben", key="ben-1")

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.FOUR_EYES
    assert approved.row.state is CaseState.APPROVED
    assert [(act.number, act.act, act.actor) for act in approved.acts] == [(1, "propose", "ada"), (2, "approve", "ben")]
    (delivery,) = desk.rows(DELIVERIES, case)
    assert (delivery["kind"], delivery["state"], delivery["tries"]) == ("journal", "OPEN", 0)
    assert json.loads(delivery["body"])["entries"] == DRY_RUN


async def test_an_act_repeated_under_its_key_has_no_second_effect(desk: Desk) -> None:
    """Row O1: the same act again is the same answer, also after the case has moved on."""
    case = desk.open()
    await done(desk, case, Propose(Resolution.WRITE_OFF, "because"), key="p1")
    await done(desk, case, Approve(1), by="ben", key="a1")
    again = await desk.queue.act(case, Approve(1), by="ben", key="a1")
    much_later = await desk.queue.act(case, Propose(Resolution.WRITE_OFF, "because"), by="ada", key="p1")

    assert isinstance(again, Acted)
    assert isinstance(much_later, Acted)
    assert (again.is_replay, much_later.is_replay) == (True, True)
    assert len(desk.rows(ACTS, case)) == 2
    assert len(desk.rows(DELIVERIES, case)) == 1


@pytest.mark.parametrize(
    ("asked", "by"), [(Comment("other"), "ada"), (Comment("first"), "ben"), (Assign("first"), "ada")]
)
async def test_a_key_of_another_act_is_refused(desk: Desk, asked: Any, by: str) -> None:
    """Design section 4: same key, other request: nothing executed. Another person's key is another request."""
    case = desk.open()
    await done(desk, case, Comment("first"), by="ada", key="k")
    refused = await desk.queue.act(case, asked, by=by, key="k")

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.KEY_REUSED
    assert len(desk.rows(ACTS, case)) == 1


async def test_a_persons_key_is_never_taken_for_the_machines(desk: Desk) -> None:
    """The machine's act under that very word does not answer a person's."""
    case = desk.open()
    desk.put(
        ACTS,
        mismatch_id=case,
        number=1,
        act="comment",
        actor="ada",
        act_key="k",
        detail='{"asked":{"text":"t"}}',
        at_ms=1,
    )
    view = await done(desk, case, Comment("t"), by="ada", key="k")

    assert [act.number for act in view.acts] == [1, 2]


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_an_approval_whose_commit_is_in_doubt_has_exactly_one_effect(desk: Desk, cut: Cut) -> None:
    """Q2, D2: before COMMIT nothing is there, after it the key answers; the caller sees one approval either way."""
    case = desk.open()
    await done(desk, case, Propose(Resolution.WRITE_OFF, "because"))
    target = make_url(desk.urls["reconciler"])
    assert target.host is not None
    assert target.port is not None
    async with CutProxy(target.host, target.port) as proxy:
        url = target.set(port=proxy.port).render_as_string(hide_password=False)
        database = Database(open_engine(url, connections_max=1))
        proxy.cut_next(cut)
        acted = await SqlFinanceQueue(database).act(case, Approve(1), by="ben", key="a1")
        await database.close()

    assert isinstance(acted, Acted)
    assert acted.is_replay is (cut is Cut.AFTER)
    assert [row["act"] for row in desk.rows(ACTS, case)] == ["propose", "approve"]
    assert len(desk.rows(DELIVERIES, case)) == 1


async def test_two_people_approve_at_once_and_one_approval_counts(desk: Desk) -> None:
    """Compare-and-swap on the version: the later sees the earlier one's state."""
    case = desk.open()
    await done(desk, case, Propose(Resolution.WRITE_OFF, "because"))
    answers = await asyncio.gather(*(desk.queue.act(case, Approve(1), by=f"ben-{at}", key=f"k{at}") for at in range(4)))

    assert sum(isinstance(answer, Acted) for answer in answers) == 1
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {Reason.ILLEGAL_TRANSITION}
    assert [row["act"] for row in desk.rows(ACTS, case)].count("approve") == 1
    assert len(desk.rows(DELIVERIES, case)) == 1


async def test_many_comments_at_once_are_all_kept_in_one_order(desk: Desk) -> None:
    """Nobody's act is lost to another's: a loser decides again."""
    case = desk.open()
    await asyncio.gather(*(done(desk, case, Comment(f"c{at}")) for at in range(4)))

    assert sorted(row["number"] for row in desk.rows(ACTS, case)) == [1, 2, 3, 4]
    assert [row["version"] for row in desk.rows(MISMATCHES, case)] == [5]


async def test_an_approved_close_is_resolved_at_once_and_posts_nothing(desk: Desk) -> None:
    case = desk.open()
    await done(desk, case, Propose(Resolution.CLOSE, "seen in the bank's own statement"))
    closed = await done(desk, case, Approve(1), by="ben")

    assert closed.row.state is CaseState.RESOLVED
    assert closed.row.closed_at_ms is not None
    assert [(act.act, act.actor) for act in closed.acts][-2:] == [("approve", "ben"), ("settle", "reconciler")]
    assert desk.rows(DELIVERIES, case) == []


async def test_a_rejected_proposal_is_gone_and_the_next_has_a_key_of_its_own(desk: Desk) -> None:
    case = desk.open()
    await done(desk, case, Propose(Resolution.WRITE_OFF, "first"))
    rejected = await done(desk, case, Reject("ask the bank"), by="ben")
    await done(desk, case, Propose(Resolution.WRITE_OFF, "second"))
    stale = await desk.queue.act(case, Approve(1), by="ben", key="k")
    approved = await done(desk, case, Approve(3), by="ben")

    assert (rejected.row.state, rejected.proposal) == (CaseState.OPEN, None)
    assert isinstance(stale, Refusal)
    assert stale.reason is Reason.PROPOSAL_CHANGED
    assert approved.proposal is not None
    assert approved.proposal.reason == "second"


async def test_an_approved_command_of_the_machine_is_given_a_new_budget_under_its_old_key(desk: Desk) -> None:
    """Never a second command: the one that was given up runs again. Where none was given up, nothing is approved."""
    proposal = json.dumps({"action": Action.REPORT_TO_PAYMENT, "postings": [], "command": f"{desk.psp}/txn_1"})
    case, other = desk.open(proposal=proposal), desk.open("m2", proposal=proposal.replace("txn_1", "txn_2"))
    given_up = {
        "kind": "report", "tenant": "acme", "run_id": "r1", "body": "{}", "outcome": "refused", "tries": 20, "due_at_ms": 0,
        "created_at_ms": 0,
    }  # fmt: skip
    desk.put(DELIVERIES, key=f"{desk.psp}/txn_1", mismatch_id=case, state="DEAD", **given_up)
    desk.put(DELIVERIES, key=f"{desk.psp}/txn_2", mismatch_id=other, state="DONE", **given_up)
    for one in (case, other):
        await done(desk, one, Propose(Resolution.AS_PROPOSED, "the service is back"))
    await done(desk, case, Approve(1), by="ben")
    refused = await desk.queue.act(other, Approve(1), by="ben", key="k")

    (delivery,) = desk.rows(DELIVERIES, case)
    assert (delivery["state"], delivery["tries"]) == ("OPEN", 0)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.NOTHING_TO_POST
    assert [row["state"] for row in desk.rows(MISMATCHES, other)] == ["PROPOSED"]
    assert len(desk.rows(ACTS, other)) == 1


async def test_a_case_with_more_acts_than_are_shown_goes_on_counting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on what is shown is none on what may be done: old keys are known, numbers go on."""
    monkeypatch.setattr(reconciliation_queue, "ACTS_MAX", 2)
    case = desk.open()
    for at in range(4):
        view = await done(desk, case, Comment(f"c{at}"), key=f"k{at}")
    again = await desk.queue.act(case, Comment("c0"), by="ada", key="k0")

    assert [act.number for act in view.acts][-2:] == [3, 4]
    assert isinstance(again, Acted)
    assert again.is_replay
    assert len(desk.rows(ACTS, case)) == 4


async def test_a_case_that_is_not_there_is_none(desk: Desk) -> None:
    assert await desk.queue.case("nobody") is None
    assert await desk.queue.act("nobody", Comment("x"), by="ada", key="k") is None


# ---- lists ---------------------------------------------------------------------------------------------------------


async def test_pages_bring_every_case_once_oldest_first(desk: Desk) -> None:
    """Keyset over several states: rows of one instant are told apart by their id."""
    wanted = MismatchFilter(psp=desk.psp)
    for at in range(7):
        desk.open(
            f"m{at}", opened_at_ms=desk.now_ms - HOUR_MS * (1 + at // 3), state=["OPEN", "PROPOSED", "FIXING"][at % 3]
        )
    seen, after = [], ""
    while True:
        page = await desk.queue.mismatches(wanted, 2, after)
        seen += [row.mismatch_id.rpartition("/")[2] for row in page.rows]
        after = page.after
        if not after:
            break

    assert seen == ["m6", "m3", "m4", "m5", "m0", "m1", "m2"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (MismatchFilter(), {"open", "mine", "fee", "old"}),
        (MismatchFilter(state=CaseState.RESOLVED), {"closed"}),
        (MismatchFilter(group=Class.UNCLASSIFIED), {"fee"}),
        (MismatchFilter(kind="unknown_fee"), {"fee"}),
        (MismatchFilter(assignee="ada"), {"mine"}),
        (MismatchFilter(order_id="po-9"), {"mine"}),
        (MismatchFilter(older_than_ms=24 * HOUR_MS), {"old"}),
    ],
)
async def test_a_filter_brings_what_it_names(desk: Desk, wanted: MismatchFilter, expected: set[str]) -> None:
    desk.open("open")
    desk.open("mine", assignee="ada", payment_order_id="po-9")
    desk.open("fee", **{"kind": "unknown_fee", "class": "unclassified"})
    desk.open("old", opened_at_ms=desk.now_ms - 48 * HOUR_MS)
    desk.open("closed", state="RESOLVED")
    rows, after = [], ""
    while True:
        page = await desk.queue.mismatches(wanted, 500, after)
        rows += [row.mismatch_id for row in page.rows if row.psp == desk.psp]
        after = page.after
        if not after:
            break

    assert {row.rpartition("/")[2] for row in rows} == expected


async def test_a_position_of_another_list_is_refused(desk: Desk) -> None:
    with pytest.raises(MalformedPosition):
        await desk.queue.mismatches(MismatchFilter(), 10, '["payments",1,"x"]')
    with pytest.raises(MalformedPosition):
        await desk.queue.mismatches(MismatchFilter(), 10, '["mismatches",9223372036854775808,"x"]')
    assert position_of("mismatches", '["mismatches",1,"x"]') == [1, "x"]


async def test_ageing_counts_open_cases_by_band_and_class(desk: Desk) -> None:
    """Others share the database: what this test adds is counted."""
    before = await desk.queue.ageing(100 * HOUR_MS)
    for at, hours in enumerate((1, 23, 25, 200, 9_000)):
        desk.open(f"m{at}", opened_at_ms=desk.now_ms - hours * HOUR_MS)
    desk.open("closed", state="RESOLVED", opened_at_ms=desk.now_ms - 9_000 * HOUR_MS)
    after = await desk.queue.ageing(100 * HOUR_MS)

    def cases(ageing: Any) -> dict[int, int]:
        return {band.from_hours: band.cases for band in ageing.bands if band.group is Class.MANUAL}

    grown = {hours: count - cases(before).get(hours, 0) for hours, count in cases(after).items()}
    assert {hours: count for hours, count in grown.items() if count} == {0: 2, 24: 1, 168: 1, 720: 1}
    assert after.overdue - before.overdue == 2
    assert after.oldest_ms >= 9_000 * HOUR_MS


async def test_a_page_is_read_from_the_index_of_its_state(desk: Desk) -> None:
    """However many cases are closed, the open ones are found by index. Plans are read as PostgreSQL writes them."""
    if desk.kind == "cluster":
        pytest.skip("a cluster explains itself in other words")
    for at in range(40):
        desk.open(f"closed{at}", state="RESOLVED")
    plans = []
    for query in (reconciliation_queue._FIRST_PAGE, reconciliation_queue._NEXT_PAGE):
        values: dict[str, Any] = {"states": "{OPEN,PROPOSED}", "older_ms": 0, "rows": 5, "after_0": 1, "after_1": "x"}
        values |= dict.fromkeys(("class", "kind", "assignee", "psp", "order_id"), "")
        plans.append(await desk.explained(query, values))

    for plan in plans:
        assert "mismatches_by_state" in plan
        assert "Seq Scan on mismatches" not in plan
