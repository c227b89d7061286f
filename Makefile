# Zerosum: two commands to begin with, `make demo` and `make test`. `make help` lists the rest.
#
# The environment lives in .venv/ and is made anew when pyproject.toml or requirements.lock changes. Only Python 3.11 and
# make are asked of the machine.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?=

# Two processes share the tests (tests/conftest.py). Whole systems first, as they fill one of them nearly to the end. In the
# other the quick first, as what breaks is known sooner, then the seeds of the world, which take up what cores the systems leave
# idle. Two, not `auto`: that counts cores without their threads. tests/tidy holds the lists to the folders there are.
LANES := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
SYSTEM_TESTS := tests/e2e tests/chaos
QUICK_TESTS := tests/tidy tests/unit tests/sim tests/world tests/contract
PROCESS_TESTS := tests/integration

.PHONY: help demo test up check lint format protos lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Database, Ray, services, simulator, load, faults, kills, audit, certificate. DEMO='--tps 20 --seconds 30'
	@$(BIN)/zerosum demo $(DEMO)

test: lint ## Everything: linters, then every test. This is what CI runs
	@$(BIN)/python -m pytest $(LANES) $(SYSTEM_TESTS) $(QUICK_TESTS) $(PROCESS_TESTS)

up: $(READY) ## The whole system left running, with the PSP simulator. Ctrl-C stops all of it, the data stays
	@$(BIN)/zerosum up $(UP)

check: lint ## The quick half of `make test`, with 200 seeds of the world instead of 1,500
	@ZEROSUM_WORLD_SEEDS=200 $(BIN)/python -m pytest $(LANES) $(QUICK_TESTS)

lint: $(READY) ## Format, lint, types, layers, contracts; changes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python protos/generate.py --lint
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/draw.py --check

format: $(READY) ## Format the code and mend what ruff can mend; draw the pages that come from tables
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/python docs/draw.py

protos: $(READY) ## Generate zerosum/v1 and buf/validate from protos/
	$(BIN)/python protos/generate.py

lock: $(READY) ## Freeze this environment into requirements.lock, after an upgrade that passed `make test`
	@head -1 requirements.lock > $(VENV)/lock
	@$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' >> $(VENV)/lock
	@mv $(VENV)/lock requirements.lock

clean: ## Remove what tools left behind. Never the data (.zerosum/) and never the environment
	rm -rf build reports .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# ---- the environment -----------------------------------------------------------------------------------------------

$(READY): pyproject.toml requirements.lock
	@for python in $(PYTHON) python3.11 python3 /usr/bin/python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo 'zerosum needs Python 3.11: none found as python3.11 or python3. Install it, or: make PYTHON=/path/to/python3.11' >&2; \
	    exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then \
	    echo "making $(VENV) with $$found"; \
	    "$$found" -m venv --clear $(VENV) || { echo 'no venv module: install python3.11-venv' >&2; exit 1; }; \
	fi
	@echo 'installing what requirements.lock names (a few minutes the first time)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(READY)
