# Rollcall. `make` without a target prints what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test torture check fmt schema bench clean

# rustup installs here and leaves the PATH to the next login.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Further arguments of the server: make run ARGS="--port 5000"
ARGS ?=
export ARGS

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start the server with a PostgreSQL of its own and demo data; Ctrl-C stops it
	@.ci/port
	@echo "1/3 installing what is missing"
	@.ci/install
	@echo "2/3 building Rollcall: up to ten minutes the first time on two cores, then seconds"
	@cargo build --profile source
	@echo "3/3 starting PostgreSQL and Rollcall: some seconds"
	@EMBEDDED_DATABASE=$${EMBEDDED_DATABASE-true} exec target/source/rollcall serve --seed $(ARGS)

test: ## Run every test there is; installs what they need
	@.ci/install --test
	@tests/run

torture: ## Run 2,000 random histories with faults of the database; ROLLCALL_HISTORIES sets another number
	@.ci/install --test
	@ROLLCALL_HISTORIES=$${ROLLCALL_HISTORIES-2000} cargo test --test visibility_model -- sockets_reach_the_truth_after

check: ## Check format and lints, quickly
	@tests/run format lint

fmt: ## Format the code
	@cargo fmt --all

schema: ## Generate the baseline migrations from supabase/schemas
	@supabase/generate

bench: ## Run the benchmarks and keep them in benches/RESULTS.md; ARGS=quick for a short run, ARGS=context-size for much context
	@if [[ "$(ARGS)" == context-size* ]]; then exec benches/context_size $(wordlist 2,3,$(ARGS)); fi; cargo bench --quiet --bench presence -- $(ARGS)

clean: ## Remove what was built; the database in .rollcall stays
	@cargo clean
