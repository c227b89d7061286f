"""Chaos on real processes, small: the command as a user runs it, and its parts that need no system."""
