"""What a run adds up to, step by step: counts of items and cases, and the explained share.

Invariant: integers only; what a step adds is a function of its items.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from zerosum.domain.discrepancy import Kind, rule_of
from zerosum.domain.reconcile_item import Item, State
from zerosum.reconciling import Summary

EXPLAINED = (State.MATCHED, State.EXPECTED, State.EXPLAINED)


def counted(before: Mapping[str, int], items: Sequence[Item]) -> dict[str, int]:
    """Counts after these items: "lines", "movements", "state/..", "kind/.."."""
    counts = Counter(before)
    for item in items:
        sides = (item.line is not None) + (item.movement is not None)
        counts["lines"] += item.line is not None
        counts["movements"] += item.movement is not None
        counts[f"state/{item.state}"] += sides
    found = {case.id: case.kind for item in items for case in (item.discrepancy, item.fee) if case is not None}
    counts.update(f"kind/{kind}" for kind in found.values())
    return dict(counts)


def summary_of(progress: Mapping[str, Any]) -> Summary:
    """What the counts of a run add up to."""
    counts: Mapping[str, int] = progress["counts"]
    by_state = _named(counts, "state/")
    by_kind = _named(counts, "kind/")
    by_class: Counter[str] = Counter()
    for kind, number in by_kind:
        by_class[rule_of(Kind(kind)).group] += number
    every = sum(number for _, number in by_state)
    explained = sum(number for state, number in by_state if state in EXPLAINED)
    return Summary(
        lines=counts.get("lines", 0), movements=counts.get("movements", 0), by_state=by_state,
        by_class=tuple(sorted(by_class.items())), by_kind=by_kind,
        explained_ppm=explained * 1_000_000 // every if every else 1_000_000, files=tuple(progress.get("files", ())),
    )  # fmt: skip


def _named(counts: Mapping[str, int], prefix: str) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name.removeprefix(prefix), n) for name, n in counts.items() if name.startswith(prefix) and n))
