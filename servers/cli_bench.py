"""`zerosum bench ..`: what this machine can do, and what the system makes of it. Options in, one function called.

Invariant: a bench measures a system of its own; figures, never a verdict, but for `reconcile` and what was acknowledged: where
that is not stored after the database was killed, the status is 1.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from servers.cli_frame import DataDir, exit_with, refuse, settings_of, told
from zerosum import limits

bench = typer.Typer(
    no_args_is_help=True,
    help="Measure systems of its own on this machine, and the machine itself. Status 1: a killed database had lost something "
    "acknowledged.",
)

JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        dir_okay=False,
        writable=True,
        help='Write JSON to this file too; "-": standard output.',
    ),
]


@bench.callback()
def _keep_grpc_out_of_forks() -> None:
    """gRPC's threads run here while children are started. Before the first import of grpc."""
    import os

    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@bench.command("card")
def card(json_file: JsonFile = None, data_dir: DataDir = None) -> None:
    """What this machine can do: fdatasync, one-row commits, gRPC echo, Ray hop; of a system of its own at rest."""
    from loadtest.bench.command import run_card

    with told():
        exit_with(run_card(settings_of(data_dir), json_file=json_file))


Psp = Annotated[
    str,
    typer.Option(
        help="How the PSP answers: zero (at once), fixed-100ms (each call), or masonx (each call p50 120, p99 380 ms;"
        " 7 calls of 1,000 go wrong)."
    ),
]
Rounds = Annotated[int, typer.Option(min=1, help="How often all of it is done.")]
Pairs = Annotated[int, typer.Option(min=1, help="How often all of it is done; fewer than 5 are told as few.")]
StepSeconds = Annotated[float, typer.Option(min=1, help="Length of a step.")]


@bench.command("knee", hidden=True)
@bench.command("checkout")
def checkout(
    against: Annotated[str, typer.Option(help="naive: the textbook's knee in turn with ours, spread and hot.")] = "",
    psp: Psp = "zero",
    orders: Annotated[int, typer.Option(min=1, max=30, help="Of a checkout.")] = 1,
    mix: Annotated[str, typer.Option(help="Reads to writes, such as 2:1.")] = "0:1",
    tps: Annotated[float, typer.Option(min=1, help="Checkouts a second, where the first round begins.")] = 50.0,
    seconds: StepSeconds = 10.0,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often all of it is done. Default: 3, with --against 5.")
    ] = None,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """The knee: the highest rate held with p95 below 300 ms and no error, in steps of +25 %; the database is killed at last."""
    from loadtest.bench.command import run_checkout, run_checkout_against_naive

    with told():
        if against:
            _only_naive(against, "checkout")
            why = "with --against both have one order a checkout, writes only, and a PSP that answers at once"
            refuse({"--psp": psp != "zero", "--orders": orders != 1, "--mix": mix != "0:1"}, why)
            exit_with(run_checkout_against_naive(
                settings_of(data_dir), tps=tps, seconds=seconds, count=rounds or 5, json_file=json_file
            ))  # fmt: skip
            return
        exit_with(run_checkout(
            settings_of(data_dir), psp=psp, orders=orders, mix=mix, tps=tps, seconds=seconds, count=rounds or 3,
            json_file=json_file,
        ))  # fmt: skip


def _only_naive(against: str, command: str) -> None:
    from zerosum.errors import Misconfigured

    if against != "naive":
        raise Misconfigured(f"--against: {command} is compared with naive, and not with {against!r}")


@bench.command("hot")
def hot(
    against: Annotated[str, typer.Option(help="naive: the textbook in turn with ours, as fast as each can.")] = "",
    in_flight: Annotated[str, typer.Option(help="Callers at once, with --against. Default: 16,64,256.")] = "",
    tps: Annotated[
        float | None, typer.Option(min=1, help="Checkouts a second, where the first climb begins. Default: 50.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Length of a step, default 10; with --against of a run, default 15.")
    ] = None,
    rounds: Pairs = 5,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """The knee of one hot seller beside that of a thousand, in turn, and their ratio; or both beside the textbook's."""
    from loadtest.bench.command import run_hot, run_hot_against_naive
    from zerosum.errors import Misconfigured

    with told():
        if against:
            _only_naive(against, "hot")
            refuse({"--tps": tps}, "with --against both go as fast as they can")
            given = (in_flight or "16,64,256").split(",")
            callers = [int(each) if each.isascii() and each.isdecimal() else 0 for each in given]
            if min(callers) < 1:
                raise Misconfigured(f"--in-flight: numbers of callers such as 16,64, and not {in_flight!r}")
            exit_with(run_hot_against_naive(
                settings_of(data_dir), in_flight=callers, seconds=seconds or 15.0, count=rounds, json_file=json_file
            ))  # fmt: skip
            return
        refuse({"--in-flight": in_flight}, "it goes with --against")
        exit_with(run_hot(
            settings_of(data_dir), tps=tps or 50.0, seconds=seconds or 10.0, count=rounds, json_file=json_file
        ))  # fmt: skip


@bench.command("shed")
def shed(
    psp: Psp = "zero",
    knee: Annotated[float | None, typer.Option(min=1, help="Checkouts a second. Default: found first.")] = None,
    tps: Annotated[float, typer.Option(min=1, help="Where the search for the knee begins.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=10, help="How long twice the knee is offered.")] = 60.0,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """Twice the knee: what is taken on waits for a bounded time, the rest is turned away with RetryInfo, nothing is lost."""
    from loadtest.bench.command import run_shed

    with told():
        exit_with(run_shed(settings_of(data_dir), psp=psp, at=knee, tps=tps, seconds=seconds, json_file=json_file))


@bench.command("fan")
def fan(
    orders_per_s: Annotated[float, typer.Option(min=1, help="Orders a second, however many a checkout has.")] = 60.0,
    seconds: StepSeconds = 10.0,
    rounds: Pairs = 5,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """What more sellers in a checkout cost: 1, 3, 10 and 30 orders each, at one rate of orders."""
    from loadtest.bench.command import run_fan

    with told():
        exit_with(run_fan(
            settings_of(data_dir), orders_per_s=orders_per_s, seconds=seconds, count=rounds, json_file=json_file
        ))  # fmt: skip


@bench.command("cost")
def cost(seconds: StepSeconds = 15.0, json_file: JsonFile = None, data_dir: DataDir = None) -> None:
    """What a checkout costs: commits, statements, round trips, rows, WAL, RPCs, calls through Ray, CPU, idle memory."""
    from loadtest.bench.command import run_cost

    with told():
        exit_with(run_cost(settings_of(data_dir), seconds=seconds, json_file=json_file))


@bench.command("grow")
def grow(
    entries: Annotated[
        int, typer.Option(min=10_000, help="The largest ledger; from 10,000 in steps of ten times.")
    ] = 10_000_000,
    accounts: Annotated[int, typer.Option(min=1, help="The most accounts.")] = 1_000_000,
    rounds: Rounds = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each run; at 10,000 entries 0.3 at most.")] = 2.0,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """Postings a second and reads as the ledger grows, to 10^7 entries and 10^6 accounts; then the database is killed."""
    from loadtest.bench.grow import Asked, bench_grow
    from servers.log import configure_logs

    configure_logs("bench", "ERROR")
    asked = Asked(entries_max=entries, accounts_max=accounts, rounds=rounds, seconds=seconds)
    command = f"zerosum bench grow --entries {entries} --accounts {accounts} --rounds {rounds} --seconds {seconds:g}"
    with told():
        exit_with(bench_grow(settings_of(data_dir), asked, command=command, json_file=json_file))


@bench.command("memory")
def memory(
    tps: Annotated[float, typer.Option(min=1, help="The rate.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of the whole run.")] = 60.0,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """Proportional memory under a steady load, by process, and whether it still grows."""
    from loadtest.bench.command import run_memory

    with told():
        exit_with(run_memory(settings_of(data_dir), tps=tps, seconds=seconds, json_file=json_file))


@bench.command("recovery")
def recovery(
    repeats: Annotated[int, typer.Option(min=1, help="Of each kill.")] = 10,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """How long nobody is served after a shard, the server or Ray was killed."""
    from loadtest.bench.recovery import run_recovery

    with told():
        exit_with(run_recovery(settings_of(data_dir), repeats=repeats, json_file=json_file))


@bench.command("reconcile")
def reconcile(
    lines: Annotated[int, typer.Option(min=100, help="Of the settlement file.")] = 100_000,
    damage: Annotated[float, typer.Option(min=0, max=1, help="Share of lines that are spoiled.")] = 0.01,
    json_file: JsonFile = None,
) -> None:
    """Books and a spoiled settlement file, reconciled and judged. Status 0 only when all was found."""
    from loadtest.bench.reconcile import bench_reconcile

    with told():
        exit_with(bench_reconcile(lines=lines, rate=damage, seed=1, json_file=json_file))


@bench.command("post")
def post(
    against: Annotated[str, typer.Option(help="Peers to stand beside, such as naive,hordak.")] = "",
    rounds: Pairs = 5,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, help="Length of each run. With naive and hordak all of it takes some seven minutes at 0.7."
        ),
    ] = 0.7,
    balance_entries: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Entries of the account whose balance is read, with --against; 0: none is read. Default: 1,000,000; "
            "10,000,000 take some ten minutes to fill.",
        ),
    ] = None,
    rpc: Annotated[
        bool,
        typer.Option("--rpc", help="Over gRPC instead: the ledger server of a whole system, peers behind a thin door."),
    ] = False,
    shards: Annotated[int, typer.Option(min=1, max=limits.SLOTS, help="Ours: so many that post side by side.")] = 1,
    json_file: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """Ledger postings and balance reads, ours and peers', in process and in turn; then the database is killed."""
    from loadtest.bench.command import run_post_over_rpc
    from loadtest.bench.post import BALANCE_ENTRIES, PostPlan, bench_post
    from loadtest.peers.table import OURS, PEERS, Peers, ours
    from servers.log import configure_logs
    from zerosum.errors import Misconfigured

    peers = tuple(filter(None, against.split(",")))
    with told():
        if rpc and shards > 1:
            raise Misconfigured("--rpc: the system has its own shards; leave --shards out")
        if rpc or not peers:
            refuse({"--balance-entries": balance_entries}, "it goes with --against, and not with --rpc")
        configure_logs("bench", "ERROR")  # that the database is away while it is killed is no news
        settings = settings_of(data_dir)
        if rpc:
            exit_with(run_post_over_rpc(settings, against=peers, seconds=seconds, count=rounds, json_file=json_file))
            return
        entries = (BALANCE_ENTRIES if balance_entries is None else balance_entries) if peers else 0
        plan = PostPlan(against=peers, rounds=rounds, seconds=seconds, balance_entries=entries)
        command = (
            f"zerosum bench post --against '{against}' --shards {shards} --rounds {rounds} --seconds {seconds:g}"
            + (f" --balance-entries {entries}" if peers else "")
        )
        table: Peers = {**PEERS, OURS: partial(ours, shards=shards)}
        exit_with(bench_post(settings, plan, command=command, json_file=json_file, peers=table))
