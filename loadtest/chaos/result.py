"""What became of each cell, in a file: a second run goes on with what is missing, and anybody may read it.

Invariant: a result counts only for the code that gave it; the file is whole or not there at all.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROOMS: Final = ("zerosum", "actors", "servers")
"""The product: what changes here makes every earlier result void."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One cell's end. `wrong`: what speaks against it, "" = nothing. `recovery_s`: from the end of the harm to the next
    final reply of the same shard or server. `pid`: who was hit. `stop_s`: how long it stood still, where that was the harm."""

    cell: str
    at_ms: int
    pid: int = 0
    recovery_s: float | None = None
    wrong: str = ""
    stop_s: float = 0.0

    @property
    def is_good(self) -> bool:
        """The harm was seen, recovery was seen, and the money moved once."""
        return not self.wrong


class Results:
    """The file of one data folder."""

    def __init__(self, path: Path, code: str) -> None:
        """`code`: what `code_digest` says now; results of other code are left out."""
        self._path = path
        self._code = code
        self._found: dict[str, Result] = {}
        if path.exists():
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["code"] == code:
                self._found = {each["cell"]: Result(**each) for each in document["results"]}

    def get(self, cell: str) -> Result | None:
        """What is known of a cell."""
        return self._found.get(cell)

    def put(self, result: Result) -> None:
        """Keeps it, in place of what was known."""
        self._found[result.cell] = result
        document = {"code": self._code, "results": [asdict(each) for each in self._found.values()]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        half = self._path.with_name(f"{self._path.name}.new")
        half.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        half.replace(self._path)

    def missing(self, wanted: Mapping[str, float]) -> list[str]:
        """Cells without a good result, in their order: what went wrong is tried again, and what stood still for too short.

        `wanted`: by cell, how long it is to stand still; 0 where that is not the harm.
        """
        return [
            cell
            for cell, stop_s in wanted.items()
            if (known := self._found.get(cell)) is None or not known.is_good or known.stop_s < stop_s
        ]
