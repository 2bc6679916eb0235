# make run does everything from a fresh checkout: it sets up .venv, makes the demo's table, and runs the cycle.

CONFIG ?= fleet.yaml
PORT ?= 3000
TABLE ?= demo
# the target of fleet.yaml, as `fleet --target` has it; none: fleet.yaml as it stands
TARGET ?=
# what else pytest is told, such as a file, or --collect-only
TESTS ?=
# what a change is compared with in a preview
BASE ?= origin/main
export FLEET_TARGET := $(or $(TARGET),$(FLEET_TARGET))

BIN ?= .venv/bin
# in the order of their names: the longest would come last otherwise, and run alone
PYTEST := $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
UV := $(or $(shell command -v uv),.venv/uv/bin/uv)
DAGSTER_HOME ?= $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help run demo ui test test-slow test-all test-proof test-gpu cluster check setup lint workflows types security audit validate definitions \
	preview deploy cycle rollback artifact unpack summary comment upgrade proof lock clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

run: demo ## the weekly cycle on CONFIG (fleet.yaml, the demo)
	$(BIN)/fleet run --config "$(CONFIG)"

ui: setup ## Dagster's web page, on PORT (3000)
	@echo "Dagster will be at http://127.0.0.1:$(PORT)"
	DAGSTER_HOME="$(DAGSTER_HOME)" FLEET_CONFIG="$(abspath $(CONFIG))" \
		$(BIN)/dagster dev -h 127.0.0.1 -p $(PORT)

test: setup ## the tests that take seconds
	$(PYTEST) -m "not slow" --junit-xml build/unit.xml $(TESTS)

test-slow: setup ## the proofs that take minutes
	$(PYTEST) -m "slow and not proof" --junit-xml build/integration.xml $(TESTS)

test-all: setup ## every test but those of test-proof
	$(PYTEST) -m "not proof" $(TESTS)

test-proof: setup ## whole deployments and clusters, killed and back; long
	$(PYTEST) -m proof --junit-xml build/proofs.xml $(TESTS)

test-gpu: setup ## what needs a GPU, on a machine that has one
	FLEET_GPU=1 $(BIN)/pytest -k gpu --junit-xml build/gpu.xml $(TESTS)

cluster: setup ## a Spark cluster on this machine, of two workers with a GPU address each, until interrupted
	$(BIN)/python -m deploy.cluster

check: setup ## asset checks and accuracy on a fixed table, against checks.lock.json
	$(BIN)/fleet check --config "$(CONFIG)" --table "$(TABLE)" \
		--junit build/checks.xml --markdown build/checks.md --json build/checks.json

demo: setup
ifeq ($(CONFIG),fleet.yaml)
	$(BIN)/fleet demo
endif

setup: ## make .venv hold what requirements.lock says
ifndef NO_SETUP
	@PYTHON="$(PYTHON)" deploy/setup.sh
endif

lint: setup workflows ## style, formatting, which package may import which, and the workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

workflows: setup ## what CI is told, by schema and actionlint; fleet.yaml by its own schema
	$(BIN)/actionlint .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci .gitlab-ci.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.circle-ci .circleci/config.yml
	$(BIN)/check-jsonschema --schemafile docs/fleet.schema.json fleet.yaml

security: setup ## dangerous code, and secrets that were committed
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml assets orchestration resources
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

audit: setup ## known vulnerabilities of what requirements.lock names; asks the advisory service on the network
	$(BIN)/pip-audit --requirement requirements.lock --disable-pip --require-hashes --strict --progress-spinner off

validate: demo ## fleet.yaml for every target, and the table that CONFIG names
	$(BIN)/fleet validate --config "$(CONFIG)" --all-targets
	$(BIN)/fleet validate --config "$(CONFIG)"

definitions: setup ## whether Dagster can load everything
	FLEET_CONFIG="$(abspath $(CONFIG))" $(BIN)/dagster definitions validate

preview: setup ## what a change since BASE (origin/main) would retrain
	BIN="$(abspath $(BIN))" .ci/preview "$(BASE)" "$(CONFIG)"

deploy: demo ## fleet deploy to TARGET: checks, migrates, registers, reloads
	$(BIN)/fleet deploy --config "$(CONFIG)" --by "$${FLEET_DEPLOYED_BY:-$$(id -un)}"

cycle: demo ## the weekly cycle in TARGET
	$(BIN)/fleet run --config "$(CONFIG)"

rollback: setup ## an earlier version of the champion serves again in TARGET (environment VERSION; the one before)
	$(BIN)/fleet rollback --config "$(CONFIG)" $${VERSION:+--to "$$VERSION"} --by "$${FLEET_DEPLOYED_BY:-$$(id -un)}"

artifact: ## this commit as one file, build/fleet.tar.gz, with its digest
	.ci/artifact pack

unpack: ## build/fleet.tar.gz, its digest checked, into build/release
	.ci/artifact unpack

summary: ## what check and preview found, for the job's page
	@cat build/*.md >>"$${GITHUB_STEP_SUMMARY:-/dev/stdout}"

comment: ## what check and preview found, on the pull request that PULL_REQUEST names
	.ci/comment

upgrade: setup ## renew requirements.lock to the newest releases, run everything, say what changed (build/upgrade.md)
	UV="$(UV)" .ci/upgrade

proof: setup ## break the project in ten ways, and see the pull request's steps catch each (build/proof.md)
	$(BIN)/python -m tests.proof.prove

types: setup ## mypy
	$(BIN)/mypy

LOCKED = --universal --python-version 3.11 --generate-hashes --no-header -q
OF_IMAGES = $(LOCKED) --no-annotate --no-strip-extras --constraints requirements.lock

lock: ## resolve pyproject.toml into requirements.lock anew, and into those of the images
	$(UV) pip compile pyproject.toml --extra dev --extra postgres $(LOCKED) -o requirements.lock
	$(UV) pip compile pyproject.toml --extra postgres --extra kubernetes $(OF_IMAGES) -o deploy/requirements.lock
	$(UV) pip compile deploy/serving.in $(OF_IMAGES) -o deploy/serving.lock

clean: ## remove caches and build leftovers; keeps .venv, data and Dagster's state
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache \
		.tmp_dagster_home_* spark-warehouse metastore_db derby.log
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
