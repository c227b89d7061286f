"""The load generator's pure parts: arrivals, baskets, what a code means, and the file of samples."""

import statistics
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from loadtest.bench.plan import LoadPlan, read_plan, write_plan
from loadtest.bench.sample_file import Call, Ending, Kind, ending_of, read_calls, write_calls
from loadtest.shape import HOT_SELLER

PLAN = LoadPlan(target="a:1", token_file="t", folder=".", tps=100.0, seconds=97.0, seed=7, run_id="r")


def test_arrivals_are_poisson_at_the_rate_asked_for() -> None:
    """Open loop: gaps are exponential, so their mean and their standard deviation are 1/rate. 10,000 of them: within 5 %."""
    instants = [at_s for at_s, _ in PLAN.schedule()]
    gaps = [after - before for before, after in pairwise(instants)]

    assert instants == sorted(instants)
    assert instants[-1] < 100.0
    assert statistics.mean(gaps) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.01, rel=0.05)


def test_the_same_plan_has_the_same_arrivals_and_baskets_and_another_seed_others() -> None:
    other = replace(PLAN, seed=8)

    assert PLAN.schedule() == PLAN.schedule() != other.schedule()
    assert list(PLAN.baskets()) == list(PLAN.baskets()) != list(other.baskets())


def test_two_reads_come_beside_each_checkout() -> None:
    """`--mix 2:1`: the rate is of checkouts; reads come on top of it."""
    kinds = [kind for _, kind in replace(PLAN, reads_per_checkout=2).schedule()]

    assert kinds.count(Kind.CHECKOUT) == pytest.approx(10_000, rel=0.05)
    assert kinds.count(Kind.READ) == pytest.approx(20_000, rel=0.05)


def test_a_basket_has_the_orders_asked_for_and_the_hot_seller_with_its_share() -> None:
    baskets = list(replace(PLAN, orders=3, hot_share=1.0).baskets())

    assert {len(basket.orders) for basket in baskets} == {3}
    assert {basket.orders[0].seller_account for basket in baskets} == {HOT_SELLER}
    assert len({basket.checkout_id for basket in baskets}) == len(baskets) > 1_000


def test_each_address_has_as_many_channels_as_the_other() -> None:
    """The textbook has a server for each core: none of them is to be spared, whatever their number."""
    assert PLAN.lanes == ["a:1"] * 4
    assert replace(PLAN, target="a:1,b:2").lanes == ["a:1", "b:2", "a:1", "b:2"]
    assert replace(PLAN, target="a:1,b:2,c:3").lanes == ["a:1", "b:2", "c:3"] * 2


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = replace(PLAN, folder=str(tmp_path))

    assert read_plan(write_plan(plan)) == plan


@pytest.mark.parametrize(
    ("code", "kind", "is_final", "ending"),
    [
        ("OK", Kind.CHECKOUT, True, Ending.FINAL),
        ("OK", Kind.CHECKOUT, False, Ending.PENDING),
        ("OK", Kind.READ, False, Ending.READ),
        ("RESOURCE_EXHAUSTED", Kind.CHECKOUT, False, Ending.SHED),
        ("INVALID_ARGUMENT", Kind.CHECKOUT, False, Ending.REFUSED),
        ("CANCELLED", Kind.CHECKOUT, False, Ending.UNKNOWN),
        ("DEADLINE_EXCEEDED", Kind.READ, False, Ending.UNKNOWN),
        ("NOT_SENT", Kind.CHECKOUT, False, Ending.UNKNOWN),
    ],
)
def test_only_an_acknowledged_end_counts_as_served(code: str, kind: Kind, is_final: bool, ending: Ending) -> None:
    """A drop by grpc.aio (CANCELLED) or a deadline is unknown; admission's no is shed, not lost."""
    assert ending_of(code, kind, is_final=is_final) is ending


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    calls = [
        Call(0, 12, 3_400, Kind.CHECKOUT, Ending.FINAL, 7),
        Call(5_000_000, 0, 15_000_000, Kind.READ, Ending.UNKNOWN),
    ]
    write_calls(tmp_path / "samples", calls)

    assert read_calls(tmp_path / "samples") == calls
    assert (tmp_path / "samples").stat().st_size == 6 + 2 * 18


def test_a_torn_or_foreign_file_of_samples_is_refused(tmp_path: Path) -> None:
    """Half of a run is not a run."""
    write_calls(tmp_path / "samples", [Call(0, 0, 1, Kind.CHECKOUT, Ending.FINAL)])
    whole = (tmp_path / "samples").read_bytes()
    for wrong in (whole[:-1], b"XXXX" + whole[4:], b""):
        (tmp_path / "samples").write_bytes(wrong)
        with pytest.raises(ValueError, match="not a whole file"):
            read_calls(tmp_path / "samples")
