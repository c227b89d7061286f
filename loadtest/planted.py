"""Planted and found: the damage of a settlement file by its own log, against the cases that a reconciliation opened.

Pure. A damage is found when there is a case of the expected kind about one of its lines (or about its order, where it has
no line any more), and in its class when that case is of the expected class. Damage that is no exception yet (a line that may
still come) is found when its order is waited for; what closes by itself is found, once nothing is waited for any more, when no
case is left of it. Source of the log: simulator/psp/damage.py.

Invariant: each case counts for one damage; a case that no damage explains is a false alarm.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

EXPECTED: Final = "expected"
"""The class of what is no exception yet, in the words of the damage log."""


class Case(NamedTuple):
    """A mismatch as the product recorded it. `group`: its class; `line_id`, `order_id`: "" where it is about none."""

    kind: str
    group: str
    line_id: str
    order_id: str


@dataclass(frozen=True, slots=True)
class KindFound:
    """One kind of damage: how often it was planted, found, and found in its class. `group`: the class, as it was found."""

    kind: str
    planted: int
    found: int
    in_class: int
    group: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Planted and found side by side. `false_alarms`: cases that no damage explains, "kind line order"."""

    kinds: tuple[KindFound, ...]
    false_alarms: tuple[str, ...]

    @property
    def planted(self) -> int:
        """How many damages there are."""
        return sum(each.planted for each in self.kinds)

    @property
    def found(self) -> int:
        """How many of them were found, in whichever class."""
        return sum(each.found for each in self.kinds)

    @property
    def missed(self) -> int:
        """Damages that were not found, or not in their class."""
        return self.planted - sum(each.in_class for each in self.kinds)

    @property
    def holds(self) -> bool:
        """Something was planted, all of it is found in its class, and nothing else."""
        return self.planted > 0 and not self.missed and not self.false_alarms


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What the product made of a delivered file.

    `judgement`: None where the reconciliation did not end; `trouble` says why then. `items`, `explained`: lines and movements
    of the run, and those that need nobody. `ms`: import and run together.
    """

    judgement: Judgement | None
    trouble: str = ""
    items: int = 0
    explained: int = 0
    ms: int = 0

    @property
    def reasons(self) -> Iterator[str]:
        """Everything that speaks against it."""
        if self.judgement is None:
            yield f"the settlement file was not reconciled: {self.trouble}"
            return
        if not self.judgement.planted:
            yield "no damage was planted in the settlement file: nothing is proved"
        if self.judgement.missed:
            yield f"{self.judgement.missed:,} of {self.judgement.planted:,} planted discrepancies not found in their class"
        if self.judgement.false_alarms:
            yield f"{len(self.judgement.false_alarms):,} discrepancies that nobody planted"

    @property
    def line(self) -> str:
        """Its figures in a line."""
        share = f"{self.explained:,} of {self.items:,} lines and orders explained"
        return f"{share}; the others are cases, each in its class; reconciled in {self.ms / 1_000:.1f} s"


def judge(
    records: Iterable[Mapping[str, Any]], cases: Iterable[Case], waiting: Collection[str] = (), *, is_over: bool = False
) -> Judgement:
    """Compare the damage log with the cases. `waiting`: orders whose line is expected and not yet missing. `is_over`: what may
    come later has come."""
    planted, found, in_class = Counter[str](), Counter[str](), Counter[str]()
    groups: dict[str, str] = {}
    left = list(cases)
    for record in records:
        kind, expected = record["kind"], record["expected"]
        planted[kind] += 1
        mine = [case for case in left if case.kind == expected["mismatch"] and _is_about(case, record)]
        left = [case for case in left if case not in mine]
        is_closed = is_over and not expected["mismatch"] and not any(_is_about(case, record) for case in left)
        is_explained = is_closed or record["payment_order_id"] in waiting
        group = mine[0].group if mine else EXPECTED if is_explained else ""
        wanted = {expected["class"]} if mine else {expected["class"], expected["until_due"]}
        found[kind] += bool(group)
        in_class[kind] += group in wanted
        groups[kind] = group or groups.get(kind, "")
    kinds = (KindFound(kind, planted[kind], found[kind], in_class[kind], groups[kind]) for kind in sorted(planted))
    return Judgement(tuple(kinds), tuple(" ".join((case.kind, case.line_id, case.order_id)) for case in left))


def _is_about(case: Case, record: Mapping[str, Any]) -> bool:
    """About a line of the record, or about an order that has no line."""
    return case.line_id in record["lines"] or (not case.line_id and case.order_id == record["payment_order_id"])
