.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VERSIONS := $(shell sed -n 's/^requires-python = "\(.*\)"/\1/p' pyproject.toml)
BIN := .venv/bin
PROJECT ?= examples/demo
CUSTOMERS ?= 20000
export DO_NOT_TRACK := true
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export DAGSTER_DISABLE_TELEMETRY := true

.PHONY: help setup run test quick types imports prove browser dev bench lint docs clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: .venv/.installed ## make .venv with the locked packages (run and test call it first)

.venv/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import re, sys; low, high = ([int(part) for part in bound.split(".")] for bound in re.findall(r"\d+\.\d+", sys.argv[1])); \
	sys.exit(not low <= list(sys.version_info[:2]) < high)' '$(VERSIONS)' || { echo "A Python $(VERSIONS) is needed: on the PATH, or name it: make PYTHON=..."; exit 1; }
	@echo "Making .venv (once; a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@if command -v uv >/dev/null; then VIRTUAL_ENV=.venv uv pip install -q --require-hashes -r requirements-dev.lock; \
	else $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock; fi
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## the main job: from raw files to published journeys (PROJECT=DIR: your own; CUSTOMERS=N: the demo world's size)
	@$(BIN)/waymark world --project "$(PROJECT)" --customers $(CUSTOMERS) --if-named
	@$(BIN)/waymark run --project "$(PROJECT)"

test: setup ## lint, types, import rules and the quick tests (under 8 minutes on 2 cores)
	@$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j 3 types imports quick

quick: setup ## the quick tests alone
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

types: setup ## mypy alone
	@$(BIN)/mypy

imports: setup ## the import rules alone
	@$(BIN)/lint-imports --no-cache

prove: setup browser ## the slow proofs: crashes, mutations, many seeds; writes benchmarks/PROOF.md
	@$(BIN)/python -m pytest -m prove -n 2 --dist loadgroup --no-loadscope-reorder

browser: ## Chromium from Debian, if there is none: the proofs look at the pages with it
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	command -v apt-get >/dev/null || { echo "No Chromium, and no apt-get to install it: install Chromium, then try again"; exit 1; }; \
	root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	$$root apt-get update -q && $$root apt-get install -yq --no-install-recommends chromium fonts-liberation; }

dev: setup ## Dagster, MLflow and the tables' documentation on 127.0.0.1:3000, 5000, 8080 (Ctrl-C stops them)
	@$(BIN)/waymark dev --project "$(PROJECT)"

bench: setup ## side-by-side measurements, as ratios
	@$(BIN)/python -m benchmarks.run

lint: setup ## ruff, mypy, import rules
	@$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j 2 types imports

docs: setup ## the dbt docs of the project, into its home
	@$(BIN)/waymark docs --project "$(PROJECT)"

clean: ## remove the environment, caches and the demo's home
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/demo/.waymark examples/demo/truth build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
