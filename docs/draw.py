"""Draws what documents say from what the code says: `python docs/draw.py`.

    docs/order-states.md    whole, from the tables of `zerosum.domain.order`
    docs/case-states.md     whole, from the table of `zerosum.domain.case`
    docs/crash-points.md    whole, from `zerosum.crash`, the code that passes its points, and `loadtest.chaos.case`
    README.md               the table of settings between its two marks, from `zerosum.settings`
    docs/reconciliation.md  the kinds between its two marks, from `docs.reconciliation_kinds`

`python docs/draw.py --check` writes nothing and exits with 1 where a page is not what the tables say.

Invariant: what is drawn has nothing that is not in the tables or in the text below, so it can never tell another story.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "order-states.md"
CASE_PAGE = ROOT / "docs" / "case-states.md"
CRASH_PAGE = ROOT / "docs" / "crash-points.md"
README = ROOT / "README.md"
RECONCILIATION_PAGE = ROOT / "docs" / "reconciliation.md"
MARKS = ("<!-- settings: drawn by docs/draw.py -->\n\n", "\n<!-- end of settings -->")
KIND_MARKS = ("<!-- kinds: drawn by docs/draw.py -->\n\n", "\n<!-- end of kinds -->")

sys.path.insert(0, str(ROOT))

from docs.reconciliation_kinds import sections, table  # noqa: E402 - the path above makes it importable from anywhere
from loadtest.chaos.case import CASES, RECONCILER_CASES, Harm  # noqa: E402 - the path above makes the package importable from a bare checkout
from zerosum.crash import POINTS_OF, Point  # noqa: E402 - likewise
from zerosum.domain import case  # noqa: E402 - likewise
from zerosum.domain.order import (  # noqa: E402 - likewise
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
    "reconciler_database_url": "the reconciler's: reads the services' tables, writes its own",
    "auditor_database_url": "the auditor's: reads everything, writes nothing",
    "ray_address": "an existing cluster to join; empty: `zerosum up` starts its own head",
    "bind_host": "where servers listen: an IPv4 address or the name of a host",
    "metrics_port_offset": "a server's Prometheus port is its own port plus this",
    "payment_port": "gRPC",
    "wallet_port": "gRPC",
    "ledger_port": "gRPC",
    "reconciliation_port": "gRPC",
    "edge_port": "HTTP",
    "payment_address": "where the edge and the command line find the payment service; these four empty: by host and port",
    "wallet_address": "where payment shards find the wallet service",
    "ledger_address": "where payment shards find the ledger service",
    "reconciliation_address": "where the command line finds the reconciliation service",
    "psp_url": "where Stripe's API is; empty: the real one. `zerosum up` sets it to the simulator",
    "psp_api_key_file": "empty: `keys/psp_api_key` in the data folder",
    "psp_webhook_secrets_file": "one secret a line, two while rotating; empty: `keys/psp_webhook_secrets`",
    "checkout_shards": "Ray actors for checkouts",
    "account_shards": "Ray actors for wallets",
    "ledger_shards": "Ray actors for the ledger",
    "admission_max": "callers' calls at work at once (one tenant's: half, where others call); more are RESOURCE_EXHAUSTED",
    "answer_after_ms": "a caller's reply is fixed after this at the latest",
    "backoff_cap_ms": "the longest pause between two runs of an effect",
    "effect_lease_ms": "the longest run of an effect; then another run may begin",
    "psp_timeout_ms": "how long one call to the PSP may take",
    "psp_asks_first": "after a restore from backup: ask the PSP for an order's reference before its first send",
    "in_flight_alert_ms": "orders older than this and not final raise an alert",
    "settlement_dir": "settlement files come in (`inbox/<psp>/`) and go (`done/`, `refused/`) here; empty: `settlement/`",
    "settlement_file_due_ms": "how long after the end of its day (UTC) a PSP's file may take",
    "settlement_line_due_ms": "how long after its movement a settlement line may take; then it is missing",
    "reconcile_tick_ms": "how often the watched folder and the schedule are looked at",
    "reconcile_lease_ms": "how long a run's holder may be silent; then another one goes on with the run",
    "reconcile_inside_every_h": "hours between two comparisons of our own services, counted from midnight UTC",
    "reconcile_catch_up_days": "how far back days that were missed are run",
    "case_alert_ms": "cases open for longer raise an alert",
    "risk_blocked_buyers_file": "accounts the risk check blocks, one a line; empty: everyone is allowed",
    "log_level": "of our own lines: DEBUG, INFO, WARNING, ERROR or CRITICAL",
    "crash_dir": "tests and drills only: orders to die or stand still at named points; empty: never",
}

INTRODUCTION = """\
# Order states

Drawn by `docs/draw.py` from `TRANSITIONS` in `zerosum/domain/order.py`; do not edit.

An order moves by this table and by nothing else. A pair of status and event that is not in it is refused
(`ILLEGAL_TRANSITION`). Status never regresses; a report that comes late is recorded beside it. FAILED and CANCELED are
reached only with proof that no money moved.
"""


CASE_MEANINGS = {
    case.CaseState.OPEN: "nobody has settled it",
    case.CaseState.FIXING: "the machine's own fix is on its way",
    case.CaseState.PROPOSED: "one person has proposed how to settle it",
    case.CaseState.APPROVED: "another person has approved; what is to be posted or sent is on its way",
    case.CaseState.RESOLVED: "settled: fixed, closed with a reason, or gone by itself",
    case.CaseState.WRITTEN_OFF: "settled by a posting to suspense",
}

CASE_INTRODUCTION = """\
# Case states

Drawn by `docs/draw.py` from `TRANSITIONS` in `zerosum/domain/case.py`; do not edit.

A mismatch moves by this table and by nothing else. A pair of state and act that is not in it is refused
(`ILLEGAL_TRANSITION`). Whoever proposed never approves (`FOUR_EYES`). Every act is a row that stays.
"""


CRASH_INTRODUCTION = """\
# Crash points

Drawn by `docs/draw.py` from `zerosum/crash.py` and `loadtest/chaos/case.py`; do not edit.

A pair of named points stands around every commit and every call to the outside. `zerosum chaos` has a process die (SIGKILL) or
stand still (SIGSTOP, then SIGCONT) at each of them, and cuts its connections to the database there; at a commit it is the
COMMIT's own connection that ends, before the server has it or after. Each time: the harm is seen, the same shard or server
serves a new checkout, and the money of the checkout concerned has moved exactly once, by every book. Results are kept in
`chaos/matrix.json` of the data folder, for the code that gave them: a second run goes on with what is missing.

Three journeys are hurt: a *checkout* that is submitted; a *refund* that is asked for once it is paid (wallet, PSP, ledger, each
once); a *reversal*, a charge for an account that was closed before (into suspense, back at the PSP, out of suspense).

At the reconciler's points, whose story is a file and not a checkout, tests have it killed
(`tests/e2e/test_reconciliation_crash.py`); the monkey kills, stops and cuts off its process at random.
"""

PAIRS = {
    "commit": ("all statements of a transaction have run", "it is durable, and nobody was told"),
    "risk": ("the risk check was not asked", "its verdict is known, and not recorded"),
    "psp": ("the request to the PSP was not sent", "its answer is known, and not recorded"),
    "wallet": ("the credit or debit was not sent to the wallet service", "it is applied, and not recorded"),
    "ledger": ("the journal was not sent to the ledger service", "it is posted, and not recorded"),
    "reply": ("a caller's submit was handed to no shard", "the fixed reply is known, and not sent"),
    "webhook": ("a verified event was handed to no shard", "it is recorded, and the PSP was not answered"),
    "delivery": ("what the reconciler decided was not sent", "it is where it was sent, and not recorded"),
}


def crash_points() -> str:
    """The whole page. Raises KeyError for a pair that is not explained above."""
    pairs = list(dict.fromkeys(str(point).partition(".")[0] for point in Point))
    rows = [f"| {pair} | {PAIRS[pair][0]} | {PAIRS[pair][1]} | {_passers(pair)} | {_places(pair)} |" for pair in pairs]
    head = ("## Pairs", "", "| pair | before | after | passed by | stands in |", "|---|---|---|---|---|")
    cases = [
        f"| {case.row} | {case.journey} | {case.process} | {case.point} | {case.detail} | {case.nth} |"
        for case in CASES
    ]
    matrix = (
        "## The matrix", "",
        f"{len(CASES)} cases, each with {', '.join(Harm)}: {len(CASES) * len(Harm)} cells. "
        "What a row is: [contributing](../CONTRIBUTING.md).", "",
        "| row | journey | process | point | detail | pass |", "|---|---|---|---|---|---|",
    )  # fmt: skip
    reconciler = (
        "", "## The reconciler", "",
        "A settlement file is put into its folder, and it dies at the pass: file, run and postings are there once.", "",
        "| row | point | pass |", "|---|---|---|",
        *(f"| {case.row} | {case.point} | {case.nth} |" for case in RECONCILER_CASES),
    )  # fmt: skip
    return "\n".join((CRASH_INTRODUCTION, *head, *rows, "", *matrix, *cases, *reconciler, ""))


def _passers(pair: str) -> str:
    return ", ".join(process for process, pairs in POINTS_OF.items() if pair in pairs)


def _places(pair: str) -> str:
    """The files in which the pair stands."""
    reached = re.compile(rf"\breach\(Point\.{pair.upper()}_(?:BEFORE|AFTER)\b")
    files = [path for room in ("zerosum", "actors", "servers") for path in sorted((ROOT / room).rglob("*.py"))]
    return ", ".join(
        f"`{path.relative_to(ROOT)}`" for path in files if reached.search(path.read_text(encoding="utf-8"))
    )


def order_states() -> str:
    """The whole page."""
    return "\n".join((INTRODUCTION, _picture(), _statuses(), _transitions()))


def case_states() -> str:
    """The whole page of a mismatch's states."""
    moves = [(before, act, moved) for (before, act), moved in case.TRANSITIONS.items() if before is not moved]
    arrows = [f"    [*] --> {case.CaseState.OPEN}"]
    arrows += [f"    {before} --> {moved}: {act}" for before, act, moved in moves]
    arrows += [f"    {state} --> [*]" for state in case.CaseState if state in case.CLOSED]
    states = [f"| {state} | {CASE_MEANINGS[state]} | {_mark(state in case.CLOSED)} |" for state in case.CaseState]
    acts = [f"{act} *(people)*" if act in case.PEOPLES else str(act) for act in case.Act]
    rows = [
        f"| {act} | " + " | ".join(case.TRANSITIONS.get((state, each), "·") for state in case.CaseState) + " |"
        for each, act in zip(case.Act, acts, strict=True)
    ]
    return "\n".join((
        CASE_INTRODUCTION, "```mermaid", "stateDiagram-v2", *arrows, "```", "",
        "## States", "", "| state | meaning | closed |", "|---|---|---|", *states, "",
        "## Every pair", "", "The state after the act; `·` is a refusal.", "",
        "| | " + " | ".join(case.CaseState) + " |", "|---" * (len(case.CaseState) + 1) + "|", *rows, "",
    ))  # fmt: skip


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
    return _between(present, MARKS, settings_table())


def reconciliation(present: str) -> str:
    """The page of reconciliation with its kinds drawn anew."""
    return _between(present, KIND_MARKS, f"{table()}\n{sections()}")


def _between(present: str, marks: tuple[str, str], drawn: str) -> str:
    before, _, rest = present.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return "".join((before, marks[0], drawn, marks[1], after))


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
    pages = {
        PAGE: order_states(),
        CASE_PAGE: case_states(),
        CRASH_PAGE: crash_points(),
        README: readme(README.read_text(encoding="utf-8")),
        RECONCILIATION_PAGE: reconciliation(RECONCILIATION_PAGE.read_text(encoding="utf-8")),
    }
    if "--check" in arguments:
        return int(any(not page.exists() or page.read_text(encoding="utf-8") != text for page, text in pages.items()))
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
