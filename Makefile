# Thin wrappers: each target is one command that also works without make (README, "On Windows").
# GNU Make 3.81 suffices.

IB ?= ib_insync
ifeq ($(IB),ib_insync)
VENV := .venv
LOCK := requirements.txt
else ifeq ($(IB),ib_async)
VENV := .venv-ib_async
LOCK := requirements-ib_async.txt
else
$(error IB must be ib_insync or ib_async, was "$(IB)")
endif

PY := $(VENV)/bin/python
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes
TESTS ?=

# An interrupted or moved virtual environment is made again.
ifneq ($(wildcard $(VENV)),)
ifneq ($(shell $(PY) -c "print(1)" 2>/dev/null),1)
$(shell rm -f $(RUN) $(DEV) $(VENV)/.made)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help run demo test test-ci test-all check fmt bench crash sessions simulate mutants deploy-vps deploy-lambda deploy-executor lock clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUN)  ## Run relay, paper TWS, executor and status page on this machine; Ctrl-C stops them
	@$(PY) -m deploy.local

demo: $(RUN)  ## While make run is running: a short demo in which prices move
	@$(PY) -m deploy.demo

# The tests start hundreds of programs; compiled anew for each, our code would take most of their time.
unexport PYTHONDONTWRITEBYTECODE
# Four at once, on two cores too: they wait as much as they compute. Who has nothing left takes over from another.
PYTEST := $(PY) -m pytest -n 4 --dist worksteal

test: $(DEV)  ## Run the tests; of random proofs a sample
	$(PYTEST) $(TESTS)

test-ci: $(DEV)  ## Run the larger samples that make test leaves out; .ci/run runs both
	$(PYTEST) -m "ci and not slow" $(TESTS)

test-all: $(DEV)  ## Run all tests, with the long proofs
	$(PYTEST) -m "slow or not slow" $(TESTS)

check: $(DEV)  ## Check lint, format, types, import contracts
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

fmt: $(DEV)  ## Format, and fix what the linter can fix
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(DEV)  ## Measure speed against the simplest program that does the same; PARTS="order burst"; WRITE=1 writes docs/performance.md
	@$(PY) -m bench $(PARTS) $(if $(JOURNAL),--journal "$(JOURNAL)") $(if $(WRITE),--write)

crash: $(DEV)  ## Kill executor and relay at their boundaries, check the records; RUNS= (0: all) DOUBLE= RELAY= ENGINES= ONLY= SEED= JOBS=
	@$(PY) -m tests.crash $(if $(RUNS),--runs $(RUNS)) $(if $(DOUBLE),--double $(DOUBLE)) $(if $(RELAY),--relay $(RELAY)) $(if $(ENGINES),--engines "$(ENGINES)") \
	    $(if $(ONLY),--only "$(ONLY)") $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS))

sessions: $(DEV)  ## Play random sessions of the real programs, with kills and cuts, judged from the contract; COUNT= fresh seeds, or SEEDS=17 or 1-400; JOBS=, SECONDS=
	@$(PY) -m tests.sessions $(if $(SEEDS),--seeds $(SEEDS)) $(if $(COUNT),--count $(COUNT)) $(if $(JOBS),--jobs $(JOBS)) $(if $(SECONDS),--seconds $(SECONDS))

simulate: $(DEV)  ## Simulate trading days by seed under a virtual clock, checked after every step; COUNT= fresh seeds, or SEEDS=17 or 1-400; DAYS=, SECONDS=, TRACE=1
	@$(PY) -m tests.simulate $(if $(SEEDS),--seeds $(SEEDS)) $(if $(COUNT),--count $(COUNT)) $(if $(DAYS),--days $(DAYS)) $(if $(SECONDS),--seconds $(SECONDS)) \
	    $(if $(TRACE),--trace)

mutants: $(DEV)  ## Break each rule of the order protocol in a copy of the code, and see a test catch it; ONLY= limits it
	@$(PY) -m tests.mutants $(if $(ONLY),--only "$(ONLY)")

deploy-vps: $(DEV)  ## Install the relay on a server: HOST=user@server DOMAIN=relay.example.com; or into a folder: DESTDIR=folder
	@$(PY) -m deploy.vps $(if $(HOST),--host "$(HOST)") $(if $(DESTDIR),--destdir "$(DESTDIR)") $(if $(DOMAIN),--domain "$(DOMAIN)")

deploy-lambda: $(DEV)  ## Deploy the relay to AWS Lambda with the SAM command line; its queue is PostgreSQL
	@$(PY) -m deploy.aws_lambda

deploy-executor: $(RUN)  ## Run the executor as a service on this machine; FLAGS="--relay-url https://relay.example.com"
	@$(PY) -m deploy.executor_service $(FLAGS)

lock: $(DEV)  ## Recompile the locks from pyproject.toml
	$(PY) -m deploy.lock

clean:  ## Remove environments and caches, but keep databases and .env
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/.made:
	@sh deploy/venv.sh $(VENV)
	@touch $@

$(RUN): $(VENV)/.made $(LOCK)
	@echo "Installing what $(LOCK) names into $(VENV) ..."
	@$(PIP) -r $(LOCK)
	@sh deploy/hooks.sh
	@touch $@

$(DEV): $(RUN) requirements-dev.txt
	@echo "Installing the tools of requirements-dev.txt into $(VENV) ..."
	@$(PIP) -r $(LOCK) -r requirements-dev.txt
	@touch $@
