# Everything here needs only Python 3.11 or newer, pip and make; the rest is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
VLLM_PIP := -m pip --disable-pip-version-check install -q --no-deps
# Flags for installing torch: PyTorch publishes CPU builds on an index of its own, which --extra-index-url can name.
TORCH_FLAGS ?=
PIP := -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: help install demo test test-vllm test-vllm-all test-crash bench lint clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ReJoule needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV) || ($(PYTHON) -m pip install -q --user virtualenv && $(PYTHON) -m virtualenv -q $(VENV))

$(VENV)/core: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python $(PIP) -e .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python $(PIP) -e '.[dev]'
	@touch $@

$(VLLM_VENV)/ready: $(BIN)/python requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV) || $(PYTHON) -m virtualenv -q $(VLLM_VENV)
	$(VLLM_VENV)/bin/python $(VLLM_PIP) -c requirements-vllm.txt $(TORCH_FLAGS) torch
	$(VLLM_VENV)/bin/python $(VLLM_PIP) -r requirements-vllm.txt
	@touch $@

install: $(VENV)/core ## Install the command rejoule into .venv

demo: $(VENV)/core ## Record, replay and compare four agent workloads, without a GPU
	rm -rf demo
	$(BIN)/rejoule demo -o demo

# Many tests measure time: what fails beside other work is run once more, alone, and what fails twice has failed.
test: $(VENV)/dev ## Run the tests
	$(BIN)/python -m pytest -q -n 2 || $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none

test-vllm: $(VENV)/dev $(VLLM_VENV)/ready ## Record from and replay on a real vLLM, on the CPU
	VLLM_PYTHON=$(VLLM_VENV)/bin/python $(BIN)/python -m pytest -q -m vllm tests/vllm || \
		VLLM_PYTHON=$(VLLM_VENV)/bin/python $(BIN)/python -m pytest -q -m vllm --last-failed --last-failed-no-failures none tests/vllm

test-vllm-all: $(VENV)/dev $(VLLM_VENV)/ready ## The same, and how ReJoule starts, taps and ends vLLM
	VLLM_PYTHON=$(VLLM_VENV)/bin/python $(BIN)/python -m pytest -q -m vllm tests/vllm tests/replay

test-crash: $(VENV)/dev ## End capped experiments at 100 random moments, on stand-in GPUs
	REJOULE_CRASHES=100 $(BIN)/python -m pytest -q tests/replay/knobs/test_crash.py

bench: $(VENV)/dev ## Measure what the client itself costs, beside a floor client
	$(BIN)/python -m benchmarks.client

lint: $(VENV)/dev ## Check style, types and the layers of the architecture
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(VLLM_VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
