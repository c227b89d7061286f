"""The whole system as its user runs it."""
