"""Ablations: known bugs that only the world can plant, and the hunt that shows that the world objects to each.

A harness that catches nothing proves nothing. So each bug of this table is planted in the product in turn, and seeds are
run until one of them is told wrong; the same seed without the bug must be right, else nothing was caught.

Invariant: a catch is a finding of the harness under the planted bug, at a seed where it finds nothing without it.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Final

from simulator.world.ablations import commit, inside, key, money, psp, refund, settlement, todo, webhook
from simulator.world.ablations.plant import Ablation

RunSeed = Callable[[int], Sequence[str]]
"""Runs one seed of a world: everything that is wrong with it at the end."""

ABLATIONS: Mapping[str, Ablation] = {
    planted.name: planted
    for planted in (
        psp.canary,
        key.no_caller_key,
        key.no_fingerprint,
        key.reply_not_stored,
        key.key_without_order,
        key.new_key_per_retry,
        key.credit_id_per_run,
        key.no_webhook_dedup,
        key.transfer_posted_twice,
        key.journal_posted_twice,
        psp.failed_on_timeout,
        psp.new_object_per_retry,
        psp.second_attempt_on_timeout,
        psp.unconfirmed_is_failed,
        psp.decline_believed,
        psp.horizon_ignored,
        psp.status_regresses,
        psp.late_charge_ignored,
        psp.facts_refused,
        psp.refund_per_report,
        psp.no_amount_compare,
        psp.no_reference_compare,
        webhook.no_signature,
        webhook.no_timestamp,
        commit.no_fence,
        commit.no_version_check,
        commit.no_fence_no_version,
        commit.no_batch_filter,
        commit.ack_before_commit,
        commit.webhook_ack_first,
        commit.effects_before_commit,
        commit.ambiguous_is_failed,
        commit.ambiguous_is_done,
        commit.conflict_is_refusal,
        todo.todo_not_written,
        todo.todo_closed_early,
        todo.no_sweep,
        todo.no_lease,
        refund.refund_before_commit,
        refund.reversal_on_trouble,
        refund.closed_account_credited,
        refund.second_refund_key,
        refund.refund_unproven,
        refund.wallet_not_taken_back,
        refund.refused_refund_kept,
        refund.suspense_skipped,
        money.leg_dropped,
        money.float_amount,
        money.times_100,
        settlement.truncated_file_accepted,
        settlement.day_shift_as_error,
        settlement.late_line_ignored,
        inside.lost_posting_not_seen,
        inside.fix_under_new_id,
    )
}
"""By the name on the command line."""


CANARY = psp.canary
"""Every seed must object to it."""

SEEDS_MAX: Final = 5_000
"""How far a hunt goes by itself: some 25 times as far as the bug that hides best."""

VAIN_SEEDS_MAX: Final = 100
"""The same for an ablation that need not be caught: its hunt always goes to the end."""


# ---- the hunt ------------------------------------------------------------------------------------------------------


class UnfitHarness(Exception):
    """The harness objects to the product as it is: whatever it says under an ablation shows nothing."""


@dataclass(frozen=True, slots=True)
class Caught:
    """Which seed objected, after how many, and the first thing that it said."""

    seed: int
    count: int
    finding: str

    @property
    def invariant(self) -> str:
        """The invariant (I12) or the row (L10, P32) of failures.md that the finding begins with, "-" where it names none."""
        named = re.match(r"([A-Z]\d+)\b", self.finding)
        return named.group() if named else "-"


@dataclass(frozen=True, slots=True)
class End:
    """How a hunt ended, after at most `seeds`."""

    planted: Ablation
    seeds: int
    caught: Caught | None

    @property
    def is_missed(self) -> bool:
        """The world let it pass."""
        return self.caught is None and self.planted.must_be_caught

    @property
    def is_mislabelled(self) -> bool:
        """It is said that the world need not catch it, and the world did."""
        return self.caught is not None and not self.planted.must_be_caught

    @property
    def line(self) -> str:
        """The end in a line."""
        name, planted, caught = self.planted.name, self.planted, self.caught
        if caught is not None:
            told_not_to = " (it is declared harmless or lacking: it is not)" if self.is_mislabelled else ""
            return f"{name}: caught after {caught.count} seeds, by seed {caught.seed}: {caught.finding}{told_not_to}"
        why = planted.harmless or planted.lacking
        return f"{name}: not caught by {self.seeds} seeds{': ' + why if why else ''}"


def hunt(planted: Ablation, run_seed: RunSeed, seeds: Iterable[int], honest: RunSeed | None = None) -> Caught | None:
    """Runs seeds under the ablation until one is told wrong. None: none was.

    `honest`: what each seed says without it, where that is known already; else `run_seed` is asked.
    Raises UnfitHarness where that seed is told wrong without the ablation too.
    """
    for count, seed in enumerate(seeds, 1):
        with planted.active():
            found = told(run_seed, seed)
        if found:
            without = told(honest or run_seed, seed)
            if without:
                raise UnfitHarness(f"seed {seed} without any ablation: {without[0]}")
            return Caught(seed, count, found[0])
    return None


def told(run_seed: RunSeed, seed: int) -> Sequence[str]:
    """What a seed is told to have done wrong; a run that raises tells by that: nothing came to rest."""
    try:
        return run_seed(seed)
    except Exception as failure:  # noqa: BLE001 - a planted bug may break anything, and a run that breaks is a finding
        return [f"I9: the run ended with {type(failure).__name__}: {failure}"]


def run_world(seed: int) -> Sequence[str]:
    """A seed of the world, as `zerosum simulate` runs it."""
    from simulator.world.run import run_seed

    return run_seed(seed).findings


# ---- the command ---------------------------------------------------------------------------------------------------


def ablate_command(
    name: str,
    seeds_max: int | None = None,
    *,
    first_seed: int = 0,
    run_seed: RunSeed = run_world,
    page: Path | None = None,
    tell: Callable[[str], object] = lambda line: sys.stdout.write(f"{line}\n"),
) -> int:
    """`zerosum simulate --ablate NAME`, or `all`: hunts, tells how each hunt ended, and writes the table where asked.

    `seeds_max`: how far each hunt goes. None: `SEEDS_MAX`, or `VAIN_SEEDS_MAX` where nothing need be caught.
    Returns the exit status: 0 = what must be caught was, and nothing else; 1 = not. Raises ValueError: no such ablation.
    """
    if name not in {"all", *ABLATIONS}:
        raise ValueError(f"there is no ablation {name!r}; there are all, {', '.join(ABLATIONS)}")
    ends: list[End] = []
    for planted in ABLATIONS.values() if name == "all" else [ABLATIONS[name]]:
        seeds = seeds_max or (SEEDS_MAX if planted.must_be_caught else VAIN_SEEDS_MAX)
        try:
            caught = hunt(planted, run_seed, range(first_seed, first_seed + seeds))
        except UnfitHarness as unfit:
            tell(f"{planted.name}: nothing is shown: {unfit}")
            return 1
        ends.append(End(planted, seeds, caught))
        tell(ends[-1].line)
    counts = [end.caught.count for end in ends if end.caught is not None]
    if name == "all" and counts:
        missed = ", ".join(end.planted.name for end in ends if end.is_missed) or "none"
        tell(f"{len(counts)} caught, in the median after {median_low(counts)} seeds; missed: {missed}")
    if page is not None:
        page.write_text(page_of(ends, first_seed), encoding="utf-8")
    return 1 if any(end.is_missed or end.is_mislabelled for end in ends) else 0


def page_of(ends: Sequence[End], first_seed: int) -> str:
    """docs/ablations.md: what was planted, and what became of it."""
    caught, harmless, lacking = [], [], []
    for end in ends:
        planted, seed = end.planted, end.caught
        if seed is not None:
            met = f"{seed.count} | {seed.seed} | {seed.invariant}"
            caught.append(f"| `{planted.name}` | {planted.planted} | {planted.rows} | {met} |")
        elif planted.harmless:
            harmless.append(f"| `{planted.name}` | {planted.planted} | {planted.harmless} | {end.seeds} |")
        else:
            lacking.append(f"| `{planted.name}` | {planted.planted} | {planted.lacking or 'NOT CAUGHT'} |")
    counts = [end.caught.count for end in ends if end.caught is not None]
    return _PAGE.format(
        first=first_seed, number=len(counts), median=median_low(counts or [0]), most=max(counts, default=0),
        caught="\n".join(caught), harmless="\n".join(harmless),
        lacking="\n".join([*_LACKING, *lacking]) if lacking else "None.",
    )  # fmt: skip


_LACKING: Final = ("| ablation | what is planted | what the world lacks to meet it |", "|---|---|---|")

_PAGE: Final = """\
# Ablations

Known bugs of payment systems, planted in the product for the length of a run of the world (`simulator/world/ablations`),
and how soon the world objected. Written by `zerosum simulate --ablate all --page FILE`; each line is run again by
`zerosum simulate --ablate NAME`. A catch counts only where the same seed finds nothing wrong without the bug; seeds are
counted from {first}. The canary must be caught by every seed. `I1`, `I2` ..: invariants of the audit, one line each in
`simulator/audit/checks.py`; the rows (`P6`, `S3` ..) are those of a list that is not in the tree, as `CONTRIBUTING.md` says.

{number} are caught, in the median after {median} seeds, the slowest after {most}.

| ablation | what is planted | rows and invariants at stake | seeds until caught | by seed | caught by |
|---|---|---|---|---|---|
{caught}

## Planted and harmless

Behind these stands a second line of defence.

| ablation | what is planted | what makes it harmless | seeds that found nothing wrong |
|---|---|---|---|
{harmless}

## Not shown by this world

{lacking}

Two bugs of the list have no switch. *Batch reply before commit* is `ack-before-commit`: every command is one of a batch. *A
seeding read that is not serializable* cannot be planted here: each read and each commit of the memory store is whole. A server
does not start on a database that isolates less (`zerosum/store/preflight.py`), and the contract suite runs on PostgreSQL.
"""
