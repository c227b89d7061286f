"""Closing an account at the wallet's and the ledger's doors: finance's act, once, recorded with who did it."""

from typing import Any

import grpc
import pytest

from actors.answer import Applied, Failed, Refused
from servers.call import Role
from servers.ledger import LedgerServicer
from servers.wallet import WalletServicer
from tests.integration.server_process import serving
from tests.unit.server_fakes import TENANT, FakeLedgerReader, FakeShards, FakeWalletReader, bearer
from zerosum.domain.account import CloseAccount, Closure
from zerosum.domain.identity import EntityKey, Key
from zerosum.domain.refusal import Reason, Refusal
from zerosum.domain.wallet import Wallet
from zerosum.v1 import ledger_pb2, wallet_pb2
from zerosum.v1.ledger_pb2_grpc import LedgerServiceStub
from zerosum.v1.wallet_pb2_grpc import WalletServiceStub

FINANCE = bearer(Role.FINANCE, subject="fin-1")
ASKED = {"owner": "seller-1", "currency": "USD", "idempotency_key": "k1", "reason": "SELLER_LEFT"}


def _wallet_call(channel: Any, metadata: Any = FINANCE, **changed: str) -> Any:
    request = wallet_pb2.WalletServiceCloseAccountRequest(**(ASKED | changed))
    return WalletServiceStub(channel).CloseAccount(request, metadata=metadata)


def _ledger_call(channel: Any, metadata: Any = FINANCE, **changed: str) -> Any:
    request = ledger_pb2.LedgerServiceCloseAccountRequest(**(ASKED | changed))
    return LedgerServiceStub(channel).CloseAccount(request, metadata=metadata)


DOORS = [
    pytest.param(lambda shards: WalletServicer(shards, FakeWalletReader()), _wallet_call, id="wallet"),
    pytest.param(lambda shards: LedgerServicer(shards, FakeLedgerReader()), _ledger_call, id="ledger"),
]


@pytest.mark.parametrize(("door", "call"), DOORS)
@pytest.mark.parametrize("is_replay", [False, True])
async def test_finance_closes_an_account_of_its_tenant(door: Any, call: Any, is_replay: bool) -> None:
    """Tenant and name come from the token, never from the message."""
    shards = FakeShards(Applied(is_replay))
    async with serving(door(shards)) as (channel, _):
        response = await call(channel)

    assert response.already_closed is is_replay
    assert shards.submitted == [CloseAccount(TENANT, Key("k1"), "seller-1", "USD", "fin-1", "SELLER_LEFT")]


@pytest.mark.parametrize(("door", "call"), DOORS)
async def test_a_closing_that_is_refused_malformed_or_not_allowed_says_so(door: Any, call: Any) -> None:
    """Design section 8: the error table holds here too."""
    reused = Refused(Refusal(Reason.KEY_REUSED, "", "x"), is_replay=False)
    shards = FakeShards(reused, Failed("Unavailable", "x"))
    codes = []
    async with serving(door(shards)) as (channel, _):
        for metadata, changed in (
            (FINANCE, {}), (FINANCE, {}), (FINANCE, {"reason": "left us"}), (bearer(Role.SERVICE), {}),
        ):  # fmt: skip
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel, metadata, **changed)
            codes.append(caught.value.code().name)

    assert codes == ["FAILED_PRECONDITION", "UNAVAILABLE", "INVALID_ARGUMENT", "PERMISSION_DENIED"]
    assert len(shards.submitted) == 2


async def test_a_closed_wallet_shows_since_when_and_why() -> None:
    """GetWallet tells support what happened."""
    closure = Closure(3, "fin-1", "SELLER_LEFT", 1_700_000_000_000)
    wallet = Wallet(EntityKey(TENANT, "seller-1:USD"), "seller-1", "USD", 3, 100, 0, 0, 0, 1, 2, closure)
    async with serving(WalletServicer(FakeShards(), FakeWalletReader(wallet))) as (channel, _):
        request = wallet_pb2.GetWalletRequest(owner="seller-1", currency="USD")
        told = (await WalletServiceStub(channel).GetWallet(request, metadata=FINANCE)).wallet

    assert (told.closed_at.seconds, told.close_reason, told.pending) == (1_700_000_000, "SELLER_LEFT", "1.00")
