.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The first Python that is new enough; `make setup PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$candidate"; break; }; done)
BIN := .venv/bin
STAMP := .venv/.ready
SOURCES := $(wildcard outbox workers config benchmarks)
PYTEST := $(BIN)/python -m pytest
# Much of the tests' time is waiting for processes: three beside each other keep two cores busy.
TEST_PROCESSES ?= 3

# Containers often say so; here one process would compile for itself what hundreds of others have compiled before.
unexport PYTHONDONTWRITEBYTECODE

# Whoever told pip about an index has told uv as well.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# Trust whom the system trusts, as pip does; uv's own list is for systems that have none.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= 1
endif

.PHONY: help
help:  ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP)  ## Build the development environment in .venv, from the lock

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "celery-outbox needs Python 3.11 or newer; none was found as python3." >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null && test -x $(BIN)/uv || { $(PYTHON) -m venv --clear .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement <(sed -n '/^uv==/,/# via/p' requirements.lock); }
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lock
lock:  ## Resolve the newest versions that pyproject.toml allows into requirements.lock
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --all-extras --group dev --output-file requirements.lock pyproject.toml
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --extra service --extra postgres --extra flask --group image \
		--constraint requirements.lock --output-file deploy/requirements.lock pyproject.toml

.PHONY: run
run: $(STAMP)  ## Start the whole stack with the example bot (ARGS=--exit ends it by itself)
	@$(BIN)/python -m examples.flask_bot $(ARGS)

.PHONY: test
test: lint types  ## Everything that must be green: lint, types, all tests but those of test-long and test-crash
	$(PYTEST) -m "not crash and not long" -n $(TEST_PROCESSES) --dist loadgroup $(ARGS)

.PHONY: test-unit
test-unit: $(STAMP)  ## Pure decisions and single modules
	$(PYTEST) tests/unit $(ARGS)

.PHONY: test-contract
test-contract: $(STAMP)  ## What every store must do, on SQLite and PostgreSQL
	$(PYTEST) tests/contract $(ARGS)

.PHONY: test-integration
test-integration: $(STAMP)  ## Real brokers, databases and Celery workers
	$(PYTEST) tests/integration $(ARGS)

.PHONY: test-long
test-long: $(STAMP)  ## What takes long, and of which quicker tests see the most: another database, another screen, the newest Django
	$(PYTEST) -m long -n $(TEST_PROCESSES) --dist loadgroup $(ARGS)

# REPORT=docs/reference/crash-matrix.json keeps what was found; docs/crash_matrix.py makes the page of it.
.PHONY: test-crash
test-crash: $(STAMP)  ## Processes killed at every point, on both databases and pools (long; REPORT=file.json)
	CRASH_REPORT="$(REPORT)" $(PYTEST) -m crash -n $(TEST_PROCESSES) --dist loadgroup $(ARGS)

.PHONY: test-rules
test-rules: $(STAMP)  ## Each rule that closes a race, taken out: the tests that stand for it must fail (long)
	$(PYTEST) tests/rules $(ARGS)

MINUTES ?= 30

# Both databases beside each other; build/soak-*.txt grows by a line a minute. REPORT=docs/reference/soak.json keeps what was
# found; docs/soak.py makes the page of it.
.PHONY: soak
soak: $(STAMP)  ## Everything dies at any moment while messages keep coming (MINUTES=30, REPORT=file.json)
	OUTBOX_SOAK_MINUTES=$(MINUTES) OUTBOX_SOAK_REPORT="$(REPORT)" $(PYTEST) tests/crash/test_soak.py \
		-n $(TEST_PROCESSES) --dist loadgroup $(ARGS)

.PHONY: bench
bench: $(STAMP)  ## Measure beside bare Celery, bare clients and rivals (ARGS=--quick for a look)
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: docs
docs: $(STAMP)  ## Build the documentation's site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# Ends with 3 instead of 1 (which make makes 2 of) where no service could be asked: see deploy/audit.py.
.PHONY: audit
audit: $(STAMP)  ## Ask a vulnerability service about every version in the lock (needs a network)
	$(BIN)/python deploy/audit.py

# One Python of every minor version that is new enough, from PATH and from pyenv.
PYTHONS ?= $(shell for candidate in python3 python3.{11,12,13,14,15} $${PYENV_ROOT:-$$HOME/.pyenv}/versions/*/bin/python; do \
	"$$candidate" -c 'import sys; v = sys.version_info; v >= (3, 11) and print(v.minor, sys.executable)' 2>/dev/null || true; \
	done | sort -n -u -k1,1 | cut -d" " -f2)

.PHONY: test-all-pythons
test-all-pythons: $(STAMP)  ## Unit, contract and Django tests on every Python that this machine has (PYTHONS=...)
	@for python in $(PYTHONS); do \
		environment=.venvs/$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "== $$python, in $$environment"; \
		$(BIN)/uv venv --quiet --allow-existing --python "$$python" "$$environment"; \
		$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python "$$environment/bin/python" requirements.lock; \
		$(BIN)/uv pip install --quiet --python "$$environment/bin/python" --no-deps --no-build-isolation --editable .; \
		"$$environment/bin/python" -m pytest -p no:cacheprovider tests/unit tests/contract tests/integration/django $(ARGS); \
	done

.PHONY: lint
lint: $(STAMP)  ## Style, format and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: types
types: $(STAMP)  ## Strict types
	$(BIN)/mypy $(SOURCES)

.PHONY: format
format: $(STAMP)  ## Format the code and mend what can be mended safely
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean:  ## Remove everything that can be built again, the environment too
	rm -rf .venv .venvs build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
