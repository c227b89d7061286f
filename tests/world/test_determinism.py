"""The same seed is the same story: in this process, in another, under another hash of strings, after other stories."""

import pytest

from simulator.world.run import run_seed
from tests.world.interpreter import printed_by_two

SEED = 12

_TELL = f"from simulator.world.run import run_seed; print(run_seed({SEED}).hash)"


def test_the_same_seed_has_the_same_hash_after_another_one() -> None:
    first = run_seed(SEED)
    other = run_seed(SEED + 1)
    again = run_seed(SEED)

    assert (again.hash, again.steps, again.met) == (first.hash, first.steps, first.met)
    assert other.hash != first.hash


@pytest.mark.slow
def test_the_hash_does_not_depend_on_the_process_or_its_hash_seed() -> None:
    """Method: two interpreters with other PYTHONHASHSEEDs; order of sets and ids of objects differ, the story does not."""
    told = printed_by_two(_TELL)

    assert told == [run_seed(SEED).hash] * 2
