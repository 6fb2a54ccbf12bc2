# `make` prints the targets. The variables below may be given: make run ARGS="--no-tunnel my_endpoint", make test PKGS=./internal/queue/... TESTARGS=-run=Retention
#
# HUBHOOK_TEST_REQUIRE=strace,chromium (names separated by commas) makes a test fail that would otherwise be skipped because that
# program is missing or may not be used; CI sets it. Without it, `make test` ends with a line for each test that was skipped.
# HUBHOOK_SOAK=60s soaks all tunnels at once for that long at least, with every fault; by default ngrok has some faults for 12 s.
# HUBHOOK_SOAK_TUNNEL=ssh takes one provider alone, and HUBHOOK_SOAK_SEED repeats a soak. HUBHOOK_OUTAGE=30s is how long a PostgreSQL
# server stands still in the test of that. HUBHOOK_KILLS=50 is how often hubhook is killed in the test of kept webhooks.
# HUBHOOK_TEST_RIVALS=1 has the test of the benchmark's rivals compile and run them.
# HUBHOOK_TEST_IMAGE=$PWD/bin/hubhook-image.tar has the tests of the container image test that one, in place of one for this machine alone.

GO        ?= go
ARGS      ?=
TESTARGS  ?=
# The longest package comes first, so that no core waits for it at the end.
PKGS      ?= ./internal/e2e ./...
FUZZTIME  ?= 30s
BENCHARGS ?=

# -race needs cgo, and Go turns cgo off by itself where it finds no C compiler. RACE=0 does without, RACE=1 insists.
RACE = $(shell $(GO) env CGO_ENABLED)
# The race detector watches all code but SQLite itself: C translated to Go, which takes three times as long under it. A connection that two
# goroutines use at once, or a bound slice that changes, is still found: in the driver, modernc.org/sqlite, and in modernc.org/libc.
# It does not watch muxado, the multiplexer below ngrok's SDK, either: closing a stream races there with the death of its session.
RACEFLAGS = -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=golang.ngrok.com/muxado/v2/...=-race=false
# Most packages wait more than they work, so one more runs than there are cores.
PARALLEL = $$(($$(getconf _NPROCESSORS_ONLN) + 1))

# The tests' files are in memory where there is room, since they sync them all the time, and a disk takes longer for that than the tests
# for the rest. A killed program leaves the same files there as on a disk. TESTDIR=/tmp puts them on the disk; `make soak` always does.
TESTDIR = $(shell room=$$(df -Pk /dev/shm 2>/dev/null | awk '$$1 == "tmpfs" { print $$4 }'); \
	free=$$(awk '$$1 == "MemAvailable:" { print $$2 }' /proc/meminfo 2>/dev/null); \
	if [ "$${room:-0}" -ge 4000000 ] && [ "$${free:-0}" -ge 8000000 ] && ! grep -q '^[^ ]* /dev/shm .*noexec' /proc/mounts; \
	then echo /dev/shm; else echo "$${TMPDIR:-/tmp}"; fi)

# What the binary says it is; outside a git clone it falls back to what Go recorded in it.
VERSION  = $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS  = $(if $(VERSION),-X github.com/hubhook/hubhook/internal/version.linked=$(VERSION))
SKIPPED := $(CURDIR)/bin/skipped-tests

.DEFAULT_GOAL := help
.PHONY: help run build image test manifests soak lint vulncheck fuzz bench docs release firstminute screenshots clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Not with go run, which makes an error of Ctrl-C however cleanly the program stops.
run: build ## serve: local URL, public URL, deliveries as they come (ARGS="...")
	@bin/hubhook serve $(ARGS)

build: ## build bin/hubhook, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/hubhook .

# The commit and its time are recorded in the binaries, and get into the image.
image: ## pack a container image for amd64 and arm64, bin/hubhook-image.tar, without a container engine
	@mkdir -p bin/image
	for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w $(LDFLAGS)' -o bin/image/hubhook-$$arch . || exit 1; \
	done
	$(GO) run ./internal/tools/image -o bin/hubhook-image.tar -version '$(or $(VERSION),devel)' bin/image/hubhook-amd64 bin/image/hubhook-arm64

test: ## run all tests; those that want a program which is missing are skipped, and named
	@mkdir -p bin && rm -f '$(SKIPPED)'
	@flags='$(RACEFLAGS)'; \
	if [ '$(RACE)' = 0 ]; then flags=; echo 'make test: without -race, which needs cgo and a C compiler'; fi; \
	flags="$$flags -p $(PARALLEL) -shuffle=on -timeout 10m"; \
	dir=$$(mktemp -d '$(TESTDIR)/hubhook.XXXXXX') || exit 1; trap 'rm -rf "$$dir"' EXIT; trap 'exit 1' INT TERM; \
	chmod 755 "$$dir"; \
	echo "TMPDIR=$$dir $(GO) test $$flags $(TESTARGS) $(PKGS)"; \
	TMPDIR="$$dir" GOTMPDIR="$${GOTMPDIR:-$${TMPDIR:-/tmp}}" HUBHOOK_TEST_SKIPPED='$(SKIPPED)' $(GO) test $$flags $(TESTARGS) $(PKGS); status=$$?; \
	if [ -s '$(SKIPPED)' ]; then echo 'make test: NOT TESTED on this machine:'; sort -u '$(SKIPPED)'; fi; \
	exit $$status

manifests: ## check the manifests for Kubernetes against its types, the image and the binary
	cd deploy/kubernetes && $(GO) vet . && $(GO) test -count=1 .

# With -race where it can be had, as the tests.
soak: ## drive hubhook with kills, faults and bad input, and compare with a model (ARGS="-for 1h")
	$(GO) run $(if $(filter-out 0,$(RACE)),$(RACEFLAGS)) ./internal/tools/soak $(ARGS)

# The benchmark's rivals are a module of their own, which ./... leaves out.
lint: ## gofmt, go vet for each system, staticcheck, a tidy go.mod, and the walls between packages
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "not formatted; run gofmt -w on:" >&2; echo "$$unformatted" >&2; exit 1; fi
	for os in linux darwin windows; do GOOS=$$os $(GO) vet ./... || exit 1; done
	$(GO) tool staticcheck ./...
	$(GO) run ./internal/tools/walls
	$(GO) mod tidy -diff
	staticcheck=$$($(GO) tool -n staticcheck) && cd internal/tools/bench/rivals && $(GO) vet ./... && "$$staticcheck" ./... && $(GO) mod tidy -diff

vulncheck: ## look the dependencies up in Go's vulnerability database (needs the internet)
	$(GO) tool govulncheck ./...

# Go would spend up to a minute on making one large input smaller, and try no other meanwhile.
fuzz: ## run each fuzz target for FUZZTIME
	@listed=$$($(GO) test -list '^Fuzz' $(PKGS)) || { echo "$$listed" >&2; exit 1; }; \
	targets=$$(echo "$$listed" | awk '/^Fuzz/ { name[n++] = $$1 } $$1 == "ok" { for (i = 0; i < n; i++) print $$2 "," name[i]; n = 0 }'); \
	if [ -z "$$targets" ]; then echo 'make fuzz: no fuzz target found' >&2; exit 1; fi; \
	for target in $$targets; do \
		echo "$(GO) test -run '^$$' -fuzz '^$${target#*,}$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $${target%,*}"; \
		$(GO) test -run '^$$' -fuzz "^$${target#*,}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "$${target%,*}" || exit 1; \
	done

bench: ## measure against bare net/http, WebhooksServer and other queues, in ratios (BENCHARGS="...")
	$(GO) run ./internal/tools/bench $(BENCHARGS)

docs: ## write the parts of docs/ that the code decides: commands, flags, variables, routes, events, metrics
	$(GO) run ./internal/tools/docs

# Pinned here and not in go.mod, where they would bring hundreds of modules. Newer ones of GoReleaser need modules that the proxy lacks.
GORELEASER := github.com/goreleaser/goreleaser/v2@v2.15.1
CYCLONEDX  := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
RELEASEARGS ?= --skip=publish
# Without a tag on this very commit, what is built is a snapshot.
SNAPSHOT = $(if $(shell git describe --exact-match --tags 2>/dev/null),,--snapshot)

# GoReleaser asks git for the origin, and a clone of a clone has another one, or none.
release: ## build what a release consists of into dist/: archives, deb, rpm, wheels, SBOMs, checksums; the version is the tag's (HERE=1 for this platform alone)
	GOBIN='$(CURDIR)/bin' $(GO) install $(CYCLONEDX)
	@mkdir -p bin; sed $(if $(HERE),-e "s/goos: [[].*/goos: [$$($(GO) env GOOS)]/; s/goarch: [[].*/goarch: [$$($(GO) env GOARCH)]/") -e '' .goreleaser.yaml >bin/goreleaser.yaml
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url GIT_CONFIG_VALUE_0=https://github.com/hubhook/hubhook \
		$(GO) run $(GORELEASER) release --config bin/goreleaser.yaml --clean $(SNAPSHOT) $(RELEASEARGS)

firstminute: ## install, start, try and remove each kind of package in dist/, and time it (needs root; ARGS="-cold -against")
	$(GO) run ./internal/tools/firstminute $(ARGS)

screenshots: ## take the pictures of the terminal and of the inspector's page in docs/images anew (needs python3 and chromium)
	$(GO) run ./internal/tools/screenshots -dir docs/images

clean: ## remove what build, test and release left in bin/ and dist/
	rm -rf bin dist
