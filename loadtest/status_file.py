"""Orders by status over time, as a file: one JSON object a line, {"t_ms": .., "SUCCESS": .., ..}.

Invariant: every line is whole; a reader meets at most one torn line, the last.
"""

import json
from collections.abc import Mapping
from pathlib import Path


class StatusFile:
    """Appends counts to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, t_ms: int, orders: Mapping[str, int]) -> None:
        """Adds the counts at an instant."""
        self._file.write(json.dumps({"t_ms": t_ms, **orders}) + "\n")
