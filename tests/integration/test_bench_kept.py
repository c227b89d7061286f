"""The last act of a run: what a store loses that is killed in the midst of a load is seen, however little it is.

Method: the load generator itself, against a stub in another process. What the stub has executed is the store; the kill is a
function that takes some of it away again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from loadtest.bench import kept
from loadtest.bench.kept import Kept, compare_under_load
from loadtest.bench.plan import LoadPlan
from tests.integration.stub_process import Stub

pytestmark = pytest.mark.slow

OLD = ("old-1", "old-2")
SOME = 30


class Store:
    """Whatever the stub has executed, but for what the kill took: the last so many, or the end of them alone."""

    def __init__(self, stub: Stub, *, lost: int = 0, undone: int = 0, old: Sequence[str] = OLD) -> None:
        self._stub = stub
        self._old = old
        self._lost, self._undone = lost, undone
        self._gone: set[str] = set()
        self._open: set[str] = set()

    async def kill(self) -> None:
        known = self._stub.executed()[:-10]  # of the last ten some are not acknowledged yet
        self._gone = set(known[-self._lost :] if self._lost else ())
        self._open = set(known[-self._undone :] if self._undone else ())

    async def look(self, ids: Sequence[str]) -> Mapping[str, bool]:
        """What was not final is once somebody has had the time: only the first look sees it."""
        stored = {*self._old, *self._stub.executed()} - self._gone
        found = {each: each not in self._open for each in ids if each in stored}
        self._open = set()
        return found


@pytest.fixture
def plan(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadPlan:
    monkeypatch.setattr(kept, "KILL_AFTER_S", 1.0)
    token = tmp_path / "token"
    token.write_text("a.b.c")
    return LoadPlan(
        target=stub.target, token_file=str(token), folder=str(tmp_path), tps=100.0, seconds=2.0, warm_up_s=0.0, seed=3,
        run_id="test",
    )  # fmt: skip


async def _kept(plan: LoadPlan, store: Store, told: Sequence[str] = OLD) -> Kept:
    journal = Path(plan.folder) / "old.txt"
    journal.write_text("".join(f"{each} final\n" for each in told))
    return await compare_under_load(plan, [journal], kill=store.kill, look=store.look)


async def test_a_store_that_loses_nothing_keeps_what_was_acknowledged_before_and_after_the_kill(
    stub: Stub, plan: LoadPlan
) -> None:
    """Verifies the tests below. The journals of the run and that of the load are looked for together."""
    found = await _kept(plan, Store(stub))

    assert (found.losses, found.doubts) == ((), ())
    assert found.acknowledged == len(OLD) + len(plan.journal.read_text().splitlines())
    assert 0 < found.fresh < found.acknowledged - len(OLD)


async def test_a_store_that_loses_what_was_acknowledged_a_moment_before_the_kill_is_seen(
    stub: Stub, plan: LoadPlan
) -> None:
    """As PostgreSQL does that does not wait for its disk; what the run had acknowledged before the load is all there."""
    found = await _kept(plan, Store(stub, lost=SOME))

    assert found.missing
    assert not {*OLD} & {*found.missing}
    assert "acknowledged and not stored" in found.losses[0]


async def test_what_was_told_final_and_is_done_once_more_after_the_kill_is_seen(stub: Stub, plan: LoadPlan) -> None:
    """A reply before its commit: the order is charged again with its key and final in the end, and was not at the kill."""
    found = await _kept(plan, Store(stub, undone=SOME))

    assert (found.missing, bool(found.undone)) == ((), True)


async def test_what_an_earlier_load_of_the_run_was_told_is_looked_for_too(stub: Stub, plan: LoadPlan) -> None:
    found = await _kept(plan, Store(stub, old=OLD[1:]))

    assert found.missing == OLD[:1]


async def test_a_kill_before_anything_was_acknowledged_shows_nothing_and_says_so(
    stub: Stub, plan: LoadPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old rows alone would pass with a database that gives up its last second."""
    monkeypatch.setattr(kept, "KILL_AFTER_S", 0.0)
    monkeypatch.setattr(kept, "FRESH_S", 0.0)
    found = await _kept(plan, Store(stub))

    assert found.doubts == ("nothing was acknowledged in the second before the database was killed",)
