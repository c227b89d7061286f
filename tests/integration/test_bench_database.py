"""What the bench asks a real database: its card, and what is stored of what was acknowledged."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import psycopg
import pytest

from loadtest.bench.card import SCRATCH, _pgbench, take_card
from loadtest.bench.kept import stored_final
from loadtest.bench.reconcile_books import Order, write_books
from servers.keys import DEMO_TENANT
from simulator.audit.database import plain_url
from zerosum.domain.money import Money
from zerosum.errors import Unavailable
from zerosum.store.embedded import EmbeddedPostgres
from zerosum.store.migrate import migrate


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[EmbeddedPostgres, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="zerosum-bench-"))
    folder.chmod(0o711)
    postgres = EmbeddedPostgres(folder / "data")
    postgres.start()
    try:
        migrate(postgres.urls()["admin"])
        yield postgres, folder
    finally:
        postgres.stop()
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_card_has_every_figure_and_leaves_nothing_in_the_database(server: tuple[EmbeddedPostgres, Path]) -> None:
    """Without a Ray to ask there is no figure of it."""
    postgres, folder = server
    figures = astuple(take_card(postgres.urls()["admin"], folder))

    with psycopg.connect(plain_url(postgres.urls()["admin"])) as connection:
        left = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [SCRATCH]).fetchall()
    assert all(figure > 0 for figure in figures[:-1])
    assert (figures[-1], left) == (None, [])


def test_where_nobody_commits_in_time_a_card_measures_for_longer_and_then_says_so(tmp_path: Path) -> None:
    """On a busy machine 64 log-ins may take all of the time. Method: a pgbench that has figures from four seconds on."""
    pgbench = tmp_path / "pgbench"
    pgbench.write_text(
        '#!/bin/sh\ncase "$*" in *--time=4*) echo "tps = 7.5 (without initial connection time)";; esac\n'
    )
    pgbench.chmod(0o755)

    assert _pgbench(pgbench, "dbname=none", tmp_path, clients=64, seconds=1) == 7.5
    with pytest.raises(Unavailable, match="64 clients committed nothing within 8 s"):
        _pgbench(pgbench, "dbname=none", tmp_path, clients=64, seconds=2)


@pytest.mark.slow
def test_a_checkout_is_kept_with_its_reply_and_its_orders_at_their_end(server: tuple[EmbeddedPostgres, Path]) -> None:
    """Three stored checkouts: with a reply, without one, and with an order still under way. A fourth is nowhere."""
    postgres, _ = server
    ids = ("co-whole", "co-without", "co-open")
    made = [Order(DEMO_TENANT, each, f"{each}-a", f"pi-{each}", Money(1_250, "USD"), 1) for each in ids]
    write_books(postgres.urls()["admin"], lambda: iter(made))
    with psycopg.connect(plain_url(postgres.urls()["admin"])) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE payment.payment_events SET reply = 'x' WHERE checkout_id <> 'co-without'")
        connection.execute(
            "UPDATE payment.payment_orders SET payment_order_status = 'EXECUTING' WHERE checkout_id = 'co-open'"
        )

    told = stored_final(postgres.urls()["auditor"], [*ids, "co-nowhere"])
    assert told == {"co-whole": True, "co-without": False, "co-open": False}
