"""Stripe's dialect: PaymentIntents prepared, then confirmed, on the official SDK; and its signed webhooks."""
