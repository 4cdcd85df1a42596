# make demo | test | test-long | check | bench-flywheel | bench-engine | bench-planner
# Needs python3.11, make, gcc, git. Everything lands in .venv, data/ and out/.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
# Waiting threads sleep after a moment: several processes share the cores.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 6000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-long check format bench-flywheel bench-engine bench-planner clean

demo: $(VENV)/.installed
	$(BIN)/bessemer demo

test: check
	$(BIN)/pytest

# What takes more than 5 s each: kill loops, simulations of stated promises, long runs.
test-long: check
	$(BIN)/pytest -m long

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || (cat $(VENV)/lint-imports.log; exit 1)
	$(BIN)/python checks/size.py

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-flywheel: $(VENV)/.installed
	$(BIN)/python bench/flywheel.py

bench-engine: $(VENV)/.installed
	$(BIN)/python bench/engine.py

# VIDUR=checkout VIDUR_PYTHON=its-python also times microsoft/vidur on the same trace.
bench-planner: $(VENV)/.installed
	$(BIN)/python bench/planner.py $(if $(VIDUR),--vidur $(VIDUR) --vidur-python $(VIDUR_PYTHON))

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp per set of dependencies: a second run installs nothing unless the lists have changed.
$(BIN)/python:
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing with test tools (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[test]'
	@touch $(VENV)/.installed $@
