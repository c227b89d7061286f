"""Known bugs planted in the product: the world objects to each, and the product is itself again afterwards.

`SEEDS` names for each ablation a seed that objects, found by `zerosum simulate --ablate all`, so that this stays quick.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from simulator.world.ablation import (
    ABLATIONS,
    CANARY,
    SEEDS_MAX,
    VAIN_SEEDS_MAX,
    Caught,
    RunSeed,
    UnfitHarness,
    ablate_command,
    hunt,
    run_world,
    told,
)
from simulator.world.ablations.plant import Ablation, Plant, ablation

SEEDS: Mapping[str, int] = {
    "canary": 0,
    "no-caller-key": 0,
    "no-fingerprint": 0,
    "reply-not-stored": 0,
    "key-without-order": 0,
    "new-key-per-retry": 2,
    "credit-id-per-run": 2,
    "no-webhook-dedup": 2,
    "transfer-posted-twice": 2,
    "journal-posted-twice": 2,
    "failed-on-timeout": 2,
    "new-object-per-retry": 3,
    "second-attempt-on-timeout": 3,
    "unconfirmed-is-failed": 2,
    "decline-believed": 0,
    "horizon-ignored": 183,
    "status-regresses": 13,
    "late-charge-ignored": 2,
    "facts-refused": 2,
    "no-fence": 6,
    "no-fence-no-version": 6,
    "no-batch-filter": 2,
    "ack-before-commit": 5,
    "webhook-ack-first": 2,
    "effects-before-commit": 2,
    "ambiguous-is-failed": 3,
    "ambiguous-is-done": 4,
    "conflict-is-refusal": 7,
    "todo-not-written": 0,
    "todo-closed-early": 2,
    "no-sweep": 2,
    "refund-before-commit": 5,
    "reversal-on-trouble": 2,
    "closed-account-credited": 2,
    "second-refund-key": 3,
    "refund-unproven": 3,
    "refund-per-report": 364,
    "wallet-not-taken-back": 2,
    "refused-refund-kept": 7,
    "suspense-skipped": 5,
    "leg-dropped": 0,
    "float-amount": 0,
    "no-amount-compare": 2,
    "no-reference-compare": 12,
    "no-signature": 1,
    "no-timestamp": 1,
    "times-100": 0,
    "truncated-file-accepted": 27,
    "day-shift-as-error": 0,
    "late-line-ignored": 182,
    "lost-posting-not-seen": 4,
    "fix-under-new-id": 4,
}

NEARBY = 50
"""Where the world has changed since and the seed named here objects no more, one of the first of all does."""


# ---- every bug is caught -------------------------------------------------------------------------------------------


@cache
def honest(seed: int) -> tuple[str, ...]:
    """What a seed says of the product as it is."""
    return tuple(told(run_world, seed))


@pytest.mark.parametrize("name", SEEDS)
def test_the_world_objects_to_a_known_bug_and_to_nothing_without_it(name: str) -> None:
    """Issue 3, point 4: a harness that catches nothing proves nothing."""
    caught = hunt(ABLATIONS[name], run_world, [SEEDS[name], *range(NEARBY)], honest)

    assert caught is not None
    assert caught.finding


def test_every_ablation_that_must_be_caught_has_its_seed() -> None:
    """None is left out silently, and at least 20 must be caught."""
    must = {planted.name for planted in ABLATIONS.values() if planted.must_be_caught}

    assert must == set(SEEDS)
    assert len(must) > 20


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_canary_is_caught_by_every_seed(seed: int) -> None:
    """A bug so plain that a seed which lets it pass is no test of anything; the faultless seed 0 among them."""
    with CANARY.active():
        found = told(run_world, seed)

    assert found


# ---- and taken out again -------------------------------------------------------------------------------------------


def product() -> dict[str, object]:
    """Every name of the product's modules, classes and tables, and the very object it stands for."""
    found: dict[str, object] = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in {"zerosum", "actors", "servers"} and module is not None:
            found.update(_held(module_name, vars(module)))
    return found


def _held(where: str, names: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, held in list(names.items()):
        yield f"{where}.{name}", held
        if isinstance(held, type) and held.__module__ == where:
            yield from ((f"{where}.{name}.{inner}", value) for inner, value in vars(held).items())
        elif isinstance(held, dict) and not name.startswith("__"):
            yield from ((f"{where}.{name}[{key}]", value) for key, value in held.items())


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    """Names that are gone, new, or stand for another object."""
    nothing = object()
    return {name for name in {*before, *after} if before.get(name, nothing) is not after.get(name, nothing)}


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_bug_is_in_the_product_only_while_it_is_active(name: str) -> None:
    """The product has no switch: names are replaced, and stand for the very same objects afterwards."""
    before = product()
    with ABLATIONS[name].active():
        meanwhile = product()
    after = product()

    assert changed(before, meanwhile)
    assert changed(before, after) == set()


def test_a_run_that_fails_leaves_no_bug_behind() -> None:
    """However the run ended."""
    before = product()
    with pytest.raises(ValueError, match="the run failed"), CANARY.active():
        raise ValueError("the run failed")

    assert changed(before, product()) == set()


def test_a_place_that_the_product_does_not_have_any_more_is_an_error() -> None:
    """An ablation that changes nothing would only seem to be harmless."""

    @ablation("rotten", "nothing", "I0")
    def rotten(plant: Plant) -> None:
        plant.instead(sys.modules["zerosum.domain.report"], "_no_such_function", None)

    with pytest.raises(KeyError), rotten.active():
        pytest.fail("nothing was planted")


# ---- the hunt and its command --------------------------------------------------------------------------------------


class _Toy:
    """A product of one number."""

    answer = 42


@ablation("toy", "the answer is another one", "I0")
def toy(plant: Plant) -> None:
    plant.instead(_Toy, "answer", 41)


def from_seed(first: int, finding: str) -> RunSeed:
    """A harness that meets the bug from that seed on."""

    def run_seed(seed: int) -> Sequence[str]:
        return [finding] if seed >= first and _Toy.answer != 42 else []

    return run_seed


def test_a_hunt_counts_the_seeds_until_one_objects() -> None:
    """And keeps what was said first, with the invariant it names."""
    caught = hunt(toy, from_seed(7, "I3: a charge of nobody"), range(5, 100))

    assert caught is not None
    assert (caught.count, caught.seed, caught.invariant) == (3, 7, "I3")


@pytest.mark.parametrize(
    ("finding", "named"),
    [
        ("I12: missing_line of order o-1", "I12"),
        ("L10: a file of 90 bytes was taken, and it is not whole", "L10"),
        ("P32: line txn_1 was refused", "P32"),
        ("I1, I2: both", "I1"),
        ("a task of the world failed: KeyError()", "-"),
        ("I9b is no rule", "-"),
    ],
)
def test_a_catch_names_the_invariant_or_the_row_that_was_broken(finding: str, named: str) -> None:
    """docs/ablations.md says by what each bug was caught; "-" is for findings that begin with no rule."""
    assert Caught(seed=1, count=1, finding=finding).invariant == named


def test_a_hunt_that_ends_without_a_finding_has_caught_nothing() -> None:
    """None is an answer too."""
    assert hunt(toy, from_seed(100, "I3: too late"), range(100)) is None


def test_a_run_that_breaks_under_a_bug_has_objected() -> None:
    """A deadlock or an exception: nothing came to rest."""

    def run_seed(_: int) -> Sequence[str]:
        if _Toy.answer != 42:
            raise TimeoutError("every task waits")
        return []

    caught = hunt(toy, run_seed, [1])

    assert caught is not None
    assert caught.finding == "I9: the run ended with TimeoutError: every task waits"


def test_a_seed_that_objects_to_the_honest_product_shows_nothing() -> None:
    """No catch is claimed with a harness that is broken."""
    with pytest.raises(UnfitHarness, match="seed 1 without any ablation"):
        hunt(toy, lambda _: ["I5: always"], [1])


def ablate(
    monkeypatch: pytest.MonkeyPatch,
    planted: Sequence[Ablation],
    name: str,
    run_seed: RunSeed,
    *,
    seeds_max: int | None = 10,
    **rest: Any,
) -> tuple[int, list[str]]:
    """The command over a table of its own; its exit status and what it told."""
    lines: list[str] = []
    monkeypatch.setattr("simulator.world.ablation.ABLATIONS", {each.name: each for each in planted})
    return ablate_command(name, seeds_max, run_seed=run_seed, tell=lines.append, **rest), lines


def test_the_command_tells_after_how_many_seeds_and_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """`zerosum simulate --ablate toy`."""
    told_of = ablate(monkeypatch, [toy], "toy", from_seed(2, "I3: a charge of nobody"))

    assert told_of == (0, ["toy: caught after 3 seeds, by seed 2: I3: a charge of nobody"])


def test_a_hunt_that_is_not_told_how_far_to_go_goes_as_far_as_the_slowest_catch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the page's own command has it. A bug that need not be caught is looked for in fewer seeds."""
    vain = replace(toy, name="vain", harmless="nobody minds")

    slow = ablate(monkeypatch, [toy], "toy", from_seed(SEEDS_MAX - 1, "I3: a charge"), seeds_max=None)
    harmless = ablate(monkeypatch, [vain], "vain", from_seed(SEEDS_MAX, ""), seeds_max=None)

    assert slow == (0, [f"toy: caught after {SEEDS_MAX} seeds, by seed {SEEDS_MAX - 1}: I3: a charge"])
    assert harmless == (0, [f"vain: not caught by {VAIN_SEEDS_MAX} seeds: nobody minds"])
    assert max(SEEDS.values()) < SEEDS_MAX


def test_what_is_declared_harmless_and_caught_all_the_same_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that is wrong hides that the world would catch the bug."""
    vain = replace(toy, name="vain", harmless="nobody minds")

    status, lines = ablate(monkeypatch, [vain], "vain", from_seed(2, "I3: a charge"))

    assert status == 1
    assert lines[0].endswith("I3: a charge (it is declared harmless or lacking: it is not)")


def test_a_hunt_begins_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--first-seed`."""
    told_of = ablate(monkeypatch, [toy], "toy", from_seed(2, "I3: a charge"), first_seed=7)

    assert told_of == (0, ["toy: caught after 1 seeds, by seed 7: I3: a charge"])


def test_the_command_fails_where_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """1: the world let a bug pass."""
    missed = ablate(monkeypatch, [toy], "toy", from_seed(100, ""))

    assert missed == (1, ["toy: not caught by 10 seeds"])


def test_an_ablation_that_is_none_is_told_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a seed is run."""
    with pytest.raises(ValueError, match="there is no ablation 'tyo'; there are all, toy"):
        ablate(monkeypatch, [toy], "tyo", from_seed(0, ""))


def test_all_writes_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """docs/ablations.md: caught ones with their figures; harmless ones apart, with the reason, and no failure."""
    harmless = Ablation("vain", "nothing much", "I1", lambda _: None, harmless="nobody minds")
    page = tmp_path / "ablations.md"

    status, lines = ablate(monkeypatch, [toy, harmless], "all", from_seed(2, "I3: a charge"), page=page)

    assert status == 0
    assert lines[-1] == "1 caught, in the median after 3 seeds; missed: none"
    assert "| `toy` | the answer is another one | I0 | 3 | 2 | I3 |" in page.read_text()
    assert "| `vain` | nothing much | nobody minds | 10 |" in page.read_text()
