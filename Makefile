# Quartz-Flow. `make help` lists what there is; nothing but python3 (3.11 or newer) is needed beforehand.

PYTHON ?= python3
BIN := .venv/bin
MANAGE := $(BIN)/python manage.py
UV_COMPILE = $(CURDIR)/$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

.DEFAULT_GOAL := help
.PHONY: help run setup test lint types bench pictures lock messages clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Settings are environment variables: docs/configuration.md"

run: ## Run everything on this machine: console, scheduler, bridge, a local agent
	@$(PYTHON) deploy/bootstrap.py run
	@exec $(MANAGE) run

setup: ## Only prepare what `make run` would: data directory, database, keys, first user
	@$(PYTHON) deploy/bootstrap.py run
	@exec $(MANAGE) setup

test: ## Run all tests in parallel (ARGS="-k word" passes arguments to pytest)
	@$(PYTHON) deploy/bootstrap.py test
	@exec $(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

lint: ## Check style and format
	@$(PYTHON) deploy/bootstrap.py test
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: ## Check types
	@$(PYTHON) deploy/bootstrap.py test
	@$(BIN)/mypy

bench: ## Run the benchmarks (ONLY=name runs one) and write bench.json
	@$(PYTHON) deploy/bootstrap.py test
	@exec $(BIN)/python -m tests.bench $(if $(ONLY),ONLY=$(ONLY))

pictures: ## Take the pictures of the documentation anew
	@$(PYTHON) deploy/bootstrap.py test
	@exec $(BIN)/python -m tests.pictures $(ARGS)

lock: ## Resolve requirements/*.in anew into requirements/*.txt
	@$(PYTHON) deploy/bootstrap.py test
	cd requirements && $(UV_COMPILE) base.in -o base.txt && $(UV_COMPILE) -c base.txt dev.in -o dev.txt

messages: ## Collect texts to translate and compile the translations
	@$(PYTHON) deploy/bootstrap.py test
	@$(MANAGE) messages

clean: ## Remove what was built; the data directory stays
	rm -rf .venv build dist bench.json test-results .pytest_cache .mypy_cache .ruff_cache .hypothesis agent/build agent/*.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
