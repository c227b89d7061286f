"""Real processes, killed and cut on purpose."""
