# What a person types; every target works from a fresh clone. 'make help' lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test build protos lint bench bench-rpc soak clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

demo: ## the whole system once on this machine; IMAGES=DIR uses your own images
	@cluster/install-dependencies.sh
	@cluster/demo.sh

test: ## every test that .ci/run runs
	@cluster/install-dependencies.sh
	swift build --build-tests
	swift test --skip-build

build: ## all programs, release
	@cluster/install-dependencies.sh
	swift build -c release

protos: ## C and Swift from Protos/*.proto
	@cluster/install-dependencies.sh
	Protos/generate.sh

lint: ## format and shell scripts
	swift format lint --strict -r Sources Tests cluster/bench/rpc/grpc-swift/Sources
	@if command -v shellcheck >/dev/null; then shellcheck cluster/*.sh cluster/bench/rpc/*.sh .ci/run Protos/generate.sh; else echo 'shellcheck is not installed: scripts were not checked'; fi

bench: build ## cipher and shadows on one core; IMAGES=DIR adds the whole system
	@bin=$$(swift build -c release --show-bin-path) && $$bin/sfmedir bench cipher --json && $$bin/sfmedir bench shadows --json && if [ -n "$(IMAGES)" ]; then $$bin/sfmedir bench e2e --images "$(IMAGES)" --json; fi

bench-rpc: ## our RPC against gRPC C++ and gRPC Swift 2; ARGUMENTS='--rounds 9' and the like
	@cluster/install-dependencies.sh
	@cluster/bench/rpc/setup.sh
	swift build -c release --product sfmedir-rpc-bench
	@cluster/bench/rpc/run.py $(ARGUMENTS)

soak: ## minutes of random calls, cancellations and lost connections; ARGUMENTS='--seconds 60 --seed 7'
	@cluster/install-dependencies.sh
	swift build -c release --product sfmedir-rpc-bench
	@cluster/bench/rpc/soak.sh $(ARGUMENTS)

clean: ## removes what was built
	rm -rf .build cluster/bench/rpc/.build-grpc-cpp cluster/bench/rpc/grpc-swift/.build
