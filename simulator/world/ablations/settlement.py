"""Ablations of reconciliation: what it believes of files, of days, and of lines.

Invariant: see `plant.py`.
"""

from dataclasses import replace

from simulator.world.ablations.plant import Plant, ablation
from zerosum.domain import discrepancy, reconcile
from zerosum.domain.discrepancy import Action, Kind
from zerosum.domain.reconcile_item import Item, Movement, Rules
from zerosum.domain.reconcile_judgement import waiting as waiting_as_due
from zerosum.domain.settlement_control import Controls


@ablation("truncated-file-accepted", "a settlement file counts without its control totals", "L10, I12")
def truncated_file_accepted(plant: Plant) -> None:
    plant.instead(Controls, "check", lambda _self, _manifest: None)


@ablation("day-shift-as-error", "a movement whose line comes in the next file is called missing", "L7, L9, I12")
def day_shift_as_error(plant: Plant) -> None:
    def waiting(movement: Movement, rules: Rules) -> Item:
        return waiting_as_due(movement, replace(rules, due_after_ms=-abs(rules.due_after_ms)))

    plant.instead(reconcile, "waiting", waiting)


@ablation("late-line-ignored", "a line that says an order given up was charged is left to people", "P35, I3, I12")
def late_line_ignored(plant: Plant) -> None:
    rule = discrepancy.RULES[Kind.LATE_CHARGE]
    plant.row(discrepancy.RULES, Kind.LATE_CHARGE, replace(rule, action=Action.NONE))
