"""The auditor on a world in which money went back: clean as it is, red when a book does not follow or one says too much."""

from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from simulator.audit.database import plain_url
from simulator.audit.report import AuditReport
from tests.integration.audit_case import PATIENT, Case, with_database
from tests.integration.audit_world import World
from zerosum.store.reconciliation.table import RECONCILIATION, SCHEMA

_numbers = count(1)
CHECKED = ("I1", "I2", "I3", "I4", "I5", "I7", "I8", "I13", "I14", "I22", "POSTINGS", "SETTLEMENT")
"""What knows of refunds; the delivered files of reconciliation are of another world."""


@pytest.fixture
def refunded(audit_server: str, tmp_path: Path) -> Case:
    """A database with the world in which one order was refunded and one reversed."""
    name, world = f"refunded_{next(_numbers)}", World(with_refunds=True)
    with psycopg.connect(plain_url(audit_server), autocommit=True) as maker:
        maker.execute(f"CREATE DATABASE {name}".encode())
    url = with_database(audit_server, name)
    world.insert(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        RECONCILIATION.create_all(connection)
    engine.dispose()
    settlement = world.write_settlement(tmp_path)
    return Case(url, world.truth_lines(), world.write_journal(tmp_path), settlement, settlement, tmp_path)


def violated(report: AuditReport) -> set[str]:
    return {verdict.id for verdict in report.verdicts if verdict.id in CHECKED and verdict.count}


def test_money_that_went_back_out_of_every_book_is_clean(refunded: Case) -> None:
    """I3, I14: the book gave back exactly what the refunds say, and nothing of it is left anywhere."""
    assert violated(refunded.audit(PATIENT)) == set()


@pytest.mark.parametrize(
    ("damage", "breaks"),
    [
        ("DELETE FROM wallet.entries WHERE amount_minor < 0", {"I14", "I5"}),
        ("DELETE FROM ledger.entries e USING ledger.journals j WHERE j.journal_id = e.journal_id"
         " AND j.movement = 'suspense_refund' AND j.payment_order_id = 'po-000009'", {"I14", "I22"}),
        ("DELETE FROM payment.refunds WHERE cause = 'REQUESTED'", {"I14", "I3"}),
        ("UPDATE payment.refunds SET status = 'FAILED'", {"I3"}),
        ("UPDATE payment.refunds SET amount_minor = amount_minor - 1", {"I14"}),
        ("UPDATE payment.operations SET number = 2 WHERE kind = 'refund'", {"I14"}),
        ("INSERT INTO wallet.closures SELECT slot, tenant, wallet_id, 0, 'fin', 'X', 1 FROM wallet.wallets", {"I14"}),
    ],
    ids=["wallet-not-debited", "suspense-not-cleared", "refund-forgotten", "refund-unsaid", "other-amount", "asked-twice",
         "closed-and-credited"],
)  # fmt: skip
def test_money_that_went_back_otherwise_is_found(refunded: Case, damage: str, breaks: set[str]) -> None:
    """Each book is held against the others: what one of them leaves out is seen."""
    refunded.tamper(damage)

    assert breaks <= violated(refunded.audit(PATIENT))
