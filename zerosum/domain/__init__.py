"""The rules of money, pure: no clock, no randomness, no IO, no floats."""
