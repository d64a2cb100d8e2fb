# The commands of this project; `make help` explains them. Everything runs in .venv, which `make dev` makes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(abspath $(VENV))/bin
ROOTS := $(wildcard */src)
PYTEST := $(BIN)/pytest
ROUNDS ?= 3
JOINS ?= 1000
K ?=
LAB ?= slurmlet
# Debian suites whose Slurm labs run; tests/claims.toml has them, too.
RELEASES ?= trixie sid
TIER := tests/tools/tier
E2E := $(BIN)/python tests/tools/e2e.py
C_FILES = $(shell git ls-files '*.c' '*.h' 2>/dev/null || find . -path ./.venv -prune -o -name '*.[ch]' -print)
SHELL_FILES = $(shell git ls-files -z | xargs -0 awk 'FNR == 1 && /^\#!\/bin\/(ba)?sh/ { print FILENAME } { nextfile }' 2>/dev/null)

export ROUNDS

.PHONY: help
help: ## Explain every target
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@printf '  make %-16s %s\n' 'e2e K=EXPR' 'Run only the e2e tests that match EXPR (pytest -k)'

# --- what a machine needs -------------------------------------------------------------------------

.PHONY: deps dev provision
deps: ## Install the Debian packages that the lab needs (root)
	@tests/tools/deps

dev: $(VENV)/.stamp ## Make .venv with the project editable and all tools

$(VENV)/.stamp: pyproject.toml uv.lock $(wildcard spank/*.py spank/csrc/* spank/enter/*)
	@tests/tools/venv $(VENV)
	@touch $@

provision: deps dev ## Everything slow and cached: binaries, and for each release image, wheels and plugin
	@for suite in $(RELEASES); do ./lab image --slurm "$$suite"; done
	@$(BIN)/slurmlet-controlplane build e2e.test ginkgo >/dev/null
	@$(BIN)/python -m tests.tools.helm

# --- checks ---------------------------------------------------------------------------------------

.PHONY: fmt lint lint-ruff lint-types lint-imports lint-c lint-shell lint-ansible lint-selftest
fmt: dev ## Format Python and C
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .
	@[ -z "$(C_FILES)" ] || $(BIN)/clang-format -i $(C_FILES)

lint: dev lint-ruff lint-types lint-imports lint-c lint-shell lint-ansible lint-selftest ## Check style, types, layers, C, shell and Ansible, and that the checks catch what they should

lint-ruff:
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lint-types:
	@$(BIN)/mypy

# -S keeps out the editable install, so that the tree at hand is checked and no other.
lint-imports:
	@PYTHONPATH="$$(echo $(abspath $(ROOTS)) | tr ' ' ':'):$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  $(BIN)/python -S -c 'from importlinter.cli import lint_imports_command as main; main()' --no-cache

lint-c:
	@[ -z "$(C_FILES)" ] || $(BIN)/clang-format --dry-run -Werror $(C_FILES)

lint-shell:
	@[ -z "$(SHELL_FILES)" ] || $(BIN)/shellcheck $(SHELL_FILES)

lint-ansible:
	@cd ansible && PATH="$(BIN):$$PATH" ANSIBLE_COLLECTIONS_PATH="$$(tools/collection)" ansible-lint --offline -q

lint-selftest:
	@$(PYTEST) -q tests/lint

.PHONY: unit integration e2e e2e-trixie e2e-sid test claims soak
unit: dev ## Fast tests; no root, no network
	@$(PYTEST) -q tests/unit $(if $(K),-k '$(K)')

integration: dev ## Tests against a real API server on loopback
	@$(PYTEST) -q $(if $(K),-k '$(K)',-n 2 --dist loadfile) tests/integration

e2e: provision ## Tests in the lab: booted nodes, real Slurm (root); on each release, at the same time
	@$(TIER) run e2e $(MAKE) -j2 -k $(if $(K),beside-trixie,$(BESIDE))

BESIDE := $(addprefix beside-,$(RELEASES))
.PHONY: $(BESIDE)
$(BESIDE): beside-%:
	@$(TIER) beside "e2e $*" $(MAKE) e2e-$*

e2e-trixie: dev ## Only on the first release, all tests
	@SLURMLET_LAB_SLURM=trixie $(E2E) $(if $(K),-k '$(K)')

e2e-sid: dev ## Only on the second release, what tests/claims.toml claims of it
	@SLURMLET_LAB_SLURM=sid $(E2E) --only-claims $(if $(K),-k '$(K)')

test: ## Install what is missing and run every tier; prints minutes per tier
	@$(TIER) start
	@rm -rf build/claims build/claims.json
	@$(TIER) run provision $(MAKE) provision
	@$(TIER) run lint $(MAKE) lint
	@$(TIER) run unit $(MAKE) unit
	@$(TIER) run integration $(MAKE) integration
	@$(MAKE) e2e
	@$(TIER) run claims $(MAKE) claims
	@$(TIER) report

claims: dev ## Print claim, test and result of the last runs on each release; fail on a gap
	@$(BIN)/python tests/tools/claims.py

soak: provision ## All e2e tests with many rounds, on each release
	@for suite in $(RELEASES); do \
	  ROUNDS=50 SLURMLET_LAB_SLURM="$$suite" $(TIER) run "soak $$suite" \
	    $(E2E) --timeout=14400; \
	done
	@$(TIER) run claims $(MAKE) claims

.PHONY: soak-scheduler
soak-scheduler: dev ## Two schedulers of which one is killed each 20 s under 5,000 pods; a network that is dead for 90 s
	@PODS=5000 ROUNDS=10 KILL_SECONDS=20 WATCH_SILENCE=90 \
	  $(PYTEST) -q -s --timeout=900 tests/integration/scheduler

.PHONY: conformance
conformance: provision ## Kubernetes' own specs in the lab, those that take minutes as well; known failures: tests/e2e/upstream.toml
	@SLOW=1 SLURMLET_LAB_SLURM=trixie $(PYTEST) -q tests/e2e/test_upstream.py

# --- figures -------------------------------------------------------------------------------------

.PHONY: bench-join bench-start bench-webhook bench-scheduler
bench-join: provision ## Measure joins, prologs and the pods' network in the lab; prints docs/figures.md's table
	@PYTHONPATH=tests/lab $(BIN)/python -m tests.bench --lab $(LAB) --joins $(JOINS)

bench-start: provision ## Measure how pods start, speak and end in the lab; WRITE=1: into docs/figures.md
	@PYTHONPATH=tests/lab $(BIN)/python -m tests.bench.start --lab $(LAB) $(if $(WRITE),--write)

bench-webhook: dev ## Measure what admission adds to requests, beside a no-op in Go; WRITE=1: into docs/figures.md
	@PYTHONPATH=tests/lab $(BIN)/python -m tests.bench.webhook $(if $(WRITE),--write)

bench-scheduler: dev ## Measure how fast pods are bound, beside kube-scheduler; WRITE=1: into docs/figures.md
	@PYTHONPATH=tests/lab $(BIN)/python -m tests.bench.scheduler $(if $(WRITE),--write)

# --- the lab and the demo -------------------------------------------------------------------------

.PHONY: demo lab-up lab-sync lab-down doctor
demo: provision ## Set everything up and show the main job: kubectl apply, a Slurm job, its logs
	@examples/demo

lab-up: provision ## Boot the lab and roll slurmlet out on it
	@./lab --name $(LAB) up

lab-sync: dev ## Copy changed Python files into the running lab
	@./lab --name $(LAB) sync

lab-down: ## Take the lab down; nothing of it remains
	@./lab --name $(LAB) down

doctor: ## Say what this machine lacks for the targets above
	@tests/tools/doctor
