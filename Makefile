# The verbs of this repository. `make help` prints them.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
WORKERS ?= 2
DATA_DIR ?= data
PORT ?= 8765
N ?= 20000
CALLS ?= 40
MODE ?= all
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup check audit format test oracle crash load demo serve bench openapi lock

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-9s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything in it, from the lock

$(STAMP): requirements-dev.lock pyproject.toml client/pyproject.toml
	@test -n "$(PYTHON)" || { echo "everspace needs Python 3.11 or newer, as python3 on PATH or PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV) || \
		{ echo "the standard library's venv does not work here; on Debian: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e ./client -e .
	@touch $@

check: setup ## format, lint, types, layer contracts, tidy rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/tidy

audit: setup ## ask the vulnerability database about every locked version (needs the network)
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.lock
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements-dev.lock

format: setup ## put the source into its form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

test: setup ## all tests
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

oracle: setup ## compare the engine with the running kernel, N sequences in each mode (SEED, CALLS, MODE, ONLY)
	$(BIN)/python -m tests.oracle --sequences $(N) --calls $(CALLS) --mode $(MODE) --only "$(ONLY)" $(if $(SEED),--seed $(SEED))

crash: setup ## kill, fail and cut off power for N rounds (SEED, MINUTES); see docs/reliability.md
	$(BIN)/python -m tests.crash --rounds $(if $(filter command line,$(origin N)),$(N),10) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

load: setup ## 64 clients for 60 s beside others that do not behave; latencies and memory (SECONDS, CLIENTS, SEED)
	$(BIN)/python -m tests.load --seconds $(or $(SECONDS),60) --clients $(or $(CLIENTS),64) $(if $(SEED),--seed $(SEED))

demo: setup ## fill a space, kill the service, start it again, find everything there
	$(BIN)/python -m examples.word_index

serve: setup ## run the service on 127.0.0.1 (DATA_DIR, PORT)
	$(BIN)/everspaced serve --data-dir $(DATA_DIR) --port $(PORT)

bench: setup ## measure against peers in the same run; writes benchmarks/latest.json
	-$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-bench.lock
	$(BIN)/python -m benchmarks.run

openapi: setup ## write the golden file of the HTTP interface anew
	$(BIN)/python -m app.openapi tests/app/openapi.json

lock: ## choose new versions of all dependencies (needs the network)
	.ci/lock
