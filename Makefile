# Every target that a person types carries a line for `make help` after ##.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV   ?= .venv
CORES  ?= all
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SOURCES := setup.py src tests benchmarks docs workflow/scripts
SNAKEFILES := Snakefile workflow/Snakefile workflow/rules

# Snakemake calls python, snakemake and regflow by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help install demo demo-volumes demo-rasters demo-groups test test-all lint format docs bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## Make .venv with everything the lock pins

# The lock is complete, so pip resolves nothing. A torch built for CUDA needs libraries that the
# lock leaves out, because most machines want the CPU build: fetch them only where it asks for them.
# Bytecode is left to Python, which compiles what it imports: the rest would take minutes and 0.5 GB.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -c 'import torch' || $(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
# Who builds or tests torch itself needs these: 0.2 GB.
	rm -rf $(VENV)/lib/python3*/site-packages/torch/{include,test} $(VENV)/lib/python3*/site-packages/torch/bin/test_*
	$(BIN)/python -m regflow.examples.compile_kernels
	touch $@

demo: demo-volumes demo-rasters ## Run both demos: real brains, and real satellite scenes

demo-volumes: install ## Register real brains to the MNI atlas: demo/results/report/index.html
	$(BIN)/regflow demo --cores $(CORES)

demo-rasters: install ## Register real scenes and map changes: demo-rasters/results/report/index.html
	$(BIN)/regflow demo --rasters --cores $(CORES)

demo-groups: install ## Make a template, a series and a mosaic from images of known truth
	$(BIN)/regflow demo --groups

test: install ## Run the tests (minutes)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: install ## Run every test, the slow ones too
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: install ## Check style, types and the workflow's form
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/snakemake --lint
	$(BIN)/snakemake --lint --configfile config/rasters/config.yaml --config samples=config/rasters/samples.tsv

format: install ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/snakefmt $(SNAKEFILES)

docs: install ## Build the documentation: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: install ## Measure regflow beside its peers
	$(BIN)/python -m benchmarks

clean: ## Remove results and caches; keep .venv
	rm -rf results demo demo-rasters demo-groups site .snakemake build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests workflow benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
