"""Who owns state at run time: turns, shards and the runner. `ray` is imported in two files only."""
