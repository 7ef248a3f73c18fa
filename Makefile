# make demo: set up and train the first generator.  make test: set up and pass the tests.  make check: lint, types, architecture.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow check format

# Installed again only when what is to be installed has changed.
setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leafwing needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

demo: setup
	$(BIN)/leafwing train digits --recipe cgan --images 50k --time 2m

test: setup
	$(BIN)/python -m pytest -n auto -m 'not slow'

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -p no:cacheprovider tests/test_architecture.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
