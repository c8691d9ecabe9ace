# Needs Python 3.11 or later and GNU make, nothing else: everything is installed into .venv.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

# What another project has set up is not for this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format types rooms contract renew check bench clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install everything into .venv; again only when pyproject.toml has changed

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python " \
		+ sys.version.split()[0] + ", 3.11 or later is needed: make PYTHON=python3.12 ...")'
	@echo "installing into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(READY) ## show channelmap at work: draw pictures, send events, make thumbnails
	@$(RUN) -m examples.thumbnails.demo

test: $(READY) ## run all tests; some of them: make test ARGS='-k sqlite'
	@$(RUN) -m pytest $(ARGS)

lint: $(READY) ## look for mistakes and for badly formatted code
	@$(RUN) -m ruff check --quiet
	@$(RUN) -m ruff format --quiet --check

format: $(READY) ## format the code and repair what can be repaired
	@$(RUN) -m ruff format
	@$(RUN) -m ruff check --fix

types: $(READY) ## check the types
	@$(RUN) -m mypy --no-error-summary

rooms: $(READY) ## check which room imports which
	@$(RUN) $(VENV)/bin/lint-imports --no-logo

contract: $(READY) ## check the example's contract, consumers and senders
	@$(RUN) -m channelmap check --senders examples --fail-on warning

renew: $(READY) ## write docs/checks.md and docs/check.svg anew, after a change of what check says
	@RENEW=1 $(RUN) -m pytest -q tests/docs/test_pages.py tests/report/test_picture.py

check: lint types rooms contract test ## everything that CI does

bench: $(READY) ## measure, as ratios against the bare operation
	@$(RUN) benchmarks/embedded.py
	@$(RUN) benchmarks/redis_layer.py $(ARGS)
	@$(RUN) benchmarks/check.py

clean: ## delete everything that was installed, built or cached
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +
