"""`zerosum simulate`: many seeds, one seed, a day of one, or the hunt for planted bugs. Options in, one function called.

Invariant: an option is heard or refused; what would not be heard never looks as if it were.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from servers.cli_frame import exit_with, refuse, told


class _Use(NamedTuple):
    """One use of the command: the options it hears, and what is said of any other."""

    hears: frozenset[str]
    otherwise: str


_CAMPAIGN: Final = _Use(
    frozenset({"--seeds", "--first-seed", "--jobs", "--state"}), "it is of one seed; say which with --seed"
)
_ONE_SEED: Final = _Use(
    frozenset({"--seed", "--trace", "--faults", "--checkouts", "--trouble-seconds"}),
    "it is of many seeds, and means nothing with --seed",
)
_DAY: Final = _Use(frozenset({"--seed", "--hours", "--rate"}), "it means nothing with --hours")
_ABLATION: Final = _Use(frozenset({"--ablate", "--seeds", "--first-seed", "--page"}), "it means nothing with --ablate")

_SEEDS: Final = 100
"""Of a campaign. How far the hunt for a planted bug goes is the bug's affair."""


def simulate(
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many. Default: 100; with --ablate as many as it takes, at most 5,000."),
    ] = None,
    first_seed: Annotated[int | None, typer.Option(min=0, help="Where they begin. Default: 0.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="This one alone.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="With --seed: its timeline, step by step.")] = False,
    ablate: Annotated[str, typer.Option(help="Plant a known bug, or all of them in turn: the world must object.")] = "",
    page: Annotated[
        Path | None,
        typer.Option(dir_okay=False, writable=True, help="With --ablate all: write the table to this file."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Default: 1.")] = None,
    state: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Keep the tally in this file, and go on from it.")
    ] = None,
    faults: Annotated[str, typer.Option(help="With --seed: name=figure,.. or none, instead of its own.")] = "",
    checkouts: Annotated[int, typer.Option(min=0, help="With --seed: how many. 0: as usual.")] = 0,
    trouble_seconds: Annotated[float, typer.Option(min=0, help="With --seed: length of the trouble. 0: as usual.")] = 0,
    hours: Annotated[float, typer.Option(min=0, help="With --seed: so many hours of checkouts in one house.")] = 0,
    rate: Annotated[float | None, typer.Option(min=0.01, help="With --hours: checkouts a second. Default: 1.")] = None,
) -> None:
    """Run the whole system in one thread on virtual time, from seeds. Status 0 only when nothing was wrong."""
    from simulator.world.ablation import ablate_command
    from simulator.world.command import simulate as run_worlds
    from zerosum.errors import Misconfigured

    with told():
        _refuse_unheard({
            "--ablate": ablate, "--hours": hours, "--seed": seed is not None, "--seeds": seeds, "--trace": trace,
            "--first-seed": first_seed is not None, "--page": page, "--jobs": jobs, "--state": state, "--rate": rate,
            "--faults": faults, "--checkouts": checkouts, "--trouble-seconds": trouble_seconds,
        }, is_all=ablate == "all")  # fmt: skip
        try:
            status = ablate_command(ablate, seeds, first_seed=first_seed or 0, page=page) if ablate else run_worlds(
                seed=seed, seeds=seeds or _SEEDS, first_seed=first_seed or 0, with_trace=trace, jobs=jobs or 1,
                state=state, faults=faults, checkouts=checkouts, trouble_s=trouble_seconds, hours=hours, rate=rate or 1,
            )  # fmt: skip
        except json.JSONDecodeError as odd:
            raise Misconfigured(f"--state: {state} is no tally: {odd}") from odd
        except ValueError as odd:
            raise Misconfigured(str(odd)) from odd
        exit_with(status)


def _refuse_unheard(given: Mapping[str, object], *, is_all: bool) -> None:
    """Raises Misconfigured for the first option that this use of the command would not hear."""
    use = _CAMPAIGN
    if given["--ablate"]:
        use = _ABLATION
    elif given["--seed"]:
        use = _DAY if given["--hours"] else _ONE_SEED
    if not is_all:
        refuse({"--page": given["--page"]}, "it goes with --ablate all")
    if not given["--hours"]:
        refuse({"--rate": given["--rate"]}, "it goes with --hours")
    refuse({name: held for name, held in given.items() if name not in use.hears}, use.otherwise)
