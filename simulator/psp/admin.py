"""The admin routes: faults, one-shots, holds, the clock, challenges, statistics, the truth and the settlement file.

Every route but `/_admin/health` needs the admin token as a bearer. Answers are JSON; a refused request is
`400 {"error": ...}` and changes nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from simulator.psp import damage_file, settlement, settlement_file
from simulator.psp.account import Account
from simulator.psp.damage import Plan
from simulator.psp.faults import OneShot, Rates
from simulator.psp.http import HttpRequest, HttpResponse
from simulator.psp.settlement_file import Head
from simulator.psp.stripe.objects import to_record
from simulator.psp.stripe.operations import OPERATIONS
from simulator.psp.stripe.wire import to_bytes

if TYPE_CHECKING:
    from simulator.psp.server import Server

Document = dict[str, Any]
# 50 lines are about 25 kB and 1 ms: the truth is made and sent in such pieces, with calls answered in between.
_LINES_A_PIECE: Final = 50


class Admin:
    """The routes over one running server."""

    def __init__(self, server: Server, *, token: str) -> None:
        self._server = server
        self._authorization = f"Bearer {token}"
        self._settling = asyncio.Lock()
        self._routes: dict[tuple[str, str], Callable[[Document], Awaitable[Document]]] = {
            ("GET", "faults"): self._get_faults,
            ("PUT", "faults"): self._put_faults,
            ("POST", "one_shots"): self._add_one_shot,
            ("GET", "stats"): self._stats,
            ("GET", "delays"): self._delays,
            ("POST", "settlement"): self._settle,
            ("POST", "clock"): self._turn_clock,
            ("POST", "hold"): self._hold,
            ("POST", "release"): self._release,
            ("POST", "challenge"): self._end_challenge,
        }

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one admin request."""
        name = request.path.removeprefix("/_admin/")
        if name == "health":
            return _json(200, {"status": "serving"})
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._authorization.encode()):
            return _json(401, {"error": "the admin token is missing or wrong"})
        if (request.method, name) == ("GET", "truth"):
            return HttpResponse(200, content_type="application/jsonl", stream=self._truth())
        route = self._routes.get((request.method, name))
        if route is None:
            return _json(404, {"error": f"no admin route {request.method} {request.path}"})
        try:
            document = json.loads(request.body or b"{}")
            if not isinstance(document, dict):
                raise TypeError("the body must be a JSON object")
            return _json(200, await route(document))
        except (ValueError, TypeError, KeyError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})

    async def _get_faults(self, _: Document) -> Document:
        plan = self._server.engine.plan
        shots = [{"fault": s.fault, "operation": s.operation, "reference": s.reference} for s in plan.one_shots]
        return {"rates": plan.rates.to_document(), "one_shots": shots, "seed": plan.seed}

    async def _put_faults(self, document: Document) -> Document:
        """Set all rates: one that is not named goes back to its default, so `{}` ends the faults."""
        self._server.engine.plan.set_rates(Rates.parse(document))
        return await self._get_faults({})

    async def _add_one_shot(self, document: Document) -> Document:
        shot = OneShot.parse(document)
        _check_operation(shot.operation)
        self._server.engine.plan.add_one_shot(shot)
        return await self._get_faults({})

    async def _stats(self, _: Document) -> Document:
        server, engine = self._server, self._server.engine
        return {
            "calls": dict(engine.calls),
            "statuses": {("no answer" if status == 0 else str(status)): n for status, n in engine.statuses.items()},
            "faults": {name: n for name, n in engine.plan.happened.items() if n},
            "in_flight": {name: n for name, n in server.in_flight.items() if n},
            "held": {name: n for name, n in server.held.items() if n},
            "webhooks": {name: n for name, n in engine.outbox.states.items() if n},
            "webhooks_in_flight": server.pump.under_way,
            "objects": {
                "intents": len(engine.account.intents),
                "charges": len(engine.account.charges),
                "refunds": len(engine.account.refunds),
                "idempotency_keys": len(engine.keys),
            },
            "book_syncs": server.book.syncs,
            "now_ms": server.now_ms(),
        }

    async def _delays(self, _: Document) -> Document:
        """By the caller's own id of what is paid: the delay of all calls for it, in ms, since this process began."""
        return dict(self._server.engine.delays_ms)

    async def _settle(self, document: Document) -> Document:
        """Write the report of a `day` ("2026-11-26"), of a period [`from_ms`, `to_ms`), or of all since the last payout.

        What is in no payout yet is paid out, but for a period: there only with `pay_out`. The book comes first, so that
        the report of a kill in between can be asked for again. With `damage_rate` (and `damage_seed`, `damage_kinds`) or
        `damage_file` (a kind) what is delivered is damaged, and the truth lies beside (`damage_file.py`).
        """
        server, account = self._server, self._server.engine.account
        async with self._settling:
            now_ms = server.now_ms()
            report = _period_of(document, account, now_ms)
            if document.get("pay_out", "from_ms" not in document):
                for payout, ids in settlement.payouts_due(report, account).items():
                    extra = {"payout": payout, "balance_transactions": ids, "until_ms": report.to_ms}
                    server.engine.note("payout", now_ms, extra)
                await server.book.durable()
            head = Head(from_ms=report.from_ms, to_ms=report.to_ms, created_ms=now_ms)
            return await asyncio.to_thread(self._write_report, document, report, head)

    def _write_report(self, document: Document, report: settlement.Settlement, head: Head) -> Document:
        """Write the files, in a thread: calls go on meanwhile, and change nothing that the report shows."""
        account, folder = self._server.engine.account, self._server.folder / "settlement"
        plan = Plan(
            seed=int(document.get("damage_seed", self._server.engine.plan.seed)),
            rate=float(document.get("damage_rate", 0)),
            kinds=tuple(document.get("damage_kinds", ())),
        )
        spoil, movements = document.get("damage_file"), settlement.rows(report, account)
        if not (plan.rate or spoil or damage_file.is_later_waiting(folder, head)):
            return settlement_file.write(folder, movements, head)
        true = settlement_file.write(folder / damage_file.TRUE, movements, head)
        if spoil:
            return damage_file.write_spoiled(folder, true, spoil, seed=plan.seed)
        # A payment with a refund has two lines already: damage beside them would have two causes.
        return damage_file.write_damaged(
            folder, true, head, plan, lambda row: row[settlement.AT["payment_intent_id"]] not in account.refunds_of
        )

    async def _turn_clock(self, document: Document) -> Document:
        """Turn the PSP's clock forward by `advance_ms`; it stays so over a restart."""
        advance_ms = document["advance_ms"]
        if not isinstance(advance_ms, int) or advance_ms < 0:
            raise ValueError("advance_ms must be an integer of at least 0")
        engine = self._server.engine
        engine.note("clock", self._server.now_ms(), {"clock_offset_ms": engine.clock_offset_ms + advance_ms})
        await self._server.book.durable()
        self._server.pump.notice()
        return {"now_ms": self._server.now_ms(), "offset_ms": engine.clock_offset_ms}

    async def _hold(self, document: Document) -> Document:
        operation = _check_operation(document["operation"])
        self._server.hold(operation)
        return {"holding": operation}

    async def _release(self, document: Document) -> Document:
        self._server.release(document.get("operation"))
        return {"released": document.get("operation", "all")}

    async def _end_challenge(self, document: Document) -> Document:
        """Let the buyer of `payment_intent` pass or fail: `outcome` is "succeed" or "fail"."""
        if document["outcome"] not in ("succeed", "fail"):
            raise ValueError('outcome must be "succeed" or "fail"')
        is_passed = document["outcome"] == "succeed"
        engine = self._server.engine
        if not engine.end_wait(document["payment_intent"], is_passed=is_passed, now_ms=self._server.now_ms()):
            raise ValueError(f"{document['payment_intent']} does not wait for anything")
        await self._server.book.durable()
        self._server.pump.notice()
        return {"payment_intent": document["payment_intent"], "outcome": document["outcome"]}

    async def _truth(self) -> AsyncIterator[bytes]:
        """Stream everything the PSP holds; the last line counts the others, so that a cut stream is noticed.

        The objects are those of one moment; what became of webhooks may be a little younger.
        """
        await self._server.book.durable()
        counts: Counter[str] = Counter()
        lines: list[bytes] = []
        for document in self._documents():
            counts[document["type"]] += 1
            lines.append(to_bytes(document))
            if len(lines) == _LINES_A_PIECE:
                yield b"\n".join(lines) + b"\n"
                lines = []
        lines.append(to_bytes({"type": "end", "counts": counts}))
        yield b"\n".join(lines) + b"\n"

    def _documents(self) -> Iterator[Document]:
        account = self._server.engine.account
        # Copies of the references, all made at once: calls go on while the stream is read.
        tables: tuple[tuple[str, Sequence[Any]], ...] = (
            ("intent", list(account.intents.values())),
            ("charge", list(account.charges.values())),
            ("refund", list(account.refunds.values())),
            ("balance_transaction", list(account.balance.values())),
        )
        log = self._server.engine.outbox.log()
        for type_, things in tables:
            for thing in things:
                record = to_record(thing)
                intent_id = record["id"] if type_ == "intent" else record["intent"]
                kind = {"kind": record.pop("type")} if type_ == "balance_transaction" else {}
                yield {"type": type_, **kind, "reference": account.intents[intent_id].reference, **record}
        yield from log


def _period_of(document: Document, account: Account, now_ms: int) -> settlement.Settlement:
    if "day" in document:
        return settlement.settle_period(account, *settlement.day_of(document["day"]))
    if "from_ms" in document:
        return settlement.settle_period(account, int(document["from_ms"]), int(document.get("to_ms", now_ms + 1)))
    return settlement.settle_new(account, now_ms)


def _check_operation(operation: str) -> str:
    if operation not in OPERATIONS:
        raise ValueError(f"unknown operation {operation!r}; known: {', '.join(sorted(OPERATIONS))}")
    return operation


def _json(status: int, document: Document) -> HttpResponse:
    return HttpResponse(status, json.dumps(document).encode())
