# `make` alone prints what there is. Every target works in a fresh clone.

.DEFAULT_GOAL := help
.PHONY: help run test example bench bench-ingest bench-queries bench-beside bench-services \
	chaos clients fuzz lint fmt clean deny

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the release binary and serve on 127.0.0.1:8080 with ./data (ARGS="…" adds flags)
	@scripts/require.sh build
	cargo build --release --locked --package gristmill
	"$$(scripts/binary.sh release)" serve $(ARGS)

test: ## Check everything: format, lints, documentation, all tests
	@scripts/test.sh

example: ## Run the examples of the client library against a server of their own
	@scripts/example.sh

bench: ## Measure all of the following, for about an hour
	@scripts/bench.sh

bench-ingest: ## Measure ingestion on this machine (ARGS="…" are flags of one `gristmill bench ingest`)
	@scripts/bench-ingest.sh

bench-queries: ## Compare questions with ClickHouse's engine and DuckDB (ARGS="…" adds flags)
	@scripts/bench-queries.sh

bench-beside: ## Measure questions and ingestion beside each other (ARGS="…" adds flags)
	@scripts/bench-beside.sh

bench-services: ## Measure over Kafka, PostgreSQL and Redis, beside Kafka's producer tool and COPY
	@scripts/bench-services.sh

chaos: ## Kill and stop servers under load, often and for long, and check that nothing is lost
	@scripts/chaos.sh

lint: ## Format check and lints only
	@scripts/require.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Format the code
	cargo fmt --all

clients: ## Call every method through clients that others have made
	@scripts/clients.sh

fuzz: ## Feed every decoder made-up bytes, each for FUZZ_SECONDS (60); ARGS="…" names targets
	@scripts/fuzz.sh

clean: ## Remove what was built; the data directory stays
	cargo clean

deny: ## Check licences, bans, sources and advisories of the dependencies
	@scripts/deny.sh
