# make demo: set up and train a first generator.  make test: set up and run the tests.  make check: lint, types, architecture.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow test-machines test-versions check format docs bench bench-step

# Reinstalled only when the dependencies have changed.
setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leafwing needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

# Small enough for two old cores of which one is busy half of the time; a single thread does not wait for the busy core.
# bench/demo.py measures the legibility of the digits.
DEMO := train digits --recipe cgan --size 16 --width 32 --batch 16 --lr-g 3e-4 --lr-d 3e-4 --ema 5k --threads 1 --images 40k --time 2m

demo: setup
	$(BIN)/leafwing $(DEMO)

test: setup
	$(BIN)/python -m pytest -n auto -m 'not slow'

test-slow: setup
	$(BIN)/python -m pytest -n auto -m slow

# Tests with floating-point results, with the instructions of older processors, and with two threads. What compares two computations
# of one machine is left out. Waiting threads must not spin: there may be more threads than cores.
MACHINE = $(BIN)/python -m pytest -m 'machine and not slow' -p no:cacheprovider
test-machines: setup
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 $(MACHINE) -n auto -k 'not fifty_rounds and not rehearsed and not micro_batches' --deselect tests/test_every_recipe.py
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX512_CORE $(MACHINE) -n auto -k 'each_turn and fp32 or golden' tests/engine/test_equality.py tests/test_golden.py
	LEAFWING_TEST_THREADS=2 OMP_WAIT_POLICY=passive $(MACHINE) -k 'each_turn and fp32' tests/engine/test_equality.py

# make test-versions TORCH=2.14.1: the tests with another torch version, in a separate environment.
test-versions:
	test -n '$(TORCH)' || { echo 'usage: make test-versions TORCH=2.14.1'; exit 2; }
	test -x .venv-torch-$(TORCH)/bin/python || $(PYTHON) -m venv .venv-torch-$(TORCH)
	grep -v '^torch==' constraints.txt > .venv-torch-$(TORCH)/constraints.txt
	.venv-torch-$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c .venv-torch-$(TORCH)/constraints.txt 'torch==$(TORCH)' -e '.[all,dev]'
	.venv-torch-$(TORCH)/bin/python -m pytest -n auto -m 'not slow'

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -p no:cacheprovider tests/test_architecture.py

# Rows are appended to bench/results; bench prints the newest as tables. The last line of bench-step holds the ratios.
bench-step: setup
	$(BIN)/python bench/step.py

bench: setup
	$(BIN)/python bench/levers.py
	$(BIN)/python bench/roofline.py
	$(BIN)/python bench/scaling.py
	$(BIN)/python bench/recipes.py
	$(BIN)/python bench/rows.py bench/results/levers.jsonl bench/results/roofline.jsonl bench/results/scaling.jsonl bench/results/recipes.jsonl

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tables of settings in the guide.
docs: setup
	$(BIN)/python docs/tables.py
