# What a person types; every target works from a fresh clone. 'make help' lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test build protos lint bench bench-rpc bench-shadows bench-segments bench-care bench-metadata bench-failover bench-restart bench-model eval sim chaos chaos-ci soak fuzz sanitize clean

TALKING = KeyControlTests|SlaveCloudTests|EnrollmentTests|MasterCloudTests|ImageOwnerTests|ImageUserTests|ClusterTests|InteropTests
CHAOS_PROGRAMS = [ -n "$$SFMEDIR_BIN" ] || for product in sfmedir sfmedir-kce sfmedir-mcs sfmedir-scs sfmedir-mo sfmedir-mu sfmedir-simulate; do swift build -c release --product $$product || exit; done

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 24

demo: ## the whole system once on this machine; IMAGES=DIR uses your own images
	@cluster/install-dependencies.sh
	@cluster/demo.sh

test: ## every test that .ci/run runs
	@cluster/install-dependencies.sh
	swift build --build-tests
	@# In three parts: simulations and arithmetic take all cores, and calls between daemons have deadlines to keep.
	swift test --skip-build --filter '$(TALKING)'
	swift test --skip-build --filter RPCTests
	swift test --skip-build --skip 'RPCTests|$(TALKING)'

build: ## all programs, release
	@cluster/install-dependencies.sh
	swift build -c release

protos: ## C and Swift from Protos/*.proto
	@cluster/install-dependencies.sh
	Protos/generate.sh

lint: ## format and shell scripts
	swift format lint --strict -r Sources Tests cluster/bench/rpc/grpc-swift/Sources
	@if command -v shellcheck >/dev/null; then shellcheck -x cluster/*.sh cluster/eval/*.sh cluster/train/*.sh cluster/bench/masters/*.sh cluster/bench/rpc/*.sh .ci/run Protos/generate.sh; else echo 'shellcheck is not installed: scripts were not checked'; fi

bench: build ## cipher and shadows on one core; IMAGES=DIR adds the whole system
	@bin=$$(swift build -c release --show-bin-path) && $$bin/sfmedir bench cipher --json && $$bin/sfmedir bench shadows --json && if [ -n "$(IMAGES)" ]; then $$bin/sfmedir bench e2e --images "$(IMAGES)" --json; fi

bench-rpc: ## our RPC against gRPC C++ and gRPC Swift 2; ARGUMENTS='--rounds 9' and the like
	@cluster/install-dependencies.sh
	@cluster/bench/rpc/setup.sh
	swift build -c release --product sfmedir-rpc-bench
	@cluster/bench/rpc/run.py $(ARGUMENTS)

bench-shadows: build ## both shadow schemes against zfec, ISA-L and numpy; ARGUMENTS='--rounds 5' and the like
	@cluster/install-dependencies.sh python3-zfec python3-numpy
	@cluster/bench/shadows/run.py $(ARGUMENTS)

bench-segments: build ## segment files against the raw disk; DIR=folder on the disk to measure
	@bin=$$(swift build -c release --show-bin-path) && $$bin/sfmedir bench segments --dir "$(or $(DIR),$(CURDIR))" --json

bench-care: build ## a cluster of ten slaves, broken in four ways while it is queried; ARGUMENTS='--images 500' and the like
	@bin=$$(swift build -c release --show-bin-path) && $$bin/sfmedir bench care --json $(ARGUMENTS)

bench-metadata: build ## the masters' writes and reads beside etcd; ARGUMENTS='--rounds 5' and the like
	@cluster/bench/masters/setup.sh
	@cluster/bench/masters/metadata.py $(ARGUMENTS)

bench-model: build ## the hash network beside PyTorch and ONNX Runtime; ARGUMENTS='--threads 2' and the like
	@cluster/bench/model/setup.sh
	@cluster/bench/model/run.py $(ARGUMENTS)

bench-failover: build ## the masters' leader killed, then etcd's; ARGUMENTS='--kills 50' and the like
	@cluster/install-dependencies.sh etcd-server python3
	@cluster/bench/masters/failover.py $(ARGUMENTS)

bench-restart: build ## a master that starts with a million images; ARGUMENTS='--records 100000' and the like
	@cluster/install-dependencies.sh python3
	@cluster/bench/masters/restart.py $(ARGUMENTS)

eval: build ## measures the models on real pictures; DATA=folder with tmri, amri and kct (or their .tar), OUT=folder
	@cluster/eval/run.sh '$(DATA)' $(OUT)

sim: ## the masters' consensus under simulated faults, then known bugs put into it; SEEDS=2000 ARGUMENTS='--from 4711'
	@cluster/install-dependencies.sh
	SFMEDIR_PART=simulator swift build -c release --scratch-path .build-simulator --product sfmedir-simulate
	@.build-simulator/release/sfmedir-simulate --seeds $(or $(SEEDS),2000) $(ARGUMENTS)
	@.build-simulator/release/sfmedir-simulate --mutants --seeds $(shell echo $$(( $(or $(SEEDS),2000) / 10 > 100 ? $(or $(SEEDS),2000) / 10 : 100 ))) $(ARGUMENTS)

chaos: ## real daemons in network namespaces, links cut, processes killed, disks filled; SCENARIO=name ARGUMENTS='--random --seconds 3600 --seed 7'
	@cluster/install-dependencies.sh iproute2 nftables
	@$(CHAOS_PROGRAMS)
	@cluster/chaos/run.py $(SCENARIO) $(ARGUMENTS)

chaos-ci: ## a few of these in about two minutes; where no namespaces can be made it says that it is skipped, and ends with 0
	@cluster/install-dependencies.sh iproute2 nftables || echo 'chaos-ci: it is tried with what is there'
	@$(CHAOS_PROGRAMS)
	@cluster/chaos/run.py --ci $(ARGUMENTS)

soak: ## minutes of random calls, cancellations and lost connections; ARGUMENTS='--seconds 60 --seed 7'
	@cluster/install-dependencies.sh
	swift build -c release --product sfmedir-rpc-bench
	@cluster/bench/rpc/soak.sh $(ARGUMENTS)

fuzz: ## libFuzzer on frames, headers, messages and whole connections; SECONDS=n
	@cluster/install-dependencies.sh
	FUZZ=1 SFMEDIR_PART=rpc swift build --sanitize=fuzzer --sanitize=address --product RPCFuzz --scratch-path .build-fuzz
	@mkdir -p .build-fuzz/corpus .build-fuzz/found
	LSAN_OPTIONS=suppressions=$(CURDIR)/Tests/leaks.supp .build-fuzz/debug/RPCFuzz -max_total_time=$(or $(SECONDS),60) -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=.build-fuzz/found/ .build-fuzz/corpus Tests/Fuzz/Seeds

# In builds of their own, which have no programs: the generator's test needs one.
sanitize: ## the RPC's tests under the address and the thread sanitizer
	@cluster/install-dependencies.sh
	SFMEDIR_PART=rpc swift build --build-tests --sanitize=address --scratch-path .build-asan
	LSAN_OPTIONS=suppressions=$(CURDIR)/Tests/leaks.supp SFMEDIR_PART=rpc swift test --no-parallel --skip-build --sanitize=address --scratch-path .build-asan --skip generatedCodeIsFresh
	SFMEDIR_PART=rpc swift build --build-tests --sanitize=thread --scratch-path .build-tsan
	TSAN_OPTIONS=suppressions=$(CURDIR)/Tests/races.supp SFMEDIR_PART=rpc swift test --no-parallel --skip-build --sanitize=thread --scratch-path .build-tsan --skip generatedCodeIsFresh

clean: ## removes what was built
	rm -rf .build .build-asan .build-fuzz .build-simulator .build-tsan cluster/bench/masters/.build-etcd-load cluster/bench/rpc/.build-grpc-cpp cluster/bench/rpc/grpc-swift/.build
