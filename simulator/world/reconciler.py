"""The reconciler of a world: reads the PSP's book as the lines of a settlement file, matches them with the payment service's
rows, and tells that service what it has not heard. Now and then while all goes wrong, and at rest until nothing is left.

The rules are the product's own (`domain.reconcile`), the file too: the simulator's rows through the product's parser. Its store
is not here: what it decides is in no outbox, it is decided again by the next look, and told again under the same line's id.

Invariant: it moves nothing by itself; a fact goes by the payment server's door like anybody's.
"""

import asyncio
import csv
import io
import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from random import Random
from typing import Any, Final

from actors.answer import Applied, Refused
from simulator.psp import settlement, settlement_file
from simulator.world.house import House
from simulator.world.loop import Party
from simulator.world.network import Lost
from simulator.world.network import Refused as NobodyThere
from simulator.world.psp import SERVER
from zerosum.domain import message as m
from zerosum.domain.discrepancy import Action, Kind
from zerosum.domain.fee_contract import STRIPE as STRIPE_FEES
from zerosum.domain.identity import CheckoutId, EntityKey, OrderId, Tenant
from zerosum.domain.money import Money
from zerosum.domain.reconcile import reconcile
from zerosum.domain.reconcile_item import Item, Movement, MovementKind, Rules, Standing
from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Line
from zerosum.domain.settlement_control import Controls
from zerosum.errors import Unavailable
from zerosum.psp.stripe.settlement import read_lines
from zerosum.psp.stripe.settlement_manifest import read_manifest

_PATIENCE_S: Final = 20.0
_DUE_AFTER_MS: Final = 3_600_000
"""Beyond any cut-off and any jump of the database's clock: what is not in a file of now is expected in the next."""
_CUT_OFF_MS: Final = (0, 0, 5_000, 20_000)
_DAMAGED: Final = 0.2
FILE: Final = "world"

_BY_ATTEMPT: Final = {"CHARGED": Standing.SETTLED, "UNKNOWN": Standing.IN_FLIGHT, "NO_CHARGE": Standing.GIVEN_UP}
_BY_REFUND: Final = {"DONE": Standing.SETTLED, "UNKNOWN": Standing.IN_FLIGHT}


class Reconciler:
    """Looks when asked to. `wrong`: what no reconciliation should meet."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._chance = Random(f"files {house.weather.seed}")
        self.party = Party("reconciler")
        self.wrong: list[str] = []
        self._taken: set[str] = set()
        self._seen: tuple[tuple[int, int], tuple[Item, ...]] | None = None

    async def mend(self) -> None:
        """Tells the payment service what the lines say of orders it knows no end of; the next look tells again what is lost.

        Looks at a file that ends some seconds ago, or a damaged one: nothing may be called wrong that is not.
        """
        content, manifest = self._file(self._chance.choice(_CUT_OFF_MS))
        if self._chance.random() < _DAMAGED:
            rows = content.splitlines(keepends=True)
            whole_rows = b"".join(rows[: self._chance.randrange(len(rows))])
            content = self._chance.choice((whole_rows, content[: self._chance.randrange(len(content))]))
            self._house.trace.fault("truncated_file", f"at byte {len(content)}", self.party.name)
        lines = self._read(content, manifest)
        if lines is None:
            return
        items = self._items(lines, due_after_ms=_DUE_AFTER_MS)
        self.wrong.extend(self._alarms(items, _ON_ITS_WAY))
        for line, movement in _news(items):
            await self._tell(line, movement)

    def mends(self) -> bool:
        """Whether anything is left to tell that was not taken yet."""
        return any(line.id not in self._taken for line, _ in _news(self._look()))

    def findings(self) -> list[str]:
        """I12: at rest every line and every movement is explained, but for those of orders that the PSP took down wrongly."""
        return [*self.wrong, *self._alarms(self._look())]

    def _alarms(self, items: tuple[Item, ...], known: frozenset[Kind] = frozenset()) -> Iterator[str]:
        for item in items:
            found = item.discrepancy
            if found is not None and found.kind not in known and not _is_wronged(item, self._house.psp.wronged):
                yield (
                    f"I12: {found.kind} of order {found.order_id or '-'}, line {found.line_id or '-'}: {found.field} "
                    f"ours {found.ours!r}, theirs {found.theirs!r}"
                )

    def _look(self) -> tuple[Item, ...]:
        """At everything that both sides have by now, all of it due. Anew once there was a booking or a commit since."""
        house = self._house
        state = len(house.psp.engine.account.balance), len(house.database.rows("payment", "slot_log"))
        if self._seen is None or self._seen[0] != state:
            lines = self._read(*self._file(cut_off_ms=0)) or []
            self._seen = state, self._items(lines, due_after_ms=-_DUE_AFTER_MS)
        return self._seen[1]

    def _items(self, lines: list[Line], due_after_ms: int) -> tuple[Item, ...]:
        rules = Rules(self._house.database.now_ms(), due_after_ms, STRIPE_FEES)
        return reconcile(lines, list(self._movements()), rules)

    async def _tell(self, line: Line, movement: Movement) -> None:
        trace = self._house.trace
        trace.met[f"reconciled {movement.standing}"] += 1
        entity = EntityKey(movement.tenant, movement.checkout_id)
        status = m.ObjectStatus.CHARGED if line.gross.amount_minor > 0 else m.ObjectStatus.REFUNDED
        money = Money(abs(line.gross.amount_minor), line.gross.currency)
        fact = m.Report(
            source=m.ReportSource.SETTLEMENT, order_id=movement.order_id, psp=line.psp, object_id=line.object_id,
            status=status, money=money, reference=line.reference, reason="",
            settlement=m.SettlementLineRef(line.psp, line.id, FILE), refund_key=line.refund_key,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await self._house.network.ask(
                    SERVER, f"settlement {line.id[-6:]} {status}", lambda server: server.settle(entity, fact)
                )
        except (Lost, NobodyThere, Unavailable, TimeoutError):
            return  # the next look tells it again
        if isinstance(answer, Refused):
            self.wrong.append(f"P32: line {line.id} about order {movement.order_id} was refused: {answer.refusal}")
        elif isinstance(answer, Applied):
            self._taken.add(line.id)
            trace.met["settlement_replay" if answer.is_replay else "settlement_told"] += 1

    # ---- the file --------------------------------------------------------------------------------------------

    def _file(self, cut_off_ms: int) -> tuple[bytes, bytes]:
        """The PSP's settlement file of all that it booked until `cut_off_ms` ago, and its manifest."""
        psp = self._house.psp
        to_ms = psp.now_ms() - cut_off_ms + 1
        booked = tuple(each for each in psp.engine.account.balance.values() if each.created_ms < to_ms)
        text, totals = io.StringIO(), settlement_file.Totals()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(settlement.COLUMNS)
        for row in settlement.rows(settlement.Settlement(movements=booked, from_ms=0, to_ms=to_ms), psp.engine.account):
            totals.add(row)
            writer.writerow(row)
        content = text.getvalue().encode()
        head = {
            "report_type": settlement_file.REPORT_TYPE,
            "version": 1,
            "period": {"from_ms": 0, "to_ms": to_ms},
            "sha256": sha256(content).hexdigest(),
        }
        return content, json.dumps(head | totals.to_document()).encode()

    def _read(self, content: bytes, manifest: bytes) -> list[Line] | None:
        """The lines of a file that is whole; None of any other."""
        said, controls = read_manifest(manifest), Controls()
        if isinstance(said, Refusal):
            self.wrong.append(f"L10: the PSP's own manifest is refused: {said}")
            return None
        read = list(read_lines(io.BytesIO(content), controls))
        refusal = next((each for each in [*read, controls.check(said)] if isinstance(each, Refusal)), None)
        if (said.sha256 == sha256(content).hexdigest()) is (refusal is not None):
            self.wrong.append(f"L10: a file of {len(content)} bytes was {refusal or 'taken, and it is not whole'}")
        return None if refusal is not None else [line for line in read if isinstance(line, Line)]

    # ---- our rows --------------------------------------------------------------------------------------------

    def _movements(self) -> Iterator[Movement]:
        database = self._house.database
        orders = {row["payment_order_id"]: row for row in database.rows("payment", "payment_orders")}
        cases = database.rows("payment", "mismatches")
        late = {(row["payment_order_id"], row["psp_object_id"]) for row in cases if row["kind"] == "late_charge"}
        for row in database.rows("payment", "attempts"):
            standing = _BY_ATTEMPT[row["state"]]
            if (row["payment_order_id"], row["psp_object_id"]) in late:
                standing = Standing.CASE_OPEN
            yield _movement(
                orders, row, MovementKind.CHARGE, row["number"], row["psp_object_id"], standing, row["opened_at_ms"]
            )
        for row in database.rows("payment", "operations"):
            if row["kind"] == "refund":
                yield _refund(orders, row, late)
        for row in cases:
            if row["kind"] == "second_charge":
                yield _movement(
                    orders, row, MovementKind.CHARGE, 1_000 + row["number"], row["psp_object_id"], Standing.CASE_OPEN,
                    row["opened_at_ms"],
                )  # fmt: skip


def _refund(orders: Mapping[str, Mapping[str, Any]], row: Mapping[str, Any], late: set[tuple[str, str]]) -> Movement:
    object_id = json.loads(row["request"])["object_id"]
    return _movement(
        orders, row, MovementKind.REFUND, row["number"], object_id, _BY_REFUND.get(row["state"], Standing.GIVEN_UP),
        row["started_at_ms"], refund_key=row["key"],
        is_from_suspense=(row["payment_order_id"], object_id) in late,
    )  # fmt: skip


def _movement(
    orders: Mapping[str, Mapping[str, Any]], row: Mapping[str, Any], kind: MovementKind, number: int, object_id: str,
    standing: Standing, at_ms: int, *, refund_key: str = "", is_from_suspense: bool = False,
) -> Movement:  # fmt: skip
    order = orders[row["payment_order_id"]]
    return Movement(
        kind=kind, number=number, tenant=Tenant(row["tenant"]), checkout_id=CheckoutId(row["checkout_id"]),
        order_id=OrderId(row["payment_order_id"]), psp="stripe", object_id=object_id, refund_key=refund_key,
        money=Money(order["amount_minor"], order["currency"]), at_ms=at_ms, standing=standing, buyer=order["buyer_account"],
        seller=order["seller_account"], is_from_suspense=is_from_suspense,
    )  # fmt: skip


def _news(items: tuple[Item, ...]) -> list[tuple[Line, Movement]]:
    return [
        (item.line, item.movement)
        for item in items
        if item.discrepancy is not None and item.discrepancy.proposal.action is Action.REPORT_TO_PAYMENT
        and item.line is not None and item.movement is not None
    ]  # fmt: skip


_ON_ITS_WAY: Final = frozenset({Kind.UNRESOLVED_ORDER, Kind.LATE_CHARGE})
"""What the payment service may not have heard yet."""
_OF_A_WRONGED_ORDER: Final = frozenset(
    {Kind.WRONG_AMOUNT, Kind.WRONG_CURRENCY, Kind.WRONG_REFERENCE, Kind.UNKNOWN_CHARGE, Kind.UNRESOLVED_ORDER}
)
"""What a PSP that has taken an order down wrongly leaves behind (row S9): people's."""


def _is_wronged(item: Item, wronged: Mapping[str, str]) -> bool:
    names = {item.line.reference.removeprefix("wrong-")} if item.line else set()
    names |= {str(item.movement.order_id)} if item.movement else set()
    is_so = item.discrepancy is not None and item.discrepancy.kind in _OF_A_WRONGED_ORDER
    return is_so and not names.isdisjoint(wronged)
