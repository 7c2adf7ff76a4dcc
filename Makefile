# The commands of a checkout. `make help` lists them; PYTHON=python3.12 chooses the interpreter that makes .venv.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help install demo demo-docs experiment test check lint unit format chaos test-slow test-plugins test-endpoint test-cluster gpu-check docs release bench-data bench-synthesis bench-training bench-scale bench-serving clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed  ## .venv with the pinned packages; the targets below do this first

.venv/.installed: pyproject.toml requirements/cpu.txt requirements/dev.txt requirements/install.sh requirements/install_torch.sh
	@PYTHON="$(PYTHON)" bash requirements/install.sh

demo: install  ## tune the built-in model with DELIA on this machine, score it, write a report
	@$(BIN)/delia run --config jobs/configs/demo.yaml

demo-docs: install  ## README's table and drawing from runs/demo; MEASURED="minutes=11 memory_gb=11" says what you measured
	@$(BIN)/python docs/demo.py runs/demo $(MEASURED)

experiment: install  ## six arms under three seeds, and several ratios of diverse rows; about three hours, resumable
	@$(BIN)/delia experiment --config jobs/configs/experiment.yaml

PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

test: unit  ## every test but those that need a GPU, kill processes, run plug-ins or are slow
	$(PARALLEL) tests/families tests/storage
	$(PARALLEL) -m "not gpu and not slow" tests/gpu
	$(BIN)/python -m pytest -m "not gpu and not chaos and not plugins and not slow and not endpoint" tests/integration tests/e2e

check: lint unit  ## format, lint, types, import contracts, unit tests

lint: install  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

unit: install  ## the tests without Ray
	$(PARALLEL) tests/unit

format: install  ## rewrite the code the way `check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: install  ## kill the driver in every stage, and training workers and nodes, and go on
	$(BIN)/python -m pytest -m chaos tests

test-cluster: install  ## a head without CPUs, workers from zero that share no disk, jobs submitted to it, faults; about 100 minutes
	$(BIN)/python -m pytest -m cluster tests/cluster

test-slow: install  ## the tests that `make test` leaves out for their time: more ways to place a training, to stop it, to generate
	$(BIN)/python -m pytest -m slow tests

test-plugins: install .venv-learned-metrics/.installed  ## lm-eval over an endpoint; COMET and BLEURT in an environment of their own
	$(BIN)/python -m pytest -m plugins tests/integration tests/learned_metrics

test-endpoint: install .venv-clients/.installed  ## crashes, clients, made-up requests, load and ten minutes of all sorts of it; about half an hour
	$(BIN)/python -m pytest -s -m endpoint tests/integration/endpoint

.venv-clients/.installed: requirements/clients.txt
	@$(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/python -m pip install --quiet --no-deps --requirement requirements/clients.txt
	@touch $@

MINUTES ?= 12

gpu-check:  ## tests, speed and memory of this machine's GPU in MINUTES=12; PYTHON=... has requirements/gpu_check.txt
	$(PYTHON) -m benchmarks.gpu --minutes $(MINUTES)

.venv-learned-metrics/.installed: requirements/learned_metrics.txt
	$(BIN)/python -m venv .venv-learned-metrics
	bash requirements/install_torch.sh .venv-learned-metrics/bin/python requirements/learned_metrics.txt
	.venv-learned-metrics/bin/python -m pip install --no-deps --quiet --requirement requirements/learned_metrics.txt
	@touch $@

.venv-docs/.installed: requirements/docs.txt
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --no-deps --requirement requirements/docs.txt
	@touch $@

docs: .venv-docs/.installed  ## the documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet && echo build/site/index.html

release: .venv-docs/.installed  ## wheel and sdist in dist/, checked, and the wheel installed and asked for its version
	@bash requirements/release.sh

bench-training: .venv/.benched  ## training and tokenizing against TRL, accelerate, torchrun, datasets; over an hour
	@$(BIN)/delia mix --config jobs/configs/demo.yaml
	@$(BIN)/python -m benchmarks.training

bench-synthesis: install  ## answering against vLLM alone and ray.data.llm; about 50 minutes
	@$(BIN)/python -m benchmarks.synthesis

bench-data: .venv/.benched  ## deduplication and the shuffle against datasketch and numpy; about half an hour
	@$(BIN)/python -m benchmarks.data

bench-scale: install  ## synthesis with engines that only wait, and 52 million rows simulated
	@$(BIN)/python -m benchmarks.scale

bench-serving: install  ## the endpoint against vLLM's own server and ray.serve.llm, and arms as adapters against merged ones; about two hours
	@$(BIN)/python -m benchmarks.serving

.venv/.benched: .venv/.installed requirements/bench.txt
	$(BIN)/python -m pip install --no-deps --quiet --requirement requirements/bench.txt
	@touch $@

clean:  ## remove .venv and what tools left; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info
