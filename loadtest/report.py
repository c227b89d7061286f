"""The certificate as one HTML file that needs nothing else: no network, no script, no font.

Invariant: whatever was stored, injected or typed is escaped before it reaches the page.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Final

from loadtest.certificate import Certificate, Invariant, PhaseFigures, State
from loadtest.journeys import CREATE
from loadtest.outcome import Outcome
from loadtest.plot import Chart, Line, Mark, Shade, draw
from loadtest.report_style import STYLE
from loadtest.sample import Percentiles, Sample, percentiles

P95_GOAL_MS: Final = 300.0
"""The checkout path's own goal (specification: p95 below 300 ms)."""

_ALARMS_SHOWN: Final = 20
_OPEN: Final = (("EXECUTING", "--c1"), ("NOT_STARTED", "--c6"), ("PENDING", "--c3"), ("AUTHORIZED", "--c5"))
_CLOSED: Final = (("SUCCESS", "--c2"), ("FAILED", "--c4"), ("CANCELED", "--c6"))


@dataclass(frozen=True, slots=True)
class StatusCount:
    """Orders by status at an instant, as the database had them."""

    t_ms: int
    orders: Mapping[str, int]


def read_status_counts(path: Path) -> list[StatusCount]:
    """The file the demo writes: a JSON object a line, {"t_ms": .., "SUCCESS": .., ..}. A torn last line is left out."""
    counts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        counts.append(StatusCount(int(record.pop("t_ms")), {str(name): int(count) for name, count in record.items()}))
    return counts


def write_report(
    path: Path, certificate: Certificate, samples: Sequence[Sample], statuses: Sequence[StatusCount] = ()
) -> None:
    """Writes the report, whole or not at all."""
    write_page(path, render_report(certificate, samples, statuses))


def write_page(path: Path, page: str) -> None:
    """Writes a document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(page, encoding="utf-8")
    fresh.replace(path)


def render_report(certificate: Certificate, samples: Sequence[Sample], statuses: Sequence[StatusCount] = ()) -> str:
    """The report as one HTML document."""
    title = f"Zerosum · {certificate.verdict}"
    body = [
        _head(certificate),
        _cards(certificate),
        *(f'<p class="warning">{escape(each)}</p>' for each in certificate.warnings),
        "<h2>Speed <small>from the intended instant to the final answer</small></h2>",
        _latencies(certificate),
        "<h2>Over time</h2>",
        *(chart_panel(chart) for chart in charts(certificate, samples, statuses)),
        "<h2>The audit <small>what an outsider can check</small></h2>",
        audit_table(certificate.invariants),
        *_settlement(certificate),
        "<h2>What was done to it</h2>",
        _injected(certificate),
        "<h2>Run it again</h2>",
        f"<pre>{escape(certificate.facts.command)}</pre>",
        f"<footer>Seed {certificate.facts.seed}. Drawn without a network; nothing on this page loads anything.</footer>",
    ]
    return html_page(title, body)


def html_page(title: str, body: Iterable[str]) -> str:
    """A whole document in the house's style. `title` is escaped here; `body` is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(certificate: Certificate) -> str:
    if certificate.is_clean:
        return (
            '<header class="good"><p class="eyebrow">Zerosum · certificate</p><h1>Clean</h1>'
            f'<p class="say">{certificate.effects:,} charges, each exactly once. Every source agrees.</p></header>'
        )
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in certificate.reasons)
    return (
        '<header class="bad"><p class="eyebrow">Zerosum · certificate</p><h1>Not clean</h1>'
        f"<p>What speaks against it:</p><ul>{reasons}</ul></header>"
    )


def _cards(certificate: Certificate) -> str:
    facts = certificate.facts
    zero = [
        ("charged or posted twice", certificate.doubles),
        ("lost", certificate.losses),
        ("attempts unknown", certificate.unknown),
        ("dead letters", certificate.dead_letters),
        ("stuck", certificate.stuck),
    ]
    cards = [
        card("checkouts intended", f"{certificate.intents:,}"),
        card("charges in the PSP's book", f"{certificate.effects:,}"),
    ]
    cards += [card(name, f"{count:,}", "bad" if count else "good") for name, count in zero]
    batch = f"{facts.average_batch:.1f}" if facts.average_batch is not None else "-"
    cards.append(card("average batch, turns a commit", batch))
    return f'<div class="cards">{"".join(cards)}</div>'


def card(name: str, value: str, kind: str = "") -> str:
    """A figure with its name. `kind`: "good", "bad" or neither."""
    return f'<div class="card {kind}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _latencies(certificate: Certificate) -> str:
    rows = "".join(_phase_rows(each) for each in certificate.phases)
    names = ("final", "a second", "p50 ms", "p95 ms", "p99 ms", "worst ms", "pending")
    heads = "".join(f'<th class="n">{name}</th>' for name in names)
    return f'<div class="panel speed"><table><tr><th>phase</th>{heads}</tr>{rows}</table></div>'


def _phase_rows(each: PhaseFigures) -> str:
    faults = ' <span class="pill warn">faults on</span>' if each.phase.has_faults else ""
    rows = (
        f"<tr><td>{escape(each.phase.name)}{faults}</td>{_cells(each.submits, f'{each.rate_per_s:,.1f}')}"
        f'<td class="n">{each.pending:,} ({each.pending_share:.2%})</td></tr>'
    )
    if each.views.count:
        rows += f'<tr class="sub"><td>views</td>{_cells(each.views, "")}<td></td></tr>'
    return rows


def _cells(figures: Percentiles, rate: str) -> str:
    values = [_ms(value) for value in (figures.p50_ms, figures.p95_ms, figures.p99_ms, figures.max_ms)]
    return "".join(f'<td class="n">{value}</td>' for value in (f"{figures.count:,}", rate, *values))


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits are enough to read


def audit_table(invariants: Iterable[Invariant]) -> str:
    """Every invariant with what the audit says of it."""
    rows = "".join(_invariant(each) for each in invariants)
    heads = '<tr><th></th><th>statement</th><th class="n">examined</th><th class="n">wrong</th><th>state</th></tr>'
    return f'<div class="panel audit"><table>{heads}{rows}</table></div>'


def _invariant(each: Invariant) -> str:
    kind = {State.HELD: "good", State.VIOLATED: "bad", State.NOT_CHECKED: "warn"}[each.state]
    under = "".join(
        f"<li><code>{escape(example.subject)}</code> {escape(example.problem)} "
        f"<span>expected {escape(example.expected or '-')}, found {escape(example.found or '-')}</span></li>"
        for example in each.examples
    )
    if each.count > len(each.examples) > 0:
        under += f"<li><span>and {each.count - len(each.examples):,} more</span></li>"
    notes = "".join(f"<br><small>{escape(note)}</small>" for note in each.notes)
    return (
        f'<tr class="{"wrong" if each.state is State.VIOLATED else ""}"><td class="id">{escape(each.id)}</td>'
        f"<td>{escape(each.statement)}{notes}{f'<ul class=examples>{under}</ul>' if under else ''}</td>"
        f'<td class="n">{each.examined:,}</td><td class="n">{each.count:,}</td>'
        f'<td><span class="pill {kind}">{escape(each.state.value)}</span></td></tr>'
    )


def _settlement(certificate: Certificate) -> Iterable[str]:
    """Planted and found side by side; nothing where no file was damaged."""
    reconciled = certificate.facts.reconciled
    if reconciled is None or reconciled.judgement is None:
        return
    names = "".join(f'<th class="n">{name}</th>' for name in ("planted", "found", "in its class"))
    heads = f"<tr><th>damage</th>{names}<th>class</th></tr>"
    rows = "".join(
        f'<tr class="{"" if each.planted == each.in_class else "wrong"}"><td>{escape(each.kind.replace("_", " "))}</td>'
        f'<td class="n">{each.planted:,}</td><td class="n">{each.found:,}</td><td class="n">{each.in_class:,}</td>'
        f"<td>{escape(each.group)}</td></tr>"
        for each in reconciled.judgement.kinds
    )
    alarms = reconciled.judgement.false_alarms
    told = "".join(f"<li><code>{escape(alarm)}</code></li>" for alarm in alarms[:_ALARMS_SHOWN])
    yield "<h2>Settlement <small>damage planted in the PSP's file, and what the reconciliation made of it</small></h2>"
    yield (
        f'<div class="panel audit"><table>{heads}{rows}</table><p>False alarms: {len(alarms):,}. {escape(reconciled.line)}.</p>'
        f"{f'<ul class=examples>{told}</ul>' if told else ''}</div>"
    )


def _injected(certificate: Certificate) -> str:
    facts = certificate.facts
    beside = {
        "seed": str(facts.seed),
        **facts.settings,
        **({"memory, peak": f"{facts.memory_mb:,.0f} MB"} if facts.memory_mb is not None else {}),
        **({"drained in": f"{facts.drained_ms / 1_000:.1f} s"} if facts.drained_ms is not None else {}),
        **({"EXECUTING at the kill": f"{facts.executing_at_kill:,}"} if facts.executing_at_kill is not None else {}),
    }
    begin_ms = _begin_ms(certificate, ())
    injected = {name.replace("_", " "): f"{count:,}" for name, count in facts.faults_injected.items()}
    injected |= {event.label: f"at {(event.t_ms - begin_ms) / 1_000:.1f} s" for event in certificate.events}
    return (
        f'<div class="two"><div class="panel"><h3>Injected</h3>{pair_table(injected)}</div>'
        f'<div class="panel"><h3>Settings and circumstances</h3>{pair_table(beside)}</div></div>'
    )


def pair_table(pairs: Mapping[str, str]) -> str:
    """Names and values in two columns."""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{escape(value)}</td></tr>' for name, value in pairs.items()
    )
    return f"<table>{rows or '<tr><td>nothing</td></tr>'}</table>"


def chart_panel(chart: Chart, *, names_marks: bool = True) -> str:
    """A chart in its panel, drawn twice, for wide and for narrow pages, so that letters keep their size.

    `names_marks`: what each numbered mark is stands in the legend; False where a chart above has said it.
    """
    wide = draw(chart, width=1_040, height=270).replace("<svg ", '<svg class="wide" ', 1)
    narrow = draw(chart, width=520, height=280).replace("<svg ", '<svg class="narrow" ', 1)
    shape = "box" if chart.is_stacked else ""
    legend = "".join(
        f'<span><i class="{shape}" style="background:var({line.colour})"></i>{escape(line.name)}</span>'
        for line in chart.lines
    )
    legend += "".join(
        f"<span><em>{number}</em>{escape(mark.label)}</span>"
        for number, mark in enumerate(chart.marks if names_marks else (), start=1)
    )
    return (
        f'<div class="panel"><h3>{escape(chart.title)}<small>{escape(chart.unit)}</small></h3>'
        f'<div class="legend">{legend}</div>{wide}{narrow}</div>'
    )


def charts(certificate: Certificate, samples: Sequence[Sample], statuses: Sequence[StatusCount]) -> list[Chart]:
    """Throughput, latency, and orders by status over time; faults shaded, kills marked."""
    begin_ms = _begin_ms(certificate, samples)
    instants = [each.t_ms for each in samples] + [each.t_ms for each in statuses]
    until_s = max(1.0, (max(instants, default=begin_ms) - begin_ms) / 1_000)

    def seconds(t_ms: float) -> float:
        return (t_ms - begin_ms) / 1_000

    frame = Chart(
        title="",
        unit="",
        lines=(),
        shades=tuple(
            Shade(seconds(each.phase.from_ms), seconds(each.phase.until_ms), "faults on")
            for each in certificate.phases
            if each.phase.has_faults
        ),
        marks=tuple(Mark(seconds(event.t_ms), event.label) for event in certificate.events),
        until_s=until_s,
    )
    drawn = [
        replace(frame, title="Throughput", unit="answers a second", lines=_throughput(samples, begin_ms)),
        replace(
            frame,
            title="Latency of checkouts",
            unit="ms",
            lines=_latency(samples, begin_ms),
            is_log=True,
            limit=P95_GOAL_MS,
        ),
    ]
    if statuses:
        drawn.append(
            replace(
                frame,
                title="Orders under way",
                unit="orders",
                lines=_by_status(statuses, _OPEN, seconds),
                is_stacked=True,
            )
        )
        drawn.append(
            replace(frame, title="Orders settled", unit="orders", lines=_by_status(statuses, _CLOSED, seconds))
        )
    return drawn


def _begin_ms(certificate: Certificate, samples: Sequence[Sample]) -> int:
    begun = [each.phase.from_ms for each in certificate.phases] or [each.t_ms for each in samples]
    return min(begun, default=0)


def _throughput(samples: Sequence[Sample], begin_ms: int) -> tuple[Line, ...]:
    kinds = (
        ("checkouts, final", "--c1", (Outcome.FINAL,)),
        ("views", "--c5", (Outcome.READ,)),
        ("checkouts, pending or without an answer", "--c3", (Outcome.PENDING, Outcome.REFUSED, Outcome.UNKNOWN)),
    )
    until_s = max((math.ceil((each.t_ms - begin_ms) / 1_000) for each in samples), default=0)
    lines = []
    for name, colour, outcomes in kinds:
        counts = [0] * (until_s + 1)
        for each in samples:
            if each.outcome in outcomes and each.t_ms >= begin_ms:
                counts[(each.t_ms - begin_ms) // 1_000] += 1
        if any(counts):
            lines.append(
                Line(name, colour, tuple((second + 0.5, float(count)) for second, count in enumerate(counts[:-1])))
            )
    return tuple(lines)


def _latency(samples: Sequence[Sample], begin_ms: int, window_s: int = 2) -> tuple[Line, ...]:
    """Percentiles of each window of two seconds; a window without a final answer is a gap."""
    windows: dict[int, list[float]] = {}
    for each in samples:
        if each.name == CREATE and each.outcome is Outcome.FINAL:
            windows.setdefault((each.t_ms - begin_ms) // (window_s * 1_000), []).append(each.latency_ms)
    figures = {number: percentiles(values) for number, values in windows.items()}
    empty = percentiles(())
    numbers = range(max(0, min(figures, default=0)), max(figures, default=-1) + 1)
    rows = [((number + 0.5) * window_s, figures.get(number, empty)) for number in numbers]
    return (
        Line("p99", "--p99", tuple((at, row.p99_ms) for at, row in rows)),
        Line("p95", "--p95", tuple((at, row.p95_ms) for at, row in rows)),
        Line("p50", "--p50", tuple((at, row.p50_ms) for at, row in rows)),
    )


def _by_status(
    statuses: Sequence[StatusCount], wanted: Sequence[tuple[str, str]], seconds: Callable[[float], float]
) -> tuple[Line, ...]:
    return tuple(
        Line(name, colour, tuple((seconds(each.t_ms), float(each.orders.get(name, 0))) for each in statuses))
        for name, colour in wanted
        if any(each.orders.get(name, 0) for each in statuses)
    )
