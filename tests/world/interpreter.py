"""Other interpreters, whose strings hash otherwise: the order of sets and the ids of objects differ, a story must not."""

import os
import subprocess
import sys


def printed_by_two(code: str) -> list[str]:
    """What `code` prints in two fresh interpreters with other PYTHONHASHSEEDs."""
    return [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True, timeout=240,
        ).stdout.strip()
        for hash_seed in ("1", "4242")
    ]  # fmt: skip
