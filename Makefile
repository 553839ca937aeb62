# Everything happens in .venv, which each target makes when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/quickstart
# Processes that run tests. Two cores are busy with four, because tests also wait for what they start.
WORKERS ?= 4
# Training molecules of the benchmark of QM9's gap, one or more numbers.
TRAIN ?= 10000
# Table of SMILES to pre-train a potential on, its directory, and further options, such as --levels xtb so3lr.
MOLECULES ?= molecules.csv
BODY ?= runs/body
PRETRAINING ?=
# Bytecode of what is imported is written when it is; most modules of these packages never are.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

.DEFAULT_GOAL := help
.PHONY: help setup dev quickstart test coverage lint style types format lock bench bench-potentials bench-fluids bench-gpu bench-kinetics bench-weather faults docs peers peers-fluids teachers body openfoam build clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(VENV)/.runtime  ## make .venv with the command `understudy`

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.python requirements/lock.txt pyproject.toml
	@echo "Installing the packages of requirements/lock.txt into $(VENV) ..."
	@$(PIP) --require-hashes --no-deps -r requirements/lock.txt
	@$(PIP) --require-hashes --no-deps -r requirements/build.txt
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

dev: $(VENV)/.dev  ## add what the tests and checks need

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@$(PIP) --require-hashes --no-deps -r requirements/dev.txt
	@touch $@

quickstart: setup  ## the main job: a million candidates, labelled, learned, screened, re-checked, reported
	$(BIN)/understudy pipeline task=molecules run.dir=$(RUN)

test: dev  ## lint, then the tests, with types and import layers checked beside them
	@$(MAKE) --no-print-directory style
	@types=$$(mktemp); $(MAKE) --no-print-directory types >$$types 2>&1 & checking=$$!; \
	trap 'kill $$checking 2>/dev/null; rm -f "$$types"' EXIT; \
	echo "$(BIN)/python -m pytest -q -n $(WORKERS) --dist=worksteal $(TESTS)"; \
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist=worksteal $(TESTS); tested=$$?; \
	wait $$checking; checked=$$?; cat "$$types"; exit $$((tested ? tested : checked))

coverage: dev  ## the tests, and which lines they reach
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist=worksteal --cov --cov-report=term:skip-covered

lint: style types  ## ruff, mypy and the import layers

style: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: dev  ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv-docs/.done  ## the documentation as a site, in site/; a broken link fails
	.venv-docs/bin/mkdocs build --quiet

.venv-docs/.done: requirements/docs.txt
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/docs.txt
	@touch $@

peers: .venv-peers/.done  ## the packages that the benchmarks compare with, in an environment of their own

.venv-peers/.done: requirements/peers.txt
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	@.venv-peers/bin/pip install --quiet --disable-pip-version-check -r requirements/peers.txt
	@touch $@

peers-fluids: .venv-peers-fluids/.done  ## neuraloperator, which the benchmarks of fluids compare with, in another one

.venv-peers-fluids/.done: requirements/peers-fluids.txt
	@test -x .venv-peers-fluids/bin/python || $(PYTHON) -m venv .venv-peers-fluids
	@.venv-peers-fluids/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	@.venv-peers-fluids/bin/pip install --quiet --disable-pip-version-check -r requirements/peers-fluids.txt
	@touch $@

teachers: .venv-teachers/.done  ## pre-trained models as simulators (so3lr, chgnet, admet), in an environment of 2 GB

.venv-teachers/.done: requirements/teachers.txt
	@test -x .venv-teachers/bin/python || $(PYTHON) -m venv .venv-teachers
	@.venv-teachers/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	@.venv-teachers/bin/pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps -r requirements/teachers.txt
	@touch $@

body: setup  ## pre-train a potential on many molecules, to start trainings from: MOLECULES=table.csv BODY=runs/body
	$(BIN)/python -m understudy.pretraining --molecules $(MOLECULES) --out $(BODY) $(PRETRAINING)

openfoam:  ## the Debian package of OpenFOAM, for simulators/fluids/openfoam/simulator.py (apt-get: needs root or sudo)
	@if command -v icoFoam >/dev/null; then echo "OpenFOAM is installed: $$(command -v icoFoam)"; \
	elif [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends openfoam; \
	elif command -v sudo >/dev/null; then echo "apt-get needs root: asking sudo"; \
	  sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends openfoam; \
	else echo "apt-get needs root: run 'apt-get install openfoam' as root"; exit 1; fi

bench: dev peers  ## side-by-side numbers, as JSON under runs/bench and as tables
	$(BIN)/python -m benchmarks --train $(TRAIN)

bench-potentials: dev peers  ## potentials beside MACE: errors, speed, roofline, frontier; LEARNING="--minutes 10" is quicker
	$(BIN)/python -m benchmarks --suite potentials --learning $(LEARNING)

bench-fluids: dev peers-fluids  ## operators beside neuraloperator, and solvers beside operators at equal error
	$(BIN)/python -m benchmarks --suite fluids

bench-gpu: setup  ## eight minutes on an accelerator, or on a CPU with small sizes: correctness, rates, precisions
	$(BIN)/python -m benchmarks.accelerator

bench-kinetics: dev  ## surrogates of reactor kinetics beside integrators at equal error
	$(BIN)/python -m benchmarks --suite kinetics

bench-weather: dev  ## forecasts beside their references and the core's coarser truncations; reading; memory
	$(BIN)/python -m benchmarks --suite weather

faults: dev  ## kills, changed bits and broken files, and what becomes of them, as a table; an hour
	$(BIN)/python -m benchmarks.faults --workers 2

lock: dev  ## resolve the pinned, hashed requirement files anew
	$(BIN)/pip install --quiet uv
	sh requirements/lock.sh

build: dev  ## the wheel, with its contents checked
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel
	$(BIN)/python tests/check_wheel.py dist/*.whl

clean:  ## remove the environment and build products (never runs/)
	rm -rf $(VENV) .venv-docs .venv-peers .venv-peers-fluids .venv-teachers dist site .mypy_cache .ruff_cache .pytest_cache
