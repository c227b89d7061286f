"""`zerosum refund` and `zerosum account close` over the wire: keys are made from what is asked, trouble is one line."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.answer import Applied, Refused
from servers.client import Refused as SaidNo
from servers.ledger import LedgerServicer
from servers.metric import Metrics
from servers.money_client import close_account, create_refund
from servers.payment import PaymentServicer
from servers.wallet import WalletServicer
from tests.integration.server_process import SETTINGS, serving
from tests.unit.server_fakes import (
    PRIVATE_PEM,
    TENANT,
    FakeLedgerReader,
    FakePaymentReader,
    FakeShards,
    FakeWalletReader,
    checkout,
)
from zerosum.domain.account import CloseAccount
from zerosum.domain.refund import RequestRefund
from zerosum.domain.refusal import Reason, Refusal
from zerosum.settings import Settings


def _settings(folder: Path, port: int) -> Settings:
    (folder / "keys").mkdir(exist_ok=True)
    (folder / "keys" / "jwt_private.pem").write_bytes(PRIVATE_PEM)
    address = f"127.0.0.1:{port}"
    changed = {"data_dir": folder, "payment_address": address, "wallet_address": address, "ledger_address": address}
    return SETTINGS.model_copy(update=changed)


async def test_an_account_is_closed_at_both_services_under_one_key_of_what_is_asked(tmp_path: Path) -> None:
    """Run again, the same key: nothing is closed twice, and a command that failed half way is finished."""
    wallet, ledger = FakeShards(Applied(False), Applied(True)), FakeShards(Applied(False), Applied(True))
    asked: dict[str, Any] = {"owner": "seller-1", "currency": "USD", "reason": "FRAUD", "key": ""}
    servicers = (WalletServicer(wallet, FakeWalletReader()), LedgerServicer(ledger, FakeLedgerReader()))
    async with serving(*servicers) as (_, server):
        settings = _settings(tmp_path, server.port)
        rows = [await asyncio.to_thread(close_account, settings, TENANT, **asked) for _ in range(2)]

    assert rows[0] == [{"service": name, "already_closed": False} for name in ("wallet", "ledger")]
    assert [row["already_closed"] for row in rows[1]] == [True, True]
    commands = [*wallet.submitted, *ledger.submitted]
    assert {type(one) for one in commands} == {CloseAccount}
    assert len({one.key for one in commands}) == 1
    assert {(one.owner, one.currency, one.reason, one.closed_by) for one in commands} == {
        ("seller-1", "USD", "FRAUD", "cli")
    }


async def test_a_refund_is_asked_for_once_and_a_no_is_told_in_a_line(tmp_path: Path) -> None:
    """The key is made from the order's id; a refusal says its reason, and which field is at fault."""
    refusal = Refusal(Reason.ALREADY_REFUNDED, "payment_order_id", "its one refund is SUCCEEDED")
    shards = FakeShards(Applied(False), Refused(refusal, is_replay=False))
    servicer = PaymentServicer(
        shards=shards, reader=FakePaymentReader(checkout()), settings=SETTINGS, webhooks={}, metrics=Metrics()
    )
    async with serving(servicer) as (_, server):
        settings = _settings(tmp_path, server.port)
        told = await asyncio.to_thread(create_refund, settings, TENANT, "po-0", reason="DUPLICATE", key="")
        with pytest.raises(SaidNo, match="ALREADY_REFUNDED: payment_order_id: its one refund"):
            await asyncio.to_thread(create_refund, settings, TENANT, "po-0", reason="DUPLICATE", key="mine")
        with pytest.raises(SaidNo, match="MALFORMED: reason: does not match"):
            await asyncio.to_thread(create_refund, settings, TENANT, "po-0", reason="because", key="other")

    assert told == []
    bodies = [one.body for one in shards.submitted]
    assert {type(body) for body in bodies} == {RequestRefund}
    assert bodies[0].key.startswith("refund-1-")
    assert bodies[1].key == "mine"
