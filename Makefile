# Every target works on a fresh machine: none needs an activated virtualenv. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup run test check fmt lint types imports docs bench chaos lock clean

ROOMS := schemas domain engine projections gateway ops tests
HYPOTHESIS_PROFILE ?= quick
PYTEST := .venv/bin/python -m pytest --hypothesis-profile=$(HYPOTHESIS_PROFILE)

help: ## this list
	@sed -nE 's/^([a-z]+):.*## *(.*)/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'
setup: ## install all that is missing (quick when nothing is)
	@bash ops/setup.sh
run: ## the whole system live, with demo users and a live view
	@bash ops/setup.sh run
	@.venv/bin/durian demo $(ARGS)
test: setup ## all tests but those that take minutes
	$(PYTEST) -m "not slow" $(ARGS)
check: lint types imports test ## exactly what CI runs, in the order that fails fastest
fmt: setup ## format, and fix what can be fixed by rule
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .
lint: setup ## formatting and lint rules
	.venv/bin/ruff format --check . && .venv/bin/ruff check .
types: setup ## mypy --strict, tests too
	.venv/bin/mypy $(ROOMS)
imports: setup ## which room may import which
	.venv/bin/lint-imports --no-logo
docs: setup ## write the generated pages; the documents' links and versions hold
	.venv/bin/durian schemas write
	$(PYTEST) -q tests/unit/test_house_rules.py -k "documents or versions"
bench: setup ## the long measurements, e.g. the full tape
	$(PYTEST) -m "slow and not chaos" -s $(ARGS)
chaos: setup ## kill, pause and cut the real processes; FAULTS=200, KILLS=50, SEED=the printed one
	DURIAN_CHAOS_FAULTS=$(FAULTS) DURIAN_CHAOS_KILLS=$(KILLS) DURIAN_CHAOS_SEED=$(SEED) \
		$(PYTEST) -m chaos -s $(ARGS)
lock: ## recompile the locks (LOCK_ARGS=--upgrade moves versions)
	@bash ops/locks/compile.sh
clean: ## remove what was built; ledgers under .durian/ stay
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find $(ROOMS) -name __pycache__ -prune -exec rm -rf {} +
