"""The command `zerosum`: what runs, what on-call does, what proves it. Options in, one function called; nothing else here.

Everything heavy is imported inside its command, so that `--help` is there at once.

Invariant: a command that fails says why in one line and ends with a status other than 0.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servers import cli_reconcile
from servers.cli_bench import bench
from servers.cli_frame import AsJson, DataDir, exit_with, settings_of, show, told
from servers.cli_ledger import ledger
from servers.cli_money import account, refund
from servers.cli_simulate import simulate
from zerosum.service import Server

if TYPE_CHECKING:
    from servers.operator_client import Operator
    from zerosum.settings import Settings

main = typer.Typer(name="zerosum", help="A payment backend for marketplaces: every order is charged exactly once.",
                   no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)  # fmt: skip
todo = typer.Typer(help="Effects that are not finished, dead letters among them.", no_args_is_help=True)
main.add_typer(todo, name="todo")
main.add_typer(bench, name="bench")
main.add_typer(ledger, name="ledger")
main.add_typer(account, name="account")
main.command()(refund)
main.command()(simulate)
main.add_typer(cli_reconcile.reconcile, name="reconcile")
main.add_typer(cli_reconcile.mismatches, name="mismatches")

Tenant = Annotated[str, typer.Option(help="Whose: one tenant's only.")]
AGE_MAX_MS = 100 * 366 * 24 * 3_600 * 1_000


class Sabotage(StrEnum):
    """Damage the audit must find."""

    DOUBLE_CHARGE = "double-charge"
    LOSE_POSTING = "lose-posting"
    FORGET_ORDER = "forget-order"


# ---- what runs -----------------------------------------------------------------------------------------------------


@main.command()
def serve(server: Server, data_dir: DataDir = None) -> None:
    """Serve one service in this process, until a signal comes."""
    import asyncio

    with told():
        asyncio.run(_server_of(server)(settings_of(data_dir)))


def _server_of(server: Server) -> Callable[["Settings"], Any]:
    if server == "edge":
        from servers.edge import serve_edge

        return serve_edge
    from servers import wiring

    serve_service: Callable[[Settings], Any] = getattr(wiring, f"serve_{server}")
    return serve_service


@main.command()
def up(
    data_dir: DataDir = None,
    with_simulator: Annotated[
        bool, typer.Option("--simulator/--no-simulator", help="The PSP simulator beside.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the simulator's faults.")] = 1,
) -> None:
    """Run the whole system on this machine until Ctrl-C: database, Ray, servers, edge, simulator."""
    from servers.supervisor import up as run_system

    with told():
        exit_with(run_system(settings_of(data_dir), with_simulator=with_simulator, seed=seed))


@main.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database at ZEROSUM_DATABASE_URL to this revision. `up` does it by itself."""
    from zerosum.errors import Misconfigured
    from zerosum.store.migrate import migrate as migrate_database

    with told():
        settings = settings_of(data_dir)
        if not settings.database_url:
            raise Misconfigured("ZEROSUM_DATABASE_URL is not set; the embedded database is migrated by `zerosum up`")
        migrate_database(settings.database_url)


# ---- keys ----------------------------------------------------------------------------------------------------------


@main.command()
def keys(data_dir: DataDir = None) -> None:
    """Make the development keys and tokens that are missing, Ray's among them."""
    from actors.ray_cluster import make_token
    from servers.keys import make_keys

    with told():
        settings = settings_of(data_dir)
        make_keys(settings.data_dir)
        make_token(settings.data_dir)
        typer.echo(settings.data_dir / "keys")


@main.command()
def token(
    role: Annotated[str, typer.Option(help="service, admin, support, finance, seller or buyer.")] = "service",
    tenant: Tenant = "demo",
    subject: Annotated[str, typer.Option(help="Who, within the tenant. Default: <tenant>-<role>.")] = "",
    hours: Annotated[int, typer.Option(min=1, max=24 * 365, help="How long it is good.")] = 24,
    data_dir: DataDir = None,
) -> None:
    """Print a bearer token, signed with the development key."""
    import time

    from servers.call import Caller, Role
    from servers.keys import issuer_of
    from zerosum.domain.identity import Tenant as TenantId
    from zerosum.errors import Misconfigured

    with told():
        if role not in set(Role):
            raise Misconfigured(f"--role: there is no role {role!r}; there are {', '.join(Role)}")
        caller = Caller(TenantId(tenant), Role(role), subject or f"{tenant}-{role}")
        expires_at_s = int(time.time()) + hours * 3_600
        typer.echo(issuer_of(settings_of(data_dir).data_dir).token(caller, expires_at_s=expires_at_s))


# ---- on-call -------------------------------------------------------------------------------------------------------


@todo.command("list")
def todo_list(
    state: Annotated[str, typer.Option(help="open, dead or done. Default: open and dead.")] = "",
    tenant: Tenant = "demo",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List to-dos."""
    from servers.operator_client import state_of

    with told():
        wanted = state_of(state)
        show(_operator(data_dir, tenant).todos(wanted), as_json, "To-dos")


@todo.command("show")
def todo_show(
    checkout_id: str, todo_id: str, tenant: Tenant = "demo", as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Show one to-do with the exact request it would send."""
    with told():
        show([_operator(data_dir, tenant).todo(checkout_id, todo_id)], as_json, f"To-do {todo_id}")


@todo.command("replay")
def todo_replay(
    checkout_id: str,
    todo_id: str,
    key: Annotated[str, typer.Option(help="The key of this act; the same key acts once. Default: made new.")] = "",
    tenant: Tenant = "demo",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give a dead letter a new budget and run it again, under its old operation key."""
    with told():
        show([_operator(data_dir, tenant).replay(checkout_id, todo_id, key)], as_json, f"To-do {todo_id}")


@main.command("in-flight")
def in_flight(
    older_than_ms: Annotated[int, typer.Option(min=0, max=AGE_MAX_MS, help="0: the server's own limit.")] = 0,
    tenant: Tenant = "demo",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List orders that are not final and older than a limit."""
    with told():
        show(_operator(data_dir, tenant).in_flight(older_than_ms), as_json, "In flight")


def _operator(data_dir: Path | None, tenant: str) -> "Operator":
    from servers.operator_client import Operator

    return Operator(settings_of(data_dir), tenant)


# ---- what proves it ------------------------------------------------------------------------------------------------


@main.command()
def demo(
    tps: Annotated[float, typer.Option(min=0.1, help="Checkouts a second of the half with faults.")] = 50.0,
    seconds: Annotated[int, typer.Option(min=1, help="Length of each half: without and with faults.")] = 60,
    drop_requests: Annotated[float, typer.Option(min=0, max=1, help="Share the PSP never gets.")] = 0.3,
    drop_responses: Annotated[float, typer.Option(min=0, max=1, help="Share it acts on and never answers.")] = 0.3,
    errors: Annotated[float, typer.Option(min=0, max=1, help="Share of 5xx.")] = 0.05,
    lose_webhooks: Annotated[float, typer.Option(min=0, max=1, help="Share never delivered.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of the load, the PSP's faults and the damage to its file.")] = 1,
    kills: Annotated[bool, typer.Option("--kills/--no-kills", help="A shard and the payment server.")] = True,
    sabotage: Annotated[Sabotage | None, typer.Option(help="Plant damage: the certificate must turn red.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Load, faults, kills, settlement file, audit, certificate. Status 0 only when the audit is clean."""
    from loadtest.demo import demo as run_demo

    with told():
        exit_with(run_demo(
            settings_of(data_dir), tps=tps, seconds=seconds, drop_requests=drop_requests, drop_responses=drop_responses,
            errors=errors, lose_webhooks=lose_webhooks, seed=seed, kills=kills,
            sabotage=str(sabotage) if sabotage else None,
        ))  # fmt: skip


@main.command()
def chaos(
    minutes: Annotated[float, typer.Option(min=0, help="How long the monkey is let loose.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the monkey, the load and the simulator's faults.")] = 1,
    points: Annotated[
        str, typer.Option(help="Crash points: all, few or none. What is done is not done again.")
    ] = "all",
    stop_seconds: Annotated[float, typer.Option(min=0.1, help="How long a stopped process stands still.")] = 20.0,
    tps: Annotated[float, typer.Option(min=0.1, help="Checkouts a second under the monkey.")] = 10.0,
    split_brain: Annotated[bool, typer.Option("--split-brain/--no-split-brain", help="Two copies of a shard.")] = True,
    lost_ray: Annotated[bool, typer.Option("--lost-ray/--no-lost-ray", help="Ray forgets a shard, then all.")] = True,
    disk_full: Annotated[
        bool, typer.Option("--disk-full/--no-disk-full", help="The database's disk, of a system of its own.")
    ] = True,
    rpc_failures: Annotated[
        bool, typer.Option("--rpc-failures", help="Ray's calls fail at random, throughout.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Do harm to real processes: crash points, split brain, a monkey under load, the audit. Status 0 only when clean."""
    _keep_grpc_out_of_forks()
    from loadtest.chaos.run import chaos as run_chaos
    from servers.supervisor import log_beside_children

    with told():
        settings = settings_of(data_dir)
        log_beside_children(settings)
        exit_with(run_chaos(
            settings, minutes=minutes, seed=seed, points=points, stop_s=stop_seconds, tps=tps,
            split_brain=split_brain, lost_ray=lost_ray, disk_full=disk_full, rpc_failures=rpc_failures,
        ))  # fmt: skip


@main.command()
def load(
    profile: Annotated[
        str,
        typer.Argument(help="steady-10, steady-50, checkouts-50, hot-seller, duplicate-clicks, retry-storm or knee."),
    ],
    seconds: Annotated[int, typer.Option(min=1, help="How long arrivals go on; answers are waited for.")] = 60,
    tps: Annotated[float | None, typer.Option(min=0.1, help="Arrivals a second. Default: the profile's own.")] = None,
    seed: Annotated[int, typer.Option(help="Of arrivals and baskets.")] = 1,
    data_dir: DataDir = None,
) -> None:
    """Run a load profile against a running system, headless."""
    from loadtest.command import load as run_load

    with told():
        exit_with(run_load(settings_of(data_dir), profile=profile, seconds=seconds, tps=tps, seed=seed))


@main.command()
def audit(
    database_url: Annotated[
        str,
        typer.Option(help="As the auditor's role. Default: ZEROSUM_AUDITOR_DATABASE_URL, or the embedded database."),
    ] = "",
    psp_url: Annotated[
        str, typer.Option(help="The PSP simulator, whose book is joined. Default: the one that runs here.")
    ] = "",
    journal: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Of a load; again for more. Default: those in the data folder."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Audit the data of this deployment from outside. Status 0: clean, 1: not, 2: not judged."""
    from loadtest.command import Sources
    from loadtest.command import audit as run_audit

    with told():
        sources = Sources(database_url, psp_url, tuple(journal or ()))
        exit_with(run_audit(settings_of(data_dir), sources, as_json=as_json))


def _keep_grpc_out_of_forks() -> None:
    """gRPC's threads run here while children are started. Before the first import of grpc."""
    import os

    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


if __name__ == "__main__":
    main()
