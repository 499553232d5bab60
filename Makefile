# make run    builds the dashboard (where Node is) and calltap, and starts it
# make ui     builds the dashboard into ui/dist, which the next build of calltap embeds
# make test   installs what the tests need in the tree, runs all of them
# make clients-matrix  the tests with client libraries, and docs/clients-matrix.md from what they saw
# make check  formatting, lints and documentation, with warnings as errors
# make soak   a light load with faults for SOAK_MINUTES (60); make chaos  the long form of every claim in
#             docs/reliability.md, for most of a day (CHAOS names some, CHAOS_SHARE takes so many percent of each)
# make fuzz   every fuzz target for FUZZ_SECONDS (60); FUZZ names some of them
# make bench  each step by itself (benches/), then the rig of ../shared/bench for BENCH_ROUNDS (5), beside the bare
#             floor and nginx where they are; target/bench/report-DATE.md says what came out, and on which machine
# make bench-tls  S1 and S4 of the rig with TLS towards the upstream, beside nginx; needs nginx and openssl
# make growth what a call costs as work grows, as tables and as docs/growth.svg; BIG names a data directory of many calls

CLIENTS := tests/clients
VENV := $(CLIENTS)/.venv
RESULTS := $(CURDIR)/$(CLIENTS)/.matrix
UI := ui
RIG := ../shared/bench
FUZZ ?= $(sort $(basename $(notdir $(wildcard fuzz/targets/*.rs))))
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 60
BENCH_ROUNDS ?= 5
REPORT = report-$(shell date +%F).md
BIG ?=

.PHONY: run test check bench bench-tls growth soak chaos fuzz clean rust-test client-test clients-matrix ui ui-test

run:
	@if command -v npm >/dev/null 2>&1; then $(MAKE) --no-print-directory ui; else echo "Node is not installed: building without the dashboard"; fi
	cargo run --release

# Built again only when something of it changed, so that calltap is not either.
UI_SOURCES := $(shell find $(UI)/src $(UI)/public $(UI)/index.html $(UI)/package.json $(UI)/vite.config.ts $(UI)/tsconfig.json -type f)

ui: $(UI)/dist/index.html
$(UI)/dist/index.html: $(UI)/node_modules/.installed $(UI_SOURCES)
	cd $(UI) && npm run --silent build
	touch $@

test: ui rust-test client-test ui-test

rust-test:
	@if cargo nextest --version >/dev/null 2>&1; then cargo nextest run; else cargo test; fi

client-test: $(VENV)/.installed $(VENV)/.collector $(VENV)-libraries/.installed $(VENV)-vendors/.installed $(CLIENTS)/node_modules/.installed
	@if [ -z "$$CALLTAP_BIN" ]; then cargo build; fi
	CALLTAP_MATRIX=$(RESULTS).official.json $(VENV)/bin/python -m pytest -q $(CLIENTS)
	CALLTAP_MATRIX=$(RESULTS).py.json $(VENV)-libraries/bin/python -m pytest -q $(CLIENTS)/test_clients.py $(CLIENTS)/test_docs.py
	$(VENV)-vendors/bin/python -m pytest -q --noconftest $(CLIENTS)/test_vendors.py
	cd $(CLIENTS) && CALLTAP_MATRIX=$(RESULTS).js.json node --test

clients-matrix: client-test
	python3 $(CLIENTS)/matrix.py docs/clients-matrix.md $(RESULTS).*.json

$(VENV)/.installed: $(CLIENTS)/requirements.txt
$(VENV)-libraries/.installed: $(CLIENTS)/libraries.txt
$(VENV)/.installed $(VENV)-libraries/.installed:
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Where it cannot be had, spans reach the tests' own receiver only.
$(VENV)/.collector: $(CLIENTS)/collector.txt $(VENV)/.installed
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r $< \
	  || echo "no collector for this platform: the tests that need one are skipped"
	touch $@

# Models only: what these packages would pull in beside is not needed.
$(VENV)-vendors/.installed: $(CLIENTS)/vendors.txt
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

$(CLIENTS)/node_modules/.installed: $(CLIENTS)/package-lock.json
	cd $(CLIENTS) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

$(UI)/node_modules/.installed: $(UI)/package-lock.json
	cd $(UI) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

ui-test: ui
	cd $(UI) && npm run --silent check && npm run --silent unit && npm run --silent same
	@for browser in chromium chromium-browser google-chrome; do command -v $$browser >/dev/null 2>&1 && exit 0; done; \
	  if [ -n "$$CHROMIUM" ]; then exit 0; fi; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else echo "the browser tests need Chromium: install the package chromium, or name a binary in CHROMIUM"; exit 1; fi
	cargo build
	cd $(UI) && npm run --silent browser

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; else echo "cargo-deny is not installed: licences and advisories not checked"; fi

soak:
	CALLTAP_TEST_SOAK=$(SOAK_MINUTES) cargo test --test it -- soak:: --nocapture

chaos:
	@tests/chaos

target/bench/target/release/llmload:
	@test -d $(RIG) || { echo "the rig is not here: $(RIG)"; exit 1; }
	rm -rf target/bench && mkdir -p target/bench && cp -r $(RIG)/. target/bench && chmod -R u+w target/bench
	cd target/bench && cargo build --release

bench-tls: target/bench/target/release/llmload
	cargo build --release
	benches/tls.py target/release/calltap target/bench $(BENCH_ROUNDS)

growth: target/bench/target/release/llmload
	cargo build --release
	benches/growth.py target/release/calltap target/bench/target/release/mock-upstream --svg docs/growth.svg $(if $(BIG),--big $(BIG))

bench: target/bench/target/release/llmload
	cargo build --release
	cargo bench --bench micro
	rm -rf target/bench/data target/bench/calltap.jsonl
	printf '[server]\nlisten = "127.0.0.1:9300"\n[upstreams.openai]\nbase_url = "http://127.0.0.1:9000/v1"\n[log]\nlevel = "warn"\n' > target/bench/calltap.toml
	cd target/bench && ./run.py one --name calltap \
	  --cmd '$(CURDIR)/target/release/calltap --config {bench}/calltap.toml --data-dir {bench}/data' \
	  --url http://127.0.0.1:9300 --rounds $(BENCH_ROUNDS) --out calltap.jsonl
	@grep -q '"peer": "calltap"' target/bench/calltap.jsonl || { echo 'calltap did not run'; exit 1; }
	cd target/bench && { echo "$$(uname -srm), $$(nproc) processors,$$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2)"; \
	  ./run.py report calltap.jsonl; } | tee $(REPORT)

# A target of its own keeps build scripts and macros free of coverage.
fuzz: HOST = $(shell rustc -vV | sed -n 's/host: //p')
fuzz:
	python3 fuzz/seeds.py
	cd fuzz && cargo build --release --locked --target $(HOST)
	@cd fuzz && for target in $(FUZZ); do \
	  mkdir -p corpus/$$target artifacts/$$target; echo "== $$target"; \
	  target/$(HOST)/release/$$target corpus/$$target seeds/$$target -artifact_prefix=artifacts/$$target/ \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=24576 -timeout=20 -print_final_stats=1 -verbosity=0 || exit 1; \
	done

clean:
	cargo clean
	rm -rf $(VENV) $(VENV)-libraries $(CLIENTS)/node_modules $(UI)/node_modules $(UI)/dist $(UI)/.again $(UI)/.unit
