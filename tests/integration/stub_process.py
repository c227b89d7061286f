"""The rude payment server of `stub_payment_server.py` as a process, for load generators to be tried on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STUB = Path(__file__).with_name("stub_payment_server.py")
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Stub:
    """A running stub: where it listens, and the keys it has executed."""

    target: str
    effects: Path

    def executed(self) -> list[str]:
        return self.effects.read_text().split()


@contextmanager
def running_stub(folder: Path) -> Iterator[Stub]:
    """A stub of one's own, killed at the end."""
    effects = folder / "effects"
    effects.touch()
    process = subprocess.Popen(
        [sys.executable, str(_STUB), str(effects)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(_ROOT)}
    )
    assert process.stdout is not None
    try:
        yield Stub(f"127.0.0.1:{int(process.stdout.readline())}", effects)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
