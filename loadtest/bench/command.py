"""What stands behind the commands of `zerosum bench`: a system is started, measured, stopped; the finding is told.

Invariant: one card before and one after each run, on the very system that is measured.
"""

import asyncio
import shutil
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from loadtest.bench import machine
from loadtest.bench.card import NAMES, Card
from loadtest.bench.finding import Finding, console_for, tell
from loadtest.bench.system import card_of, folder_of, own_system
from zerosum.settings import Settings


def card(settings: Settings, *, json_file: Path | None) -> int:
    """Takes the card of a system of its own at rest. 0 when it could measure."""
    console = console_for(json_file)
    taken = asyncio.run(_card(settings, console))
    rows = tuple((NAMES[name], value) for name, value in asdict(taken).items())
    headline = f"card: {taken.commits_of_64_clients_per_s:,.0f} one-row commits/s by 64 clients"
    finding = Finding(
        bench="card", command="zerosum bench card", headline=headline, columns=("what", "figure"), rows=rows,
        facts=machine.facts(),
    )  # fmt: skip
    tell(finding, console, json_file)
    return 0


async def _card(settings: Settings, console: Console) -> Card:
    folder = folder_of(settings, "card")
    try:
        async with own_system(settings, folder, console) as system:
            return await card_of(system)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
