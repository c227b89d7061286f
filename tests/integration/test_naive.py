"""The textbook's server, the baseline of the bench: it pays, once, and loses nothing in a crowd. Against the simulator."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from rich.console import Console

from loadtest.bench.against_knee import DEMANDS, TextbookStage
from loadtest.bench.kept import read_acknowledged
from loadtest.bench.textbook import Textbook
from loadtest.naive_process import naive_process, naive_processes
from loadtest.own_database import at_database
from tests.integration.psp_process import API_KEY, PspProcess
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import PaymentServiceStub

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="zerosum-naive-"))
    folder.chmod(0o711)
    postgres = EmbeddedPostgres(folder / "data")
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder)


@pytest.fixture
def psp(tmp_path: Path) -> Iterator[PspProcess]:
    with PspProcess(tmp_path / "psp") as process:
        yield process


@pytest.fixture
async def stub(server: EmbeddedPostgres, psp: PspProcess, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    with naive_process(
        admin_url=server.urls()["admin"], psp_url=psp.url, api_key=API_KEY, database=_database(request)
    ) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            yield PaymentServiceStub(channel)


def _database(request: pytest.FixtureRequest) -> str:
    """One a test."""
    return f"naive_{abs(hash(request.node.name)) % 10**9}"


def _rows(server: EmbeddedPostgres, request: pytest.FixtureRequest, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(at_database(server.urls()["admin"], _database(request))) as connection:
        return connection.execute(query.encode()).fetchall()


def _checkout(checkout_id: str, *sellers: str, token: str = "pm_card_visa") -> pb.CreatePaymentRequest:
    return pb.CreatePaymentRequest(
        checkout_id=checkout_id,
        buyer_info=pb.BuyerInfo(buyer_account="buyer-1"),
        payment_method=pb.PaymentMethod(token=token),
        payment_orders=[
            pb.PaymentOrderRequest(
                payment_order_id=f"{checkout_id}-{place}", seller_account=seller, amount="12.50", currency="USD"
            )
            for place, seller in enumerate(sellers)
        ],
    )


async def test_a_checkout_is_paid_once_however_often_it_is_sent(
    server: EmbeddedPostgres, psp: PspProcess, stub: Any, request: pytest.FixtureRequest
) -> None:
    """Specification "Exactly once": inserting the key wins, a duplicate brings the earlier result."""
    asked = _checkout("cart-1", "seller-1", "seller-2")

    first = await stub.CreatePayment(asked)
    again = await stub.CreatePayment(asked)
    read = await stub.GetPayment(pb.GetPaymentRequest(checkout_id="cart-1"))

    assert first.payment.is_payment_done
    assert first.payment.status == pb.PAYMENT_STATUS_DONE
    assert first.payment == again.payment == read.payment
    assert sorted(charge["intent"] for charge in psp.truth_of("charge")) == sorted(
        order.psp_reference for order in first.payment.payment_orders
    )
    assert sorted(_rows(server, request, "SELECT owner, balance_minor FROM wallet")) == [
        ("seller-1", 1_250),
        ("seller-2", 1_250),
    ]
    assert _rows(server, request, "SELECT count(*), sum(amount_minor) FROM ledger_entry") == [(4, 0)]
    assert _rows(server, request, "SELECT is_payment_done FROM payment_event") == [(True,)]


async def test_a_declined_card_moves_no_money(
    server: EmbeddedPostgres, stub: Any, request: pytest.FixtureRequest
) -> None:
    """A decline is a result, not an error."""
    told = await stub.CreatePayment(_checkout("cart-1", "seller-1", token="pm_card_visa_chargeDeclined"))

    assert told.payment.status == pb.PAYMENT_STATUS_FAILED
    assert told.payment.payment_orders[0].reason == "CARD_DECLINED"
    assert _rows(server, request, "SELECT count(*) FROM wallet") == [(0,)]
    assert _rows(server, request, "SELECT count(*) FROM ledger_entry") == [(0,)]


async def test_a_crowd_at_one_seller_loses_no_credit(
    server: EmbeddedPostgres, stub: Any, request: pytest.FixtureRequest
) -> None:
    """SERIALIZABLE with retry: a balance that is read and written by many is the sum of them."""
    told = await asyncio.gather(*(stub.CreatePayment(_checkout(f"cart-{n}", "seller-1")) for n in range(12)))

    assert all(each.payment.is_payment_done for each in told)
    assert _rows(server, request, "SELECT balance_minor FROM wallet") == [(12 * 1_250,)]
    assert _rows(server, request, "SELECT sum(amount_minor) FROM ledger_entry WHERE account LIKE 'seller%'") == [
        (-12 * 1_250,)
    ]


async def test_a_malformed_amount_is_refused_and_an_unknown_checkout_is_not_found(stub: Any) -> None:
    """What the textbook checks; nothing is stored."""
    asked = _checkout("cart-1", "seller-1")
    asked.payment_orders[0].amount = "12.505"

    with pytest.raises(grpc.aio.AioRpcError) as malformed:
        await stub.CreatePayment(asked)
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.GetPayment(pb.GetPaymentRequest(checkout_id="cart-1"))

    assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_two_servers_of_one_database_pay_a_checkout_once(
    server: EmbeddedPostgres, psp: PspProcess, request: pytest.FixtureRequest
) -> None:
    """The baseline has a process for each core: the key that is inserted wins whichever of them was asked."""
    asked = _checkout("cart-1", "seller-1")
    with naive_processes(
        2, admin_url=server.urls()["admin"], psp_url=psp.url, api_key=API_KEY, database=_database(request)
    ) as processes:
        told = []
        for process in processes:
            async with grpc.aio.insecure_channel(process.address) as channel:
                told.append(await PaymentServiceStub(channel).CreatePayment(asked))

    assert len({process.pid for process in processes}) == 2
    assert told[0].payment == told[1].payment
    assert told[0].payment.is_payment_done
    assert len(psp.truth_of("charge")) == 1
    assert _rows(server, request, "SELECT owner, balance_minor FROM wallet") == [("seller-1", 1_250)]


async def test_the_load_generator_offers_a_rate_to_the_textbook_and_what_it_acknowledged_is_looked_for(
    server: EmbeddedPostgres, psp: PspProcess, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The same generator as for ours, over two addresses; acknowledged = stored, for the baseline too."""
    admin_url, token_file = server.urls()["admin"], tmp_path / "token"
    token_file.write_text("a.b.c")
    with naive_processes(
        2, admin_url=admin_url, psp_url=psp.url, api_key=API_KEY, database=_database(request)
    ) as processes:
        textbook = Textbook(tuple(process.address for process in processes), at_database(admin_url, _database(request)))
        stage = TextbookStage(textbook, token_file, tmp_path, Console(stderr=True))
        step = await stage.offer(DEMANDS["hot"], 10.0, 1.0)
        acknowledged = read_acknowledged(stage.journals)
        kept, other = textbook.kept(acknowledged), textbook.kept({"co-never": False})

    assert step.taken_on == step.offered > 0
    assert step.cpu_ms["naive"] > 0
    assert set(acknowledged.values()) == {True}
    assert _rows(server, request, "SELECT owner, count(*) FROM wallet GROUP BY owner") == [("seller-hot", 1)]
    assert (kept.losses, kept.acknowledged) == ((), len(acknowledged))
    assert other.missing == ("co-never",)
