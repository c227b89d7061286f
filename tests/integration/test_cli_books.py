"""`zerosum ledger balances` and `entries` as finance types them: the house's books by default, and only one's own."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from servers.call import HOUSE, Role
from servers.cli import main
from servers.ledger import LedgerServicer
from tests.integration.server_process import serving
from tests.unit.server_fakes import TENANT, FakeLedgerReader, FakeShards, token
from zerosum.domain.identity import Key, OrderId, Tenant
from zerosum.domain.journal import Balance, Entry, Journal, Movement
from zerosum.domain.money import Money
from zerosum.readers import AccountRow, LedgerEntryRow, Page

WRITTEN_OFF = Journal(
    HOUSE, Key("j-1"), "psp:stripe", Movement.WRITE_OFF,
    (Entry("psp:stripe:clearing:USD", Money(1_250, "USD")), Entry("suspense:USD", Money(-1_250, "USD"))), OrderId("m-1"),
)  # fmt: skip


class TwoPages(FakeLedgerReader):
    """The same books, an account and an entry a page."""

    async def trial_balance(self, tenant: Tenant, rows_max: int, after: str) -> Page[AccountRow]:
        """One of them."""
        rows = (await super().trial_balance(tenant, rows_max, "")).rows
        return _one(rows, after)

    async def entries(self, tenant: Tenant, account: str, rows_max: int, after: str) -> Page[LedgerEntryRow]:
        """Of three entries, one."""
        (row,) = (await super().entries(tenant, account, rows_max, "")).rows
        return _one([replace(row, journal_id=f"j-{number}") for number in (1, 2, 3)], after)


def _one(rows: Sequence[Any], after: str) -> Page[Any]:
    at = int(after or 0)
    return Page(rows[at : at + 1], str(at + 1) if at + 1 < len(rows) else "")


async def typed(folder: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], person: Any) -> Result:
    """What a command over the house's books says to whoever has this token."""
    own = folder / "token.jwt"
    own.write_text(token(*person))
    monkeypatch.setenv("ZEROSUM_TOKEN_FILE", str(own))
    monkeypatch.setenv("ZEROSUM_DATA_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "240")
    held = {"psp:stripe:clearing:USD": Balance(1_250, 1), "suspense:USD": Balance(-1_250, 1)}
    async with serving(LedgerServicer(FakeShards(), TwoPages([WRITTEN_OFF], held, HOUSE))) as (_, server):
        monkeypatch.setenv("ZEROSUM_LEDGER_ADDRESS", f"127.0.0.1:{server.port}")
        return await asyncio.to_thread(CliRunner().invoke, main, ["ledger", *words, "--json"])


def document(said: Result) -> Any:
    """The JSON a command printed: the server of the same process logs its calls before it."""
    lines = said.stdout.splitlines()
    return json.loads("\n".join(lines[next(at for at, line in enumerate(lines) if line in ("[", "{")) :]))


ADA = (Role.FINANCE, HOUSE, "ada")
CLEARING = {"account": "psp:stripe:clearing:USD", "amount": "12.50 USD", "entries": 1}
SUSPENSE = {"account": "suspense:USD", "amount": "-12.50 USD", "entries": 1}


async def test_finance_reads_every_account_of_the_house_over_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = await typed(tmp_path, monkeypatch, ["balances"], ADA)

    assert document(said) == [CLEARING, SUSPENSE]


async def test_one_account_is_read_by_its_name_and_one_without_an_entry_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = await typed(tmp_path, monkeypatch, ["balances", "suspense:USD"], ADA)
    nothing = await typed(tmp_path, monkeypatch, ["balances", "suspense:EUR"], ADA)

    assert document(said) == [SUSPENSE]
    assert (nothing.exit_code, nothing.stderr.count("\n")) == (1, 1)


async def test_no_more_entries_than_asked_for_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = await typed(tmp_path, monkeypatch, ["entries", "suspense:USD", "--rows", "2"], ADA)
    every = await typed(tmp_path, monkeypatch, ["entries", "suspense:USD"], ADA)

    assert [(row["journal"], row["amount"]) for row in document(few)] == [("j-1", "-12.50 USD"), ("j-2", "-12.50 USD")]
    assert [row["journal"] for row in document(every)] == ["j-1", "j-2", "j-3"]


async def test_a_tenants_finance_sees_nothing_of_the_houses_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is typed as --tenant: a token of one's own says whose the books are."""
    theirs = (Role.FINANCE, TENANT, "eve")
    said = await typed(tmp_path, monkeypatch, ["balances", "suspense:USD", "--tenant", "-"], theirs)

    assert said.exit_code == 1
    assert "12.50" not in said.stdout
