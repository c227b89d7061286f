"""`zerosum todo`, `in-flight`, `refund` and `account close` with a token of one's own, and no key here."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from actors.answer import Applied
from servers.call import Role
from servers.cli import main
from servers.ledger import LedgerServicer
from servers.metric import Metrics
from servers.oncall import OperatorServicer
from servers.payment import PaymentServicer
from servers.wallet import WalletServicer
from tests.integration.server_process import SETTINGS, serving
from tests.unit.server_fakes import (
    TENANT,
    FakeLedgerReader,
    FakePaymentReader,
    FakeShards,
    FakeWalletReader,
    checkout,
    dead_todo,
    token,
)
from zerosum.domain.identity import EntityKey, OrderId, Tenant
from zerosum.domain.todo import TodoState
from zerosum.readers import Page, TodoRow

CLOSE = ("account", "close", "seller-1", "--currency", "USD")


class TwoPages(FakePaymentReader):
    """The same rows, one a page."""

    async def todos(self, tenant: Tenant, state: TodoState | None, rows_max: int, after: str) -> Page[TodoRow]:
        """One of them."""
        return _one((await super().todos(tenant, state, rows_max, "")).rows, after)

    async def in_flight(
        self, tenant: Tenant, older_than_ms: int, rows_max: int, after: str
    ) -> Page[tuple[EntityKey, OrderId]]:
        """One of them."""
        return _one((await super().in_flight(tenant, older_than_ms, rows_max, "")).rows, after)


def _one(rows: Sequence[Any], after: str) -> Page[Any]:
    at = int(after or 0)
    return Page(rows[at : at + 1], str(at + 1) if at + 1 < len(rows) else "")


class Desk:
    """All services behind one door, and commands typed against it."""

    def __init__(self, folder: Path) -> None:
        self.reader = TwoPages(checkout(), todos=[dead_todo(), dead_todo()])
        self.payment, self.wallet, self.ledger = (FakeShards(Applied(False), Applied(False)) for _ in range(3))
        self.token_file = folder / "own.jwt"

    def servicers(self) -> tuple[Any, ...]:
        """All that on-call's commands call."""
        return (
            OperatorServicer(shards=self.payment, reader=self.reader, settings=SETTINGS),
            PaymentServicer(
                shards=self.payment, reader=self.reader, settings=SETTINGS, webhooks={}, metrics=Metrics()
            ),
            WalletServicer(self.wallet, FakeWalletReader()),
            LedgerServicer(self.ledger, FakeLedgerReader()),
        )  # fmt: skip

    async def type(self, *words: str, tenant: str = TENANT) -> Result:
        """The command's outcome, as JSON."""
        typed = [*words, "--tenant", tenant, "--json"]
        return await asyncio.to_thread(CliRunner().invoke, main, typed)


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A running system, and eve of acme's on-call at it, on a machine without the key that signs."""
    made = Desk(tmp_path)
    made.token_file.write_text(token(Role.ADMIN, TENANT, "eve"))
    monkeypatch.setenv("ZEROSUM_TOKEN_FILE", str(made.token_file))
    monkeypatch.setenv("ZEROSUM_DATA_DIR", str(tmp_path))
    async with serving(*made.servicers()) as (_, server):
        for service in ("PAYMENT", "WALLET", "LEDGER"):
            monkeypatch.setenv(f"ZEROSUM_{service}_ADDRESS", f"127.0.0.1:{server.port}")
        yield made


def document(said: Result) -> Any:
    """The JSON a command printed: the server of the same process logs its calls before it."""
    assert said.exit_code == 0, said.stderr
    lines = said.stdout.splitlines()
    return json.loads("\n".join(lines[next(at for at, line in enumerate(lines) if line in ("[", "{", "[]")) :]))


async def test_to_dos_and_orders_in_flight_are_read_over_all_pages_with_a_token_of_ones_own(desk: Desk) -> None:
    """Without the key that signs: elsewhere than in development there is none."""
    todos = document(await desk.type("todo", "list"))
    orders = document(await desk.type("in-flight"))

    assert [row["todo_id"] for row in todos] == ["confirm/1/po-0"] * 2
    assert [row["payment_order_id"] for row in orders] == ["po-0", "po-1"]


async def test_what_on_call_does_is_done_in_the_name_of_who_has_the_token(desk: Desk) -> None:
    """The history names a person, and not "cli"."""
    document(await desk.type("todo", "replay", "co-1", "confirm/1/po-0", "--key", "ticket-1"))
    document(await desk.type("refund", "po-0"))
    closed = document(await desk.type(*CLOSE))

    replay, refund = (one.body for one in desk.payment.submitted)
    (at_wallet,), (at_ledger,) = desk.wallet.submitted, desk.ledger.submitted
    assert (replay.operator, refund.requested_by) == ("eve", "eve")
    assert (at_wallet.closed_by, at_ledger.closed_by) == ("eve", "eve")
    assert [row["service"] for row in closed] == ["wallet", "ledger"]


@pytest.mark.parametrize("words", [("todo", "list"), ("in-flight",), ("refund", "po-0"), CLOSE])
async def test_a_token_of_another_tenant_than_the_one_that_was_typed_acts_for_neither(
    desk: Desk, words: tuple[str, ...]
) -> None:
    """The token would say whose, and the account of another tenant's seller would be closed."""
    said = await desk.type(*words, tenant="demo")

    told = "zerosum: --tenant demo: the token of ZEROSUM_TOKEN_FILE is of tenant 'acme'\n"
    assert (said.exit_code, said.stderr) == (2, told)
    assert [desk.reader.asked, desk.payment.submitted, desk.wallet.submitted, desk.ledger.submitted] == [[]] * 4


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "ZEROSUM_TOKEN_FILE cannot be read: No such file or directory"),
        (b"", "ZEROSUM_TOKEN_FILE: the file holds no token"),
        (b"two\nlines", "ZEROSUM_TOKEN_FILE: the file holds no token"),
        ("schlüssel".encode(), "ZEROSUM_TOKEN_FILE: the file holds no token"),
    ],
)
async def test_a_file_without_a_token_is_told_in_a_line(desk: Desk, content: bytes | None, told: str) -> None:
    """And nothing of it is shown."""
    desk.token_file.unlink()
    if content is not None:
        desk.token_file.write_bytes(content)

    said = await desk.type("todo", "list")

    assert (said.exit_code, said.stderr) == (2, f"zerosum: {told}\n")
    assert desk.reader.asked == []


@pytest.mark.parametrize("words", [("todo", "list"), ("in-flight",), ("refund", "po-0"), CLOSE, ("reconcile", "runs")])
def test_where_there_is_neither_a_key_nor_a_token_a_command_says_where_to_get_one(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine in production, before anybody has thought of it."""
    monkeypatch.delenv("ZEROSUM_TOKEN_FILE", raising=False)

    said = CliRunner().invoke(main, [*words, "--data-dir", str(tmp_path)])

    assert said.exit_code == 2
    assert "run `zerosum keys`, or ask your issuer for a token and put its file into ZEROSUM_TOKEN_FILE" in said.stderr
