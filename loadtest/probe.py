"""Looking at a running system from outside: orders by status, figures of shards, memory, and the PSP's admin API.

Blocking calls, each bounded in time: whoever has an event loop runs them in a thread.
Invariant: nothing here changes the system, but for the PSP's faults, which are asked for by name.
"""

import contextlib
import json
import os
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import psycopg

TIMEOUT_S: Final = 10.0
OPEN_STATUSES: Final = ("NOT_STARTED", "EXECUTING", "PENDING", "AUTHORIZED")


class Psp:
    """The simulator's admin API."""

    def __init__(self, url: str, admin_token: str) -> None:
        self._url = url
        self._token = admin_token

    def set_faults(self, rates: Mapping[str, float]) -> None:
        """Sets the rates named; all others return to none."""
        self._call("PUT", "faults", rates)

    def faults_met(self) -> dict[str, int]:
        """How often each fault has happened since the simulator started."""
        stats = self._call("GET", "stats")
        counts: dict[str, int] = stats.get("faults", {})
        return counts

    def delays_ms(self) -> dict[str, int]:
        """Payment order id -> what the PSP has kept its calls waiting, in all, in ms."""
        delays: dict[str, int] = self._call("GET", "delays")
        return delays

    def webhooks_pending(self) -> int:
        """Events that wait for their delivery, or for their next attempt."""
        return int(self._call("GET", "stats").get("webhooks", {}).get("pending", 0))

    def charges(self) -> int:
        """Tries of a card in the book, declined ones included."""
        return int(self._call("GET", "stats").get("objects", {}).get("charges", 0))

    def settle(self) -> Path:
        """Has the settlement file of everything written; its path."""
        return Path(self._call("POST", "settlement", {"from_ms": 0})["path"])

    def settle_damaged(self, *, rate: float, seed: int) -> dict[str, Any]:
        """Has the PSP pay out what it holds and deliver a file with this share of its lines damaged; the manifest.

        Beside it: `path`, `manifest_path`, `damage_log` (a path), `damage` (kind -> how often), `true` (the true manifest).
        """
        return self._call("POST", "settlement", {"damage_rate": rate, "damage_seed": seed})

    def truth(self) -> list[bytes]:
        """The book, a JSON document a line."""
        request = urllib.request.Request(f"{self._url}/_admin/truth", headers=self._headers())  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own loopback address
            return list(answer)

    def _call(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        url = f"{self._url}/_admin/{route}"
        request = urllib.request.Request(url, data=data, headers=self._headers(), method=method)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own loopback address
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}


class Books:
    """The payment tables as the auditor's role sees them. One connection, opened anew when it breaks."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+psycopg", "")
        self._connection: psycopg.Connection[Any] | None = None

    def orders_by_status(self) -> dict[str, int]:
        """How many orders stand where; empty while the database is away."""
        sql = "SELECT payment_order_status, count(*) FROM payment.payment_orders GROUP BY 1"
        return {str(status): int(count) for status, count in self._rows(sql)}

    def executing(self, slots: Sequence[int]) -> int:
        """Orders of these slots that are EXECUTING now."""
        sql = (
            "SELECT count(*) FROM payment.payment_orders WHERE slot = ANY(%s) AND payment_order_status = 'EXECUTING'"
            " AND payment_order_status IN ('NOT_STARTED', 'EXECUTING', 'PENDING', 'AUTHORIZED')"
        )
        return int(next(iter(self._rows(sql, [list(slots)])), (0,))[0])

    def open_todos(self) -> int:
        """Effects not yet finished, dead letters left out; -1 while the database is away."""
        found = self._rows("SELECT count(*) FROM payment.todos WHERE state = 'OPEN'")
        return int(found[0][0]) if found else -1

    def knows(self, checkout_id: str) -> bool:
        """Whether the checkout is stored."""
        return bool(self._rows("SELECT 1 FROM payment.payment_events WHERE checkout_id = %s", [checkout_id]))

    def waits_for_risk(self, checkout_id: str) -> bool:
        """Whether the checkout's risk check is an effect that is not finished."""
        sql = "SELECT 1 FROM payment.todos WHERE checkout_id = %s AND kind = 'assess_risk' AND state = 'OPEN'"
        return bool(self._rows(sql, [checkout_id]))

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            return self._connection.execute(sql, values).fetchall()
        except psycopg.Error:
            with contextlib.suppress(psycopg.Error):
                self.close()
            self._connection = None
            return []


def shard_figures(metrics_url: str) -> dict[str, dict[str, float]]:
    """Figures by shard number, from a server's Prometheus page; empty while it is away."""
    shards: dict[str, dict[str, float]] = {}
    for line in _page(metrics_url):
        if line.startswith("zerosum_shard{"):
            labels, _, value = line.removeprefix("zerosum_shard{").rpartition("} ")
            named = dict(part.split("=", 1) for part in labels.split(","))
            shards.setdefault(named["shard"].strip('"'), {})[named["figure"].strip('"')] = float(value)
    return shards


def grpc_calls(metrics_url: str) -> float:
    """Calls that a server has ended since it began, from its Prometheus page; 0 while it is away."""
    return sum(
        float(line.rpartition("} ")[2]) for line in _page(metrics_url) if line.startswith("zerosum_grpc_calls_total{")
    )


def database_figures(metrics_url: str) -> dict[str, float]:
    """What a server itself has sent to its database, by figure, from its Prometheus page; empty while it is away."""
    lines = [line for line in _page(metrics_url) if line.startswith("zerosum_database{")]
    return {line.split('"')[1]: float(line.rpartition("} ")[2]) for line in lines}


def _page(metrics_url: str) -> list[str]:
    try:
        with urllib.request.urlopen(metrics_url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own loopback address
            return str(answer.read().decode()).splitlines()
    except OSError:
        return []


def average_batch(before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]) -> float | None:
    """Turns a commit of the checkout shards between two readings; a restarted shard counts from zero."""
    turns = batches = 0.0
    for shard, figures in after.items():
        base = before.get(shard, {}) if before.get(shard, {}).get("pid") == figures.get("pid") else {}
        turns += figures.get("turns", 0) - base.get("turns", 0)
        batches += figures.get("batches", 0) - base.get("batches", 0)
    return turns / batches if batches else None


def memory_mb() -> float:
    """Proportional memory of this process and all that descend from it, in MB: shared pages counted once."""
    return sum(memory_mb_by_process().values())


def memory_mb_by_process() -> dict[str, float]:
    """The same by what the processes are. The shared pages of a database stand with it, however many touch them."""
    held: dict[str, float] = {}
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            name = _command_name(pid)
            pss_kb = int(next(line for line in rollup if line.startswith("Pss:")).split()[1])
            held[name] = held.get(name, 0.0) + pss_kb / 1_024
    return held


def processes_by_name() -> dict[str, int]:
    """How many processes there are of each kind: this one and all that descend from it."""
    found: Counter[str] = Counter()
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError):
            found[_command_name(pid)] += 1
    return dict(found)


def cpu_ms_by_process() -> dict[str, float]:
    """CPU time of this process and all that descend from it, by what they are, in milliseconds since each began.

    That of processes that have ended stands with whoever waited for them. What happened between two instants is told by
    `cpu_spent_ms`: nobody waits for Ray's workers, and what they had spent is missing here once they are gone.
    """
    spent: dict[str, float] = {}
    for each in cpu_reading().values():
        spent[each.name] = spent.get(each.name, 0.0) + each.own_ms + each.waited_for_ms
    return spent


@dataclass(frozen=True, slots=True)
class ProcessCpu:
    """CPU of one process since it began, and of its children that ended and that it waited for, in milliseconds."""

    name: str
    parent: int
    own_ms: float
    waited_for_ms: float


CpuReading = Mapping[tuple[int, int], ProcessCpu]
"""By process id and instant of its start, which together are nobody else's."""


def cpu_reading() -> CpuReading:
    """This process and all that descend from it, as they are now."""
    found = {}
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own, waited_for = (10.0 * (int(fields[at]) + int(fields[at + 1])) for at in (11, 13))
            found[pid, int(fields[19])] = ProcessCpu(_command_name(pid), int(fields[1]), own, waited_for)
    return found


def cpu_spent_ms(before: CpuReading, after: CpuReading) -> dict[str, float]:
    """CPU between two readings by what the processes are, never negative. What began or ended in between is counted too.

    What a process spent before its end comes from its parent, less what it had spent at the first reading. Where nobody waited
    for it (a worker of Ray's: the raylet ignores its children's ends), its last part is known to nobody.
    """
    spent: dict[str, float] = {}
    none = ProcessCpu("", 0, 0.0, 0.0)
    for key, now in after.items():
        then = before.get(key, none)
        gone = _gone_below(key[0], before, after)
        known_ms = sum(each.own_ms + each.waited_for_ms for each in gone)
        ended_ms = max(now.waited_for_ms - then.waited_for_ms - known_ms, 0.0)
        heir = gone[0].name if gone else now.name
        spent[now.name] = spent.get(now.name, 0.0) + now.own_ms - then.own_ms
        spent[heir] = spent.get(heir, 0.0) + ended_ms
    return spent


def _gone_below(parent: int, before: CpuReading, after: CpuReading) -> list[ProcessCpu]:
    """Children that have ended since, and theirs."""
    found = []
    for key, each in before.items():
        if each.parent == parent and key not in after:
            found += [each, *_gone_below(key[0], before, after)]
    return found


GENERATOR: Final = "load generator"
SIMULATOR: Final = "simulator"
OTHERS: Final = "bench"
NAIVE: Final = "naive"
PEER: Final = "peer"
NOT_THE_SYSTEM: Final = frozenset({GENERATOR, SIMULATOR, OTHERS, NAIVE, PEER})
"""Whoever loads the system, the PSP, the one that measures, and the textbook and other ledgers beside us."""

_NAMES: Final = (
    ("ray::ShardActor", "shards"), ("serve payment", "payment server"), ("serve wallet", "wallet server"),
    ("serve ledger", "ledger server"), ("serve reconciliation", "reconciliation server"), ("serve edge", "edge"),
    ("simulator.psp", SIMULATOR), ("postgres", "database"), ("loadtest.naive", NAIVE), ("loadtest.peers", PEER),
    ("bench.generator", GENERATOR), ("locust", GENERATOR), ("ray", "ray"),
)  # fmt: skip


def _command_name(pid: int) -> str:
    """What a process is. Raises OSError when it is gone."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return next((name for mark, name in _NAMES if mark in command), OTHERS)


def family(root: int) -> list[int]:
    """A process and all that descend from it, itself first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    waiting, found = [root], []
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def is_refused(edge: str, token: str, body: Mapping[str, Any]) -> bool:
    """Sends a checkout to the edge that must be refused as malformed; True when it is."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{edge}/v1/payments", data=json.dumps(body).encode(), headers=headers)  # noqa: S310 - our own loopback address
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - our own loopback address
            return False
    except urllib.error.HTTPError as refused:
        return refused.code == HTTPStatus.BAD_REQUEST
    except OSError:
        return False
