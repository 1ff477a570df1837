# Worldswitch: `make help` lists the targets.
SHELL   := /bin/bash
CARGO   ?= cargo
SECONDS ?= 60
ENGINE  ?= interp
N       ?= 1000
SEED    ?= 1
export CARGO_TERM_COLOR ?= auto

.PHONY: help setup build demo installer test bench suites selftests tcg memtest kvm-unit-tests fuzz faults lint deny clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## check for the tools the build needs; says what it is about to install
	@.ci/setup

build: setup ## release binaries in target/release, guests in target/guests
	@$(CARGO) build --release --workspace

demo: build ## boot a Debian kernel: a shell on a terminal, else a self-check (fetches 75 MB once)
	@.ci/demo

installer: setup ## boot Debian's installer to its first question, with a lease (fetches 130 MB once)
	@tests/linux/fetch-installer
	@$(CARGO) test -p tests --test installer -- --show-output

test: setup ## everything CI runs: format, lints, unit, property, model, process and guest tests
	@.ci/test

suites: selftests tcg memtest ## suites nobody here wrote, run in guests; ENGINE=tcg runs the first two on QEMU's engine

selftests: build ## the kernel's selftests/x86 and selftests/timers in the guest (fetches 140 MB once)
	@ENGINE=$(ENGINE) tests/suites/selftests

tcg: build ## QEMU's tests/tcg, what they print compared with this host's CPU (fetches 35 MB once)
	@ENGINE=$(ENGINE) tests/suites/tcg

memtest: build ## Memtest86+ for a minute
	@ENGINE=$(ENGINE) tests/suites/memtest

kvm-unit-tests: build ## kvm-unit-tests that you have built, from DIR=path, on ENGINE (interp, kvm, or tcg for comparison)
	@tests/suites/kvm-unit-tests "$(DIR)"

bench: build ## measure everything, about half an hour on an idle machine; as root for the network; writes bench/RESULTS.md and bench/results
	@for what in crossing cpu memory disk boot net; do $(CARGO) run --quiet --release -p bench -- $$what || exit 1; done

fuzz: setup ## random instruction streams, then coverage-guided fuzzing, SECONDS each (needs a nightly toolchain; installs cargo-fuzz)
	@tests/fuzz/streams $(SECONDS)
	@tests/fuzz/run $(SECONDS)

faults: build ## kill the I/O worker N=1000 times under a guest's load, and whatever else can go wrong; SEED repeats a run
	@tests/linux/fetch && N=$(N) SEED=$(SEED) ENGINE=$(ENGINE) $(CARGO) run --release -p tests --bin faults

lint: setup ## rustfmt and clippy
	@$(CARGO) fmt --all --check && $(CARGO) clippy --workspace --all-targets -- -D warnings

deny: ## licences, advisories and sources (needs cargo-deny)
	@$(CARGO) deny check

clean: ## remove everything built
	@$(CARGO) clean
	@rm -rf tests/fuzz/target tests/fuzz/artifacts
