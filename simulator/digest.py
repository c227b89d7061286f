"""Which code a result was found with: what was found with other code says nothing about this one.

Invariant: the same sources have the same digest wherever they lie, and no source can change without it.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def code_digest(root: Path, rooms: Iterable[str]) -> str:
    """SHA-256 over every source of these packages in `root`, by name and content."""
    digest = hashlib.sha256()
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
