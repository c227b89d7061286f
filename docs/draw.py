"""Draws what documents say from what the code says: `python docs/draw.py`.

    docs/order-states.md    whole, from the tables of `zerosum.domain.order`
    README.md               the table of settings between its two marks, from `zerosum.settings`

`python docs/draw.py --check` writes nothing and exits with 1 where a page is not what the tables say.

Invariant: what is drawn has nothing that is not in the tables or in the text below, so it can never tell another story.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "order-states.md"
README = ROOT / "README.md"
MARKS = ("<!-- settings: drawn by docs/draw.py -->\n\n", "\n<!-- end of settings -->")

sys.path.insert(0, str(ROOT))

from zerosum.domain.order import (  # noqa: E402 - the path above makes the package importable from a bare checkout
    ANSWERABLE,
    TERMINAL,
    TRANSITIONS,
    OrderEvent,
    OrderStatus,
)
from zerosum.settings import Settings  # noqa: E402 - likewise

MEANINGS = {
    OrderStatus.NOT_STARTED: "stored, nothing sent",
    OrderStatus.EXECUTING: "an attempt is open, perhaps unknown",
    OrderStatus.PENDING: "the PSP waits for someone: 3-D Secure, risk review, cash voucher",
    OrderStatus.AUTHORIZED: "money held, capture to come",
    OrderStatus.SUCCESS: "money taken; refunds and disputes are rows of their own",
    OrderStatus.FAILED: "definitive no-charge, with a reason",
    OrderStatus.CANCELED: "voided or expired, definitive no-charge",
}

SETTINGS = {
    "data_dir": "everything that lives: the embedded database, keys, Ray's token, logs, the simulator's book",
    "deployment": "names this deployment in shard names and slots; two on one database fence one another",
    "database_url": "the migrating role's URL, `postgresql://` or `cockroachdb://`; empty: embedded PostgreSQL",
    "payment_database_url": "the payment role's; needed where `ZEROSUM_DATABASE_URL` is set, as are the next three",
    "wallet_database_url": "the wallet role's",
    "ledger_database_url": "the ledger role's",
    "auditor_database_url": "the auditor's: reads everything, writes nothing",
    "ray_address": "an existing cluster to join; empty: `zerosum up` starts its own head",
    "bind_host": "where servers listen",
    "payment_port": "gRPC",
    "wallet_port": "gRPC",
    "ledger_port": "gRPC",
    "edge_port": "HTTP",
    "metrics_port_offset": "a server's Prometheus port is its own port plus this",
    "payment_address": "where the edge and the command line find the payment service",
    "wallet_address": "where payment shards find the wallet service",
    "ledger_address": "where payment shards find the ledger service",
    "psp_url": "where Stripe's API is; empty: the real one. `zerosum up` sets it to the simulator",
    "psp_api_key_file": "empty: `keys/psp_api_key` in the data folder",
    "psp_webhook_secrets_file": "one secret a line, two while rotating; empty: `keys/psp_webhook_secrets`",
    "checkout_shards": "Ray actors for checkouts",
    "account_shards": "Ray actors for wallets",
    "ledger_shards": "Ray actors for the ledger",
    "admission_max": "calls a server works on at once; more are RESOURCE_EXHAUSTED",
    "answer_after_ms": "a caller's reply is fixed after this at the latest",
    "backoff_cap_ms": "the longest pause between two runs of an effect",
    "effect_lease_ms": "the longest run of an effect; then another run may begin",
    "psp_timeout_ms": "how long one call to the PSP may take",
    "in_flight_alert_ms": "orders older than this and not final raise an alert",
    "risk_blocked_buyers_file": "accounts the risk check blocks, one a line; empty: everyone is allowed",
    "log_level": "of our own lines",
    "crash_dir": "tests and drills only: orders to die at named points; empty: never",
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


def readme(present: str) -> str:
    """The README with its table of settings drawn anew."""
    before, _, rest = present.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return "".join((before, MARKS[0], settings_table(), MARKS[1], after))


def settings_table() -> str:
    """Every setting with its default. Raises KeyError for one that is not explained above."""
    rows = [
        f"| `ZEROSUM_{name.upper()}` | {_default(field.default)} | {SETTINGS[name]} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(("| variable | default | |", "|---|---|---|", *rows, ""))


def _default(value: object) -> str:
    return f"`{value}`" if value not in (None, "") else ""


def main(arguments: list[str]) -> int:
    """Writes the pages, or with `--check` compares them. Returns the exit status."""
    pages = {PAGE: order_states(), README: readme(README.read_text(encoding="utf-8"))}
    if "--check" in arguments:
        return int(any(not page.exists() or page.read_text(encoding="utf-8") != text for page, text in pages.items()))
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
