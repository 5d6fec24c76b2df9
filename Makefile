# What a newcomer types. Everything it needs is installed by itself: Python packages into .venv, the
# Kubernetes control plane (built once) into the user's cache folder.

SHELL := /bin/bash
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
UV := $(shell command -v uv || echo .cache/uv/bin/uv)
PYTHON := .venv/bin/python

.PHONY: help demo dev test bench bench-guard bench-page chaos soak fuzz mutation lint format docs supply-chain licences sbom images chart helm setup control-plane clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: setup ## The main job end to end on this machine, with a real API server
	@$(PYTHON) -m deploy.dev.demo

dev: setup ## The same stack, left running; prints how to use it
	@$(PYTHON) -m deploy.dev.dev

test: setup lint control-plane helm ## Lint, types, import contracts and all tests
	$(PYTHON) -m pytest -n 3 --dist load --maxschedchunk 1 || $(PYTHON) -m tests.alone $$?

bench: setup control-plane wrk ## What it costs, beside the limit and the peers (BENCH="admission weight" for some, BENCH_FLAGS=--help)
	@$(PYTHON) -m tests.bench $(BENCH) $(BENCH_FLAGS)

bench-guard: setup control-plane wrk ## CPU an operation against what was recorded: fails on a rise of more than a fifth
	@$(PYTHON) -m tests.bench.guard $(BENCH_FLAGS)

bench-page: setup ## Write docs/performance.md and its pictures from what `make bench` measured last
	@$(PYTHON) -m tests.bench.page $(BENCH_FLAGS)

chaos: setup control-plane ## Faults under load, and what they cost (FAULT="nats-killed partition" for some; as root, with libfaketime)
	@$(PYTHON) -m tests.chaos $(FAULT) $(CHAOS_FLAGS)

soak: setup control-plane ## A long run under load, that nothing may grow in (DURATION=1h; as root)
	@$(PYTHON) -m tests.soak --duration $(or $(DURATION),1h)

fuzz: setup ## Bad input, guided by coverage (DURATION= seconds in all, TARGET= one of them)
	$(PYTHON) -m tests.fuzz --seconds $(or $(DURATION),600) $(TARGET)

mutation: setup ## Mutants of the pure modules against their tests (about five minutes)
	$(PYTHON) -m tests.mutation

lint: setup ## ruff, mypy, import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup ## Format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

supply-chain: setup ## Known weaknesses of what the image holds (where PyPI's service or OSV can be asked)
	@$(PYTHON) -m deploy.dev.supply_chain audit

licences: setup ## Write docs/licences.md: what the image holds, and under which licence
	@$(PYTHON) -m deploy.dev.supply_chain licences

sbom: setup ## A bill of materials of the image (CycloneDX) in dist/sbom.cdx.json
	@$(PYTHON) -m deploy.dev.supply_chain sbom

images: setup ## The container images, by docker or podman (BASE=… to build on a base of your own)
	@BASE='$(BASE)' $(PYTHON) -m deploy.dev.images

chart: setup helm ## The Helm chart: its README made of its values, then its linter, schema and template tests
	$(PYTHON) -m deploy.dev.chart_readme
	$(PYTHON) -m pytest -q -n 2 tests/chart/test_lint.py tests/chart/test_values.py tests/chart/test_render.py tests/chart/test_rights.py tests/chart/test_settings.py

control-plane: setup
	@$(PYTHON) -m deploy.dev.binaries

helm: setup
	@$(PYTHON) -m deploy.dev.helm

docs: setup ## Make the references from the code: docs/reference, docs/asyncapi.yaml, docs/schemas
	$(PYTHON) -m deploy.dev.asyncapi
	$(PYTHON) -m deploy.dev.reference

.PHONY: wrk
wrk:
	@command -v wrk >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install --quiet --yes wrk >/dev/null; } || \
	  { echo "wrk makes the load over TLS and is not installed: apt-get install wrk" >&2; exit 1; }

setup: .venv/.complete

.venv/.complete: pyproject.toml uv.lock $(filter .cache/%,$(UV))
	$(UV) sync --frozen --quiet
	@touch $@

.cache/uv/bin/uv:
	python3 -m venv .cache/uv
	.cache/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

clean: ## Remove what was built here (the user's cache stays)
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
