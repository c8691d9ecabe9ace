# Needs Python 3.11 or later and GNU make, nothing else: everything is installed into .venv, at the exact versions of
# requirements/dev.txt. Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PINNED := requirements/dev.txt
MUTANT_PINNED := requirements/mutants.txt
PYTHONS := python3.11 python3.12 python3.13
DJANGOS := 5.2 6.0 6.1
# Each test has files, servers and processes of its own. One runner more than processors: tests wait for processes too.
RUNNERS = $(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')
IN_PARALLEL = -n $(RUNNERS) --dist worksteal

# Settings of another project must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE
# uv trusts the certificates that the system trusts: a package index behind a proxy has one of those.
export UV_SYSTEM_CERTS := 1

.DEFAULT_GOAL := help
.PHONY: help setup pin run site test test-full test-newest test-oldest test-django test-pythons lint format types imports mutants contract renew check bench clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install everything into .venv; again only when the requirements have changed

$(READY): pyproject.toml $(PINNED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python " \
		+ sys.version.split()[0] + ", 3.11 or later is needed: make PYTHON=python3.12 ...")'
	@echo "installing into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(PINNED)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

pin: $(VENV)/bin/uv ## renew requirements/dev.txt and mutants.txt: the newest versions that pyproject.toml allows
	@$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --extra dev \
		--custom-compile-command 'make pin' --output-file $(PINNED) pyproject.toml
	@$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--constraints $(PINNED) --custom-compile-command 'make pin' --output-file $(MUTANT_PINNED) requirements/mutants.in

$(VENV)/bin/uv:
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check uv

run: $(READY) ## show channelmap at work: draw pictures, send events, make thumbnails
	@$(RUN) -m examples.thumbnails.demo

site: $(READY) ## run the example Django site on port 8000; another one: make site ARGS=8001
	@$(RUN) examples/site/run.py $(ARGS)

test: $(READY) ## run all tests; some of them: make test ARGS='-k sqlite'
	@$(RUN) -m pytest $(IN_PARALLEL) $(ARGS)

test-full: $(READY) ## run the tests with browsers, PostgreSQL and promtool; installs these as root on Debian
	@$(RUN) tests/full/programs.py
	@$(RUN) -m pytest -m full -rP tests/full $(ARGS)

test-newest: $(READY) ## run all tests with the newest versions that pyproject.toml allows
	@$(call test-resolved,highest,.venv-newest)

test-oldest: $(READY) ## run all tests with the lowest versions that pyproject.toml allows
	@$(call test-resolved,lowest-direct,.venv-oldest)

# $(1): how versions are chosen; $(2): the environment that is made for them.
define test-resolved
$(VENV)/bin/uv venv --quiet --clear --python $(RUN) $(2)
$(VENV)/bin/uv pip install --quiet --python $(2)/bin/python --resolution $(1) --editable '.[test]'
$(2)/bin/python -m pytest $(IN_PARALLEL) $(ARGS)
endef

# Django 6 needs Python 3.12. The newest Python that is installed runs the tests.
test-django: $(READY) ## run the tests of Django sites with each supported version of Django
	@for django in $(DJANGOS); do \
		python=; \
		for each in $(PYTHON) $(PYTHONS); do \
			$$each -c "import sys; sys.exit('$$django' > '6' and sys.version_info < (3, 12))" 2>/dev/null && python=$$each; \
		done; \
		test -n "$$python" || { echo "Django $$django: no Python 3.12 is installed: left out"; continue; }; \
		echo "Django $$django on $$($$python --version)"; \
		$(VENV)/bin/uv venv --quiet --clear --python $$($$python -c 'import sys; print(sys.executable)') .venv-django && \
		$(VENV)/bin/uv pip install --quiet --python .venv-django/bin/python "django==$$django.*" --editable '.[test]' && \
		.venv-django/bin/python -m pytest $(IN_PARALLEL) tests/site tests/docs/test_documents.py -k 'site or django.md' $(ARGS) || exit; \
	done

test-pythons: ## run all tests with each supported Python that is installed
	@for python in $(PYTHONS); do \
		$$python -c '' 2>/dev/null || { echo "$$python is not installed: left out"; continue; }; \
		$$python --version; \
		$(MAKE) --no-print-directory PYTHON=$$python VENV=.venv-$${python##*/} test || exit; \
	done

lint: $(READY) ## look for mistakes and for badly formatted code
	@$(RUN) -m ruff check --quiet
	@$(RUN) -m ruff format --quiet --check
	@$(RUN) tests/retired_words.py

format: $(READY) ## format the code and repair what can be repaired
	@$(RUN) -m ruff format
	@$(RUN) -m ruff check --fix

types: $(READY) ## check the types
	@$(RUN) -m mypy --no-error-summary

imports: $(READY) ## check which package imports which
	@$(RUN) $(VENV)/bin/lint-imports --no-logo

mutants: $(READY) ## change the code in 3,000 ways, and list the changes that no test notices
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(MUTANT_PINNED)
	@$(RUN) tests/mutants_by_hand.py
	@PATH="$(abspath $(VENV))/bin:$$PATH" mutmut run --max-children 12 $(ARGS)
	@PATH="$(abspath $(VENV))/bin:$$PATH" $(RUN) tests/mutants.py

contract: $(READY) ## check the contracts, consumers and senders of the examples
	@$(RUN) -m channelmap check --senders examples/thumbnails --fail-on warning
	@$(RUN) examples/site/manage.py check --fail-level WARNING >/dev/null
	@$(RUN) examples/site/manage.py channelmap check --senders examples/site --fail-on warning

renew: $(READY) ## write the generated documents and pictures anew
	@RENEW=1 $(RUN) -m pytest -q tests/docs/test_pages.py tests/docs/test_python_api.py tests/docs/test_metrics.py \
		tests/check/report/test_picture.py tests/cli/test_status_screen.py
	@RENEW=1 $(RUN) -m pytest -q -m full tests/full/test_example_site.py

check: lint types imports contract test ## everything that CI does, except test-full

bench: $(READY) ## measure, as ratios against the bare operation
	@$(RUN) benchmarks/embedded.py
	@$(RUN) benchmarks/redis_layer.py $(ARGS)
	@$(RUN) benchmarks/check.py
	@$(RUN) benchmarks/reject.py
	@$(RUN) benchmarks/workers.py
	@$(RUN) benchmarks/delivery.py

clean: ## delete everything that was installed, built or cached
	rm -rf .venv* mutants build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +
