"""`zerosum bench cost`: what one checkout of one order costs, counted on real processes: alone, at 10 and at 50 a second.

    commits, rows, WAL     of the database, by its own counters
    turns, batch           of the checkout shards, by their figures
    calls through Ray      of every server to its shards, by the shards' figures: commands, and what became of them
    RPCs                   that the servers took, the load's own among them
    CPU                    by process, the load generator and the PSP apart
    processes              of the system, at rest after the last rate
    idle memory            of 100,000 settled checkouts that are still in a shard's memory; after a minute they leave it

Times do not repeat, counts nearly do: those of a lone checkout are held exactly by tests/sim/test_cost.py. Source: speed.md.

Invariant: a count is a difference of two readings of a system at rest, divided by the checkouts between them.
"""

import asyncio
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from loadtest.bench.finding import Cell, Finding
from loadtest.bench.psp_profile import PSP_PROFILES
from loadtest.bench.stage import Demand, Stage
from loadtest.bench.staircase import Step
from loadtest.bench.system import metrics_pages
from loadtest.probe import NOT_THE_SYSTEM, grpc_calls, shard_figures
from servers.reply import encode_reply
from servers.supervisor import System
from servers.wiring import database_url
from zerosum.domain import message as m
from zerosum.domain.checkout import decide
from zerosum.domain.checkout_state import Checkout
from zerosum.domain.draft import Decision, Policy
from zerosum.domain.identity import CheckoutId, Key, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.record import replace
from zerosum.store.embedded import EmbeddedPostgres

RATES: Final = (1.0, 10.0, 50.0)
"""Checkouts a second: nearly alone, and the two ends of what the specification asks for."""

IDLE: Final = 100_000
_SAMPLE: Final = 2_000
AT_REST_S: Final = 3.0
"""The database tells its counters, and shards theirs, a second or two late."""

_COUNTERS: Final = """
SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
       (SELECT sum(n_tup_ins) FROM pg_stat_user_tables), (SELECT sum(n_tup_upd) FROM pg_stat_user_tables),
       pg_current_wal_lsn() - '0/0'::pg_lsn
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of a system at an instant. `turns` and `batches`: of the checkout shards. `calls`: through Ray, to all shards.

    `rpcs`: ended, at all servers.
    """

    commits: float
    inserted: float
    updated: float
    wal_bytes: float
    turns: float
    batches: float
    calls: float
    rpcs: float


@dataclass(frozen=True, slots=True)
class Cost:
    """One rate: its step, and what was counted around it. `checkouts`: all that were offered, warm-up included."""

    step: Step
    before: Reading
    after: Reading
    checkouts: int

    def each(self, name: str) -> float:
        """Of a counter, a checkout."""
        counted: float = getattr(self.after, name) - getattr(self.before, name)
        return counted / max(self.checkouts, 1)


async def costs(system: System, stage: Stage, *, seconds: float) -> list[Cost]:
    """Each rate for so long; slower ones for longer, so that there is something to count."""
    demand = Demand(psp=PSP_PROFILES["zero"])
    await stage.behave(demand.psp)
    found = []
    before, known = await _at_rest(system)
    for tps in RATES:
        step = await stage.offer(demand, tps, seconds * (2 if tps == RATES[0] else 1))
        after, stored = await _at_rest(system)
        found.append(Cost(step, before, after, stored - known))
        before, known = after, stored
    return found


async def _at_rest(system: System) -> tuple[Reading, int]:
    """The counters, once all have been told, and how many checkouts are stored."""
    await asyncio.sleep(AT_REST_S)
    return await asyncio.to_thread(_read, system), await asyncio.to_thread(_checkouts, system)


def _admin_url(system: System) -> str:
    settings = system.settings
    url = settings.database_url or EmbeddedPostgres(settings.data_dir / "postgres").urls()["admin"]
    return url.replace("+psycopg", "")


def _read(system: System) -> Reading:
    pages = metrics_pages(system)
    turns, batches, calls = shard_counts({service: shard_figures(page) for service, page in pages.items()})
    with psycopg.connect(_admin_url(system), autocommit=True) as connection:
        row = connection.execute(_COUNTERS).fetchone()
    assert row is not None  # the counters are always there
    commits, inserted, updated, wal_bytes = map(float, row)
    rpcs = sum(map(grpc_calls, pages.values()))
    return Reading(commits, inserted, updated, wal_bytes, turns, batches, calls, rpcs)


def shard_counts(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> tuple[float, float, float]:
    """Turns and batches of the checkout shards, calls through Ray of all, from service -> shard -> figures."""
    checkouts = figures.get("payment", {}).values()
    turns, batches = (sum(each.get(name, 0.0) for each in checkouts) for name in ("turns", "batches"))
    calls = sum(each.get("calls", 0.0) for shards in figures.values() for each in shards.values())
    return turns, batches, calls


def _checkouts(system: System) -> int:
    url = database_url(system.settings, "auditor").replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM payment.payment_events").fetchone()
    return int(row[0]) if row else 0


# ---- memory of what is idle ------------------------------------------------------------------------------------------


def idle_bytes(count: int = _SAMPLE) -> float:
    """Memory of one settled checkout of one order, as a shard holds it: the mean over so many."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = [_settled(f"c-{number}") for number in range(count)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(held)


_POLICY: Final = Policy(
    psp="stripe", answer_after_ms=10_000, lease_ms=15_000, backoff_base_ms=100, backoff_cap_ms=2_000, horizon_ms=86_400_000
)  # fmt: skip


def _settled(name: str) -> Checkout:
    """A checkout as it is when nothing is owed for it any more, by its own story."""
    money, order = Money(1_250, "USD"), OrderId(f"{name}-o1")
    line = m.OrderLine(order, "seller-1", "12.50", money)
    buyer = m.Buyer("buyer-1", "Ada", "ada@example.com", "GB")
    submit = m.SubmitCheckout(Tenant("bench"), CheckoutId(name), Key(name), buyer, "pm_card_visa", (line,))
    allowed = m.RecordVerdict("", m.Verdict.ALLOW, "")
    facts = [
        m.Report(m.ReportSource.ANSWER, order, "stripe", f"pi_{name}", status, money, order, "")
        for status in (m.ObjectStatus.UNCONFIRMED, m.ObjectStatus.CHARGED)
    ]
    brought = [m.RecordDelivery(f"{kind}/1/{order}") for kind in ("credit_wallet", "post_journal")]
    state: Checkout | None = None
    story: list[m.SubmitCheckout | m.Inner] = [submit, *facts, *brought]
    for command in story:
        decided = decide(state, command, 1_790_000_000_000, _POLICY, allowed)
        assert isinstance(decided, Decision)  # nothing here can be refused
        state = decided.after
        if state.is_answered and state.reply is None:
            state = replace(state, reply=encode_reply(state))
    assert state is not None  # it was submitted
    return state


# ---- telling ---------------------------------------------------------------------------------------------------------

_COUNTED: Final = (
    ("commits", "commits", 1.0), ("rows inserted", "inserted", 1.0), ("rows updated", "updated", 1.0),
    ("WAL, KB", "wal_bytes", 1_024.0), ("turns of the checkout shards", "turns", 1.0), ("calls through Ray", "calls", 1.0),
    ("RPCs", "rpcs", 1.0),
)  # fmt: skip


def finding_of(
    found: Sequence[Cost], idle: float, processes: Mapping[str, int], *, command: str, losses: Sequence[str]
) -> Finding:
    """The rates side by side. `processes`: how many of each kind."""
    steps = [cost.step for cost in found]
    rows: list[tuple[Cell, ...]] = [
        (name, *(cost.each(counter) / unit for cost in found)) for name, counter, unit in _COUNTED
    ]
    rows.append(("turns a commit of the checkout shards", *(step.average_batch for step in steps)))
    dearest = sorted({name for step in steps for name in step.cpu_ms}, key=lambda name: -_cpu(steps[-1], name))
    rows += [(f"CPU ms: {name}", *(_cpu(step, name) for step in steps)) for name in dearest]
    last, ours = found[-1], {name: count for name, count in sorted(processes.items()) if name not in NOT_THE_SYSTEM}
    return Finding(
        bench="cost", command=command, columns=("a checkout of one order", *(f"{tps:g}/s" for tps in RATES)),
        headline=f"cost at {RATES[-1]:g}/s: {last.each('commits'):.2f} commits, "
        f"{last.each('inserted') + last.each('updated'):.0f} rows, {sum(last.step.cpu_ms.values()):.1f} ms of CPU a checkout",
        rows=tuple(rows), losses=tuple(losses),
        notes=(
            f"idle: {idle * IDLE / 2**20:,.0f} MB for {IDLE:,} settled checkouts in memory ({idle:,.0f} bytes each); "
            "none once they have been idle for a minute",
            f"processes: {sum(ours.values())} ({', '.join(f'{name} {count}' for name, count in ours.items())})",
            "calls through Ray: of every server to its shards; those that ask for figures are left out",
            "counts of the whole database: what the servers and shards do by the clock is in them, and counts at a low rate",
        ),
    )  # fmt: skip


def _cpu(step: Step, name: str) -> float:
    spent: Mapping[str, float] = step.cpu_ms
    return spent.get(name, 0.0)
