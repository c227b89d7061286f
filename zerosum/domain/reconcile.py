"""Matching: a PSP's lines against our movements, exclusive and two-sided. Pure.

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

from collections.abc import Iterable, Sequence

from zerosum.domain.reconcile_item import Item, Movement, Outcome, Rules
from zerosum.domain.settlement import Line


def match_object(lines: Sequence[Line], movements: Sequence[Movement], rules: Rules) -> Outcome:
    """Pass 1: everything that names one PSP object. Lines of one file or of several.

    Charges pair with the charge, refunds by their refund key, else by their amount; disputes, reversals and partial refunds of
    a charge of ours are classified; payout rows are explained. An id told twice is DUPLICATE_LINE, a second id for one charge
    DUPLICATE_CHARGE. Left: lines of an object that we do not know or that is "", and movements without a line.
    """
    raise NotImplementedError


def match_reference(lines: Sequence[Line], movements: Sequence[Movement], rules: Rules) -> Outcome:
    """Pass 2: lines that pass 1 left and that carry one reference, with *all* movements whose order_id it is.

    Those that a line has already (in pass 1, or from an earlier file) come with `settled_by`: a second charge for the order
    is DUPLICATE_CHARGE. A movement whose object was not known matches; one with another object is WRONG_PSP_ID. Movements with
    `settled_by` are never in the outcome, nor are lines whose reference is "".
    """
    raise NotImplementedError


def match_amount(lines: Sequence[Line], movements: Sequence[Movement], rules: Rules) -> Outcome:
    """Pass 3: lines that name neither object nor order, with unmatched movements, of one currency and (unsigned) amount.

    Of the same UTC day first, then of the day before or after. Only a pair that is the only one possible is made.
    """
    raise NotImplementedError


def conclude(lines: Sequence[Line], movements: Sequence[Movement], rules: Rules) -> tuple[Item, ...]:
    """Pass 4: what no pass took; one item each. Any grouping gives the same.

    A movement that moved money is EXPECTED until it is due, then MISSING_LINE; one in flight is EXPECTED; one given up, or
    settled by an earlier line, is EXPLAINED. A line is UNKNOWN by its category.
    """
    raise NotImplementedError


def reconcile(lines: Iterable[Line], movements: Iterable[Movement], rules: Rules) -> tuple[Item, ...]:
    """All four passes over what fits into memory: what a run must find, group by group, however it feeds them."""
    raise NotImplementedError
