"""The wall clock of whoever applies load or does harm: journals, samples and marks of one run are put side by side by it.

Invariant: it is this machine's; the database's clock, by which the system itself goes, is never read here.
"""

import time


def wall_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
