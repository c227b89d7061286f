"""The repository as files: what is ours to keep tidy, without what tools and people leave beside it."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

GENERATED = ("zerosum/v1/", "buf/")
"""Written by `protos/generate.py`; held to the contracts by its `--check`."""

_FOREIGN = {
    ".git", ".venv", ".zerosum", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache",
    "__pycache__", "build", "reports",
}  # fmt: skip


def files(*endings: str) -> list[Path]:
    """Every file of ours whose name ends so; all of them without an ending."""
    return sorted(path for path in _walk() if not endings or path.name.endswith(endings))


def sources() -> list[Path]:
    """Every Python file that people write."""
    return [path for path in files(".py") if not name_of(path).startswith(GENERATED)]


def name_of(path: Path) -> str:
    """Its path below the root."""
    return path.relative_to(ROOT).as_posix()


def _walk() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in _FOREIGN and not name.endswith(".egg-info")]
        yield from (Path(folder) / name for name in names)
