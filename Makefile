# make run does everything from a fresh checkout: it sets up .venv, makes the demo's table, and runs the cycle.

CONFIG ?= fleet.yaml
PORT ?= 3000
TABLE ?= demo

BIN := .venv/bin
# in the order of their names: the longest would come last otherwise, and run alone
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
UV := $(or $(shell command -v uv),.venv/uv/bin/uv)
DAGSTER_HOME ?= $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help run ui test test-all check setup lint types lock clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

run: setup ## the weekly cycle on CONFIG (fleet.yaml, the demo)
ifeq ($(CONFIG),fleet.yaml)
	$(BIN)/fleet demo
endif
	$(BIN)/fleet run --config "$(CONFIG)"

ui: setup ## Dagster's web page, on PORT (3000)
	@echo "Dagster will be at http://127.0.0.1:$(PORT)"
	DAGSTER_HOME="$(DAGSTER_HOME)" FLEET_CONFIG="$(abspath $(CONFIG))" \
		$(BIN)/dagster dev -h 127.0.0.1 -p $(PORT)

test: setup ## the tests that take seconds
	$(PYTEST) -m "not slow"

test-all: setup ## every test
	$(PYTEST)

check: setup ## asset checks and accuracy on a fixed table, against checks.lock.json
	$(BIN)/fleet check --config "$(CONFIG)" --table "$(TABLE)" \
		--junit build/checks.xml --markdown build/checks.md --json build/checks.json

setup: ## make .venv hold what requirements.lock says
	@PYTHON="$(PYTHON)" deploy/setup.sh

lint: setup ## style, formatting, and which package may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: setup ## mypy
	$(BIN)/mypy

lock: ## resolve pyproject.toml into requirements.lock anew
	$(UV) pip compile pyproject.toml --extra dev --extra postgres --universal --python-version 3.11 --generate-hashes \
		--no-header -q -o requirements.lock

clean: ## remove caches and build leftovers; keeps .venv, data and Dagster's state
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache \
		.tmp_dagster_home_* spark-warehouse metastore_db derby.log
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
