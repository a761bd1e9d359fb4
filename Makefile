# `make demo` and `make test` do all their own set-up in an empty clone: a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_WORKERS ?= 2

.PHONY: setup demo test check format clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cleanerclip needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: .venv/installed

test: setup
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
