"""Named points at which a process may be made to die or stand still: around every commit and every call to the outside.

Off unless the setting `crash_dir` names a folder (tests and drills only); then a process dies at a point when the folder
holds an order for it: a file `<process>@<point>`, or `<process>@<point>@<detail>`, whose text is the number of the pass at
which to die, counted by each process from when the order was placed. Before the process kills itself with SIGKILL it takes the
file away and leaves `...fired`, which holds its id: an order is carried out once, by one process, also after a restart.
Where the text ends in ` stop`, the process stops itself instead (SIGSTOP), until somebody lets it go on (SIGCONT).

    commit    every COMMIT of a service's database: all statements have run / it is durable, and nobody was told
    risk      the risk check's call
    psp       a call to a PSP; detail: the verb (prepare, confirm, cancel, refund, read)
    wallet    a credit's or a debit's call to the wallet service
    ledger    a journal's call to the ledger service
    reply     a caller's submit or refund: nothing was handed to a shard / the fixed reply is known, and not sent
    webhook   a verified event: not handed to a shard / recorded, and the PSP was not answered
    delivery  what the reconciler decided: not sent / it is there, and not recorded

Invariant: a point does nothing at all where no folder is set, and never anything but die or stand still where one is.
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path


class Point(StrEnum):
    """Every point there is, in pairs: a name and its `.before` and `.after`."""

    COMMIT_BEFORE = "commit.before"
    COMMIT_AFTER = "commit.after"
    RISK_BEFORE = "risk.before"
    RISK_AFTER = "risk.after"
    PSP_BEFORE = "psp.before"
    PSP_AFTER = "psp.after"
    WALLET_BEFORE = "wallet.before"
    WALLET_AFTER = "wallet.after"
    LEDGER_BEFORE = "ledger.before"
    LEDGER_AFTER = "ledger.after"
    REPLY_BEFORE = "reply.before"
    REPLY_AFTER = "reply.after"
    WEBHOOK_BEFORE = "webhook.before"
    WEBHOOK_AFTER = "webhook.after"
    DELIVERY_BEFORE = "delivery.before"
    DELIVERY_AFTER = "delivery.after"


class Process(StrEnum):
    """Whose points they are: a kind of process, as an order names it."""

    PAYMENT_SHARD = "payment-shard"
    WALLET_SHARD = "wallet-shard"
    LEDGER_SHARD = "ledger-shard"
    PAYMENT_SERVER = "payment-server"
    RECONCILER = "reconciler"


class Act(StrEnum):
    """What a process does to itself at a point."""

    KILL = "kill"
    STOP = "stop"


POINTS_OF: Mapping[Process, frozenset[str]] = {
    Process.PAYMENT_SHARD: frozenset({"commit", "risk", "psp", "wallet", "ledger"}),
    Process.WALLET_SHARD: frozenset({"commit"}),
    Process.LEDGER_SHARD: frozenset({"commit"}),
    Process.PAYMENT_SERVER: frozenset({"reply", "webhook"}),
    Process.RECONCILER: frozenset({"commit", "delivery"}),
}
"""Which pairs each kind of process passes."""


class _Orders:
    """What one process has been asked for. Looks at the folder on every pass: a process need not be started anew."""

    def __init__(self, folder: Path, process: Process) -> None:
        self._folder = folder
        self._process = process
        self._passes: dict[tuple[str, int], int] = {}

    def obey(self, point: Point, detail: str) -> None:
        """Dies or stops here if an order says so."""
        names = [f"{self._process}@{point}", f"{self._process}@{point}@{detail}"]
        for name in names if detail else names[:1]:
            order = self._folder / name
            try:
                placed_at_ns, text = order.stat().st_mtime_ns, order.read_text(encoding="ascii")
            except FileNotFoundError:
                continue
            passes = self._passes[name, placed_at_ns] = self._passes.get((name, placed_at_ns), 0) + 1
            nth, _, act = text.partition(" ")
            if passes >= int(nth):
                self._carry_out(order, Act(act or Act.KILL))

    def _carry_out(self, order: Path, act: Act) -> None:
        taken = order.with_name(f".{order.name}.{os.getpid()}")
        try:
            order.rename(taken)
        except FileNotFoundError:
            return  # another process was faster: an order is carried out once
        taken.write_text(str(os.getpid()), encoding="ascii")
        taken.rename(order.with_name(f"{order.name}.fired"))
        _ACTS[act]()


_orders: _Orders | None = None


def arm(folder: Path | None, process: Process) -> None:
    """Says, once at a process's start, where orders come from. None: never."""
    global _orders  # noqa: PLW0603 - one process, one place to die
    _orders = _Orders(folder, process) if folder is not None else None


def reach(point: Point, detail: str = "") -> None:
    """Stands in the code where the point is. Returns at once, or never, or when somebody has sent SIGCONT."""
    if _orders is not None:
        _orders.obey(point, detail)


def place_order(
    folder: Path, process: Process, point: Point, *, detail: str = "", nth: int = 1, act: Act = Act.KILL
) -> Path:
    """Asks that kind of process to die or stop at its `nth` pass from now on. Returns the file that is there when it has."""
    if str(point).partition(".")[0] not in POINTS_OF[process]:
        raise ValueError(f"a {process} never passes {point}")
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{process}@{point}@{detail}" if detail else f"{process}@{point}"
    fired = folder / f"{name}.fired"
    fired.unlink(missing_ok=True)
    half = folder / f".{name}"
    half.write_text(str(nth) if act is Act.KILL else f"{nth} {act}", encoding="ascii")
    half.rename(folder / name)
    return fired


def _end_here() -> None:
    """As a power cut would: no handler, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def _stop_here() -> None:
    """The signal goes to this very thread, so that none of its next instructions runs before the process stands still."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


_ACTS: Mapping[Act, Callable[[], None]] = {Act.KILL: _end_here, Act.STOP: _stop_here}
