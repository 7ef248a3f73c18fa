# make demo: set up and train a first generator.  make setup: install everything that leafwing can use.
# make test: set up and run the tests.  make check: lint, types, architecture.
PYTHON ?= python3
BIN := .venv/bin

# CPU=1: the build of PyTorch without CUDA, 200 MB instead of some gigabytes; CPU=0: the default one. Decided by whether Linux has an
# NVIDIA driver; elsewhere there is one build. A mirror in pip's configuration stays in use, and without this index pip takes its own.
CPU ?= $(shell test "`uname -s`" = Linux && ! command -v nvidia-smi > /dev/null && ! ls /dev/nvidia* > /dev/null 2>&1 && echo 1 || echo 0)
TORCH_INDEX := $(if $(filter 1,$(CPU)),--no-deps --extra-index-url https://download.pytorch.org/whl/cpu --timeout 15 --retries 1)

PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet -c constraints.txt -e

.PHONY: setup demo test test-slow test-shuffled test-machines test-versions check format docs bench bench-step mutants

# Each is made anew only when the dependencies have changed.
.venv/core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "leafwing needs Python 3.11 or newer, and \
	$(PYTHON) is %d.%d: name another one, as in make PYTHON=python3.12 $(MAKECMDGOALS)" % v)'
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || { echo 'creating an environment in .venv'; $(PYTHON) -m venv .venv; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and ".venv has an older Python: delete it")'
	@echo 'installing PyTorch ($(if $(filter 1,$(CPU)),without CUDA: 200 MB; CPU=0 for an NVIDIA GPU,some gigabytes with CUDA; CPU=1 without)); minutes, by your connection'
	$(PIP) install -c constraints.txt $(TORCH_INDEX) torch
	@echo 'installing leafwing and its other dependencies (100 MB), a minute'
	$(INSTALL) .
	@touch $@

.venv/all: .venv/core
	@echo 'installing the optional dependencies (150 MB), a minute'
	$(INSTALL) '.[all]'
	@touch $@

.venv/dev: .venv/core
	@echo 'installing the optional dependencies and the test tools (200 MB), a minute'
	$(INSTALL) '.[all,dev]'
	@touch $@

setup: .venv/all

# Small enough for two old cores of which one is busy half of the time; a single thread does not wait for the busy core.
# bench/demo.py measures the legibility of the digits.
DEMO := train digits --recipe cgan --size 16 --width 32 --batch 16 --lr-g 3e-4 --lr-d 3e-4 --ema 5k --threads 1 --images 40k --time 2m

demo: .venv/core
	@echo 'training on handwritten digits: about a minute, two at the most'
	$(BIN)/leafwing $(DEMO)
	@echo 'after `. $(BIN)/activate` the command is `leafwing`'

test: .venv/dev
	$(BIN)/python -m pytest -n auto -m 'not slow'

test-slow: .venv/dev
	$(BIN)/python -m pytest -n auto -m slow

# In random order; the same again with make test-shuffled SEED=...
SEED := $(or $(SEED),$(shell date +%s))
test-shuffled: .venv/dev
	@echo 'SEED=$(SEED)'
	$(BIN)/python -m pytest -p randomly --randomly-seed=$(SEED) -n auto -m 'not slow'

# Tests with floating-point results, with the instructions of older processors, and with two threads. What compares two computations
# of one machine is left out. Waiting threads must not spin: there may be more threads than cores.
MACHINE = $(BIN)/python -m pytest -m 'machine and not slow' -p no:cacheprovider
test-machines: .venv/dev
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 $(MACHINE) -n auto -k 'not many_rounds and not rehearsed and not micro_batches' --deselect tests/test_every_recipe.py
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX512_CORE $(MACHINE) -n auto -k 'each_turn and fp32 or golden' tests/engine/test_equality.py tests/test_golden.py
	LEAFWING_TEST_THREADS=2 OMP_WAIT_POLICY=passive $(MACHINE) -k 'each_turn and fp32' tests/engine/test_equality.py

# make test-versions TORCH=2.14.1, or PYTHON=python3.13, or both: the tests with other versions, in a separate environment.
OTHER = .venv-$(notdir $(PYTHON))$(TORCH:%=-torch-%)
test-versions:
	test -n '$(TORCH)$(filter-out python3,$(PYTHON))' || { echo 'usage: make test-versions [TORCH=2.14.1] [PYTHON=python3.13]'; exit 2; }
	test -x $(OTHER)/bin/python || $(PYTHON) -m venv $(OTHER)
	grep $(if $(TORCH),-v '^torch==',.) constraints.txt > $(OTHER)/constraints.txt
	$(OTHER)/bin/python -m pip install --quiet -c $(OTHER)/constraints.txt $(TORCH_INDEX) 'torch$(TORCH:%===%)'
	$(OTHER)/bin/python -m pip install --quiet -c $(OTHER)/constraints.txt -e '.[all,dev]'
	$(OTHER)/bin/python -m pytest -n auto -m 'not slow'

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -p no:cacheprovider tests/test_architecture.py

# Rows are appended to bench/results; bench prints the newest as tables. The last line of bench-step holds the ratios.
bench-step: .venv/dev
	$(BIN)/python bench/step.py

bench: .venv/dev
	$(BIN)/python bench/levers.py
	$(BIN)/python bench/roofline.py
	$(BIN)/python bench/scaling.py
	$(BIN)/python bench/recipes.py
	$(BIN)/python bench/rows.py bench/results/levers.jsonl bench/results/roofline.jsonl bench/results/scaling.jsonl bench/results/recipes.jsonl

# Small faults in the source, one at a time: which of them the tests notice; two hours of two cores, see bench/mutants.py. Stopped, it
# goes on where it was. Before that, once, which tests run which lines: make again after `rm .coverage`.
mutants: .venv/dev
	$(PIP) install --quiet -c constraints.txt cosmic-ray pytest-cov
	test -f .coverage || $(BIN)/python -m pytest -n auto -m 'not slow' --cov=leafwing --cov-context=test --cov-report= || test -f .coverage
	$(BIN)/python bench/mutants.py

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tables of settings in the guide, and those of figures.
docs: .venv/dev
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/figures.py
