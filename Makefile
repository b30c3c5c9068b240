SHELL := /bin/sh
PY := .venv/bin/python
# Two workers for two cores; a test file stays with one of them, so that its vhost is made once.
PYTEST_ARGS ?= -n 2 --dist loadfile
SOAK_RUNS ?= 20
.DEFAULT_GOAL := help

.PHONY: help
help: ## lists these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-14s %s\n", $$1, $$2 }'

.PHONY: setup
setup: .venv/ready ## prepares .venv with renewd and the development tools

.venv/ready: requirements.lock pyproject.toml deploy/setup.sh
	@deploy/setup.sh venv
	@touch $@

.PHONY: demo
demo: setup ## a simulated year of renewals on an embedded Postgres; needs no server
	@.venv/bin/renewd demo

.PHONY: test
test: setup ## every test, with private Postgres and RabbitMQ servers (or RENEWD_TEST_*_URL)
	@deploy/setup.sh rabbitmq
	@$(PY) -m pytest $(PYTEST_ARGS)

.PHONY: lint
lint: setup ## ruff, formatting and mypy --strict
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy

.PHONY: format
format: setup ## formats the code and sorts the imports
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

.PHONY: services
services: setup ## starts private Postgres and RabbitMQ servers that stay; prints their RENEWD_*_URL
	@deploy/setup.sh rabbitmq
	@$(PY) -m lab.servers start

.PHONY: services-stop
services-stop: setup ## ends the servers of `make services`; their data goes with them
	@$(PY) -m lab.servers stop

.PHONY: bench
bench: setup ## measures renewals per second on private servers (renewd bench --help)
	@.venv/bin/renewd bench renewals

.PHONY: soak
soak: setup ## the system tests again and again, each time with a new seed (SOAK_RUNS=20)
	@deploy/setup.sh rabbitmq
	@for run in $$(seq $(SOAK_RUNS)); do $(PY) -m pytest -q tests/system || exit 1; done

.PHONY: ci
ci: ## what the continuous integration runs: the tests, then the linters
	@.ci/run

.PHONY: lock
lock: setup ## renews requirements.lock (hashes, no addresses); needs uv
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--python-version 3.11 --extra dev --upgrade pyproject.toml -o requirements.lock
