"""A failing run made small before people look at it: fewer faults, then fewer checkouts, then a shorter time of trouble.

Each smaller run is a run of its own: it counts when it fails again by the same invariant, whatever else became of it.

Invariant: what is shown fails, and one command runs it again.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from simulator.world.mix import Mix, faults_of
from simulator.world.run import Result, run_seed
from simulator.world.swarm import Size

RUNS_MAX: Final = 60
"""Some 30 faults one by one, then halves: at 10 runs a second it is over while people read the first finding."""

Run = Callable[[int, Mix, Size], Result]


def shrink(failed: Result, run: Run = lambda seed, mix, size: run_seed(seed, mix=mix, size=size)) -> Result:
    """The smallest run found that fails by the same invariant as `failed`; `failed` itself where there is none."""
    rule, smallest, left = _rule(failed), failed, RUNS_MAX
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for mix, size in _smaller(smallest):
            if left == 0:
                return smallest
            left -= 1
            again = run(failed.seed, mix, size)
            if again.findings and _rule(again) == rule:
                smallest, is_smaller = again, True
                break
    return smallest


def _smaller(result: Result) -> Iterator[tuple[Mix, Size]]:
    """What to try next, best first: half of the faults gone, each one gone, then less of everything else."""
    faults, mix, size = list(faults_of(result.mix)), result.mix, result.size
    if len(faults) > 3:  # noqa: PLR2004 - below that one by one is as quick
        half = len(faults) // 2
        for gone in (faults[:half], faults[half:]):
            yield replace(mix, **dict.fromkeys(gone, 0)), size
    for name in faults:
        yield replace(mix, **{name: 0}), size
    for checkouts in dict.fromkeys((size.checkouts // 4, size.checkouts // 2, size.checkouts - 1)):
        if 0 < checkouts < size.checkouts:
            yield mix, replace(size, checkouts=checkouts)
    if size.trouble_s > 1:
        yield mix, replace(size, trouble_s=size.trouble_s / 2)


def _rule(result: Result) -> str:
    """The invariant that the first finding names."""
    return result.findings[0].partition(":")[0]


def command_of(result: Result) -> str:
    """The one command that runs this again, with its timeline."""
    faults = ",".join(f"{name}={held}" for name, held in faults_of(result.mix).items()) or "none"
    size = f"--checkouts {result.size.checkouts} --trouble-seconds {result.size.trouble_s:g}"
    return f"zerosum simulate --seed {result.seed} --faults {faults} {size} --trace"


def mix_from(text: str) -> Mix:
    """The mix that `command_of` wrote: `name=figure,..`, or `none`. Raises ValueError, naming what is not one."""
    known, mix = set(Mix.__dataclass_fields__), {}
    for pair in text.split(",") if text != "none" else ():
        name, _, figure = pair.partition("=")
        if name not in known or not figure.isdecimal():
            raise ValueError(
                f"{pair!r} is no fault of the world: faults are name=figure,.. such as drop_request=30, or none; "
                f"there are {', '.join(sorted(known))}"
            )
        mix[name] = int(figure)
    return Mix(**mix)
