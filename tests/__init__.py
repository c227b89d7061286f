"""Every test: unit, contract, sim, integration, e2e, chaos, tidy. Which is which: CONTRIBUTING.md."""
