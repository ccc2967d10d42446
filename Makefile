# Two commands do everything: `make run` and `make test`. Both install what they need into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test check bench chaos cluster install browser broker clean

help: ## Say what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: $(VENV)/run.stamp ## The control room of Ghent at http://127.0.0.1:5006
	$(BIN)/twinroom run $(ARGS)

test: $(VENV)/test.stamp browser broker ## All tests
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/test.stamp ## Linter, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/run.stamp ## All benchmarks, with the machine's own limits
	$(BIN)/twinroom bench all --report reports/bench.json

chaos: $(VENV)/test.stamp broker ## Workers under fire on a real Kafka and a real Redis, and what became of it
	$(BIN)/python -m tests.cluster.chaos --report reports/chaos.json $(ARGS)

cluster: $(VENV)/test.stamp broker ## Ghent on Kafka, Redis, a worker and a dashboard, without containers
	$(BIN)/python -m cluster.site $(or $(ARGS),--regions ghent)

install: $(VENV)/run.stamp ## What the control room needs, into .venv

browser: ## Chromium for the page's tests, where it may be installed
	@tests/install_chromium.sh

broker: ## Kafka and Redis without containers, where they may be installed
	@cluster/install.sh

clean: ## Remove .venv and what tools left behind
	rm -rf $(VENV) .cluster/libs .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info reports

$(BIN)/python:
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Twinroom needs Python 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the pinned packages of the control room (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the pinned packages of the control room, its tests and studies (about two minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,study,distributed]'
	@touch $@ $(VENV)/run.stamp
