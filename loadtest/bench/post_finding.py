"""What `zerosum bench post` tells of its pairs, in process and over gRPC: medians and ranges, ratios of neighbours.

Pure. Invariant: whatever was lost, given up or compared too seldom stands in the finding.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

from loadtest.bench import machine
from loadtest.bench.card import Card
from loadtest.bench.finding import PAIRS_MIN, Cell, Finding, few_pairs, number, ratios, spread_of
from loadtest.bench.post_load import Case, Lane, Pair, Reading
from loadtest.peers.table import OURS
from loadtest.plot import Chart, Line
from loadtest.sample import Percentiles


@dataclass(frozen=True, slots=True)
class Balances:
    """Reads of one seller's balance: pairs, and by peer how many entries that account has and how long a read took, in ms."""

    pairs: Sequence[Pair]
    entries: Mapping[str, int]
    took: Mapping[str, Percentiles]


@dataclass(frozen=True, slots=True)
class Result:
    """All pairs; everybody with what was acknowledged; by peer how much of it a killed database had lost, and its remark."""

    pairs: Sequence[Pair]
    lanes: Sequence[Lane]
    lost: Mapping[str, int]
    not_installed: Sequence[str] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)
    cards: tuple[Card, Card] | None = None
    balances: Balances | None = None


COLUMNS: Final = (
    "postings",
    "ours/s",
    "CPU µs",
    "client µs",
    "beside",
    "theirs/s",
    "CPU µs of theirs",
    "rate, ours : theirs",
    "CPU, theirs : ours",
)
"""CPU of ledger and database; client: of the process that calls, which in process is in both."""

HEADLINE: Final = Case("hot", 64, 1)
"""The case that the goals are about, in process. Over gRPC it is whichever has the best median."""

_COLOURS: Final = ("--c1", "--c2", "--c3", "--c4", "--c5", "--c6")
_Groups = Mapping[tuple[Case | Reading, str], Sequence[Pair]]


def finding_of(result: Result, command: str, *, doors: str = "", headline: Case | None = HEADLINE) -> Finding:
    """One row a case and peer: medians and ranges over the rounds. `doors`: "over gRPC", or "" in process.

    `headline`: the case that it tells; None, or one that was not measured: the one of the best median of ours.
    """
    read = result.balances
    grouped: dict[tuple[Case | Reading, str], list[Pair]] = {}
    for pair in (*result.pairs, *(read.pairs if read is not None else ())):
        grouped.setdefault((pair.case, pair.peer), []).append(pair)
    return Finding(
        bench="post", command=command, headline=_headline(grouped, result.cards, doors, headline), columns=COLUMNS,
        rows=tuple(_row(case, peer, pairs) for (case, peer), pairs in grouped.items()), cards=result.cards,
        losses=tuple(f"{name} has lost {count} acknowledged postings" for name, count in result.lost.items() if count),
        notes=tuple(_notes(result, grouped)), facts=machine.facts(), charts=charts(result.pairs),
    )  # fmt: skip


def _notes(result: Result, grouped: _Groups) -> list[str]:
    compared = [len(pairs) for (_, peer), pairs in grouped.items() if peer]
    told = ", ".join(f"{len(lane.acknowledged):,} by {lane.name}" for lane in result.lanes)
    return [
        f"acknowledged and found again after the database was killed: {told}" if not any(result.lost.values())
        else f"acknowledged: {told}",
        *few_pairs(min(compared, default=PAIRS_MIN)),
        *(f"{name} is not installed: nothing is said of it" for name in result.not_installed),
        *(f"{lane.name} gave up {lane.given_up} calls" for lane in result.lanes if lane.given_up),
        *(f"{name}, {remark}" for name, remark in result.remarks.items() if remark),
        *(_read_notes(result.balances) if result.balances is not None else ()),
    ]  # fmt: skip


def _read_notes(read: Balances) -> list[str]:
    return [
        f"a balance read at {name}: p50 {number(took.p50_ms or 0.0)}, p99 {number(took.p99_ms or 0.0)} ms of "
        f"{took.count:,}; the account has {read.entries[name]:,} entries there"
        for name, took in read.took.items()
    ]


def _row(case: Case | Reading, peer: str, pairs: Sequence[Pair]) -> tuple[Cell, ...]:
    ours = [pair.ours for pair in pairs]
    theirs = [pair.theirs for pair in pairs if pair.theirs is not None]
    both = bool(theirs)
    return (
        str(case), spread_of(each.per_s for each in ours), spread_of(each.cpu_us for each in ours),
        spread_of(each.client_us for each in ours), peer or None,
        spread_of(each.per_s for each in theirs), spread_of(each.cpu_us for each in theirs),
        ratios([each.per_s for each in ours], [each.per_s for each in theirs]) if both else None,
        ratios([each.cpu_us for each in theirs], [each.cpu_us for each in ours]) if both else None,
    )  # fmt: skip


def _headline(grouped: _Groups, cards: tuple[Card, Card] | None, doors: str, wanted: Case | None) -> str:
    """The case's rate, and beside each peer its ratio and that of the balance reads."""
    rates: dict[Case, list[float]] = {}
    for (case, _), pairs in grouped.items():
        if isinstance(case, Case):
            rates.setdefault(case, []).extend(pair.ours.per_s for pair in pairs)
    case = wanted if wanted in rates else max(rates, key=lambda each: statistics.median(rates[each]))
    per_s = statistics.median(rates[case])
    parts = [f"post{f' {doors}' if doors else ''} ({case}): {per_s:,.0f}/s"]
    if cards is not None:
        parts.append(f"{per_s / cards[0].commits_of_64_clients_per_s:.2f} per one-row commit of the card at 64 clients")
    for (each, peer), pairs in grouped.items():
        theirs = [pair.theirs.per_s for pair in pairs if pair.theirs is not None]
        if theirs and (each == case or isinstance(each, Reading)):
            what = "" if each == case else f"{each}: "
            parts.append(f"{what}{ratios([pair.ours.per_s for pair in pairs], theirs)} x {peer}")
    return "; ".join(parts)


# ---- drawn ---------------------------------------------------------------------------------------------------------


def charts(pairs: Sequence[Pair]) -> tuple[Chart, ...]:
    """Median rates against callers, a line a peer: a chart for each way to post that more than one crowd took."""
    kinds = dict.fromkeys((pair.case.sellers, pair.case.a_call) for pair in pairs if isinstance(pair.case, Case))
    drawn = (_chart(pairs, sellers, a_call) for sellers, a_call in kinds)
    return tuple(chart for chart in drawn if len(chart.lines[0].points) > 1)


def _chart(pairs: Sequence[Pair], sellers: str, a_call: int) -> Chart:
    rates: dict[str, dict[int, list[float]]] = {OURS: {}}
    for pair in pairs:
        if isinstance(pair.case, Case) and (pair.case.sellers, pair.case.a_call) == (sellers, a_call):
            for name, figure in ((OURS, pair.ours), (pair.peer, pair.theirs)):
                if figure is not None:
                    rates.setdefault(name, {}).setdefault(pair.case.in_flight, []).append(figure.per_s)
    lines = tuple(
        Line(name, colour, tuple((float(at), statistics.median(by_callers[at])) for at in sorted(by_callers)))
        for (name, by_callers), colour in zip(rates.items(), cycle(_COLOURS), strict=False)
    )
    return Chart(
        title=f"Postings a second against callers, {sellers}, {a_call} a call", unit="/s", x_unit="callers", is_log=True,
        is_x_log=True, lines=lines,
    )  # fmt: skip
