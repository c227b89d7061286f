"""What everybody did, in order: one line a step, one hash a run, and a timeline that people can read.

A line is (virtual seconds, party, what). Lines are kept as told; the hash is over all of them.

Invariant: nothing but what the seed decides is in a line: no address of an object, no real time, no order of a set.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final

from simulator.world.loop import PARTY, VirtualLoop

_COLUMN: Final = 16
_WIDTH: Final = 150


class Trace:
    """The record of one run. `met`: how often each fault and each branch worth knowing happened."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._lines: list[tuple[float, str, str | Callable[[], str]]] = []
        self._digest = blake2b(digest_size=16)
        self.met: Counter[str] = Counter()
        self.is_over = False

    @property
    def lines(self) -> list[tuple[float, str, str]]:
        """Everything that was told."""
        return [(at_s, party, what if isinstance(what, str) else what()) for at_s, party, what in self._lines]

    def tell(self, what: str | Callable[[], str], party: str = "") -> None:
        """Writes a line. `party` "": whoever takes this step. A function is asked when the line is read."""
        if self.is_over:
            return
        if not party:
            whose = PARTY.get()
            party = whose.name if whose is not None else "world"
        self._lines.append((self._loop.time(), party, what))

    def fault(self, name: str, what: str = "", party: str = "") -> None:
        """A fault strikes: counted, and a line."""
        self.met[name] += 1
        self.tell(f"! {name} {what}", party)

    def hash(self) -> str:
        """One for the whole run."""
        digest = self._digest.copy()
        digest.update(self._text().encode())
        return digest.hexdigest()

    def forget(self) -> None:
        """Lets the lines go; the hash keeps them."""
        self._digest.update(f"{self._text()}\n".encode())
        self._lines.clear()

    def let_go(self) -> None:
        """Nobody will ask for the lines or the hash any more."""
        self._lines.clear()

    def _text(self) -> str:
        return "\n".join([f"{at_s!r} {party} {what}" for at_s, party, what in self.lines])


def timeline(trace: Trace) -> Iterator[str]:
    """The run for people: virtual time, who, and what they did, saw and believed; a party keeps its column's indent."""
    lines = trace.lines
    parties = list(dict.fromkeys(party.partition("#")[0] for _, party, _ in lines))
    yield f"{'virtual s':>12}  {'who':{_COLUMN}}  what"
    for at_s, party, what in lines:
        indent = " " * (2 * parties.index(party.partition("#")[0]))
        text = f"{indent}{what}"
        yield f"{at_s:12.3f}  {party:{_COLUMN}}  {text if len(text) <= _WIDTH else text[: _WIDTH - 2] + '..'}"
