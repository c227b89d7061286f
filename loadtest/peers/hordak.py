"""django-hordak as a peer: `Account.transfer_to`, a transaction of two legs, its balance checked by the database at COMMIT.

Asked for by name where it is installed (extra `dev`). Django is one configuration a process: one such peer at a time.

Invariant: hordak is used as its documentation has it, at PostgreSQL's READ COMMITTED, as Django does by default.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from threading import Barrier
from typing import Any, Final

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict

from loadtest.own_database import make_database
from loadtest.peers.peer import CURRENCY, NotInstalled, Posting

THREADS: Final = 16
"""As many connections as naive has."""

_FILL: Final = (
    "SET session_replication_role = replica",
    "CREATE TEMP TABLE fill AS SELECT nextval(pg_get_serial_sequence('hordak_transaction', 'id')) AS id, n "
    "FROM generate_series(1, %(count)s) AS n",
    """
    INSERT INTO hordak_transaction (id, uuid, timestamp, date, description)
    SELECT id, gen_random_uuid(), now(), current_date, 'fill-' || n FROM fill
    """,
    """
    INSERT INTO hordak_leg (uuid, transaction_id, account_id, credit, debit, currency, description)
    SELECT gen_random_uuid(), id, CASE side WHEN 0 THEN %(clearing)s ELSE %(seller)s END, CASE side WHEN 1 THEN 1.00 END,
           CASE side WHEN 0 THEN 1.00 END, %(currency)s, ''
    FROM fill CROSS JOIN generate_series(0, 1) AS side
    """,
    "VACUUM ANALYZE hordak_transaction, hordak_leg",
)


class HordakPeer:
    """Implements `Peer`. It has no call of many: a list is posted one after the other, by one thread."""

    def __init__(self, admin_url: str, database: str) -> None:
        try:
            import django
            import hordak  # noqa: F401 - is it there
        except ImportError as missing:
            raise NotInstalled("django-hordak is not installed: pip install 'zerosum[dev]'") from missing
        self._url = make_database(admin_url, database)
        _configure(self._url)
        django.setup()
        self._threads = ThreadPoolExecutor(THREADS)

    async def open(self, sellers: Sequence[str]) -> None:
        """Migrates, and makes an account for each seller and one for the PSP's clearing."""
        self._accounts, self._clearing = await self._run(_open, sellers)

    async def post(self, postings: Sequence[Posting]) -> None:
        """Raises django.db.Error where the database is away."""
        await self._run(self._post, postings)

    async def fill(self, seller: str, entries: int) -> int:
        """A valid transaction of two legs each, the triggers that would look at every one left out."""
        values = {
            "seller": self._accounts[seller].pk,
            "clearing": self._clearing.pk,
            "currency": CURRENCY,
            "count": entries,
        }
        with psycopg.connect(self._url, autocommit=True) as connection:
            for statement in _FILL:
                connection.execute(statement, values if "%(" in statement else None)
            row = connection.execute("SELECT count(*) FROM hordak_leg WHERE account_id = %(seller)s", values).fetchone()
            return int(row[0]) if row is not None else 0

    async def balance(self, seller: str) -> int:
        """The quickest of hordak's ways for an account without accounts below it: one sum over its legs."""
        return int(await self._run(self._balance_minor, seller))

    async def stored(self) -> set[str]:
        """Transactions with both legs."""
        with psycopg.connect(self._url) as connection:
            found = connection.execute(
                "SELECT t.description FROM hordak_transaction t JOIN hordak_leg l ON l.transaction_id = t.id "
                "GROUP BY t.id HAVING count(*) = 2"
            )
            return {posting_id for (posting_id,) in found}

    async def close(self) -> None:
        """Closes each thread's connection."""
        everyone = Barrier(THREADS)
        await asyncio.gather(*(self._run(_disconnect, everyone) for _ in range(THREADS)))
        self._threads.shutdown()

    def remark(self) -> str:
        """Nothing."""
        return ""

    async def _run(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _post(self, postings: Sequence[Posting]) -> None:
        from django.db import transaction
        from djmoney.money import Money

        for posting in postings:
            amount = Money(Decimal(posting.amount_minor) / 100, CURRENCY)
            with transaction.atomic():
                self._accounts[posting.seller].transfer_to(self._clearing, amount, description=posting.posting_id)

    def _balance_minor(self, seller: str) -> int:
        balance = self._accounts[seller].get_simple_balance()
        return int(balance[CURRENCY].amount * 100)


def _configure(url: str) -> None:
    from django.conf import settings

    told = conninfo_to_dict(url)
    database = {
        "ENGINE": "django.db.backends.postgresql", "NAME": told["dbname"], "USER": told["user"],
        "PASSWORD": told["password"], "HOST": told["host"], "PORT": told["port"], "CONN_MAX_AGE": None,
        "OPTIONS": {"isolation_level": IsolationLevel.READ_COMMITTED},
    }  # fmt: skip
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "mptt", "djmoney", "hordak"], DATABASES={"default": database},
        USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", DEFAULT_CURRENCY=CURRENCY,
        HORDAK_INTERNAL_CURRENCY=CURRENCY, CURRENCIES=[CURRENCY],
    )  # fmt: skip


def _open(sellers: Sequence[str]) -> tuple[dict[str, Any], Any]:
    from django.core.management import call_command
    from hordak.models import Account, AccountType

    call_command("migrate", verbosity=0)
    # The columns of the tree, which `create` would look up one by one: every account is a root of its own.
    made = [
        Account(
            name=name, type=kind, currencies=[CURRENCY], is_bank_account=False, lft=1, rght=2, tree_id=number, level=0
        )
        for number, (name, kind) in enumerate(
            [("clearing", AccountType.asset), *((seller, AccountType.liability) for seller in sellers)], 1
        )
    ]
    clearing, *accounts = Account.objects.bulk_create(made)
    return dict(zip(sellers, accounts, strict=True)), clearing


def _disconnect(everyone: Barrier) -> None:
    from django.db import connections

    everyone.wait()
    with suppress(Exception):  # a server that was killed has ended them already
        connections.close_all()
