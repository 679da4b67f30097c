# Every target does its own set-up (.ci/setup): a fresh Debian 12 or Ubuntu 24.04 needs git and make, nothing more.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench fuzz vm-test fmt lock docs docs-check clean

VENV := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never .tools/venv/bin/uv
PYTHON_FILES := attestd agent pki tests
DOCUMENTS := PYTHONPATH=tests $(VENV)/python -m architecture.documents
# Two workers, for the smallest machine; whole files to one worker, so that what a file starts is started once.
PYTEST := $(VENV)/pytest -n 2 --dist loadfile --timeout 120

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing (every other target does this by itself)
	@.ci/setup

demo: setup ## Show it on this machine: a verifier, six machines with software TPMs (KEEP=1 goes on)
	@$(VENV)/attestd demo $(if $(KEEP),--keep)

test: check ## Run all checks, then all tests (ARGS="-k quote" chooses some)
	@timeout --kill-after=30 4200 $(PYTEST) $(ARGS)

check: setup ## Lint, formatting, types, architecture, generated documents, shell scripts
	@.ci/check

bench: setup ## Measure, as ratios to what this machine can do at best; writes bench.json (ARGS=--quick)
	@$(VENV)/python tests/bench/run.py $(ARGS)

fuzz: setup ## Feed every parser mutated evidence, guided by coverage (SECONDS_EACH=60 a parser; TARGETS="eventlog ima")
	@.ci/fuzz

vm-test: setup ## Boot a real image with a software TPM in QEMU: it enrols, is tampered with and refused, and comes back (ARGS=--smoke)
	@.ci/vm $(ARGS)

fmt: setup ## Format the code, and mend what a tool can mend
	@$(VENV)/ruff check --fix $(PYTHON_FILES)
	@$(VENV)/ruff format $(PYTHON_FILES)

lock: setup ## Write uv.lock anew after a change of dependencies
	@$(UV) lock

docs: setup ## Write the generated parts of docs/ anew
	@$(DOCUMENTS)

docs-check: setup ## Fail if a generated part of docs/ is not what the code says
	@$(DOCUMENTS) --check

clean: ## Remove everything that the set-up, the tests and the demonstration made here
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench.json demo-data dist .vm .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
