.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
LOCKS := requirements.lock ops/docker/requirements.lock ops/docker/build.lock \
  tests/fuzz/requirements.lock tests/clients/requirements.lock .ci/audit.lock \
  ops/bench/peers/frameworks/arroyo.lock ops/bench/peers/frameworks/faststream.lock \
  ops/bench/peers/frameworks/quixstreams.lock
LONG_RUN = HOOKLINE_LONG_RUN=$@ HOOKLINE_SEED="$(SEED)"
PEERS := $(patsubst %,.venv/peers/%/.installed,arroyo faststream quixstreams)
COMPILE := uv pip compile --universal --generate-hashes --no-annotate --no-header --no-emit-index-url

.PHONY: help install up demo test check prove faults simulate-faults fuzz bench profile audit tools secrets lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "hookline needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "creating .venv (once; a minute on a slow line)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP) ## Create .venv with everything in it, from the lock file

up: $(STAMP) ## Run Kafka, PostgreSQL, Valkey and hookline on this machine (Ctrl-C stops)
	@$(BIN)/hookline up $(ARGS)

demo: $(STAMP) ## Run simulated traffic through everything, compare with the known outcome
	@$(BIN)/hookline demo $(ARGS)

test: $(STAMP) ## Run all tests on real servers (they are started for the run)
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## Lint, format, types, import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

prove: $(STAMP) ## Prove the laws of ordering on a new seed's histories (minutes); SEED=… replays
	@$(LONG_RUN) $(BIN)/python -m pytest -qs --timeout 1800 \
	  tests/property tests/unit/billing/test_captured.py tests/unit/test_cache_model.py \
	  tests/system/test_every_order.py $(ARGS)

faults: $(STAMP) ## Kill, stop and starve consumers on real servers (an hour or two); SEED=… replays
	@$(LONG_RUN) $(BIN)/python -m pytest -qs --timeout 3600 tests/faults tests/system/test_join.py $(ARGS)

simulate-faults: $(STAMP) ## Run consumers on 10,000 seeds of faults, in memory (an hour); SEED=… replays
	@$(LONG_RUN) $(BIN)/python -m pytest -qs --timeout 7200 tests/simulation $(ARGS)

fuzz: $(STAMP) .venv/.fuzzer ## Forge a million requests, ask the SDK, atheris and the clock (minutes); SEED=… replays
	@$(LONG_RUN) $(BIN)/python -m pytest -qs --timeout 3600 tests/fuzz $(ARGS)

bench: $(STAMP) $(PEERS) ## Measure ratios on this machine (ARGS=--quick: one small round); starts servers of its own
	@$(BIN)/hookline bench $(ARGS)

profile: $(STAMP) ## Write flame graphs of a consumer and of ingest under load into .hookline/profile
	@$(BIN)/python -m ops.bench.profiling .hookline/profile

# What hookline is measured against, each with its own pins beside hookline's libraries.
.venv/peers/%/.installed: ops/bench/peers/frameworks/%.lock $(STAMP)
	@$(BIN)/python -m venv .venv/peers/$*
	@.venv/peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@$(BIN)/python -m ops.bench.link_peer .venv/peers/$*
	@touch $@

.venv/.fuzzer: tests/fuzz/requirements.lock $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

audit: .venv/audit/.installed ## Hold every pinned version against the advisories that PyPI knows (needs PyPI)
	@for lock in $(LOCKS); do echo "$$lock"; .venv/audit/bin/pip-audit --strict --disable-pip \
	  --require-hashes --progress-spinner off -r "$$lock" $(ARGS) || exit 1; done

.venv/audit/.installed: .ci/audit.lock $(STAMP)
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

tools: .venv/.tools ## Fetch other people's programs that some tests run: Prometheus, PgBouncer, stripe-mock, kubeconform

.venv/.tools: tests/tools/debian.txt tests/tools/go.txt tests/tools/go-files.txt tests/tools/fetch.sh $(STAMP)
	@tests/tools/fetch.sh .venv/tools
	@touch $@

secrets: ## Make the secrets that docker-compose.yml names, once
	@ops/docker/secrets.sh

lock: ## Pin the newest versions that pyproject.toml allows (for maintainers; needs uv)
	$(COMPILE) --upgrade --extra embedded --extra bench --extra dev --extra tracing pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock pyproject.toml -o ops/docker/requirements.lock
	$(COMPILE) --upgrade --python-version 3.11 tests/fuzz/requirements.in -o tests/fuzz/requirements.lock
	$(COMPILE) --upgrade --python-version 3.11 .ci/audit.in -o .ci/audit.lock
	$(COMPILE) --upgrade tests/clients/requirements.in -o tests/clients/requirements.lock
	for peer in arroyo faststream quixstreams; do $(COMPILE) --upgrade --python-version 3.11 \
	  ops/bench/peers/frameworks/$$peer.in -o ops/bench/peers/frameworks/$$peer.lock; done
	echo 'hatchling>=1.27' | $(COMPILE) -c requirements.lock - -o ops/docker/build.lock

clean: ## Remove the virtual environment, caches and the data of `make up`
	rm -rf .venv .hookline .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
