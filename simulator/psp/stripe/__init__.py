"""The Stripe dialect: PaymentIntents, refunds, charges, balance transactions, events."""
