"""Ablations of amounts and journals. Each journal here is made without the check that would refuse it.

Invariant: see `plant.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain import effect, journal
from zerosum.domain.journal import Entry, Journal, Movement
from zerosum.domain.money import Money


def _entries(plant: Plant, change: Callable[[tuple[Entry, ...]], tuple[Entry, ...]]) -> None:
    """Changes the entries of every capture, and lets pass what does not balance."""

    def entries_of(movement: Movement, **rest: Any) -> tuple[Entry, ...]:
        entries = journal.entries_of(movement, **rest)
        return change(entries) if movement is Movement.CAPTURE else entries

    plant.instead(effect, "entries_of", entries_of)
    plant.instead(effect, "journal", Journal)


def _scaled(entry: Entry, amount: Callable[[int], int]) -> Entry:
    return replace(entry, money=Money(amount(entry.money.amount_minor), entry.money.currency))


@ablation("leg-dropped", "the last leg of a capture is not posted", "I1, I2")
def leg_dropped(plant: Plant) -> None:
    _entries(plant, lambda entries: entries[:-1])


@ablation("float-amount", "a journal's amounts pass through floats of whole units", "I3, I22")
def float_amount(plant: Plant) -> None:
    """int(x / 100 * 100) is one less than x for some x; all legs err alike, so the journal still balances."""
    _entries(plant, lambda entries: tuple(_scaled(entry, lambda minor: int(minor / 100 * 100)) for entry in entries))


@ablation("times-100", "a journal's amounts are taken for whole units", "I3, I22")
def times_100(plant: Plant) -> None:
    _entries(plant, lambda entries: tuple(_scaled(entry, lambda minor: minor * 100) for entry in entries))
