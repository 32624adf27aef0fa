# Everything a person does with a checkout of Poolwise. `make` alone lists the targets.
# Nothing here needs root, Docker or a running server: PostgreSQL comes with the Python packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Test processes at a time; each that needs a database starts its own. Three keep two processors busy: some of them wait.
# `worksteal` leaves the tests of a module, and what they share, in one process while others have work.
JOBS ?= 3
SOURCES := src/poolwise $(wildcard bench)
BENCHES ?= quality brunel throughput latency availability feed cartons doorstep history webhooks
BRUNEL_DATA ?= ../shared/data/brunel

# Each process that is started would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install browser demo test check lint types contracts format bench docs soak lock build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with the locked dependencies and Poolwise itself

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Poolwise needs Python 3.11 or later: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile --requirement requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## generate a network, source a stream of orders, watch it live
	$(BIN)/poolwise demo

# Pages are tested in a real browser, which no Python package brings.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || { \
		echo "make test looks at pages in a browser: install chromium (Debian: apt-get install chromium)" >&2; exit 1; }

test: install browser ## everything: lint, types, import contracts, the whole test suite
	@$(MAKE) --no-print-directory -j2 lint types contracts
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: install lint types contracts ## the same with the fast tests only (under 3 minutes)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow"

lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## mypy --strict
	$(BIN)/mypy $(SOURCES)

contracts: install ## the import directions of ARCHITECTURE.md
	$(BIN)/lint-imports --no-logo

format: install ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## every benchmark, one JSON document each (BENCHES="quality feed" picks some)
	@set -e; for name in $(BENCHES); do \
		arguments=; \
		if [ "$$name" = brunel ]; then arguments="--data $(BRUNEL_DATA)"; fi; \
		echo "== bench.$$name" >&2; \
		$(BIN)/python -m bench.$$name --json $$arguments; \
	done

docs: install ## write the generated reference pages again
	$(BIN)/poolwise docs docs/reference

soak: install ## every seeded campaign at its full count (an hour); names each as it ends
	POOLWISE_CAMPAIGN=full $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m campaign -vv

lock: install ## resolve requirements.lock again from pyproject.toml (needs uv; names no address)
	uv pip compile --no-config --universal --python-version 3.11 --all-extras --fork-strategy fewest --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --upgrade pyproject.toml --output-file requirements.lock

build: install ## wheel and source archive into dist/
	$(BIN)/python -m hatchling build

clean: ## remove what the other targets made, .venv too
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
