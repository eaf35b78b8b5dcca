# edgepost: what you can make. Needs Go, Node with npm, and make on a Debian-like system.
# Every target is one line of `make help`, taken from the text behind its "##".

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILT   := $(shell git log -1 --format=%ct 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.built=$(BUILT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"

# The end-to-end tests and the torture build and kill real processes; they run alone, after the rest.
UNIT    = $$(go list ./... | grep -vE '^edgepost/scripts/(e2e|torture|bridges)$$')
# What must hold on a 32-bit machine: sizes, offsets, atomics. Runs natively on amd64.
WORD32  = $$(go list ./... | grep -E '^edgepost/(wal|appliance/(outbox|delivery|message|courier))$$')

FUZZTIME ?= 20s
BENCH    ?= .
RUN      ?= .

.PHONY: help build run test bench benchgo lint size fuzz cross setup check unit unit32 e2e bridges arch arch-short faults torture dashboard web browser screenshots

help: ## show this
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 13

build: dashboard ## build bin/edgepost, with its dashboard where Node is there
	$(GOBUILD) -o bin/edgepost .

run: build ## build, then serve on :8088 with ./data; CONFIG=FILE is its configuration
	bin/edgepost serve -data ./data $(if $(CONFIG),-config '$(CONFIG)')

test: setup check dashboard web unit unit32 cross size e2e bridges browser arch-short faults ## everything CI runs but lint: checks, tests, 32 bit, all targets, sizes, end to end, faults

setup: ## install what the tests need beside Go; does nothing when it is there
	@scripts/setup

check: ## formatting and vet
	@out=$$(gofmt -l main.go appliance wal web scripts); test -z "$$out" || { echo "not formatted by gofmt:"; echo "$$out"; exit 1; }
	go vet ./...

dashboard: ## web/dist, which the binary embeds
	@scripts/dashboard

web: ## the dashboard's format, types and unit tests
	cd web && npm run --silent check && npm run --silent unit

browser: build ## every page in Chromium, against the real binary
	cd web && npm run --silent e2e

screenshots: build ## each page in both languages, themes and widths, to web/shots
	cd web && SHOTS=1 npx playwright test shots

unit: ## every package, with the race detector
	go test -race -timeout 10m $(UNIT)

unit32: ## the storage packages on 32 bits
	GOARCH=386 CGO_ENABLED=0 go test -short -timeout 10m $(WORD32)

e2e: ## the real binary against curl, browsers' protocols, bad input and kill -9
	@scripts/again -timeout 20m -count 1 ./scripts/e2e

arch: ## the storage's and the core's tests as 32-bit ARM and MIPS of both byte orders, under an emulator; 386 is unit32
	@scripts/arch

arch-short: ## the same on the strangest of them: 32 bits, big-endian
	@scripts/arch mips

bridges: ## the bridges against real brokers that are killed and networks that fail; MESSAGES=20000 is the README's long run
	@scripts/again -timeout 15m -count 1 ./scripts/bridges

faults: ## of disk, power, clock and peers against the real binary, each for seconds
	@scripts/again -timeout 15m -count 1 ./scripts/torture

torture: ## the same faults for hours; RUN=regexp chooses tests, SEED and ROUNDS repeat one
	TORTURE=1 go test -timeout 24h -count 1 -v -run '$(RUN)' ./scripts/torture

bench: build ## measure DESIGN's numbers beside NATS and Mosquitto, to bin/bench.json; BENCHFLAGS='-run publish -time 1s -quick'
	go -C scripts/bench build -o ../../bin/bench .
	bin/bench -json bin/bench.json $(BENCHFLAGS)

benchgo: ## run the packages' own benchmarks; BENCH=regexp chooses
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(UNIT)

lint: ## run golangci-lint (.golangci.yml); the first time builds the pinned version, 2 to 4 minutes
	@scripts/lint

size: ## print the binary's sizes against their ceilings; fail when over or when dead code is kept
	@scripts/size --self-test
	@scripts/size

fuzz: ## run every fuzz target for FUZZTIME (20s)
	@scripts/fuzz $(FUZZTIME)

cross: ## build for every target: amd64, 386, arm 5 and 7, arm64, mips, mipsle, riscv64
	@scripts/cross
