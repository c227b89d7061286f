"""The list of crash points is the code's: pairs are whole, and every point stands somewhere. Method: read the sources."""

import re
from pathlib import Path

from tests.e2e.test_crash_points import CASES
from zerosum.crash import POINTS_OF, Point, Process

ROOT = Path(__file__).resolve().parents[2]
REACHED = re.compile(r"\breach\(Point\.([A-Z_]+)")


def test_every_point_is_one_of_a_pair() -> None:
    """A crash before without one after, or the reverse, leaves half of a step unproven."""
    pairs = {str(point).rpartition(".")[0] for point in Point}

    assert {f"{pair}.{side}" for pair in pairs for side in ("before", "after")} == {str(point) for point in Point}
    assert all(point.name == str(point).replace(".", "_").upper() for point in Point)


def test_every_pair_is_passed_by_some_process() -> None:
    """A pair that no process owns could never be ordered."""
    assert set(POINTS_OF) == set(Process)
    assert {pair for pairs in POINTS_OF.values() for pair in pairs} == {str(point).partition(".")[0] for point in Point}


def test_every_point_stands_in_the_code() -> None:
    """A listed point that nobody reaches proves nothing."""
    sources = [
        path.read_text(encoding="utf-8")
        for room in ("zerosum", "actors", "servers")
        for path in sorted((ROOT / room).rglob("*.py"))
    ]

    reached = {name for source in sources for name in REACHED.findall(source)}

    assert reached == {point.name for point in Point}


def test_every_point_of_every_process_is_died_at_in_a_test() -> None:
    """A point without a case is a promise without a proof."""
    ordered = {(process, str(point)) for _, process, point, _, _ in CASES}
    owned = {
        (process, f"{pair}.{side}")
        for process, pairs in POINTS_OF.items()
        for pair in pairs
        for side in ("before", "after")
    }

    assert ordered == owned
