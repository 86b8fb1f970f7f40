# Each target works alone on a fresh machine that has git, make and python3 (3.11 or newer, with venv).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTEST_ARGS ?=

UV := $(shell command -v uv 2>/dev/null || echo .cache/bootstrap/bin/uv)
RUN := $(UV) run --frozen --no-sync

.PHONY: help
help: ## Show the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.cache/bootstrap/bin/uv:
	python3 -m venv .cache/bootstrap
	.cache/bootstrap/bin/pip install --quiet --disable-pip-version-check uv

.PHONY: environment
environment: $(if $(findstring .cache,$(UV)),.cache/bootstrap/bin/uv) ## Install the locked environment with every group
	$(UV) sync --frozen --group dev --quiet

.PHONY: format
format: environment ## Format the code
	$(RUN) ruff format
	$(RUN) ruff check --fix

.PHONY: lint
lint: environment ## Check format, lint, types and import contracts
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports
