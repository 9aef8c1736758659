# Two commands set everything up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Parallel test processes; two machines' worth of waiting (leases, graces) goes on beside the work.
JOBS ?= 4

.PHONY: help install demo demo-chain dev cluster cluster-down test test-programs test-packages test-slow test-autoscaling \
	lint format schema manifests screenshots contracts bench \
	bench-resources bench-cluster bench-smoke chaos-smoke chaos-pods clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Set up .venv with everything

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else \
		f"WorkerJobs needs Python 3.11 to 3.13, and $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 …")'
	@echo "Installing into $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## Run the sample jobs on an embedded Postgres, about a minute
	WORKER_LOG_LEVEL=error $(BIN)/workerjobs dev --ephemeral --filename manifests/samples --jobs workerjobs.jobs.samples --until-done

demo-chain: $(INSTALLED) ## Watch a real development chain: contracts deployed, tokens moved, notifications as they arrive
	$(BIN)/python -m tests.support.demo_chain

dev: $(INSTALLED) ## The same, staying up until Ctrl-C; other workerjobs commands see its jobs
	$(BIN)/workerjobs dev --filename manifests/samples --jobs workerjobs.jobs.samples

cluster: $(INSTALLED) ## A real Kubernetes node here (root, Debian), or WORKERJOBS_KUBECONFIG's, with the samples running
	@$(BIN)/python -m tests.support.cluster demo

cluster-down: $(INSTALLED) ## Its end
	@$(BIN)/python -m tests.support.cluster demo-down

test: $(INSTALLED) ## All tests but the slow ones, with what they need
	@$(MAKE) --no-print-directory -j 2 test-programs test-packages
	$(BIN)/python -m pytest -m 'not slow' -n $(JOBS) --dist worksteal

# What tests run beside the packages of pip: fetched or built once, then kept. A build of programs and the downloads of
# packages, one after the other as apt goes, keep out of each other's way.
test-programs: $(INSTALLED)
	$(BIN)/python -m tests.support.cluster binaries
	$(BIN)/python -m tests.support.cluster binaries helm helm-unittest helm-docs kubeconform

test-packages: $(INSTALLED)
	$(BIN)/python -m tests.support.pgbouncer
	$(BIN)/python -m tests.support.promtool
	$(BIN)/python -m tests.support.anvil
	$(BIN)/python -m tests.support.browser

test-slow: $(INSTALLED) ## The slow ones: pods on a real node, long runs
	$(BIN)/python -m tests.support.cluster prepare-node
	$(BIN)/python -m pytest -m 'slow and not autoscaling' -n 2 --dist loadgroup

test-autoscaling: $(INSTALLED) ## With real autoscalers, whose first builds take long
	$(BIN)/python -m tests.support.cluster prepare-node
	$(BIN)/python -m tests.support.cluster binaries metrics-server karpenter kwok keda
	$(BIN)/python -m pytest -m autoscaling -rP

lint: $(INSTALLED) ## All checks: format, lint, types, layers
	$(BIN)/ruff format --check operator tests docs/examples
	$(BIN)/ruff check operator tests docs/examples
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff format operator tests docs/examples
	$(BIN)/ruff check --fix operator tests docs/examples

.PHONY: docs
docs: $(INSTALLED) ## The documentation as a site in site/, with references made from the code; wrong links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html has it; its search needs a server: $(BIN)/python -m http.server -d site"

schema: $(INSTALLED) ## Write storage/schema.sql anew, after a new migration
	$(BIN)/python -m tests.support.schema

manifests: $(INSTALLED) ## Write manifests/install, the chart's definitions and its README anew, after a change of the chart
	$(BIN)/python -m tests.support.manifests

screenshots: $(INSTALLED) ## Take docs/images/dashboard-*.png anew, after a change of the dashboard
	$(BIN)/python -m tests.support.screenshots

contracts: $(INSTALLED) ## Compile the sample contracts anew, after a change of their sources
	$(BIN)/python -m tests.support.contracts

bench: $(INSTALLED) ## Ours and its peers side by side into docs/benchmarks.md; ONLY=drain PEERS=ours,river for a part
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS)) $(ARGS)

bench-resources: $(INSTALLED) ## 10,000 WorkerJobs on an API server of their own: mirroring, delay, restart, memory
	$(BIN)/python -m tests.bench.resources $(ARGS)

bench-cluster: $(INSTALLED) ## With `make cluster` up: 100 WorkerJobs against 100 Jobs of Kubernetes' own
	$(BIN)/python -m tests.bench.cluster $(ARGS)

bench-smoke: $(INSTALLED) ## Pickup latency and throughput in brief
	$(BIN)/python -m tests.bench.smoke

chaos-smoke: $(INSTALLED) ## 20,000 jobs while workers are killed and Postgres crashes; all are accounted for
	$(BIN)/python -m tests.chaos.smoke

chaos-pods: $(INSTALLED) ## With `make cluster` up: pods come and go a hundred times while jobs run; none is interrupted
	$(BIN)/python -m tests.chaos.pods $(ARGS)

clean: ## Remove what was built here; caches in ~/.cache/workerjobs stay
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
