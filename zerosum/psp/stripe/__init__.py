"""Stripe's dialect: PaymentIntents prepared, then confirmed, on the official SDK; and its signed webhooks."""

from typing import Final

PSP: Final = "stripe"
"""The name of this PSP in requests, reports and the path of its webhooks."""
