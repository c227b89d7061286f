"""What the load generator saw, call by call, in eighteen bytes each: a million calls are eighteen megabytes.

    "ZSMP", version 2 (2 bytes), then records of: offset_us, late_us, latency_us (4 bytes each), kind, ending (1 byte each),
    number (4 bytes, signed)

All little-endian. Invariant: a file that was not written whole by this version is refused, never read in part.
"""

from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from loadtest.outcome import OK, REFUSALS

_HEADER: Final = Struct("<4sH")
_RECORD: Final = Struct("<IIIBBi")
_MAGIC: Final = b"ZSMP"
_VERSION: Final = 2
_MOST: Final = 2**32 - 1
"""Of microseconds in a field: 71 minutes, beyond any run and any deadline."""

SHED: Final = "RESOURCE_EXHAUSTED"


class Kind(IntEnum):
    """What was asked for."""

    CHECKOUT = 0
    READ = 1


class Ending(IntEnum):
    """How a call ended. Only FINAL counts as served; SHED was answered at once and not taken on."""

    FINAL = 0  # a checkout, and every order of it has come to its end
    PENDING = 1  # a checkout that was acknowledged; some order is still under way
    READ = 2
    SHED = 3
    REFUSED = 4
    UNKNOWN = 5  # a deadline, a broken connection, CANCELLED, or never sent before its deadline


class Call(NamedTuple):
    """One call. `offset_us`: when it was to be sent, from the first arrival on; `late_us`: how much later it was.

    `latency_us` runs from the intended instant to the answer, so that it holds the lateness too. `number`: of a checkout, its
    place among the plan's baskets.
    """

    offset_us: int
    late_us: int
    latency_us: int
    kind: Kind
    ending: Ending
    number: int = -1


def ending_of(code: str, kind: Kind, *, is_final: bool) -> Ending:
    """What a status code means to whoever counts. `is_final`: of an acknowledged checkout."""
    if code == OK:
        if kind is Kind.READ:
            return Ending.READ
        return Ending.FINAL if is_final else Ending.PENDING
    if code == SHED:
        return Ending.SHED
    return Ending.REFUSED if code in REFUSALS else Ending.UNKNOWN


def write_calls(path: Path, calls: Iterable[Call]) -> None:
    """Writes the file, whole or not at all."""
    packed = bytearray(_HEADER.pack(_MAGIC, _VERSION))
    for call in calls:
        times = (min(max(each, 0), _MOST) for each in call[:3])
        packed += _RECORD.pack(*times, call.kind, call.ending, call.number)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(packed)
    fresh.replace(path)


def read_calls(path: Path) -> list[Call]:
    """Every call, in the order written. Raises ValueError for a file that is torn or not ours."""
    packed = path.read_bytes()
    if packed[: _HEADER.size] != _HEADER.pack(_MAGIC, _VERSION) or (len(packed) - _HEADER.size) % _RECORD.size:
        raise ValueError(f"{path.name} is not a whole file of samples of this version")
    return [
        Call(offset_us, late_us, latency_us, Kind(kind), Ending(ending), number)
        for offset_us, late_us, latency_us, kind, ending, number in _RECORD.iter_unpack(packed[_HEADER.size :])
    ]
