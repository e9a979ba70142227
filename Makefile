# Needs Python 3.10 or newer and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# tests/conftest.py says which tests go to the same test process, and in which order.
PYTEST := $(BIN)/pytest --dist loadscope --numprocesses
# Waiting threads of PyTorch sleep instead of spinning, so that the other test process can use the core.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo check test docs clean

demo: $(READY)
	$(BIN)/video-features demo

# Run after every edit.
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) 2 -m "not processes and not slow"

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) 3

# The site is in site/. Warnings, such as a broken link, are errors.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("video_features needs Python 3.10 or newer, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable '.[demo,dev]'
	touch $@

clean:
	rm -rf $(VENV) site
