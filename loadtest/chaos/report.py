"""The story of one run of chaos as one HTML file, in the style of the certificate's.

Invariant: whatever was stored, injected or typed is escaped before it reaches the page.
"""

from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Final

from loadtest.certificate import Certificate, Event
from loadtest.chaos.case import CASES, Case, Cell, Harm
from loadtest.chaos.result import Result
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.split import SplitBrain
from loadtest.chaos.story import Story
from loadtest.report import (
    audit_table,
    card,
    chart_panel,
    charts,
    html_page,
    pair_table,
    read_status_counts,
    write_page,
)
from loadtest.sample import read_samples

_HARMS: Final = {Harm.KILL: "SIGKILL", Harm.STOP: "SIGSTOP", Harm.CUT: "connection cut"}


def write_story(path: Path, story: Story, folder: Path) -> None:
    """Writes the page. `folder`: where the run left its samples and its orders by status."""
    write_page(
        path, html_page(f"Zerosum chaos · {'CLEAN' if not story.reasons else 'NOT CLEAN'}", _body(story, folder))
    )


def _body(story: Story, folder: Path) -> Iterator[str]:
    yield _head(story)
    yield _cards(story)
    if story.results:
        yield "<h2>Crash points <small>one checkout each; seconds until the same shard or server served again</small></h2>"
        yield _matrix(story)
    if story.splits:
        yield "<h2>Split brain <small>two live copies of one shard</small></h2>"
        yield from map(_split, story.splits)
    if story.scenarios:
        yield "<h2>Ray forgets, the disk is full</h2>"
        yield from map(_scenario, story.scenarios)
    yield "<h2>Recovery <small>from the end of the harm to the next final reply</small></h2>"
    yield _recoveries(story)
    if story.certificate is not None:
        if story.strikes:
            yield "<h2>Under the monkey <small>each strike is marked</small></h2>"
            yield from _charts(story, story.certificate, folder)
        yield "<h2>The audit <small>what an outsider can check</small></h2>"
        yield audit_table(story.certificate.invariants)
        yield "<h2>What was done, and when</h2>"
        yield f'<div class="panel">{pair_table(_done(story.certificate))}</div>'
    yield f"<h2>Run it again</h2><pre>{escape(story.plan.command())}</pre>"
    yield f"<footer>Seed {story.plan.seed}. Drawn without a network; nothing on this page loads anything.</footer>"


def _head(story: Story) -> str:
    if reasons := story.reasons:
        listed = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
        return (
            '<header class="bad"><p class="eyebrow">Zerosum · chaos</p><h1>Not clean</h1>'
            f"<p>What speaks against it:</p><ul>{listed}</ul></header>"
        )
    return (
        '<header class="good"><p class="eyebrow">Zerosum · chaos</p><h1>Clean</h1>'
        '<p class="say">Every harm was seen, everything came back by itself, and all money moved once.</p></header>'
    )


def _cards(story: Story) -> str:
    good, asked = sum(each.is_good for each in story.results), len(story.plan.cells)
    cards = [card("crash points held", f"{good} of {asked}", "good" if good == asked else "bad")] if asked else []
    cards.append(card("strikes of the monkey", f"{len(story.strikes):,}"))
    cards.append(card("stale writes refused", f"{sum(each.refused for each in story.splits):,}"))
    if story.stood_still_s:
        cards.append(card("this run itself stood still", f"{story.stood_still_s:,.0f} s", "bad"))
    if story.rpc_failures is not None:
        cards.append(
            card("calls of Ray's made to fail", f"{story.rpc_failures:,}", "" if story.rpc_failures else "bad")
        )
    if (certificate := story.certificate) is not None:
        cards.append(card("charges in the PSP's book", f"{certificate.effects:,}"))
        zeros = {"charged or posted twice": certificate.doubles, "lost": certificate.losses, "stuck": certificate.stuck}
        cards += [card(name, f"{count:,}", "bad" if count else "good") for name, count in zeros.items()]
    return f'<div class="cards">{"".join(cards)}</div>'


def _matrix(story: Story) -> str:
    found = {result.cell: result for result in story.results}
    heads = "".join(f"<th>{name}</th>" for name in _HARMS.values())
    rows = "".join(_matrix_row(case, found) for case in CASES)
    return (
        '<div class="panel"><table><tr><th>row</th><th>journey</th><th>process</th><th>point</th><th class="n">pass</th>'
        f"{heads}</tr>{rows}</table></div>"
    )


def _matrix_row(case: Case, found: dict[str, Result]) -> str:
    cells = "".join(f"<td>{_pill(found.get(Cell(case, harm).name))}</td>" for harm in _HARMS)
    point = f"{case.point} {case.detail}".strip()
    return (
        f'<tr><td class="id">{case.row}</td><td>{case.journey}</td><td>{case.process}</td><td>{point}</td>'
        f'<td class="n">{case.nth}</td>{cells}</tr>'
    )


def _pill(result: Result | None) -> str:
    if result is None:
        return '<span class="pill warn">not run</span>'
    if result.is_good:
        return f'<span class="pill good">{result.recovery_s or 0.0:.1f} s</span>'
    return f'<span class="pill bad">wrong</span><br><small>{escape(result.wrong)}</small>'


def _split(told: SplitBrain) -> str:
    pairs = {
        "first copy, of Ray": f"process {told.first}", "second copy": f"process {told.second}",
        "third copy, of Ray": f"process {told.third}" if told.third else "none",
        "the second copy had the slots after": f"{told.taking_ms:,} ms",
        "stale writes refused and counted": f"{told.refused:,}",
    }  # fmt: skip
    return _panel(told, "refused", pair_table(pairs))


def _scenario(told: Scenario) -> str:
    return _panel(told, "held", "")


def _panel(told: Scenario, good: str, table: str) -> str:
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in told.facts)
    title = escape(f"{told.rows}: {told.title}")
    kind, said = ("bad", told.wrong) if told.wrong else ("warn", told.impossible) if told.impossible else ("good", good)
    pill = f'<span class="pill {kind}">{escape(said)}</span>'
    return f'<div class="panel"><h3>{title} {pill}</h3>{table}<ul class="examples">{facts}</ul></div>'


def _recoveries(story: Story) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{times.count}</td><td class="n">{(times.p50_ms or 0) / 1_000:.1f}</td>'
        f'<td class="n">{(times.p99_ms or 0) / 1_000:.1f}</td></tr>'
        for name, times in story.recoveries().items()
    )
    heads = '<tr><th>harm</th><th class="n">times</th><th class="n">p50 s</th><th class="n">p99 s</th></tr>'
    return f'<div class="panel"><table>{heads}{rows}</table></div>'


def _charts(story: Story, certificate: Certificate, folder: Path) -> Iterator[str]:
    """From the first strike's load to the end; what came before had no load to show."""
    shown = replace(
        certificate,
        events=tuple(Event(each.t_ms, each.label) for each in story.strikes),
        phases=certificate.phases[-1:],
    )
    begin_ms = shown.phases[0].phase.from_ms
    statuses = [each for each in read_status_counts(folder / "statuses.jsonl") if each.t_ms >= begin_ms]
    drawn = charts(shown, read_samples(folder / "samples.jsonl"), statuses)
    return (
        chart_panel(chart, names_marks=chart is drawn[0]) for chart in drawn
    )  # a monkey's many strikes are named once


def _done(certificate: Certificate) -> dict[str, str]:
    begin_ms = min((phase.phase.from_ms for phase in certificate.phases), default=0)
    return {
        f"{number}. {event.label}": f"at {(event.t_ms - begin_ms) / 1_000:.1f} s"
        for number, event in enumerate(certificate.events, start=1)
    }
