"""The textbook's pure part: what a checkout's status is, read from its orders'."""

import pytest

from loadtest.naive.model import EXECUTING, FAILED, NOT_STARTED, SUCCESS
from loadtest.naive.server import payment_status
from loadtest.own_database import at_database
from zerosum.v1 import payment_pb2 as pb


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([SUCCESS], pb.PAYMENT_STATUS_DONE),
        ([SUCCESS, SUCCESS], pb.PAYMENT_STATUS_DONE),
        ([FAILED, FAILED], pb.PAYMENT_STATUS_FAILED),
        ([SUCCESS, FAILED], pb.PAYMENT_STATUS_PARTIAL),
        ([SUCCESS, EXECUTING], pb.PAYMENT_STATUS_OPEN),
        ([NOT_STARTED, FAILED], pb.PAYMENT_STATUS_OPEN),
    ],
)
def test_a_checkout_is_what_its_orders_are(statuses: list[str], expected: int) -> None:
    """As ours: open while one is not final, partial where some are paid."""
    assert payment_status(statuses) == expected


def test_another_database_of_the_server_is_reached_by_the_same_role() -> None:
    """The driver's name is for SQLAlchemy alone; the password stays as it is written."""
    url = at_database("postgresql+psycopg://admin:p%40ss@127.0.0.1:20001/zerosum", "naive")

    assert url == "postgresql://admin:p%40ss@127.0.0.1:20001/naive"
