"""Many seeds: progress, figures, what was met, and the verdict.

A campaign is wrong when a seed is, and also when it was long enough and never met some fault of the table: then it has
proven nothing about it. Its state can be kept in a file, so that a long one is run in pieces.

Invariant: a seed counts once and for the code it was run with; the verdict is over all of them, earlier pieces included.
"""

import gc
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TextIO

from simulator.digest import code_digest
from simulator.world.forger import FORGERIES
from simulator.world.mix import RANGES, RARE
from simulator.world.rival import REFUSED_FOR
from simulator.world.run import Result, run_seed, without_collector
from simulator.world.shrink import command_of, shrink
from zerosum.domain.reconcile_inside import Side
from zerosum.domain.refund import RefundCause

MEETS_ALL_FROM: Final = 200
"""Seeds after which each fault must have happened: each is in two seeds of five, so by chance none stays away. But for `RARE`
ones: these count with the branches."""

BRANCHES: Final = (
    "ambiguous_applied", "ambiguous_lost", "ambiguous_late", "late_commit_landed", "breaker_open", "clock_jumped_ahead",
    "clock_jumped_back", "dead_letter", "fenced", "forgery_refused", *(f"forged_{kind}" for kind in FORGERIES),
    "key_reuse_refused", "psp CHARGED", "psp DECLINED", "psp REFUNDED", "psp STORED_FAILURE", "replay",
    *(f"rival_{shared}_refused" for shared in REFUSED_FOR),
    *(f"refund {cause} {end}" for cause in RefundCause for end in ("SUCCEEDED", "FAILED")), "account_closed",
    *(f"lost {side}" for side in Side), "found missing_transfer", "found missing_journal", "fix_sent_twice",
    "restored", "refund_promised", "stale_ended", "sweep_found", "webhook_recorded", "webhook_refused",
    "webhook_replay", "woke_beside_successor",
)  # fmt: skip
"""What the house must have done at least once, beside every fault of `RANGES`."""

BRANCHES_FROM: Final = 1_000
"""Seeds after which each branch must have happened: the rarest takes several faults at once."""

ROOMS: Final = ("zerosum", "actors", "servers", "simulator")
"""What a seed's story is made of: what changes here makes every earlier seed void."""

_CHUNK: Final = 10
_SHRUNK_MAX: Final = 3
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Tally:
    """What came of seeds. `failed`: seed -> its first finding."""

    seeds: int = 0
    orders: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    met: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Takes the other's seeds over."""
        self.seeds += other.seeds
        self.orders += other.orders
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.met = dict(Counter(self.met) + Counter(other.met))
        self.failed |= other.failed

    @property
    def never_met(self) -> list[str]:
        """Faults and branches that should have happened by now and did not."""
        faults = [name for name in RANGES if name not in RARE] if self.seeds >= MEETS_ALL_FROM else []
        branches = (*RARE, *BRANCHES) if self.seeds >= BRANCHES_FROM else ()
        return [name for name in (*faults, *branches) if not self.met.get(name)]

    @property
    def unjudged(self) -> str:
        """What so few seeds cannot show to have been met, "" where they show all."""
        if self.seeds < MEETS_ALL_FROM:
            return "faults and branches"
        return "branches" if self.seeds < BRANCHES_FROM else ""

    @property
    def is_right(self) -> bool:
        """The verdict."""
        return not self.failed and not self.never_met


def campaign(
    *, seeds: int, first_seed: int = 0, jobs: int = 1, state: Path | None = None, out: TextIO = sys.stdout
) -> Tally:
    """Runs the seeds that `state` has not run yet, and tells of it on `out`. The tally is over all of them.

    Raises OtherCode or ValueError where the file's seeds cannot be counted on: they are of other code, or others.
    """
    code = code_digest(_ROOT, ROOMS) if state is not None else ""
    tally, done = _load(state, first_seed, code)
    began_s = time.monotonic()
    kept_s = tally.real_s
    todo = range(first_seed + done, first_seed + seeds)
    chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
    for part in _run_all(chunks, jobs):
        tally.add(part)
        tally.real_s = kept_s + time.monotonic() - began_s
        _save(state, first_seed, code, tally)
        for seed, finding in part.failed.items():
            print(f"\nseed {seed}: {finding}\n  zerosum simulate --seed {seed} --trace", file=out)
        print(f"\r{_progress(tally, seeds)}", end="", file=out, flush=True)
    print(file=out)
    _tell(tally, out)
    return tally


def run_chunk(seeds: Sequence[int]) -> Tally:
    """Some seeds, one after the other, in this process."""
    tally, met = Tally(), Counter[str]()
    with without_collector():
        for seed in seeds:
            _count(run_seed(seed), tally, met)
            gc.collect(1)  # once: nothing of the seed is alive any more, what it left is still in the cache
    tally.met = dict(met)
    return tally


def _count(result: Result, tally: Tally, met: "Counter[str]") -> None:
    tally.seeds += 1
    tally.orders += result.orders
    tally.steps += result.steps
    tally.virtual_s += result.virtual_s
    met.update(result.met)
    if result.findings:
        tally.failed[str(result.seed)] = result.findings[0]
    result.trace.let_go()


def _run_all(chunks: Sequence[Sequence[int]], jobs: int) -> Iterator[Tally]:
    if jobs == 1:
        with _without_old_garbage():
            yield from map(run_chunk, chunks)
        return
    # Each worker is a fresh interpreter: nothing of this one, no lock and no thread, is in it.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_chunk, chunks)


@contextmanager
def _without_old_garbage() -> Iterator[None]:
    """What was there before the first seed is not looked through after each of them."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


# ---- what people see -----------------------------------------------------------------------------------------------


def _progress(tally: Tally, seeds: int) -> str:
    seconds = max(tally.real_s, 0.001)
    return (
        f"{tally.seeds}/{seeds} seeds, {tally.seeds / seconds:.1f} seeds/s, {tally.orders / seconds:.0f} orders/s, "
        f"{tally.steps / seconds:.0f} steps/s, {len(tally.failed)} failed"
    )


def _tell(tally: Tally, out: TextIO) -> None:
    print(f"virtual time: {tally.virtual_s / 3_600:.1f} hours", file=out)
    faults = [f"{name} {tally.met.get(name, 0)}" for name in RANGES]
    others = [f"{name} {count}" for name, count in sorted(tally.met.items()) if name not in RANGES]
    print(f"faults met: {', '.join(faults)}\nalso met: {', '.join(others)}", file=out)
    for seed in sorted(tally.failed, key=int)[:_SHRUNK_MAX]:
        small = shrink(run_seed(int(seed)))
        print(f"seed {seed}, made small: {small.findings[:1]}\n  {command_of(small)}", file=out)
    if tally.never_met:
        print(f"never met, so nothing is proven about it: {', '.join(tally.never_met)}", file=out)
    if tally.unjudged:
        print(f"too few seeds to judge which {tally.unjudged} were met: from {BRANCHES_FROM} on all are", file=out)
    verdict = "RIGHT: no violation" if tally.is_right else f"WRONG: {len(tally.failed)} of {tally.seeds} seeds failed"
    print(verdict if tally.failed or tally.is_right else "WRONG: the campaign missed what it is for", file=out)


# ---- state ---------------------------------------------------------------------------------------------------------


class OtherCode(ValueError):
    """The seeds in the file of the state were run with other code: they prove nothing about this one."""


def _load(state: Path | None, first_seed: int, code: str) -> tuple[Tally, int]:
    """What earlier pieces did. Raises OtherCode, and ValueError where the file is about other seeds."""
    if state is None or not state.exists():
        return Tally(), 0
    document = json.loads(state.read_text(encoding="utf-8"))
    if document.get("code") != code:
        raise OtherCode(f"{state} counts seeds of other code; delete it, or name another file, to start anew")
    if document["first_seed"] != first_seed:
        raise ValueError(f"{state} is about seeds from {document['first_seed']} on")
    tally = Tally(**document["tally"])
    return tally, tally.seeds


def _save(state: Path | None, first_seed: int, code: str, tally: Tally) -> None:
    if state is None:
        return
    half = state.with_name(f"{state.name}.half")
    document = {"code": code, "first_seed": first_seed, "tally": asdict(tally)}
    half.write_text(json.dumps(document, indent=1), encoding="utf-8")
    half.replace(state)
