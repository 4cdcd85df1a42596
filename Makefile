# make demo | test | test-long | check | build | lock | bench-flywheel | bench-engine | bench-planner
# Needs python3.11 with venv, gcc and git. Everything lands in .venv, data/, dist/ and out/.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools
PIP := python -m pip install --quiet --quiet
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
# Waiting threads sleep after a moment: several processes share the cores.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 6000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-long check format build lock bench-flywheel bench-engine bench-planner clean prerequisites

demo: $(VENV)/.installed
	$(BIN)/bessemer demo

# Two processes, each with the files it takes whole: fixtures of a module are made once.
test: check
	$(BIN)/pytest -n 2 --dist loadfile

# What takes more than 5 s each: kill loops, simulations of stated promises, long runs.
test-long: check
	$(BIN)/pytest -m long

check: $(VENV)/.installed
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || (cat $(VENV)/lint-imports.log; exit 1)
	$(BIN)/vulture
	$(BIN)/python checks/size.py

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-flywheel: $(VENV)/.installed
	$(BIN)/python -m lab.flywheel

bench-engine: $(VENV)/.installed
	$(BIN)/python -m lab.engine

# VIDUR=checkout VIDUR_PYTHON=its-python also times microsoft/vidur on the same trace.
bench-planner: $(VENV)/.installed
	$(BIN)/python -m lab.planner $(if $(VIDUR),--vidur $(VIDUR) --vidur-python $(VIDUR_PYTHON))

# The wheels of the planner and of Bessemer, and beside them a CycloneDX list of what they run with.
build: $(TOOLS)/.installed
	@rm -rf dist
	$(TOOLS)/bin/python -m build --outdir dist planner > $(TOOLS)/build.log || (tail $(TOOLS)/build.log; exit 1)
	$(TOOLS)/bin/python -m build --outdir dist > $(TOOLS)/build.log || (tail $(TOOLS)/build.log; exit 1)
	$(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file dist/bessemer.cdx.json requirements.lock

# Resolves the newest versions that pyproject.toml allows, with the hashes of their files.
lock: $(TOOLS)/.installed
	$(TOOLS)/bin/python checks/lock.py

clean:
	rm -rf $(VENV) $(TOOLS) dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis

prerequisites:
	@for tool in $(PYTHON) gcc git; do command -v $$tool > /dev/null || \
		{ echo "make needs $$tool, which is not installed (see the first lines of the Makefile)."; exit 1; }; done
	@$(PYTHON) -c "import ensurepip, venv" 2> /dev/null || \
		{ echo "make needs $(PYTHON) with venv, which is not installed (Debian: python3.11-venv)."; exit 1; }

# A stamp: a second run installs nothing unless the lists have changed.
$(BIN)/python: | prerequisites
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# torch is pinned by version, not by hash: its builds for CPU and for CUDA are different files of one version.
$(VENV)/.installed: pyproject.toml planner/pyproject.toml requirements.lock | $(BIN)/python
	@echo "Installing (a few minutes the first time)"
	@$(BIN)/$(PIP) --no-deps --require-hashes --requirement requirements.lock
	@$(BIN)/$(PIP) torch==2.13.0
	@$(BIN)/$(PIP) --no-deps --no-build-isolation --editable planner --editable .
	@touch $@

$(TOOLS)/.installed: Makefile | prerequisites
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/$(PIP) build==1.6.1 pip-tools==7.6.2 cyclonedx-bom==7.5.0
	@touch $@
