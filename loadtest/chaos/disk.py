"""D6: the disk of the database is full. `python -m loadtest.chaos.disk <seed>`: the scenario, in a process of its own.

A system of its own has its database on a small file system, which exists for this process and those it starts only (a mount
namespace), so that nothing of it outlives them. That needs root, or at least the right to mount; without, it says so.

    full      a file takes all that is left; PostgreSQL answers 53100; checkouts are answered UNAVAILABLE
    fuller    the log of the database itself can no longer grow: the server ends, and cannot come back
    freed     the file goes, and nothing else is done

Invariant: whatever was acknowledged before, while and after is there, and its money has moved once: the audit says so.
"""

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Final

import psycopg

from loadtest import verdict
from loadtest.certificate import Facts, Phase
from loadtest.chaos import process
from loadtest.chaos.arena import Arena, environment_of, root_of_the_code
from loadtest.chaos.client import Told, new_checkout
from loadtest.chaos.money import ONCE, movement_of
from loadtest.chaos.scenario import Scenario, told
from loadtest.chaos.wait import WITHIN_S, NeverCame, Patience, until
from loadtest.clock import wall_ms
from loadtest.outcome import OK
from loadtest.shape import Checkout
from servers.supervisor import log_beside_children
from zerosum.settings import Settings
from zerosum.store.embedded import EmbeddedPostgres

SIZE: Final = "512m"
"""Of the file system: the binaries that an account of its own may need (100 MB), an empty database with its log (60 MB), and
room for what a scenario writes. All of it is memory, for as long as the scenario lasts."""

ACKNOWLEDGED: Final = 5
REFUSED_MIN: Final = 3
DISK_FULL: Final = "53100"
UNAVAILABLE: Final = "UNAVAILABLE"
ATTEMPT_S: Final = 5.0
"""A caller's patience. Whose commit is in doubt while nobody can say what became of it waits for as long as he will."""
LIMIT_S: Final = 900.0
"""Longest life of the scenario's process: its waits end before."""

CLONE_NEWNS: Final = 0x00020000
MS_PRIVATE_ALL: Final = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE

TITLE: Final = "the disk of the database is full"
ROWS: Final = "D6"


async def disk_full(settings: Settings, *, seed: int, log: Path) -> Scenario:
    """Runs it in a process of its own, without Ray's own faults; what that tells."""
    environment = {
        name: value for name, value in environment_of(settings).items() if not name.startswith("RAY_testing")
    }
    with log.open("ab") as output:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtest.chaos.disk", str(seed), cwd=root_of_the_code(), env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output,
        )  # fmt: skip
    scenario = Scenario(rows=ROWS, title=TITLE)
    try:
        said, _ = await asyncio.wait_for(running.communicate(), LIMIT_S)
        return Scenario(**json.loads(said.splitlines()[-1]))
    except (TimeoutError, ValueError, IndexError, TypeError):
        scenario.wrong = f"the scenario ended without a word ({running.returncode}); see {log}"
    finally:
        if running.returncode is None:
            running.terminate()
            await running.wait()
    return scenario


# ---- in its own process --------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of that size over a folder, for this process and those it starts. Raises OSError where it may not mount."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        libc = ctypes.CDLL(None, use_errno=True)
        _must(libc.unshare(CLONE_NEWNS))
        _must(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_PRIVATE_ALL), None))
        _must(libc.mount(b"tmpfs", bytes(folder), b"tmpfs", ctypes.c_ulong(0), f"size={SIZE},mode=0711".encode()))
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Takes all that is left."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for block in (bytes(1 << 20), bytes(1 << 12)):
                with contextlib.suppress(OSError):
                    while ballast.write(block):
                        pass

    def free(self) -> None:
        """Gives it back."""
        self._ballast.unlink()


def _must(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(seed: int) -> None:
    """Tells what became of it as a line of JSON, the last."""
    scenario = Scenario(rows=ROWS, title=TITLE)
    settings = Settings()
    folder = settings.data_dir.resolve() / "chaos" / "disk"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        disk = SmallDisk(folder / "postgres")
    except OSError as refused:
        if refused.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
        scenario.impossible = f"not possible here: needs root to mount ({refused.strerror})"
    else:
        settings = settings.model_copy(update={"data_dir": folder})
        log_beside_children(settings)
        asyncio.run(_in_time(settings, seed, disk, scenario))
    sys.stdout.write(json.dumps(asdict(scenario)) + "\n")


async def _in_time(settings: Settings, seed: int, disk: SmallDisk, scenario: Scenario) -> None:
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel if task else sys.exit)
    arena = Arena(settings, seed=seed, tell=lambda _: None)
    await arena.start()
    try:
        await told(scenario, _disk_full(arena, disk, scenario))
    finally:
        await arena.stop()


async def _disk_full(arena: Arena, disk: SmallDisk, scenario: Scenario) -> None:
    began_ms = wall_ms()
    kept, refused = dict[Checkout, Told](), dict[Checkout, Told]()
    await arena.buyer.until_served("first")
    for _ in range(ACKNOWLEDGED):
        checkout = new_checkout("before")
        kept[checkout] = await arena.buyer.pay(checkout)
    await arena.until_at_rest()
    for statement in ("SELECT pg_switch_wal()", "SELECT pg_logical_emit_message(true, 'room', '')"):
        await asyncio.to_thread(
            _run, arena, statement
        )  # another file of 16 MB is begun: the tables are full before the log
    disk.fill()
    await until("PostgreSQL says that its disk is full", lambda: _growth(arena) == DISK_FULL)
    await _until_refused(arena, disk, kept, refused)
    scenario.facts.append(f"PostgreSQL says {DISK_FULL}; {len(refused)} checkouts were refused: {_codes(refused)}")
    is_read = await arena.buyer.is_done(next(iter(kept)))
    scenario.facts.append(f"what was stored before was {'read' if is_read else 'not read'} meanwhile")
    first = arena.child("database")
    await until("the server of the database ends", lambda: _has_ended(arena, disk, first))
    await _until_refused(arena, disk, kept, refused)
    scenario.facts.append(f"its log could not grow, and the server ended; refused by now: {_codes(refused)}")
    disk.free()
    began_s = time.monotonic()
    await arena.buyer.until_served("freed", to_the_end=True)
    scenario.recovery_s = round(time.monotonic() - began_s, 2)
    scenario.wrong = await _judge(arena, kept, refused)
    if not scenario.wrong:
        scenario.wrong = await _audit(arena, began_ms)
    scenario.facts.append(
        f"{len(kept)} acknowledged and {len(refused)} refused checkouts: each charged once; the audit is clean"
    )


async def _until_refused(
    arena: Arena, disk: SmallDisk, kept: dict[Checkout, Told], refused: dict[Checkout, Told]
) -> None:
    """Checkout after checkout until some in a row are refused; what has a reply is kept: it was acknowledged."""
    patience, row = Patience(WITHIN_S), 0
    while row < REFUSED_MIN:
        disk.fill()
        checkout = new_checkout("full")
        answer = await arena.buyer.ask(checkout, timeout_s=ATTEMPT_S)
        (kept if answer.code == OK else refused)[checkout] = answer
        row = 0 if answer.code == OK else row + 1
        if patience.is_over:
            raise NeverCame("checkouts were served although the disk is full")


def _growth(arena: Arena) -> str:
    """The SQLSTATE that comes of making a table of a few pages, "" = none."""
    return _run(arena, "CREATE TEMPORARY TABLE growth AS SELECT generate_series(1, 100000)")


def _has_ended(arena: Arena, disk: SmallDisk, first: int | None) -> bool:
    """Has the server begin another file of its log, which it cannot; whether it has ended by now."""
    disk.fill()
    _run(arena, "SELECT pg_logical_emit_message(false, 'full', repeat('x', 100000)), pg_switch_wal()")
    return first is None or not process.is_alive(first)


def _run(arena: Arena, statement: str) -> str:
    """Runs it as the administrator. Its SQLSTATE, "" = it passed, or nobody was there to say one."""
    url = EmbeddedPostgres(arena.settings.data_dir / "postgres").urls()["admin"].replace("+psycopg", "")
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement.encode())
    except psycopg.Error as refused:
        return refused.sqlstate or ""
    return ""


async def _judge(arena: Arena, kept: dict[Checkout, Told], refused: dict[Checkout, Told]) -> str:
    """What speaks against it: another answer, a reply that changed, money that moved otherwise than once.

    A caller whose own deadline passed was not acknowledged either; but not all of them may have waited for nothing.
    """
    codes = {answer.code for answer in refused.values()}
    if UNAVAILABLE not in codes or codes - {UNAVAILABLE, "DEADLINE_EXCEEDED"}:
        return f"a full disk was answered otherwise than {UNAVAILABLE}: {codes}"
    for checkout in (*kept, *refused):
        again = await arena.buyer.pay(checkout)
        if checkout in kept and again.body != kept[checkout].body:
            return f"{checkout.checkout_id} was told two things under one key"
        await arena.buyer.until_done(checkout)
    await arena.until_at_rest()
    for checkout in (*kept, *refused):
        moved = await asyncio.to_thread(movement_of, checkout, arena.psp, arena.auditor_url)
        if moved != ONCE:
            return f"the money of {checkout.checkout_id} moved otherwise than once: {moved}"
    return ""


async def _audit(arena: Arena, began_ms: int) -> str:
    """What the audit of all of it says against it."""
    (arena.run_folder / "samples.jsonl").touch()
    phase = Phase(name="disk full", from_ms=began_ms, until_ms=wall_ms(), has_faults=True)
    facts = Facts(seed=0, command="", drained_ms=0, disagreements=0, faults_injected={})
    material = verdict.Material(
        settings=arena.settings, folder=arena.run_folder, settlement=await asyncio.to_thread(arena.psp.settle),
        psp=arena.psp, canaries=(), sabotage=None, phases=[phase], events=[], facts=facts,
    )  # fmt: skip
    return "; ".join((await asyncio.to_thread(verdict.examine, material)).reasons)


def _codes(refused: dict[Checkout, Told]) -> str:
    counts = Counter(answer.code for answer in refused.values())
    return ", ".join(f"{count} {code}" for code, count in sorted(counts.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
