# One command a job; `make` alone lists them. The environment is built once and reused.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
SOURCES := src tests benchmarks
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help run test lint types docs check bench clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## train, explain, judge and report on MNIST-1D; pass options as ARGS="--seed 1"
	$(BIN)/heatproof run $(ARGS)

test: $(VENV)/.installed-test ## the test suite, doctests included; pass pytest's options as ARGS
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: $(VENV)/.installed-test ## style and format
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.installed-test ## strict types
	$(BIN)/mypy

docs: $(VENV)/.installed ## write the pages that are made from the registries
	$(BIN)/python docs/generate.py

check: lint types test ## everything CI asks for

bench: $(VENV)/.installed-test ## the start-up times; benchmarks/README.md lists the other tables
	$(BIN)/python benchmarks/startup.py

clean: ## remove caches and build output; the environment and runs/ stay
	rm -rf dist .mypy_cache .pytest_cache .ruff_cache .hypothesis lightning_logs
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("heatproof needs Python 3.11 or newer; run make PYTHON=python3.12, say")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing heatproof into $(VENV); the first time this takes a few minutes."
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing heatproof with its test tools into $(VENV); the first time this takes a few minutes."
	$(INSTALL) '.[test]'
	@touch $(VENV)/.installed $@
