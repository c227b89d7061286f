"""One module at a time: no network, no disk but a temporary folder, no wall clock."""
