# `make run` and `make test` are all that a newcomer needs. Everything is installed from hash-locked files into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
  INSTALL = uv pip install -q --python $(BIN)/python
  MAKE_VENV = uv venv -q --python $(PYTHON) $(VENV)
else
  INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check
  MAKE_VENV = $(PYTHON) -m venv $(VENV)
endif

.PHONY: help run setup test check lint bench bench-cascade setup-train router reference lock grafana clean soak clients

help:           ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

run: setup      ## install, fetch the embedded model, start on 127.0.0.1:8400
	@$(BIN)/cauce models pull smollm2-135m-instruct
	@exec $(BIN)/cauce serve

setup: $(VENV)/.run ## install the gateway and its command into .venv

$(VENV)/bin/python:
	@echo "cauce: making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cauce needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	@test -x $(VENV)/bin/python || $(MAKE_VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "cauce: installing hash-locked packages (about 400 MB on disk, a minute or two the first time)"
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "cauce: installing what the tests need"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

NODE := tests/clients/node tests/policy/node
$(VENV)/.node: $(NODE:=/package-lock.json)
	@if command -v npm >/dev/null; then echo "cauce: installing the Node clients"; \
	for folder in $(NODE); do npm ci --prefix $$folder --silent --no-audit --no-fund || exit 1; done; \
	else echo "cauce: no npm: the Node clients' tests will be skipped"; fi
	@mkdir -p $(VENV) && touch $@

# Clients that cannot live with each other: an environment each, from its own locked file.
CLIENTS := openai2 openai3 langchain llamaindex agents schemathesis
clients: $(CLIENTS:%=$(VENV)/clients/%/.done) ## install the clients that have environments of their own

$(VENV)/clients/%/.done: tests/clients/environments/%.txt | $(VENV)/bin/python
	@echo "cauce: installing the environment of the client $*"
ifdef UV
	@test -x $(@D)/bin/python || uv venv -q --python $(BIN)/python $(@D)
	@uv pip install -q --python $(@D)/bin/python --require-hashes -r $<
else
	@test -x $(@D)/bin/python || $(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
endif
	@touch $@

test: setup $(VENV)/.dev $(VENV)/.node clients ## run the tests; what cannot run here is named with its reason
	@$(BIN)/cauce models pull smollm2-135m-instruct
	@$(BIN)/python -m pytest -q $(TESTS)

check: lint test ## what CI runs: lint, types, import contracts, policies, tests

lint: setup $(VENV)/.dev ## everything of check but the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/cauce check policies

bench: setup $(VENV)/.dev ## CPU per request against nginx (and LiteLLM's proxy when installed), paired in one run
	@$(BIN)/python -m tests.bench.run $(BENCH)

soak: setup $(VENV)/.dev ## the long runs, once
	@$(BIN)/python -m tests.ledger.proof --requests 20000
	@$(BIN)/python -m tests.bench.run --soak 10000 --scenarios c64 --rounds 1
	@CAUCE_FAULTS=10000 $(BIN)/python -m pytest -q -s tests/faults/test_chance.py
	@$(BIN)/python -m tests.bench.endure overload soak
	@$(BIN)/python -m tests.canary_run --requests 100000
	@$(BIN)/python -m tests.pseudonyms.restore_bench
	@CAUCE_KILLS=200 CAUCE_RELOAD_REQUESTS=10000 $(BIN)/python -m pytest -q tests/faults/test_kill.py tests/faults/test_reload.py

$(VENV)/.train: requirements/train.txt $(VENV)/.run
	@$(INSTALL) -r requirements/train.txt
	@touch $@

bench-cascade: setup $(VENV)/.train ## what the cascade saves beside the router, on measured outcomes; writes the checker's card
	@$(BIN)/python -m router_models.train.cascade --data $(DATA) --card router_models/cards/checker.md

setup-train: $(VENV)/.train ## install what training needs

router: setup $(VENV)/.train ## train the router and privacy models again from DATA
	@$(BIN)/python -m router_models.train --data $(DATA) --out router_models/artifacts

grafana: setup $(VENV)/.dev ## write the dashboards again
	@$(BIN)/python -m grafana.make_dashboards

reference: setup $(VENV)/.dev ## write REFERENCE.md and the counts in router_models/data/README.md again
	@$(BIN)/python -m tests.docs.reference
	@$(BIN)/python -m router_models.train.counts

lock:           ## resolve requirements/*.txt again (needs uv); run.txt is a part of dev.txt
	@$(LOCK) --extra embedded --extra litellm --extra postgres --extra parquet --extra hub --extra plot --extra otel --group build --group dev --group grafana -o requirements/dev.txt
	@$(LOCK) --extra embedded --group build -c requirements/dev.txt -o requirements/run.txt
	@for client in $(CLIENTS); do uv pip compile $(LOCKED) tests/clients/environments/$$client.in -o tests/clients/environments/$$client.txt || exit 1; done
LOCKED = -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
LOCK = uv pip compile $(LOCKED) pyproject.toml

clean:          ## remove what was installed here
	rm -rf $(VENV) $(NODE:=/node_modules)
