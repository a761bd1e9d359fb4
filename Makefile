# `make demo` and `make test` do all their own set-up in an empty clone: a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

.PHONY: setup demo test check format parser victim

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cleanerclip needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: .venv/installed

# The main job on the embedded default: a backdoored CLIP is evaluated, defended, and evaluated again.
VICTIM := trainer/demo_victim
demo: setup
	rm -rf demo
	$(BIN)/pipeline demo-data --out demo/data --seed 1
	$(BIN)/pipeline augment-captions demo/data/train --out demo/augmented --rows-per-shard 1000

test: setup
	$(PYTEST)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
