# Each target works alone on a fresh machine that has git, make and python3 (3.11 or newer, with venv); only e2e needs root.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTEST_ARGS ?=
DEMO_ARGS ?=
PROOF_ARGS ?=

# The machine's own uv where it runs, else one in a virtual environment of its own; never another Python than python3.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .cache/bootstrap/bin/uv)
RUN := $(UV) run --frozen --no-sync
export UV_PYTHON ?= python3
export UV_PYTHON_DOWNLOADS ?= never

.PHONY: help
help: ## Show the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.cache/bootstrap/bin/uv:
	python3 -m venv .cache/bootstrap
	.cache/bootstrap/bin/pip install --quiet --disable-pip-version-check uv

.PHONY: environment
environment: $(if $(findstring .cache,$(UV)),.cache/bootstrap/bin/uv) ## Install the locked environment with every group
	$(UV) sync --frozen --group dev --quiet

.PHONY: demo
demo: export UV_PROJECT_ENVIRONMENT := .cache/demo-venv
demo: $(if $(findstring .cache,$(UV)),.cache/bootstrap/bin/uv) ## Route eight new prompts to real models on this machine, in an environment without torch
	$(UV) sync --frozen --group demo --quiet
	.cache/demo-venv/bin/python -m examples.demo.run $(DEMO_ARGS)

.PHONY: format
format: environment ## Format the code
	$(RUN) ruff format
	$(RUN) ruff check --fix

.PHONY: generate
generate: environment ## Write what is generated: CRDs from the models, the chart's copy of them, references, tables of figures
	$(RUN) foresail crds --write crds
	$(RUN) python hack/api_reference.py
	$(RUN) python hack/chart_crds.py
	$(RUN) python hack/cli_reference.py
	$(RUN) python hack/benchmark_tables.py

.PHONY: lint
lint: check-format check-lint check-types check-contracts ## Check format, lint, types and import contracts

.PHONY: check-format
check-format: environment
	$(RUN) ruff format --check

.PHONY: check-lint
check-lint: environment
	$(RUN) ruff check
	$(UV) lock --check --quiet

.PHONY: check-types
check-types: environment
	$(RUN) mypy
	$(RUN) mypy --explicit-package-bases hack examples

.PHONY: check-contracts
check-contracts: environment
	$(RUN) lint-imports

.PHONY: control-plane
control-plane: ## Build kube-apiserver, kube-controller-manager, etcd, kubectl and helm into a cache (once, 7 minutes)
	python3 hack/control_plane.py

.PHONY: cluster-binaries
cluster-binaries: ## Build also what a node runs: scheduler, kubelet, kube-proxy, CoreDNS
	python3 hack/control_plane.py --node

.PHONY: test
test: environment control-plane ## Run the unit, integration and API tests
	$(RUN) pytest $(PYTEST_ARGS)

.PHONY: e2e
e2e: environment cluster-binaries ## Install the chart on a one-node cluster and ask it a question (root)
	$(RUN) pytest tests/e2e -s --timeout 1500 $(PYTEST_ARGS)

.PHONY: bench
bench: environment ## Measure the gateway beside others: latency, CPU, memory, streams (25 minutes; BENCH_ARGS="--quick" or --write)
	$(RUN) python -m tests.bench.run $(BENCH_ARGS)

.PHONY: proof
proof: environment ## Prove that limits on money hold while everything is killed (35 minutes; PROOF_ARGS=--quick: 3, --write)
	$(RUN) python -m tests.proof.run $(PROOF_ARGS)
