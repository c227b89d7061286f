"""Seeds of the world, in blocks: whatever befalls, everything comes to rest and is right.

`ZEROSUM_WORLD_SEEDS` sets how many; blocks run in as many processes as there are cores, which give way to all others: beside
them may be a system under test, whose recovery has its limits. A failing seed is one command away:
`zerosum simulate --seed <seed> --trace`.
"""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from simulator.world import damage
from simulator.world.ablation import CANARY
from simulator.world.campaign import BRANCHES_FROM, Tally, run_chunk
from simulator.world.forger import FORGERIES
from simulator.world.mix import Mix
from simulator.world.run import run_seed
from simulator.world.shrink import command_of, shrink
from simulator.world.swarm import Size
from tests.tie import end_with_parent
from zerosum.domain.order import Operation, OperationKind, Order
from zerosum.domain.reconcile_inside import Side

SEEDS = int(os.environ.get("ZEROSUM_WORLD_SEEDS", "1500"))
BLOCK = 25
NICENESS = 5
"""A quarter of a core that somebody else wants too, all of one that nobody wants."""

BLOCK_WITHIN_S = 900
"""A block takes about 12 s of a core, and waits behind systems under test. The limit is for one that never ends."""

BLOCKS = [range(start, min(start + BLOCK, SEEDS)) for start in range(0, SEEDS, BLOCK)]


@pytest.fixture(scope="module")
def tallies(request: pytest.FixtureRequest) -> Iterator[Mapping[Sequence[int], "Future[Tally]"]]:
    """What comes of each block that this session asks for: all of them are under way at once."""
    asked = [seeds for item in request.session.items if item.path == request.path for seeds in _block_of(item)]
    # Each worker is a fresh interpreter: nothing of this one, no lock and no thread, is in it.
    workers = ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), _stand_back)
    yield {seeds: workers.submit(run_chunk, seeds) for seeds in asked}
    workers.shutdown(cancel_futures=True)


def _stand_back() -> None:
    end_with_parent(signal.SIGKILL)
    os.nice(NICENESS)


def _block_of(item: pytest.Item) -> Sequence[Sequence[int]]:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return [parameters["seeds"]] if "seeds" in parameters else []


@pytest.mark.slow
@pytest.mark.timeout(BLOCK_WITHIN_S)
@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_everything_comes_to_rest_and_is_right(
    seeds: Sequence[int], tallies: Mapping[Sequence[int], "Future[Tally]"]
) -> None:
    """I1 to I10, I18, I19 and I22 at rest; I1, I4, I7 and I8 at every step; I6 for every reply anyone ever got."""
    tally = tallies[seeds].result()

    assert {_shrunk(int(seed)): finding for seed, finding in tally.failed.items()} == {}
    assert tally.seeds == len(seeds)


def _shrunk(seed: int) -> str:
    """The commands of a seed that fails, and of the smallest run found that fails as it does."""
    return f"zerosum simulate --seed {seed} --trace, made small: {command_of(shrink(run_seed(seed)))}"


def test_a_seed_that_fails_is_named_with_what_is_left_of_it_once_it_is_made_small() -> None:
    """Whoever reads the failure runs the small one. Method: a canary, which needs no fault at all."""
    with CANARY.active():
        told = _shrunk(13)

    assert told.startswith("zerosum simulate --seed 13 --trace, made small: zerosum simulate --seed 13 --faults none ")


@pytest.mark.slow
def test_every_fault_and_every_branch_was_met(tallies: Mapping[Sequence[int], "Future[Tally]"]) -> None:
    """What did not happen in all these seeds is not proven by them."""
    whole = Tally()
    for block in tallies.values():
        whole.add(block.result())

    assert whole.never_met == []


def test_a_campaign_that_never_met_a_fault_of_its_table_is_wrong() -> None:
    """What did not happen is not proven. Method: the same seeds, with one fault's counter taken away."""
    tally = run_chunk([0])
    tally.seeds = BRANCHES_FROM
    everything = dict.fromkeys(tally.never_met, 1)
    tally.met |= everything

    assert everything
    assert tally.is_right
    for name in everything:
        tally.met[name] = 0
        assert (tally.is_right, tally.never_met) == (False, [name])
        tally.met[name] = 1


# ---- stories that failed once, or that a reader should know by name -------------------------------------------------


def test_checkouts_whose_risk_budget_is_spent_are_paid_once_an_operator_replays_them() -> None:
    """A risk check that is down for long leaves dead letters; each replay is one act, done twice or not. O1, P8, P33."""
    result = run_seed(2641, mix=Mix(risk_trouble=100), size=Size(checkouts=6, trouble_s=600))

    assert result.findings == []
    assert result.met["dead_letter"] > 0


def test_two_live_copies_of_a_shard_write_one_log() -> None:
    """A2, R2, I7: a paused copy wakes beside its successor, and its stale writes are refused."""
    results = [run_seed(seed, mix=Mix(pauses_per_minute=20, splits_per_minute=20)) for seed in (0, 10)]

    assert [result.findings for result in results] == [[], []]
    assert all(result.met["woke_beside_successor"] > 0 for result in results)
    assert all(result.met["fenced"] > 0 for result in results)


def test_of_two_checkouts_that_share_a_key_or_an_order_one_is_paid_and_the_other_refused() -> None:
    """P36: at once or one after the other, on one shard or on two; and both are told the same for ever."""
    results = [run_seed(seed, mix=Mix(latency_ms_max=400, message_twice=20)) for seed in (0, 11)]

    assert [result.findings for result in results] == [[], []]
    assert all(result.met["rival_key_refused"] > 0 for result in results)
    assert all(result.met["rival_order_refused"] > 0 for result in results)


def test_money_that_moves_after_we_gave_up_goes_back_once() -> None:
    """P35: each cancel is answered, and then the card is charged all the same."""
    results = [run_seed(seed, mix=Mix(charge_after_cancel=100)) for seed in (4, 6)]

    assert [result.findings for result in results] == [[], []]
    assert sum(result.met["charge_after_cancel"] for result in results) > 0
    assert sum(result.met["psp REFUNDED"] for result in results) > 0


def test_a_psp_that_is_gone_for_longer_than_it_remembers_keys_carries_nothing_out_twice() -> None:
    """S3, S10: what it is asked about when it is back was asked under keys it knows no more; it left in the middle of calls."""
    results = [run_seed(seed, mix=Mix(psp_gone_hours_max=3)) for seed in (17, 33)]

    assert [result.findings for result in results] == [[], []]
    assert all(result.met["psp_gone_hours_max"] > 0 for result in results)
    assert all(result.met["dead_letter"] > 0 for result in results)
    assert all(result.virtual_s > 3_600 for result in results)


def test_all_or_none_holds_whenever_the_one_that_failed_shows() -> None:
    """I14: the account of one order is closed and its refund has ended before the other, whose buyer was slow, is paid."""
    result = run_seed(70001)

    assert result.findings == []
    assert result.met["refund CHECKOUT_FAILED SUCCEEDED"] > 0


def test_webhooks_that_come_three_days_late_change_nothing() -> None:
    """S5, S6: by then everything is settled by asking; they are recorded all the same."""
    result = run_seed(8, mix=Mix(webhook_delay_ms_max=3 * 24 * 3_600_000))

    assert result.findings == []
    assert result.met["webhook_recorded"] > 0
    assert result.virtual_s > 24 * 3_600


@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency", "wrong_reference"])
def test_an_order_that_the_psp_took_down_wrongly_waits_for_people_and_is_never_paid(fault: str) -> None:
    """S9: not SUCCESS, a case, no charge; others are paid. Method: it takes every second one down wrongly."""
    result = run_seed(9, mix=Mix(**{fault: 50}))

    assert result.findings == []
    assert result.met[fault] > 0
    assert result.met["psp CHARGED"] > 0


@pytest.mark.parametrize("side", Side)
def test_what_a_service_lost_of_what_it_had_confirmed_is_named_and_comes_back_once(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D10, I12, I24: exactly what is gone, sent again under its own id, perhaps twice. Method: each story ends with a loss."""
    monkeypatch.setattr(damage, "SHARE", 1.0)
    monkeypatch.setattr(damage, "_STRUCK", ((side,),))
    results = [run_seed(seed) for seed in (2, 3, 10)]
    met = sum((result.met for result in results), Counter[str]())

    assert [result.findings for result in results] == [[], [], []]
    assert all(result.met["restored"] > 0 for result in results)
    assert met[f"lost {side}"] == met["found missing_transfer"] + met["found missing_journal"] > len(results)
    assert met["fix_sent_twice"] > 0


def test_a_story_without_a_loss_is_the_same_as_in_a_world_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses have a chance of their own, so that the other seeds are the stories they were."""
    seeds = (2, 10)
    drawn = [run_seed(seed) for seed in seeds]
    monkeypatch.setattr(damage, "SHARE", 0.0)
    without = [run_seed(seed) for seed in seeds]

    assert [result.met["restored"] > 0 for result in drawn] == [False, True]
    assert [result.met["restored"] for result in without] == [0, 0]
    assert drawn[0].hash == without[0].hash
    assert drawn[1].hash != without[1].hash


def test_whoever_forges_webhooks_is_turned_away() -> None:
    """S7: unsigned, malformed, truncated, by another secret, written anew, stale and foretold; the server's clock is off."""
    results = [run_seed(seed, mix=Mix(forged_webhooks_per_minute=60, clock_skew=100)) for seed in (9, 12)]
    met = results[0].met + results[1].met

    assert [result.findings for result in results] == [[], []]
    assert (
        met["forgery_refused"] == met["forged_webhooks_per_minute"] == sum(met[f"forged_{kind}"] for kind in FORGERIES)
    )
    assert all(met[f"forged_{kind}"] > 0 for kind in FORGERIES)


_JUMPING_CLOCK = Mix(clock_jumps_per_minute=20, late_execution=30, rate_limit_429=20, lock_timeout=15)
"""The database's clock jumps back between two operations of one kind in most seeds of this."""


@pytest.mark.slow
def test_a_clock_that_jumps_back_does_not_restart_an_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """K1: numbers say which operation is the newest, times do not. Method: with the old mistake planted, seeds object."""

    def by_time(order: Order, kind: OperationKind) -> Operation | None:
        return max(
            (each for each in order.operations if each.kind is kind), key=lambda each: each.started_at_ms, default=None
        )

    results = [run_seed(seed, mix=_JUMPING_CLOCK) for seed in range(6)]
    monkeypatch.setattr(Order, "newest", by_time)
    mistaken = [run_seed(seed, mix=_JUMPING_CLOCK) for seed in range(6)]

    assert [result.findings for result in results] == [[]] * 6
    assert all(result.met["clock_jumps_per_minute"] > 0 for result in results)
    assert any(result.findings for result in mistaken)
