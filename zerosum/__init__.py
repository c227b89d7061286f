"""Zerosum: rules, ports and adapters of the payment backend. Never imports ray."""
