# Needs Python 3.10 or newer and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests that kill processes, and start many: not beside others.
ALONE := tests/engines/test_kills.py tests/engines/test_ray.py
# Two processes, each busy to the end: see tests/conftest.py for what goes to one process, and in which order.
SHARED := --numprocesses 2 --dist loadscope
# Threads of PyTorch that wait for each other leave the cores to the other process meanwhile, instead of spinning.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo check test clean

demo: $(READY)
	$(BIN)/video-features demo

# After every edit: what takes about a minute.
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(SHARED) -m "not processes and not slow"

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(SHARED) $(ALONE:%=--ignore %)
	$(BIN)/pytest $(ALONE)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("video_features needs Python 3.10 or newer, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable '.[demo,dev]'
	touch $@

clean:
	rm -rf $(VENV)
