"""A small world in which everything went well: rows, the PSP's truth, the client's journal, the settlement file.

Built row by row, without the product's shards, so that the audit is held against the schema and the documents alone.
Every tenth order is declined; the last checkout has a late charge that was given back, and an order that is PENDING. Where
`with_refunds`, order 7 was refunded and order 9 reversed: its wallet was closed, and the ledger had taken its capture.
"""

import csv
import io
import json
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, text

from simulator.audit.format import answer_line, intent_line
from tests.integration.audit_money import NOW_MS, Row, go_back, sides_of
from zerosum.ports import SlotHead
from zerosum.store.chain import GENESIS, next_head
from zerosum.store.table import METADATA, SERVICES

TENANT = "acme"
_REFUNDED, _REVERSED = 7, 9


class World:
    """`checkouts` of one to three orders. `rows`: by table; `truth`, `journal`: lines; `settlement_rows`: cells."""

    def __init__(self, checkouts: int = 12, *, with_refunds: bool = False) -> None:
        self._with_refunds = with_refunds
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self.truth: list[Row] = []
        self.journal: list[bytes] = []
        self.settlement_rows: list[list[str]] = []
        self._heads: dict[tuple[str, int], SlotHead] = {}
        self._wallets: dict[str, Row] = {}
        self._owners: dict[str, Row] = {}
        self._accounts: dict[str, Row] = {}
        self._orders = 0
        for number in range(checkouts):
            self._checkout(number, is_last=number == checkouts - 1)
        self.rows["wallet.wallets"] = list(self._wallets.values())
        self.rows["ledger.owners"] = list(self._owners.values())
        self.rows["ledger.accounts"] = list(self._accounts.values())
        for (service, slot), head in self._heads.items():
            place = {"slot": slot, "epoch": head.epoch, "seq": head.seq, "hash": head.hash}
            self.rows[f"{service}.slots"].append(place | {"deployment": "test"})

    def _commit(self, service: str, slot: int, logged: dict[str, list[Row]]) -> None:
        head = self._heads.get((service, slot), SlotHead(slot, 1, 0, GENESIS))
        ord_ = 0
        for table, rows in logged.items():
            for row in rows:
                row |= {"slot": slot, "seq": head.seq + 1}
                if "line" not in row:
                    row["ord"] = ord_
                    ord_ += 1
            self.rows[f"{service}.{table}"] += rows
        after = next_head(head, logged, NOW_MS)
        entry = {"slot": slot, "seq": after.seq, "epoch": after.epoch, "hash": after.hash, "at_ms": NOW_MS}
        self.rows[f"{service}.slot_log"].append(entry)
        self._heads[(service, slot)] = after

    def _checkout(self, number: int, *, is_last: bool) -> None:
        checkout_id, slot = f"chk-{number}", number % 4
        place = {"slot": slot, "tenant": TENANT, "checkout_id": checkout_id}
        history: list[Row] = []

        def happened(type_: str, order_id: str = "", status: str = "", detail: str = "{}") -> None:
            version = len(history) + 1
            history.append(
                {"tenant": TENANT, "checkout_id": checkout_id, "version": version, "type": type_, "at_ms": NOW_MS}
                | {"payment_order_id": order_id, "status": status, "detail": detail}
            )

        happened("CheckoutSubmitted")
        happened("RiskAssessed")
        orders = [self._order(place, position, happened, is_last=is_last) for position in range(1 + number % 3)]
        happened("CheckoutAnswered")
        statuses = {row["payment_order_status"] for row in orders}
        half = len(history) // 2
        self._commit("payment", slot, {"history": history[:half]})
        refusal = {"tenant": TENANT, "method": "CreatePayment", "key": checkout_id, "fingerprint": "1:other"}
        refused = [refusal | {"reason": "IDEMPOTENCY_KEY_REUSED", "at_ms": NOW_MS}] if number % 5 == 0 else []
        self._commit("payment", slot, {"history": history[half:]} | ({"refusals": refused} if refused else {}))
        reply = b"\x0a\x05" + checkout_id.encode()
        is_done = statuses == {"SUCCESS"} and all(row["wallet_updated"] and row["ledger_updated"] for row in orders)
        whole = "DONE" if statuses == {"SUCCESS"} else "PARTIAL" if "SUCCESS" in statuses else "FAILED"
        self.rows["payment.payment_events"].append(
            place
            | {
                "version": len(history),
                "fingerprint": f"1:{checkout_id}",
                "buyer_account": f"b-{number}",
                "reply": reply,
            }
            | {
                "credit_card_info": "pm_card_visa",
                "risk_verdict": "ALLOW",
                "risk_reason": "",
                "is_payment_done": is_done,
            }
            | {"status": "OPEN" if "PENDING" in statuses else whole, "created_at_ms": NOW_MS, "updated_at_ms": NOW_MS}
        )
        self.rows["payment.buyers"].append(place | {"buyer_info": '{"name":"Zoë"}'})
        self._commands("payment", "CreatePayment", checkout_id, checkout_id)
        self._call(checkout_id, orders, reply)

    def _order(self, place: Row, position: int, happened: Any, *, is_last: bool) -> Row:
        self._orders += 1
        order_id = f"po-{self._orders:06d}"
        status = "FAILED" if self._orders % 10 == 0 else "SUCCESS"
        if is_last:
            status = ("SUCCESS", "FAILED", "PENDING")[position]
        intent, amount_minor = f"pi_{order_id}", 1_000 + self._orders
        seller, currency = (
            ("hot" if self._orders % 2 else f"s-{self._orders % 7}"),
            ("JPY" if self._orders % 5 == 0 else "USD"),
        )
        amount = str(amount_minor) if currency == "JPY" else f"{amount_minor // 100}.{amount_minor % 100:02d}"
        happened("AttemptOpened", order_id, "EXECUTING")
        happened("ObjectPrepared", order_id, "EXECUTING", json.dumps({"psp_object_id": intent}))
        moved = {"SUCCESS": "OrderCharged", "FAILED": "OrderFailed", "PENDING": "OrderPended"}[status]
        happened(moved, order_id, status)
        is_paid = status == "SUCCESS"
        is_refunded = self._with_refunds and self._orders == _REFUNDED
        is_reversed = self._with_refunds and self._orders == _REVERSED
        row = place | {
            "payment_order_id": order_id, "position": position, "buyer_account": "b", "seller_account": seller,
            "amount": amount, "amount_minor": amount_minor, "currency": currency, "payment_order_status": status,
            "reason": "", "ledger_updated": is_paid, "wallet_updated": is_paid and not is_reversed, "psp_reference": intent,
            "created_at_ms": NOW_MS, "updated_at_ms": NOW_MS,
        }  # fmt: skip
        self.rows["payment.payment_orders"].append(row)
        state = {"SUCCESS": "CHARGED", "FAILED": "NO_CHARGE", "PENDING": "UNKNOWN"}[status]
        attempt = {"number": 1, "psp": "stripe", "state": state, "psp_object_id": intent, "opened_at_ms": NOW_MS}
        self.rows["payment.attempts"].append(place | {"payment_order_id": order_id} | attempt)
        todo = {
            "todo_id": f"confirm/1/{order_id}", "payment_order_id": order_id, "kind": "confirm", "number": 1, "tries": 1,
            "due_at_ms": NOW_MS, "state": "DONE", "reason": "", "created_at_ms": NOW_MS,
        }  # fmt: skip
        self.rows["payment.todos"].append(place | todo)
        self._intent(order_id, intent, row)
        if is_paid:
            if not is_reversed:
                happened("WalletUpdated", order_id, status)
                self.credit(row)
            happened("LedgerUpdated", order_id, status)
            self._charge(order_id, intent, row, is_refunded=is_refunded or is_reversed)
            self.post(row, "capture", 1)
            if is_refunded or is_reversed:
                go_back(self, place, row, intent, happened, is_reversed=is_reversed)
        elif is_last and status == "FAILED":
            self._late_charge(place, row, intent, happened)
        return row

    def credit(self, row: Row, sign: int = 1) -> None:
        wallet_id, order_id = f"{row['seller_account']}:{row['currency']}", row["payment_order_id"]
        slot = len(wallet_id) % 4
        wallet = self._wallets.setdefault(
            wallet_id,
            {"slot": slot, "tenant": TENANT, "wallet_id": wallet_id, "version": 0, "owner": row["seller_account"]}
            | {"currency": row["currency"], "pending_minor": 0, "available_minor": 0, "in_payout_minor": 0}
            | {"receivable_minor": 0, "created_at_ms": NOW_MS, "updated_at_ms": NOW_MS},
        )
        wallet["version"] += 1
        wallet["pending_minor"] += sign * row["amount_minor"]
        transfer_id = f"{'credit' if sign > 0 else 'debit'}-1-{order_id}"
        entry = {
            "tenant": TENANT,
            "wallet_id": wallet_id,
            "version": wallet["version"],
            "bucket": "pending",
            "at_ms": NOW_MS,
        }
        entry |= {"transfer_id": transfer_id, "amount_minor": sign * row["amount_minor"]}
        self._commit("wallet", slot, {"entries": [entry | {"currency": row["currency"], "payment_order_id": order_id}]})
        self._commands("wallet", "ApplyTransfers", transfer_id, wallet_id)

    def post(self, row: Row, movement: str, number: int) -> None:
        seller, currency, minor = row["seller_account"], row["currency"], row["amount_minor"]
        journal_id, slot = f"{movement}-{number}-{row['payment_order_id']}", len(seller) % 4
        owner = self._owners.setdefault(
            seller,
            {
                "slot": slot,
                "tenant": TENANT,
                "owner": seller,
                "version": 0,
                "created_at_ms": NOW_MS,
                "updated_at_ms": NOW_MS,
            },
        )
        owner["version"] += 1
        pending = f"seller:{seller}:pending:{currency}"
        sides = sides_of(movement, seller, currency, minor)
        journal = {
            "tenant": TENANT,
            "owner": seller,
            "version": owner["version"],
            "journal_id": journal_id,
            "at_ms": NOW_MS,
        }
        journal |= {"movement": movement, "payment_order_id": row["payment_order_id"]}
        entries = [
            {
                "ord": 0,
                "line": line,
                "tenant": TENANT,
                "journal_id": journal_id,
                "account": account,
                "currency": currency,
            }
            | {"amount_minor": amount_minor, "at_ms": NOW_MS}
            for line, (account, amount_minor) in enumerate(sides)
        ]
        self._commit("ledger", slot, {"journals": [journal], "entries": entries})
        self._commands("ledger", "PostJournals", journal_id, seller)
        if movement in ("capture", "refund", "suspense_capture"):
            account = self._accounts.setdefault(
                pending,
                {"slot": slot, "tenant": TENANT, "owner": seller, "account": pending, "currency": currency}
                | {"balance_minor": 0, "entry_count": 0},
            )
            account["balance_minor"] -= minor if movement == "capture" else -minor
            account["entry_count"] += 1

    def _late_charge(self, place: Row, row: Row, intent: str, happened: Any) -> None:
        order_id = row["payment_order_id"]
        happened("MismatchOpened", order_id, "FAILED")
        happened("MismatchResolved", order_id, "FAILED")
        self._charge(order_id, intent, row, is_refunded=True)
        self.post(row, "suspense_charge", 1)
        self.post(row, "suspense_refund", 1)
        case = {"mismatch_id": f"late/{order_id}", "number": 1, "payment_order_id": order_id, "kind": "late_charge"}
        case |= {
            "psp": "stripe",
            "psp_object_id": intent,
            "amount_minor": row["amount_minor"],
            "currency": row["currency"],
        }
        self.rows["payment.mismatches"].append(
            place | case | {"detail": "", "state": "RESOLVED", "opened_at_ms": NOW_MS}
        )

    def _commands(self, service: str, method: str, key: str, entity_id: str) -> None:
        row = {"slot": len(key) % 4, "tenant": TENANT, "method": method, "key": key, "fingerprint": "1:f"}
        self.rows[f"{service}.commands"].append(row | {"entity_id": entity_id, "outcome": None, "at_ms": NOW_MS})

    def _intent(self, order_id: str, intent: str, row: Row) -> None:
        self.truth.append({"type": "intent", "reference": order_id, "id": intent, "currency": row["currency"].lower()})

    def _charge(self, order_id: str, intent: str, row: Row, *, is_refunded: bool = False) -> None:
        charge, movement, minor = f"ch_{order_id}", f"txn_{order_id}", row["amount_minor"]
        money = {"currency": row["currency"].lower(), "reference": order_id}
        self.truth += [
            {
                "type": "charge",
                "id": charge,
                "intent": intent,
                "status": "succeeded",
                "is_captured": True,
                "amount": minor,
            }
            | {"amount_captured": minor, "amount_refunded": minor * is_refunded, "balance_transaction": movement}
            | {"metadata": {"payment_order_id": order_id, "tenant": TENANT}, **money},
            {"type": "balance_transaction", "kind": "charge", "id": movement, "source": charge, "charge": charge}
            | {"intent": intent, "amount": minor, "fee": 30, **money},
        ]
        self._settle(movement, "charge", charge, intent, row, minor, 30)
        if is_refunded:
            self.truth += [
                {
                    "type": "refund",
                    "id": f"re_{order_id}",
                    "charge": charge,
                    "status": "succeeded",
                    "amount": minor,
                    **money,
                },
                {"type": "balance_transaction", "kind": "refund", "id": f"{movement}_r", "source": f"re_{order_id}"}
                | {"charge": charge, "intent": intent, "amount": -minor, "fee": 0, **money},
            ]
            self._settle(f"{movement}_r", "refund", f"re_{order_id}", intent, row, -minor, 0)
        event = {"type": "webhook", "id": f"evt_{order_id}", "event": "payment_intent.succeeded", "object": intent}
        is_lost = row["amount_minor"] % 3 == 0
        self.truth.append(
            event | {"state": "lost" if is_lost else "delivered", "attempts": 1, "accepted": int(not is_lost)}
        )
        if not is_lost:
            self.rows["payment.inbox"].append(
                {"slot": row["slot"], "psp": "stripe", "event_id": f"evt_{order_id}", "tenant": TENANT}
                | {"checkout_id": row["checkout_id"], "type": "payment_intent.succeeded", "psp_object_id": intent}
                | {"body_sha256": "00", "verified_with": "1", "outcome": "APPLIED", "received_at_ms": NOW_MS}
            )

    def _settle(self, movement: str, category: str, source: str, intent: str, row: Row, gross: int, fee: int) -> None:
        def major(minor: int) -> str:
            sign = "-" if minor < 0 else ""
            return str(minor) if row["currency"] == "JPY" else f"{sign}{abs(minor) // 100}.{abs(minor) % 100:02d}"

        cells = [
            movement,
            row["currency"].lower(),
            major(gross),
            major(fee),
            major(gross - fee),
            category,
            source,
            intent,
        ]
        self.settlement_rows.append([*cells, row["payment_order_id"]])

    def _call(self, checkout_id: str, orders: list[Row], reply: bytes) -> None:
        asked = [
            {name: str(row[name]) for name in ("payment_order_id", "seller_account", "amount", "currency")}
            for row in orders
        ]
        told = [{"payment_order_id": row["payment_order_id"], "status": row["payment_order_status"]} for row in orders]
        for copy, code in enumerate(("DEADLINE_EXCEEDED", "OK", "OK")):
            call = f"{checkout_id}/{copy}"
            names = {"call": call, "key": checkout_id}
            self.journal.append(
                intent_line(
                    tenant=TENANT, checkout_id=checkout_id, fingerprint="f", orders=asked, sent_ms=NOW_MS, **names
                )
            )
            is_ok = code == "OK"
            self.journal.append(
                answer_line(
                    **names,
                    code=code,
                    reply_sha256=sha256(reply).hexdigest() if is_ok else "",
                    replayed=copy == 2,
                    orders=told if is_ok else (),
                    answered_ms=NOW_MS,
                )
            )

    def truth_lines(self) -> list[bytes]:
        """The truth as the simulator streams it."""
        counts: dict[str, int] = defaultdict(int)
        for line in self.truth:
            counts[line["type"]] += 1
        return [json.dumps(line).encode() + b"\n" for line in [*self.truth, {"type": "end", "counts": counts}]]

    def write_journal(self, folder: Path) -> Path:
        """The client's journal as a file."""
        path = folder / "journal.jsonl"
        path.write_bytes(b"".join(self.journal))
        return path

    def write_settlement(self, folder: Path) -> Path:
        """The settlement file, its manifest beside it."""
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        names = "balance_transaction_id currency gross fee net reporting_category source_id payment_intent_id"
        writer.writerow([*names.split(), "payment_metadata[payment_order_id]"])
        writer.writerows(self.settlement_rows)
        content = output.getvalue().encode()
        path = folder / "payout.csv"
        path.write_bytes(content)
        manifest = {"rows": len(self.settlement_rows), "sums": self._sums(), "sha256": sha256(content).hexdigest()}
        (folder / "payout.manifest.json").write_text(json.dumps(manifest))
        return path

    def _sums(self) -> dict[str, dict[str, str]]:
        totals: dict[str, list[int]] = {}
        for cells in self.settlement_rows:
            total = totals.setdefault(cells[1], [0, 0, 0])
            for at in range(3):
                total[at] += int(cells[2 + at].replace(".", ""))
        return {
            currency: {
                name: str(minor) if currency == "jpy" else f"{minor // 100}.{minor % 100:02d}"
                for name, minor in zip(("gross", "fee", "net"), total, strict=True)
            }
            for currency, total in totals.items()
        }

    def insert(self, url: str) -> None:
        """Create the schema in an empty database and fill it. `url`: the administrator's, SQLAlchemy's spelling."""
        engine = create_engine(url)
        with engine.begin() as connection:
            for service in SERVICES:
                connection.execute(text(f"CREATE SCHEMA {service}"))
            METADATA.create_all(connection)
        engine.dispose()
        with psycopg.connect(url.replace("+psycopg", "")) as plain, plain.cursor() as cursor:
            for table, rows in self.rows.items():
                columns = list(rows[0])
                with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                    for row in rows:
                        copy.write_row([row[column] for column in columns])
