"""Draws docs/order-states.md from the tables of `zerosum.domain.order`: `python docs/draw.py`.

`python docs/draw.py --check` writes nothing and exits with 1 where the page is not what the tables say.

Invariant: the page has nothing that is not in the tables or in the text below, so it can never tell another story.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "order-states.md"

sys.path.insert(0, str(ROOT))

from zerosum.domain.order import (  # noqa: E402 - the path above makes the package importable from a bare checkout
    ANSWERABLE,
    TERMINAL,
    TRANSITIONS,
    OrderEvent,
    OrderStatus,
)

MEANINGS = {
    OrderStatus.NOT_STARTED: "stored, nothing sent",
    OrderStatus.EXECUTING: "an attempt is open, perhaps unknown",
    OrderStatus.PENDING: "the PSP waits for someone: 3-D Secure, risk review, cash voucher",
    OrderStatus.AUTHORIZED: "money held, capture to come",
    OrderStatus.SUCCESS: "money taken; refunds and disputes are rows of their own",
    OrderStatus.FAILED: "definitive no-charge, with a reason",
    OrderStatus.CANCELED: "voided or expired, definitive no-charge",
}

INTRODUCTION = """\
# Order states

Drawn by `docs/draw.py` from `TRANSITIONS` in `zerosum/domain/order.py`; do not edit.

An order moves by this table and by nothing else. A pair of status and event that is not in it is refused
(`ILLEGAL_TRANSITION`). Status never regresses; a report that comes late is recorded beside it. FAILED and CANCELED are
reached only with proof that no money moved.
"""


def order_states() -> str:
    """The whole page."""
    return "\n".join((INTRODUCTION, _picture(), _statuses(), _transitions()))


def _picture() -> str:
    arrows = [f"    [*] --> {OrderStatus.NOT_STARTED}"]
    arrows += [f"    {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()]
    arrows += [f"    {status} --> [*]" for status in OrderStatus if status in TERMINAL]
    return "\n".join(("```mermaid", "stateDiagram-v2", *arrows, "```", ""))


def _statuses() -> str:
    rows = [
        f"| {status} | {MEANINGS[status]} | {_mark(status in TERMINAL)} | {_mark(status in ANSWERABLE)} |"
        for status in OrderStatus
    ]
    head = ("## Statuses", "", "| status | meaning | final | caller can be answered |", "|---|---|---|---|")
    return "\n".join((*head, *rows, ""))


def _transitions() -> str:
    rows = [
        f"| {status} | " + " | ".join(TRANSITIONS.get((status, event), "·") for event in OrderEvent) + " |"
        for status in OrderStatus
    ]
    head = (
        "## Every pair",
        "",
        "The status after the event; `·` is a refusal.",
        "",
        "| | " + " | ".join(OrderEvent) + " |",
        "|---" * (len(OrderEvent) + 1) + "|",
    )
    return "\n".join((*head, *rows, ""))


def _mark(is_so: bool) -> str:
    return "yes" if is_so else ""


def main(arguments: list[str]) -> int:
    """Writes the page, or with `--check` compares it. Returns the exit status."""
    if "--check" in arguments:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != order_states())
    PAGE.write_text(order_states(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
