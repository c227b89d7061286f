"""The bench's load generator end to end, in its own process, against a rude stub in another: counts only, nothing is timed."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.bench.load import run_load
from loadtest.bench.plan import LoadPlan
from loadtest.bench.sample_file import Ending, Kind
from tests.integration.stub_process import Stub
from zerosum.errors import Unavailable


def _plan(stub: Stub, folder: Path) -> LoadPlan:
    token = folder / "token"
    token.write_text("a.b.c")
    return LoadPlan(
        target=stub.target, token_file=str(token), folder=str(folder), tps=100.0, seconds=1.0, warm_up_s=0.5, seed=3,
        run_id="test", orders=2, reads_per_checkout=2,
    )  # fmt: skip


@pytest.mark.slow
async def test_every_call_is_sent_once_and_told_as_it_ended(stub: Stub, tmp_path: Path) -> None:
    """Open loop, no retries: a checkout has one effect; the stub's lost answers are unknown; the journal has the rest."""
    plan, looked = _plan(stub, tmp_path), list[str]()

    async def look() -> None:
        looked.append("at it")

    load = await run_load(plan, on_counting=look, on_offered=look)

    intended = plan.schedule()
    counted = [kind for at_s, kind in intended if at_s >= plan.warm_up_s]
    endings = [call.ending for call in load.calls if call.kind is Kind.CHECKOUT]
    assert (len(load.calls), len(endings)) == (len(counted), counted.count(Kind.CHECKOUT))
    assert set(endings) == {Ending.FINAL, Ending.UNKNOWN}
    assert {call.ending for call in load.calls if call.kind is Kind.READ} == {Ending.READ}
    executed = stub.effects.read_text().split()
    assert len(executed) == len(set(executed)) == [kind for _, kind in intended].count(Kind.CHECKOUT)
    acknowledged = [line.split() for line in plan.journal.read_text().splitlines()]
    assert {what for _, what in acknowledged} == {"final"}
    assert len(acknowledged) == len(executed) - load.codes["UNAVAILABLE"]
    assert {checkout_id for checkout_id, _ in acknowledged} < set(executed)
    assert all(call.latency_us >= call.late_us for call in load.calls)
    assert looked == ["at it", "at it"]


@pytest.mark.slow
async def test_a_generator_that_cannot_begin_is_told_and_leaves_no_samples(stub: Stub, tmp_path: Path) -> None:
    plan = replace(_plan(stub, tmp_path), token_file="nowhere")

    with pytest.raises(Unavailable, match=r"generator\.log"):
        await run_load(plan)

    assert not plan.samples.exists()
