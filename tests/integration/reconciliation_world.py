"""What a product that reconciles rightly writes about a delivered settlement file with every kind of damage in it.

Made from the good world, row by row, without the product's matching: each planted damage says what is found.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import BigInteger, Integer, Text, create_engine, text

from simulator.audit.match import CLASSES
from tests.integration.audit_money import NOW_MS
from tests.integration.audit_world import TENANT, World
from zerosum.store.reconciliation.table import RECONCILIATION

Row = dict[str, Any]
Cells = dict[str, str]

PERIOD: Final = (NOW_MS - 1, NOW_MS + 86_400_000)
BEGAN: Final = {"started_at_ms": PERIOD[1] - 1}
REFUND_KEY: Final = "refund-of-a-late-charge"
COLUMNS: Final = (
    "balance_transaction_id", "currency", "gross", "fee", "net", "reporting_category", "source_id", "payment_intent_id",
    "payment_metadata[payment_order_id]", "refund_metadata[refund_key]",
)  # fmt: skip
ID, INTENT, ORDER = COLUMNS[0], COLUMNS[7], COLUMNS[8]


@dataclass(frozen=True)
class Told:
    """A line of the delivered file and what a right reconciliation says of it. `kind` "": it agrees; `order`: its payment's."""

    cells: Cells
    kind: str = ""
    order: str = ""


def _beside(kind: str, category: str, gross: str, fee: str = "0.00", **cells: str) -> Callable[[Cells], list[Told]]:
    """The line, and behind it a movement that we never asked for. `gross`: "" takes all of the line's back."""

    def plant(line: Cells) -> list[Told]:
        amount = gross or f"-{line['gross']}"
        money = {"reporting_category": category, "gross": amount, "fee": fee, "net": _less(amount, fee)}
        return [Told(line), Told({**line, **cells, **money, ID: f"txn_{kind}", "source_id": f"x_{kind}"}, kind)]

    return plant


def _less(gross: str, fee: str) -> str:
    minor = int(gross.replace(".", "")) - int(fee.replace(".", ""))
    return f"{'-' if minor < 0 else ''}{abs(minor) // 100}.{abs(minor) % 100:02d}"


_UNKNOWN: Final = {INTENT: "pi_unknown", ORDER: "po-unknown"}
_NONE: Final = {INTENT: "", ORDER: ""}

PLANTED: Final[dict[str, Callable[[Cells], list[Told]]]] = {
    "missing_line": lambda _: [],
    "unknown_charge": lambda line: [Told(line), Told({**line, ID: "txn_unknown", **_UNKNOWN}, "unknown_charge")],
    "duplicate_line": lambda line: [Told(line), Told(line, "duplicate_line")],
    "duplicate_charge": lambda line: [Told(line), Told({**line, ID: "txn_again"}, "duplicate_charge")],
    "wrong_amount": lambda line: [Told({**line, "gross": "77.00", "net": "76.70"}, "wrong_amount")],
    "wrong_currency": lambda line: [Told({**line, "currency": "eur"}, "wrong_currency")],
    "wrong_reference": lambda line: [Told({**line, ORDER: "po-000001"}, "wrong_reference")],
    "wrong_psp_id": lambda line: [Told({**line, INTENT: "pi_nobody"}, "wrong_psp_id")],
    "wrong_fee": lambda line: [Told({**line, "fee": "0.31", "net": _less(line["gross"], "0.31")}, "wrong_fee")],
    "unknown_fee": _beside("unknown_fee", "fee", "-2.00", **_NONE),
    "unknown_refund": _beside("unknown_refund", "refund", ""),
    "partial_refund": _beside("partial_refund", "refund", "-0.50"),
    "partial_reversal": _beside("partial_reversal", "partial_capture_reversal", "-0.50"),
    "refund_failure": _beside("refund_failure", "refund_failure", "1.00"),
    "other_movement": _beside("other_movement", "network_cost", "-0.50", **_NONE),
    "dispute": _beside("dispute", "dispute", "-1.00", "15.00"),
    "unknown_dispute": _beside("unknown_dispute", "dispute", "-1.00", "15.00", **_UNKNOWN),
}
"""Kind of mismatch -> what is done to a charge line so that it must be found; in US dollars, of orders that are paid."""


@dataclass
class Reconciled:
    """The delivered file and the product's rows about it."""

    world: World
    lines: list[Told] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    """Order -> the kind of the case that its charge has, "" for none."""

    def __post_init__(self) -> None:
        plants = iter(PLANTED.items())
        paid = {row["payment_order_id"] for row in self.world.rows["payment.payment_orders"]
                if row["payment_order_status"] == "SUCCESS" and row["currency"] == "USD"}  # fmt: skip
        for values in self.world.settlement_rows:
            line = dict(zip(COLUMNS, [*values, ""], strict=True))
            order_id, is_refund = line[ORDER], line["reporting_category"] == "refund"
            kind, plant = next(plants, ("", None)) if order_id in paid - {"po-000001"} and not is_refund else ("", None)
            if plant is None:
                self.lines.append(Told({**line, COLUMNS[9]: REFUND_KEY if is_refund else ""}))
            else:
                told = [replace(one, order=order_id) for one in plant(line)]
                self.lines += told
                # A line more is a case of its own; the charge is in order, unless it is the line that was spoiled.
                self.kinds[order_id] = "" if len(told) > 1 else kind
        assert next(plants, None) is None, "the world has too few orders"
        self._refund_operation()

    def _refund_operation(self) -> None:
        """The late charge of the good world was given back under this key."""
        (case,) = self.world.rows["payment.mismatches"]
        place = {name: case[name] for name in ("slot", "tenant", "checkout_id", "payment_order_id")}
        self.world.rows["payment.operations"].append(
            place
            | {"kind": "refund", "number": 1, "attempt": 1, "key": REFUND_KEY, "request": "{}", "state": "DONE"}
            | {"answer": "{}", "started_at_ms": NOW_MS}
        )

    # ---- the file --------------------------------------------------------------------------------------------------

    def content(self) -> bytes:
        """The delivered file."""
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([told.cells[name] for name in COLUMNS] for told in self.lines)
        return output.getvalue().encode()

    def write(self, folder: Path) -> Path:
        """The file and its manifest, in a folder of its own."""
        path = folder / "delivered" / "payout.csv"
        path.parent.mkdir()
        path.write_bytes(self.content())
        sums: dict[str, list[int]] = {}
        for told in self.lines:
            total = sums.setdefault(told.cells["currency"], [0, 0, 0])
            for at, name in enumerate(("gross", "fee", "net")):
                total[at] += int(told.cells[name].replace(".", ""))
        shown = {currency: dict(zip(("gross", "fee", "net"), (_major(minor, currency) for minor in total), strict=True))
                 for currency, total in sums.items()}  # fmt: skip
        manifest = {"rows": len(self.lines), "sums": shown, "sha256": sha256(self.content()).hexdigest(), "version": 1}
        manifest |= {"period": {"from_ms": PERIOD[0], "to_ms": PERIOD[1]}}
        path.with_name("payout.manifest.json").write_text(json.dumps(manifest))
        return path

    # ---- the product's rows ----------------------------------------------------------------------------------------

    def insert(self, url: str) -> None:
        """Create the schema and fill it as a right reconciliation would. `url`: the administrator's."""
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA reconciliation"))
            RECONCILIATION.create_all(connection)
        engine.dispose()
        with psycopg.connect(url.replace("+psycopg", "")) as plain, plain.cursor() as cursor:
            for table, row in self._rows():
                columns = {**_defaults(table), **row}
                names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
                statement = f"INSERT INTO reconciliation.{table} ({names}) VALUES ({places})"  # noqa: S608 (names of ours)
                cursor.execute(statement.encode(), list(columns.values()))

    def _rows(self) -> Iterator[tuple[str, Row]]:
        file_id = sha256(self.content()).hexdigest()
        yield "files", {"file_id": file_id, "psp": "stripe", "state": "ACCEPTED", "lines": len(self.lines)}
        yield (
            "runs",
            {"run_id": "run-1", "kind": "nightly", "psp": "stripe", "period": "day", "attempt": 1, "state": "DONE"}
            | BEGAN,
        )
        of_order: dict[str, str] = {}
        for number, told in enumerate(self.lines, 1):
            yield "lines", _line(told.cells) | {"file_id": file_id, "line_no": number}
            yield _item(f"line/{number}/{file_id}", case := f"case-{number}" if told.kind else "")
            if case:
                yield _mismatch(case, told.kind, file_id=file_id, line_id=told.cells[ID], order=told.order)
            if told.kind == self.kinds.get(told.order):
                of_order[told.order] = case  # the pair's: line and order share it
        for attempt in self.world.rows["payment.attempts"]:
            order_id = attempt["payment_order_id"]
            if attempt["state"] == "CHARGED":
                if self.kinds.get(order_id) == "missing_line":
                    of_order[order_id] = f"case-{order_id}"
                    yield _mismatch(f"case-{order_id}", "missing_line", file_id="", line_id="", order=order_id)
                yield _item(f"order/charge/1/{TENANT}/{order_id}", of_order.get(order_id, ""))
        (refund,) = self.world.rows["payment.operations"]
        yield _item(f"order/refund/1/{TENANT}/{refund['payment_order_id']}", "")


def _item(item: str, case: str) -> tuple[str, Row]:
    return "items", {"run_id": "run-1", "item": item, "state": "MISMATCH" if case else "MATCHED", "mismatch_id": case}


def _mismatch(case: str, kind: str, *, file_id: str, line_id: str, order: str) -> tuple[str, Row]:
    names = {"mismatch_id": case, "kind": kind, "class": CLASSES[kind], "state": "OPEN"}
    about = {"tenant": TENANT, "file_id": file_id, "line_id": line_id, "payment_order_id": order}
    return "mismatches", names | about


def _line(cells: Cells) -> Row:
    minor = {f"{name}_minor": int(cells[name].replace(".", "")) for name in ("gross", "fee", "net")}
    return minor | {
        "line_id": cells[ID], "category": cells["reporting_category"], "psp_object_id": cells[INTENT],
        "reference": cells[ORDER], "currency": cells["currency"].upper(),
    }  # fmt: skip


def _defaults(table: str) -> Row:
    """Every column that must have a value, with one that says nothing."""
    values: dict[type, object] = {Text: "", BigInteger: 0, Integer: 0}
    columns = RECONCILIATION.tables[f"reconciliation.{table}"].columns
    return {column.name: values.get(type(column.type), False) for column in columns if not column.nullable}


def _major(minor: int, currency: str) -> str:
    sign = "-" if minor < 0 else ""
    return str(minor) if currency == "jpy" else f"{sign}{abs(minor) // 100}.{abs(minor) % 100:02d}"
