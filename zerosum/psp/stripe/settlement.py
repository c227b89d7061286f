"""Stripe's payout reconciliation report (itemized) as lines; and the manifest beside it. Streams: memory stays flat.

Strict: UTF-8 (a byte order mark at the very beginning is skipped: spreadsheets add it), a heading with every column of
`COLUMNS` by its name and in any order, columns that we do not read ignored, amounts by the house's own grammar with Stripe's
decimals, instants in UTC, net = gross - fee. What does not hold is a Refusal that names the line and the column and never
echoes a value. A cell that begins like a formula is data.

Source: docs.stripe.com/reports/report-types/payout-reconciliation; failures.md L10, security tests 7 and 8.

Invariant: nothing but a Refusal comes of bytes, whatever they are.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final

from zerosum.domain.refusal import Refusal
from zerosum.domain.settlement import Line
from zerosum.domain.settlement_control import Controls, Manifest

COLUMNS: Final = (
    "automatic_payout_id",
    "balance_transaction_id",
    "created_utc",
    "currency",
    "gross",
    "fee",
    "net",
    "reporting_category",
    "payment_intent_id",
    "payment_metadata[tenant]",
    "payment_metadata[checkout_id]",
    "payment_metadata[payment_order_id]",
    "refund_metadata[refund_key]",
)
"""What a report must have; the report is configured to show our references."""


def read_lines(file: BinaryIO, controls: Controls) -> Iterator[Line | Refusal]:
    """Yields the report's lines, and feeds the controls with bytes and lines. The first Refusal is the last item.

    Raises what the file raises (OSError). `controls.check` tells afterwards whether the file is whole.
    """
    raise NotImplementedError


def read_manifest(content: bytes) -> Manifest | Refusal:
    """The manifest's control totals. Refusals: MALFORMED or AMOUNT_MALFORMED with the path of what is wrong."""
    raise NotImplementedError
