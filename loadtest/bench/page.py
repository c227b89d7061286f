"""A finding as one HTML page that needs nothing else, in the look of the certificate's report.

Pure but for the writing and the telling. Invariant: what stands in the finding is escaped before it reaches the page.
"""

from html import escape
from pathlib import Path

from rich.console import Console

from loadtest.bench.card import NAMES
from loadtest.bench.finding import Finding, cell_text, tell
from loadtest.report import chart_panel, html_page, pair_table, write_page


def draw_and_tell(finding: Finding, folder: Path, console: Console, json_file: Path | None) -> int:
    """The end of a bench: its page in the folder (`post.html`), its table and headline; the status it ends with."""
    page = folder / f"{finding.bench}.html"
    write_finding(page, finding)
    console.print(str(page), style="dim", highlight=False, soft_wrap=True)
    tell(finding, console, json_file)
    return finding.status


def write_finding(path: Path, finding: Finding) -> None:
    """Writes the page, whole or not at all."""
    write_page(path, render_finding(finding))


def render_finding(finding: Finding) -> str:
    """The finding as one HTML document."""
    body = [
        _head(finding),
        "<h2>Figures</h2>",
        _table(finding),
        *_notes(finding),
        *(["<h2>Plots</h2>"] if finding.charts else []),
        *(chart_panel(chart) for chart in finding.charts),
        *_machine(finding),
        "<h2>Run it again</h2>",
        f"<pre>{escape(finding.command)}</pre>",
        "<footer>Drawn without a network; nothing on this page loads anything.</footer>",
    ]
    return html_page(f"Zerosum · bench {finding.bench}", body)


def _head(finding: Finding) -> str:
    eyebrow = f'<p class="eyebrow">Zerosum · bench {escape(finding.bench)}</p>'
    units = f"<p>In units of this machine: {escape(finding.machine_line)}</p>" if finding.machine_line else ""
    if not finding.void_because:
        return f'<header class="good">{eyebrow}<h1>{escape(finding.headline)}</h1>{units}</header>'
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in finding.void_because)
    return (
        f'<header class="bad">{eyebrow}<h1>Void</h1><p class="say">{escape(finding.headline)}, which does not count:</p>'
        f"<ul>{reasons}</ul>{units}</header>"
    )


def _table(finding: Finding) -> str:
    heads = "".join(
        f"<th{' class=n' if place else ''}>{escape(name)}</th>" for place, name in enumerate(finding.columns)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"n" if place else "id"}">{escape(cell_text(cell))}</td>' for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in finding.rows
    )
    return f'<div class="panel"><table><tr>{heads}</tr>{rows}</table></div>'


def _notes(finding: Finding) -> list[str]:
    notes = "".join(f"<li>{escape(note)}</li>" for note in finding.notes)
    return [f'<div class="panel"><h3>To read them by</h3><ul class="examples">{notes}</ul></div>'] if notes else []


def _machine(finding: Finding) -> list[str]:
    if finding.cards is None:
        return ["<h2>Machine</h2>", f'<div class="panel">{pair_table(finding.facts)}</div>']
    before, after = finding.cards
    rows = "".join(_card_row(name, getattr(before, field), getattr(after, field)) for field, name in NAMES.items())
    return [
        "<h2>Machine <small>its own speed, before and after</small></h2>",
        '<div class="panel"><table><tr><th>what</th><th class=n>before</th><th class=n>after</th><th class=n>change</th></tr>'
        f"{rows}</table></div>",
        f'<div class="panel">{pair_table(finding.facts)}</div>',
    ]


def _card_row(name: str, before: float | None, after: float | None) -> str:
    change = f"{after / before - 1:+.0%}" if before and after else None
    figures = "".join(f'<td class="n">{cell_text(each)}</td>' for each in (before, after, change))
    return f'<tr><td class="id">{escape(name)}</td>{figures}</tr>'
