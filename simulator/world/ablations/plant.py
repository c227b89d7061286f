"""How a known bug is planted in the product for the length of a run, and taken out again.

The product has no switch for it: a function, a method or a row of a table is replaced where the product looks it up, and
what was there before is put back. A place that the product no longer has is an error, so that an ablation never rots into
one that changes nothing.

Invariant: after the run the product is the very same objects as before, however the run ended.
"""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Plant:
    """What is replaced while one ablation is active. Places are changed once each."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def instead(self, owner: Any, name: str, planted: Any) -> None:
        """Puts `planted` in the place of a module's or class's own `name`. Raises KeyError where it has none."""
        honest = vars(owner)[name]
        setattr(owner, name, planted)
        self._undo.append(lambda: setattr(owner, name, honest))

    def row(self, table: MutableMapping[Any, Any], key: Any, planted: Any) -> None:
        """Puts a row into a table of the product, in the place of another one or as a new one."""
        if key in table:
            honest = table[key]
            self._undo.append(lambda: table.update({key: honest}))
        else:
            self._undo.append(lambda: table.pop(key))
        table[key] = planted

    def lift(self) -> None:
        """Puts everything back, last change first."""
        while self._undo:
            self._undo.pop()()


@dataclass(frozen=True, slots=True)
class Ablation:
    """A known bug. `planted`: what is wrong with the product meanwhile. `rows`: rows and invariants of failures.md.

    `harmless`: the second line of defence that makes it so. `lacking`: what the world would need to meet it. Both "": the
    world must catch it.
    """

    name: str
    planted: str
    rows: str
    put: Callable[[Plant], None]
    harmless: str = ""
    lacking: str = ""

    @property
    def must_be_caught(self) -> bool:
        """The world is broken where no seed objects."""
        return not self.harmless and not self.lacking

    @contextmanager
    def active(self) -> Iterator[None]:
        """The bug is in the product within this context, and only there."""
        plant = Plant()
        try:
            self.put(plant)
            yield
        finally:
            plant.lift()


def ablation(
    name: str, planted: str, rows: str, *, harmless: str = "", lacking: str = ""
) -> Callable[[Callable[[Plant], None]], Ablation]:
    """Makes an ablation of the function that plants it."""
    return lambda put: Ablation(name, planted, rows, put, harmless, lacking)
