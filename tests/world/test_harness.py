"""The harness itself: what is planted is found, what is found is made small, what is shown can be run again."""

import io
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from simulator.psp.faults import Rates
from simulator.world import safety
from simulator.world.campaign import BRANCHES, BRANCHES_FROM, MEETS_ALL_FROM, OtherCode, Tally, campaign
from simulator.world.command import simulate
from simulator.world.database import StoreDoor
from simulator.world.loop import VirtualLoop
from simulator.world.mix import RANGES, Mix, faults_of, mix_of
from simulator.world.psp import Psp
from simulator.world.run import FULL, Result, run_seed
from simulator.world.shrink import command_of, mix_from, shrink
from simulator.world.swarm import Size
from simulator.world.trace import Trace
from zerosum.ports import Batch, Committed

SMALL = Size(checkouts=3, trouble_s=5)


def test_the_canary_always_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that forgets what it acknowledged: no seed may call that right."""

    async def forget(self: Any, batch: Batch[Any]) -> Committed:
        return Committed(batch.heads)

    monkeypatch.setattr(StoreDoor, "commit", forget)

    findings = [run_seed(seed, mix=Mix(), size=SMALL).findings for seed in range(3)]

    assert all(findings)


def test_a_second_charge_is_seen_when_it_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PSP that charges another object beside ours: nothing the product could do; the safety phase must object. I4."""
    monkeypatch.setattr(Psp, "set_trouble", lambda psp, _: psp.plan.set_rates(Rates(second_object_charge=1)))

    findings = run_seed(0, mix=Mix(), size=SMALL).findings

    assert findings[0].startswith("I4: order c")


def test_a_step_that_no_arrow_allows_is_seen_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """I8 is looked at after every commit. Method: the arrow that every paid order takes is rubbed out."""
    monkeypatch.setattr(safety, "MOVES", safety.MOVES - {("EXECUTING", "SUCCESS")})

    findings = run_seed(0, mix=Mix(), size=SMALL).findings

    assert findings[0].startswith("I8: order c")


# ---- made small ----------------------------------------------------------------------------------------------------


def _pretend(mix: Mix, size: Size, seed: int = 7) -> Result:
    """A run that fails wherever both of two faults are in it and at least three checkouts."""
    is_wrong = mix.ambiguous > 0 and mix.crashes_per_minute > 0 and size.checkouts >= 3
    findings = ["I5: wallet hot: owed 1, entries 2"] if is_wrong else []
    trace: Any = None
    return Result(seed, mix, size, findings, Counter(), trace, 0, 0, 0.0)


def test_a_failing_run_is_shrunk_to_what_it_needs() -> None:
    everything = Mix(**dict.fromkeys(RANGES, 5))

    small = shrink(_pretend(everything, FULL), lambda seed, mix, size: _pretend(mix, size, seed))

    assert faults_of(small.mix) == {"ambiguous": 5, "crashes_per_minute": 5}
    assert small.size.checkouts <= 5
    assert small.size.trouble_s < FULL.trouble_s


def test_the_command_of_a_failing_run_runs_the_same_again() -> None:
    result = run_seed(7, mix=Mix(drop_response=30, crashes_per_minute=3), size=SMALL)
    command = command_of(result).split()
    said = dict(zip(command[2::2], command[3::2], strict=False))

    again = run_seed(
        int(said["--seed"]),
        mix=mix_from(said["--faults"]),
        size=Size(int(said["--checkouts"]), float(said["--trouble-seconds"])),
    )

    assert again.hash == result.hash


def test_an_unknown_fault_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"'earthquake=7' is no fault of the world: faults are name=figure,\.\. such as"
    ):
        mix_from("earthquake=7")


# ---- what seeds draw -----------------------------------------------------------------------------------------------


def test_the_table_of_faults_is_total() -> None:
    assert set(RANGES) == set(Mix.__dataclass_fields__)


def test_one_seed_in_ten_is_quiet_and_one_has_a_single_fault() -> None:
    counts = [len(faults_of(mix_of(seed))) for seed in range(200)]

    assert {counts[seed] for seed in range(0, 200, 10)} == {0}
    assert {counts[seed] for seed in range(1, 200, 10)} == {1}
    assert all(
        held <= RANGES[name].most for seed in range(2, 200, 10) for name, held in faults_of(mix_of(seed)).items()
    )


# ---- what people see -----------------------------------------------------------------------------------------------


def test_a_campaign_goes_on_from_its_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    loop = VirtualLoop(Random(0), seconds_max=1, steps_max=1)
    loop.close()

    def note(seed: int, **_: Any) -> Result:
        ran.append(seed)
        return replace(_pretend(Mix(), SMALL, seed), trace=Trace(loop))

    monkeypatch.setattr("simulator.world.campaign.run_seed", note)
    state = tmp_path / "state.json"
    campaign(seeds=20, first_seed=5, state=state, out=io.StringIO())
    whole = campaign(seeds=50, first_seed=5, state=state, out=io.StringIO())

    assert ran == list(range(5, 55))
    assert (whole.seeds, whole.is_right) == (50, True)


def test_a_campaign_does_not_count_seeds_of_other_code(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proven of yesterday's code is not proven of today's. Method: a source changes between two pieces."""
    code = tmp_path / "code"
    source = code / "simulator" / "world.py"
    source.parent.mkdir(parents=True)
    source.write_text("answer = 42")
    monkeypatch.setattr("simulator.world.campaign._ROOT", code)
    monkeypatch.setattr("simulator.world.campaign.run_chunk", lambda seeds: Tally(seeds=len(seeds)))
    state = tmp_path / "state.json"

    campaign(seeds=10, state=state, out=io.StringIO())
    same = campaign(seeds=20, state=state, out=io.StringIO())
    source.write_text("answer = 41")

    assert same.seeds == 20
    with pytest.raises(OtherCode, match=r"state\.json counts seeds of other code; delete it, or name another file"):
        campaign(seeds=30, state=state, out=io.StringIO())


@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        (MEETS_ALL_FROM - 1, "too few seeds to judge which faults and branches were met: from 1000 on all are"),
        (BRANCHES_FROM - 1, "too few seeds to judge which branches were met: from 1000 on all are"),
        (BRANCHES_FROM, ""),
    ],
)
def test_a_campaign_too_small_to_judge_what_was_met_says_so(
    seeds: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside its verdict, which is of the violations alone then."""
    everything = dict.fromkeys((*RANGES, *BRANCHES), 1)
    monkeypatch.setattr(
        "simulator.world.campaign.run_chunk", lambda chunk: Tally(seeds=len(chunk), met=dict(everything))
    )
    out = io.StringIO()

    campaign(seeds=seeds, out=out)

    *_, before, verdict = out.getvalue().splitlines()
    assert verdict == "RIGHT: no violation"
    assert before.startswith(says or "also met: ")


def test_a_file_that_does_not_say_of_which_code_it_is_counts_for_none(tmp_path: Any) -> None:
    """As versions before this one wrote it."""
    state = tmp_path / "state.json"
    state.write_text('{"first_seed": 0, "tally": {}}')

    with pytest.raises(OtherCode):
        campaign(seeds=10, state=state, out=io.StringIO())


def test_one_seed_is_told_as_a_timeline() -> None:
    out = io.StringIO()

    status = simulate(
        seed=3, seeds=1, first_seed=0, with_trace=True, jobs=1, state=None, faults="crashes_per_minute=5", checkouts=2,
        trouble_s=5, out=out,
    )  # fmt: skip

    told = out.getvalue()
    assert status == 0
    assert "RIGHT: no violation" in told
    for what in (
        "-> payment-server: CreatePayment",
        "commit payment: ",
        "-> psp: POST",
        "believes: confirm",
        "webhook",
    ):
        assert what in told
