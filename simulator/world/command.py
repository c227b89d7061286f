"""`zerosum simulate`: one seed with its timeline, or a campaign of many.

Invariant: the status is 0 only when nothing was wrong and nothing was missed.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from simulator.world.campaign import campaign
from simulator.world.mix import faults_of, mix_of
from simulator.world.run import FULL, Result, run_seed
from simulator.world.shrink import command_of, mix_from, shrink
from simulator.world.soak import soak
from simulator.world.trace import timeline


def simulate(
    *,
    seed: int | None,
    seeds: int,
    first_seed: int,
    with_trace: bool,
    jobs: int,
    state: Path | None,
    faults: str,
    checkouts: int,
    trouble_s: float,
    hours: float = 0,
    rate: float = 1,
    out: TextIO = sys.stdout,
) -> int:
    """Runs one seed (`seed`), or `seeds` of them. `faults` "" : what each seed draws. Raises ValueError for odd options."""
    if hours:
        if seed is None:
            raise ValueError("a day is one seed's: --hours goes with --seed")
        return _soak(seed, hours, rate, out)
    if seed is None:
        return int(not campaign(seeds=seeds, first_seed=first_seed, jobs=jobs, state=state, out=out).is_right)
    size = replace(FULL, checkouts=checkouts or FULL.checkouts, trouble_s=trouble_s or FULL.trouble_s)
    result = run_seed(seed, mix=mix_from(faults) if faults else mix_of(seed), size=size)
    if with_trace:
        out.writelines(f"{line}\n" for line in timeline(result.trace))
    _tell(result, out)
    if result.findings and not with_trace:
        small = shrink(result)
        print(f"made small: {small.findings[0]}\n  {command_of(small)}", file=out)
    return int(bool(result.findings))


def _soak(seed: int, hours: float, rate: float, out: TextIO) -> int:
    day = soak(seed, hours=hours, rate=rate, out=out)
    for finding in day.findings:
        print(f"WRONG {finding}", file=out)
    print(
        f"seed {seed}: {day.checkouts} checkouts, {day.orders} orders, {day.steps} steps, {day.virtual_s / 3_600:.1f} "
        f"virtual hours, {day.real_s:.0f} s, at most {max(day.memory_mb)} MB after a round, hash {day.hash}\n"
        f"{'WRONG' if day.findings else 'RIGHT: no violation'}",
        file=out,
    )
    return int(bool(day.findings))


def _tell(result: Result, out: TextIO) -> None:
    faults = ", ".join(f"{name} {held}" for name, held in faults_of(result.mix).items()) or "none"
    met = ", ".join(f"{name} {count}" for name, count in sorted(result.met.items()) if count)
    print(
        f"seed {result.seed}: {result.orders} orders, {result.steps} steps, {result.virtual_s:.0f} virtual s, "
        f"hash {result.hash}\nfaults drawn: {faults}\nmet: {met}",
        file=out,
    )
    for finding in result.findings:
        print(f"WRONG {finding}", file=out)
    print("WRONG" if result.findings else "RIGHT: no violation", file=out)
