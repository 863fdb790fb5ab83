# `make demo` on a machine that has only Python >= 3.11 installs and runs everything.
# `make PYTHON=/path/to/python3.12 demo` picks the interpreter.

VENV := .venv
PEER := .venv-bench
# An empty PYTHON means: the first interpreter below that runs and is new enough.
PYTHON ?=
CANDIDATES := python3 python3.13 python3.12 python3.11 python
# The release of torch the peer of `make bench` runs on.
TORCH ?= torch==2.13.0
# Programs of the quick tests run once or twice: compiled fast, and slower to run.
QUICK := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: help setup test test-slow lint plan-golden demo demo-long bench parity lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(VENV)/.installed ## create .venv from requirements.lock, with unijax editable

$(VENV)/.installed: requirements.lock pyproject.toml
	@set -e; found=""; \
	for python in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "unijax needs Python >= 3.11; tried: $(or $(PYTHON),$(CANDIDATES))." \
	    "Name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV) || { \
	  echo "$$found cannot create virtual environments. On Debian or Ubuntu:" \
	    "apt-get install python3-venv" >&2; exit 1; }
	$(VENV)/bin/python $(PIP) -r requirements.lock
	$(VENV)/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

test: lint ## ruff and the test suite, without the tests marked slow
	XLA_FLAGS="$$XLA_FLAGS $(QUICK)" \
	$(VENV)/bin/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup ## the tests marked slow: 64 devices, long fuzz, a dozen kills, TPU compiles
	$(VENV)/bin/python -m pytest -m slow --durations=0

lint: setup ## ruff: rules and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

plan-golden: setup ## compile the presets for pods and write what `unijax plan` says; hours
	$(VENV)/bin/python -m tests.dryrun.golden $(GOLDEN)

demo: setup ## train, test and sample a small model in minutes, and write its report
	$(VENV)/bin/python -m unijax demo

demo-long: setup ## the same, trained for longer
	$(VENV)/bin/python -m unijax demo --long

$(PEER)/.installed: $(VENV)/.installed
	$(VENV)/bin/python -m venv --clear $(PEER)
	$(PEER)/bin/python $(PIP) "$(TORCH)"
	$(PEER)/bin/python $(PIP) transfusion-pytorch==0.20.0
	@touch $@

bench: $(PEER)/.installed ## speed against a PyTorch peer; BENCH="--width=512 --heads=8" changes it
	$(VENV)/bin/python tests/bench/run.py --peer-python $(PEER)/bin/python $(BENCH)

$(PEER)/.parity: $(PEER)/.installed
	$(PEER)/bin/python $(PIP) "transformers>=5.2,<6" "diffusers>=0.36,<0.44" \
	  "safetensors>=0.7,<1"
	@touch $@

parity: $(PEER)/.parity ## imported models against their own libraries, both ways; a table
	$(PEER)/bin/python -m tests.interop.peers check
	rm -rf build/parity
	XLA_FLAGS="$$XLA_FLAGS $(QUICK)" \
	$(VENV)/bin/python -m tests.interop.run export build/parity
	$(PEER)/bin/python -m tests.interop.peers load build/parity
	$(VENV)/bin/python -m tests.interop.table build/parity configs/released/README.md

lock: $(VENV)/.installed ## write requirements.lock anew from the ranges in pyproject.toml
	rm -rf build/lock && $(VENV)/bin/python -m venv build/lock
	build/lock/bin/python $(PIP) '.[dev]' setuptools
	sed -n '/^#/p' requirements.lock > build/requirements.lock
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude unijax \
	  >> build/requirements.lock
	mv build/requirements.lock requirements.lock

clean: ## remove the environments and caches; runs are kept
	rm -rf $(VENV) $(PEER) build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
