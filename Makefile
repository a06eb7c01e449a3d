# Everything runs in .venv, which `make` builds with the versions that constraints.txt pins.
PYTHON ?= python3
BIN := .venv/bin
TESTS ?= not slow and not results

.PHONY: demo test check bench docs clean

# The main job: one model of each family, trained and measured on handwritten digits. Goes on where it was interrupted.
demo: .venv/ready
	$(BIN)/dgm compare --data digits --out demo

# Lint, types, doctests and the quick tests. Continuous integration asks for the slow ones too: TESTS="not results".
test: .venv/ready check
	$(BIN)/pytest -n 2 --dist loadgroup -m "$(TESTS)"

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/bench
	$(BIN)/python benchmarks/run.py

docs: .venv/ready
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/measuring.py

# torch first, at its pinned version, so that no other package's requirement picks a build for CUDA.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:
	rm -rf .venv demo .mypy_cache .ruff_cache
