"""The machine's card: how fast this machine is at the few things a payment is made of. Some twelve seconds, when idle.

Medians all: a disk, and whoever else runs here, are slow for a second and fast the next, so that what the disk decides is
measured in several places between the rest, and a call is the median call and not the mean of some.

Taken before and after a run, on the same disk and the same database server: a run on a machine that changed meanwhile says
nothing about us. Source: speed.md "The bench".

Invariant: nothing of the product is measured here; two cards differ only by what the machine was doing.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from zerosum.errors import Misconfigured, Unavailable
from zerosum.store.postmaster import account_for, find_binaries

DIFFERENCE_MAX: Final = 0.2
"""A figure that is a fifth larger on one card than on the other makes the run between them void."""

SECONDS_OF_CLIENTS: Final = {1: 1, 64: 3}
"""How long so many clients commit at a time; 64 need up to a second of it to log in, which their rate leaves out."""

_LONGER: Final = 4
"""So many times as long where nothing was committed: on a busy machine the log-ins alone may take all of the time."""

SLICES: Final = 3
SLICE_S: Final = 0.1
"""Of fdatasync, after each of the others: 1.8 seconds of twelve."""

BLOCK: Final = bytes(8_192)
"""What is made durable: PostgreSQL's own block, over the same place again, as its log is."""

PROCESS_LIMIT_S: Final = 60.0
SCRATCH: Final = "zerosum_card"

_INSERT: Final = "\\set number random(1, 1000000000)\nINSERT INTO card VALUES (:number, 'a row of a payment');\n"
_TPS: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Card:
    """What was measured. `commits_*`: one row each, prepared, in the server's own isolation. None: there was no Ray to ask."""

    fdatasync_per_s: float
    commits_of_1_client_per_s: float
    commits_of_64_clients_per_s: float
    grpc_echo_us: float
    ray_hop_us: float | None = None


NAMES: Final = {
    "fdatasync_per_s": "fdatasync a second",
    "commits_of_1_client_per_s": "one-row commits a second, 1 client",
    "commits_of_64_clients_per_s": "one-row commits a second, 64 clients",
    "grpc_echo_us": "gRPC echo, µs",
    "ray_hop_us": "Ray hop, µs",
}
"""What each figure is called."""


def differences(before: Card, after: Card) -> tuple[str, ...]:
    """Every figure in which the cards differ by more than a fifth, in words; none: the run between them counts."""
    found = []
    for each in fields(Card):
        first, second = getattr(before, each.name), getattr(after, each.name)
        if first is not None and second is not None and not _is_near(first, second):
            found.append(f"{NAMES[each.name]} {first:,.0f} before, {second:,.0f} after ({second / first - 1:+.0%})")
    return tuple(found)


def _is_near(first: float, second: float) -> bool:
    low, high = sorted((first, second))
    return high <= low * (1 + DIFFERENCE_MAX)


def take_card(admin_url: str, folder: Path, *, ray_address: str = "") -> Card:
    """Measures, some seconds long. Blocking.

    `folder`: on the disk of the database; a file and perhaps a copy of PostgreSQL's programs go there. `ray_address`: of a
    cluster to hop on, whose token stands in the environment; "" = none. Raises Unavailable, Misconfigured.
    """
    found: dict[str, list[float]] = {}
    with _disk(folder) as syncs_per_s, _commits(admin_url, folder) as commits_per_s:
        one, many = (partial(commits_per_s, clients) for clients in SECONDS_OF_CLIENTS)
        measures: list[tuple[str, Callable[[], float]]] = [
            ("commits_of_1_client_per_s", one), ("commits_of_64_clients_per_s", many),
            ("commits_of_1_client_per_s", one), ("grpc_echo_us", partial(_told_by, "loadtest.bench.echo")),
            ("commits_of_1_client_per_s", one),
        ]  # fmt: skip
        if ray_address:
            measures.append(("ray_hop_us", partial(_told_by, "loadtest.bench.ray_hop", ray_address)))
        for name, measure in measures:
            found.setdefault(name, []).append(measure())
            found.setdefault("fdatasync_per_s", []).extend(syncs_per_s() for _ in range(SLICES))
    return Card(**{name: statistics.median(figures) for name, figures in found.items()})


# ---- the disk ------------------------------------------------------------------------------------------------------


@contextmanager
def _disk(folder: Path) -> Iterator[Callable[[], float]]:
    """Tells how often a second a block is made durable there, of a slice."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.pwrite(file.fileno(), BLOCK, 0)
        os.fsync(file.fileno())  # from here on the file does not grow, and only its data is made durable
        yield partial(_syncs_per_s, file.fileno())


def _syncs_per_s(file: int) -> float:
    began_s, count = time.perf_counter(), 0
    while (spent_s := time.perf_counter() - began_s) < SLICE_S:
        os.pwrite(file, BLOCK, 0)
        os.fdatasync(file)
        count += 1
    return count / spent_s


# ---- the database --------------------------------------------------------------------------------------------------


@contextmanager
def _commits(admin_url: str, folder: Path) -> Iterator[Callable[[int], float]]:
    """Tells how often a second so many clients commit, in a database of its own on the same server."""
    pgbench = find_binaries(account_for("nobody"), copy_to=folder) / "pgbench"
    with _scratch_database(admin_url) as conninfo, tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_INSERT)
        script.flush()
        yield lambda clients: _pgbench(pgbench, conninfo, Path(script.name), clients, SECONDS_OF_CLIENTS[clients])


@contextmanager
def _scratch_database(admin_url: str) -> Iterator[str]:
    conninfo = admin_url.replace("+psycopg", "")
    try:
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {SCRATCH} WITH (FORCE)".encode())  # of a bench that was killed
            admin.execute(f"CREATE DATABASE {SCRATCH}".encode())
            try:
                scratch = make_conninfo(conninfo, dbname=SCRATCH)
                with psycopg.connect(scratch, autocommit=True) as connection:
                    connection.execute("CREATE TABLE card (number bigint, note text)")
                yield scratch
            finally:
                admin.execute(f"DROP DATABASE {SCRATCH} WITH (FORCE)".encode())
    except psycopg.OperationalError as away:
        raise Unavailable(f"the card needs the database's administrator: {away}") from away


def _pgbench(pgbench: Path, conninfo: str, script: Path, clients: int, seconds: int) -> float:
    """Transactions a second; the password goes by the environment, never by a command line."""
    known = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    environment = {**os.environ, "PGPASSWORD": known.pop("password", "")}
    threads = min(clients, os.cpu_count() or 1)
    options = ["--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={threads}"]
    for length_s in (seconds, seconds * _LONGER):
        ended = subprocess.run(
            [str(pgbench), *options, f"--time={length_s}", f"--file={script}", make_conninfo("", **known)],
            env=environment, capture_output=True, text=True, timeout=PROCESS_LIMIT_S, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise Unavailable(f"pgbench could not measure: {ended.stderr.strip()[-300:]}")
        if told := _TPS.search(ended.stdout):
            return float(told[1])
    raise Unavailable(f"pgbench could not measure: {clients} clients committed nothing within {seconds * _LONGER} s")


# ---- gRPC and Ray, each by a process of its own --------------------------------------------------------------------


def _told_by(module: str, *arguments: str) -> float:
    """What another process measured: the last line it prints is a number."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_LIMIT_S, check=True)
        return float(json.loads(ended.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired as slow:
        raise Unavailable(f"{module} has not measured within {PROCESS_LIMIT_S:.0f} s") from slow
    except subprocess.CalledProcessError as failed:
        raise Misconfigured(f"{module} could not measure: {failed.stderr.strip()[-300:]}") from failed
