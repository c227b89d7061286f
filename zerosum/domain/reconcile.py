"""Matching: a PSP's lines against our movements, exclusive and two-sided. Pure.

    0  set_apart         lines whose id another line outside the group had first
    1  match_object      lines and movements of one PSP object
    2  match_reference   what pass 1 left, with the movements of one reference (our payment_order_id)
    3  match_amount      what pass 2 left and names neither object nor order, of one currency and amount
    4  conclude          what nobody took: EXPECTED, EXPLAINED, missing or unknown

Each pass takes one group at a time, so a run needs the memory of a group, not of a file. A line that names an object or an
order is never paired by its amount: it contradicts. Where several fit equally well the outcome is AMBIGUOUS, never the first.
The day a line or a movement is dated plays no part in the first two passes: a day shift matches all the same.

Source: specification "Reconciliation"; failures.md L1 to L9.

Invariant: the order in which lines and movements are handed in changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from zerosum.domain.reconcile_item import (
    MOVED,
    Item,
    MatchedBy,
    Movement,
    MovementKind,
    Outcome,
    Rules,
    State,
)
from zerosum.domain.reconcile_judgement import (
    ambiguous,
    has_no_fee,
    judge,
    of_known,
    told_again,
    told_before,
    unknown,
    waiting,
    with_fee,
)
from zerosum.domain.settlement import Category, Line

_DAY_MS: Final = 86_400_000


# ---- the passes ----------------------------------------------------------------------------------------------------


def set_apart(lines: Sequence[Line], firsts: Mapping[str, Line], rules: Rules) -> tuple[tuple[Item, ...], list[Line]]:
    """Pass 0: lines that were told before, in another file or another group, as items; and the others, for pass 1.

    `firsts`: item of a line -> the line that had its id first. Where that is one of `lines`, pass 1 has them both. Told again
    with the same content it is DUPLICATE_LINE; with another, AMBIGUOUS: nobody knows which holds.
    """
    here = {line.item for line in lines}
    items: list[Item] = []
    others = []
    for line in lines:
        first = firsts.get(line.item)
        if first is None or first.item in here:
            others.append(line)
        else:
            items += [told_again(line, first)] if is_told_again(line, first) else ambiguous([line], ())
    return tuple(with_fee(item, rules.contract) for item in items), others


def is_told_again(line: Line, first: Line) -> bool:
    """Whether two lines of one id tell the same, wherever they stand."""
    return replace(line, number=0, file_id="") == replace(first, number=0, file_id="")


def match_object(
    lines: Sequence[Line], movements: Sequence[Movement], rules: Rules, disputes: Sequence[Line] = ()
) -> Outcome:
    """Pass 1: everything that names one PSP object. Lines of one file or of several.

    Charges pair with the charge, refunds by their refund key, else by their amount; disputes, reversals, partial refunds of a
    charge of ours and refunds that came back are classified. An id told twice is DUPLICATE_LINE, and AMBIGUOUS where the two
    tell different things; a second id for one charge is DUPLICATE_CHARGE. Left: lines of an object that we do not know, and
    movements without a line. What names no object ("") is looked through for ids told twice and left; it may be fed in any
    portions. `disputes`: lines of other files, of disputes whose fee has not been told.
    """
    if len(lines) == len(movements) == 1 and _is_plain(lines[0], movements[0]):
        return Outcome((with_fee(judge(lines[0], movements[0], rules, MatchedBy.PSP_ID), rules.contract),), (), ())
    group = _Group(lines, movements, rules, MatchedBy.PSP_ID, disputes)
    if movements and all(line.object_id for line in lines):
        group.pair(Category.CHARGE, _OWN_ORDER, _OWN_OBJECT)
        group.pair(Category.REFUND, _REFUND_KEY, _REFUND_MONEY)
        group.refuse_taken()
        group.classify()
    return group.outcome()


def _is_plain(line: Line, movement: Movement) -> bool:
    """A charge and its only line: nearly every group there is, and decided by what is below without anything to weigh."""
    is_charge = line.category is Category.CHARGE and movement.kind is MovementKind.CHARGE
    return is_charge and line.object_id != "" and not movement.settled_by


def match_reference(
    lines: Sequence[Line], movements: Sequence[Movement], rules: Rules, disputes: Sequence[Line] = ()
) -> Outcome:
    """Pass 2: lines that pass 1 left and that carry one reference, with *all* movements whose order_id it is.

    Those that a line has already (in pass 1, or from an earlier file) come with `settled_by`: a second charge for the order
    is DUPLICATE_CHARGE. A movement that pass 1 had not (its order is of the last seconds) is known by its object here too. One
    whose object was not known matches; one with another object is WRONG_PSP_ID. Movements with `settled_by` are never in the
    outcome. Lines whose reference is "" do not belong here. `disputes`: as in pass 1.
    """
    group = _Group(lines, movements, rules, MatchedBy.REFERENCE, disputes)
    group.pair(Category.CHARGE, _SAME_OBJECT, _MONEY_MOVED, _MONEY, _TENANT)
    group.pair(Category.REFUND, _REFUND_KEY, _REFUND_MONEY)
    group.refuse_taken()
    group.classify()
    found = group.outcome()
    return replace(found, movements=tuple(movement for movement in found.movements if not movement.settled_by))


def match_amount(lines: Sequence[Line], movements: Sequence[Movement], rules: Rules) -> Outcome:
    """Pass 3: lines that name neither object nor order, with unmatched movements, of one currency and (unsigned) amount.

    Of the same UTC day first, then of the day before or after. Only a pair that is the only one possible is made.
    """
    group = _Group(lines, movements, rules, MatchedBy.AMOUNT_DAY)
    for category in (Category.CHARGE, Category.REFUND):
        group.pair(category, _SAME_DAY, _NEXT_DAY)
    return group.outcome()


def conclude(lines: Sequence[Line], movements: Sequence[Movement], rules: Rules) -> tuple[Item, ...]:
    """Pass 4: what no pass took; one item each. Any grouping gives the same.

    A movement that moved money is EXPECTED until it is due, then MISSING_LINE; one in flight is EXPECTED; one given up, or
    settled by an earlier line, is EXPLAINED. A line is UNKNOWN by its category, a payout EXPLAINED.
    """
    alone = (with_fee(unknown(line), rules.contract) for line in lines)
    return (*alone, *(waiting(movement, rules) for movement in movements))


def reconcile(lines: Iterable[Line], movements: Iterable[Movement], rules: Rules) -> tuple[Item, ...]:
    """All passes over what fits into memory: what a run must find, group by group, however it feeds them. In order of names."""
    first = _each(
        match_object, lines, movements, rules, lambda line: line.object_id, lambda movement: movement.object_id
    )
    settled = [movement for movement in first.movements if movement.settled_by]
    still_open = [movement for movement in first.movements if not movement.settled_by]
    taken = [_taken(item.movement, item) for item in first.items if item.movement]
    second = _each(
        match_reference, (line for line in first.lines if line.reference), (*still_open, *settled, *taken), rules,
        lambda line: line.reference, lambda movement: movement.order_id,
    )  # fmt: skip
    third = _each(
        match_amount, (*second.lines, *(line for line in first.lines if not line.reference)), second.movements, rules,
        lambda line: (line.gross.currency, abs(line.gross.amount_minor)),
        lambda movement: (movement.money.currency, movement.money.amount_minor),
    )  # fmt: skip
    last = conclude(third.lines, (*third.movements, *settled), rules)
    return tuple(sorted((*first.items, *second.items, *third.items, *last), key=_name_of))


def _each(
    match: Callable[[Sequence[Line], Sequence[Movement], Rules], Outcome],
    lines: Iterable[Line],
    movements: Iterable[Movement],
    rules: Rules,
    key_of_line: Callable[[Line], object],
    key_of_movement: Callable[[Movement], object],
) -> Outcome:
    """One pass over all its groups."""
    groups: defaultdict[object, tuple[list[Line], list[Movement]]] = defaultdict(lambda: ([], []))
    for line in lines:
        groups[key_of_line(line)][0].append(line)
    for movement in movements:
        groups[key_of_movement(movement)][1].append(movement)
    found = [match(*group, rules) for group in groups.values()]
    return Outcome(
        tuple(item for outcome in found for item in outcome.items),
        tuple(line for outcome in found for line in outcome.lines),
        tuple(movement for outcome in found for movement in outcome.movements),
    )


def _taken(movement: Movement, item: Item) -> Movement:
    """The movement as later passes see it: a line has it, or a case in which nobody knows which."""
    by = item.line.id if item.line else item.discrepancy.line_id if item.discrepancy else ""
    return replace(movement, settled_by=by)


def _name_of(item: Item) -> tuple[str, str]:
    return (item.line.item if item.line else "", item.movement.item if item.movement else "")


# ---- which line may belong to which movement -----------------------------------------------------------------------


class _Tie(NamedTuple):
    """What may bring a line and a movement together. `is_name`: it names the movement, so of several lines that share it one
    is the movement's and the others come on top; otherwise several that fit are an ambiguity."""

    fits: Callable[[Line, Movement], bool]
    is_name: bool


def _is_of_tenant(line: Line, movement: Movement) -> bool:
    return not line.tenant or line.tenant == movement.tenant


def _is_of_money(line: Line, movement: Movement) -> bool:
    return _is_of_tenant(line, movement) and line.gross == movement.signed


def _has_no_name(line: Line, movement: Movement, *, days: int) -> bool:
    is_nameless = not line.object_id and not line.reference
    days_apart = abs(line.created_at_ms // _DAY_MS - movement.at_ms // _DAY_MS)
    return is_nameless and movement.standing in MOVED and days_apart == days and _is_of_money(line, movement)


_OWN_ORDER = _Tie(lambda line, movement: line.reference == movement.order_id and _is_of_tenant(line, movement), True)
_OWN_OBJECT = _Tie(lambda *_: True, True)
_SAME_OBJECT = _Tie(
    lambda line, movement: (
        bool(line.object_id) and line.object_id == movement.object_id and _is_of_tenant(line, movement)
    ),
    True,
)
_REFUND_KEY = _Tie(
    lambda line, movement: (
        bool(line.refund_key) and line.refund_key == movement.refund_key and _is_of_tenant(line, movement)
    ),
    True,
)
_REFUND_MONEY = _Tie(lambda line, movement: not line.refund_key and _is_of_money(line, movement), False)
_REFUND_RETURNED = _Tie(lambda line, movement: _is_of_tenant(line, movement) and line.gross == movement.money, False)
_MONEY_MOVED = _Tie(lambda line, movement: movement.standing in MOVED and _is_of_money(line, movement), False)
_MONEY = _Tie(_is_of_money, False)
_TENANT = _Tie(_is_of_tenant, False)
_SAME_DAY = _Tie(lambda line, movement: _has_no_name(line, movement, days=0), False)
_NEXT_DAY = _Tie(lambda line, movement: _has_no_name(line, movement, days=1), False)

_MOVEMENT_OF: Final = {Category.CHARGE: MovementKind.CHARGE, Category.REFUND: MovementKind.REFUND}


# ---- one group -----------------------------------------------------------------------------------------------------


class _Group:
    """The lines and movements of one group while its pass decides: what is decided leaves `lines` and `open` for `items`."""

    def __init__(
        self, lines: Sequence[Line], movements: Sequence[Movement], rules: Rules, by: MatchedBy,
        disputes: Sequence[Line] = (),
    ) -> None:  # fmt: skip
        self.rules, self.by, self.disputes = rules, by, disputes
        self.movements = sorted(movements, key=lambda movement: movement.item)
        self.open = [movement for movement in self.movements if not movement.settled_by]
        self.taken = [movement for movement in self.movements if movement.settled_by]
        self.items: list[Item] = []
        self.lines = self._once(sorted(lines, key=_by_time))

    def outcome(self) -> Outcome:
        """What is decided and what is left; movements that a line had before are among the left."""
        before = [movement for movement in self.movements if movement.settled_by]
        items = tuple(with_fee(item, self.rules.contract) for item in self.items)
        return Outcome(items, tuple(self.lines), (*self.open, *before))

    def pair(self, category: Category, *ties: _Tie) -> None:
        """Pairs lines of the category with open movements of its kind, by the strongest tie first."""
        for tie in ties:
            lines = [line for line in self.lines if line.category is category]
            movements = [movement for movement in self.open if movement.kind is _MOVEMENT_OF[category]]
            for tied_lines, tied in _tied(lines, movements, tie.fits):
                self._decide(tied_lines, tied, tie)

    def _decide(self, lines: list[Line], movements: list[Movement], tie: _Tie) -> None:
        if len(movements) == 1 and (tie.is_name or len(lines) == 1):
            movement = movements[0]
            line = min(lines, key=lambda one: (one.gross != movement.signed, *_by_time(one)))
            self.items.append(judge(line, movement, self.rules, self.by))
            self.taken.append(replace(movement, settled_by=line.id))
            lines = [line]
        else:
            self.items += ambiguous(lines, movements)
        self.lines = [line for line in self.lines if line not in lines]
        self.open = [movement for movement in self.open if movement not in movements]

    def refuse_taken(self) -> None:
        """Lines that are left for a movement that has its line: told again, or moved again."""
        for line in list(self.lines):
            had = [movement for movement in self.taken if self._is_second(line, movement)]
            if had:
                same = next((movement for movement in had if movement.settled_by == line.id), had[0])
                self._put(line, told_before(line, same))

    def classify(self) -> None:
        """Lines about a charge or a refund of ours that have no movement of their own. A dispute explains one fee row."""
        disputes = {line.id: line.object_id for line in (*self.disputes, *self.lines) if has_no_fee(line)}
        without_fee = Counter(disputes.values())
        for line in list(self.lines):
            origin = self._failed_refund(line) or next(
                (one for one in self.movements if self._is_origin(line, one)), None
            )
            if origin is not None and line.category not in (Category.CHARGE, Category.PAYOUT):
                item = of_known(line, origin, self.rules.contract, is_disputed=without_fee[line.object_id] > 0)
                without_fee[line.object_id] -= item.state is State.EXPLAINED
                self._put(line, item)

    def _failed_refund(self, line: Line) -> Movement | None:
        """The refund that came back with this line, by its key, else by its money; None where several fit, or none."""
        if line.category is not Category.REFUND_FAILURE:
            return None
        tie = _REFUND_KEY if line.refund_key else _REFUND_RETURNED
        fitting = [one for one in self.movements if one.kind is MovementKind.REFUND and tie.fits(line, one)]
        return fitting[0] if len(fitting) == 1 else None

    def _is_second(self, line: Line, movement: Movement) -> bool:
        """Whether a line that is left is about this movement, which another line has. One of our object that names another
        order may be that order's: the next pass sees."""
        if movement.settled_by == line.id:
            return True
        if line.category is Category.CHARGE:
            is_named = self.by is MatchedBy.REFERENCE or line.reference in ("", movement.order_id)
            return is_named and self._is_origin(line, movement)
        return line.category is Category.REFUND and _REFUND_KEY.fits(line, movement)

    def _is_origin(self, line: Line, movement: Movement) -> bool:
        is_named = self.by is MatchedBy.PSP_ID or _is_of_tenant(line, movement)
        return movement.kind is MovementKind.CHARGE and is_named

    def _put(self, line: Line, item: Item) -> None:
        self.items.append(item)
        self.lines.remove(line)

    def _once(self, lines: list[Line]) -> list[Line]:
        """Each PSP's id once. Told again with the same content it is a duplicate; with another, nobody knows which holds."""
        told: dict[str, list[Line]] = {}
        for line in lines:
            told.setdefault(line.id, []).append(line)
        kept = []
        for same in told.values():
            if len(same) > 1 and len({replace(line, number=0, file_id="") for line in same}) > 1:
                self.items += ambiguous(same, ())
            else:
                kept.append(same[0])
                self.items += (told_again(line, same[0]) for line in same[1:])
        return kept


def _tied(
    lines: list[Line], movements: list[Movement], fits: Callable[[Line, Movement], bool]
) -> list[tuple[list[Line], list[Movement]]]:
    """The connected parts of "may belong together": within one, no choice is better founded than another."""
    parts: list[tuple[list[Line], set[int]]] = []
    for line in lines:
        mine, fitting = [line], {at for at, movement in enumerate(movements) if fits(line, movement)}
        if not fitting:
            continue
        for part in [part for part in parts if part[1] & fitting]:
            parts.remove(part)
            mine, fitting = part[0] + mine, part[1] | fitting
        parts.append((mine, fitting))
    return [(tied, [movements[at] for at in sorted(fitting)]) for tied, fitting in parts]


def _by_time(line: Line) -> tuple[int, int, str, str]:
    """An order of lines that does not depend on how they came."""
    return (line.created_at_ms, line.number, line.id, line.file_id)
