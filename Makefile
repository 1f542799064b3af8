# SPDX-License-Identifier: Apache-2.0

# Two builds of one release are the same bytes only with the same compiler.
CLANG ?= clang-19
STRIP ?= llvm-strip-19
CLANG_FORMAT ?= clang-format-19
GOLANGCI_LINT ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
NFPM ?= go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

# git does not look into somebody else's checkout. Who runs make there trusts it already, root too. A prefix, because
# $(shell) has no exported variables before make 4.4.
TRUST = GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='$(CURDIR)'

PREFIX ?= /usr/local
VERSION ?= $(shell $(TRUST) git describe --tags --always --dirty 2>/dev/null || echo unknown)
BENCH ?= .

# Debian's order of versions: 1.0~rc1 comes before 1.0, and what has no tag yet before all.
DEB_ARCHS ?= amd64 arm64
DEB_VERSION ?= $(or $(shell $(TRUST) git describe --tags --match 'v[0-9]*' --dirty=+dirty 2>/dev/null | \
	sed -E 's/^v//; s/-([0-9]+)-g/+\1.g/; s/-/~/g'),0~$(shell $(TRUST) git rev-list --count HEAD).g$(shell $(TRUST) git rev-parse --short HEAD))

# Everything is plain Go. Only the race detector needs cgo, so a C compiler; RACE= does without.
export CGO_ENABLED = 0
RACE ?= $(shell CGO_ENABLED=1 go build -race runtime/cgo >/dev/null 2>&1 && echo -race)

C_FILES = $(wildcard bpf/*.c bpf/*.h)
GENERATED = '*_bpfe[lb].*'
BENCHMARKED = $(shell grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r dirname | sort -u)

.PHONY: help build deb demo test bench bench-smoke test-vm test-deb vm-shell screenshots generate check-generated format lint install clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

# The commit is in what `lazybpf version` says, whatever GOFLAGS has.
GO_BUILD = $(TRUST) go build -buildvcs=auto -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

build: ## bin/lazybpf, static
	$(GO_BUILD) -o bin/lazybpf ./cmd/lazybpf

deb: export SOURCE_DATE_EPOCH = $(shell $(TRUST) git log -1 --format=%ct)
deb: export MAINTAINER = $(shell $(TRUST) git log -1 --format='%an <%ae>')
deb: export DEB_VERSION := $(DEB_VERSION)
deb: ## bin/lazybpf_*.deb, for amd64 and arm64
	rm -rf bin/deb bin/lazybpf_*.deb
	go run -tags packaging ./cmd/lazybpf bin/deb packaging/*.[0-9].md
	mkdir -p bin/deb/doc
	cp CHANGELOG.md bin/deb/doc/NEWS.md
	printf 'lazybpf (%s) unstable; urgency=medium\n\n  * See NEWS.md.gz.\n\n -- %s  %s\n' "$$DEB_VERSION" "$$MAINTAINER" \
		"$$(date -uRd "@$$SOURCE_DATE_EPOCH")" >bin/deb/doc/changelog
	packaging/third-party >bin/deb/doc/third-party
	gzip -9n bin/deb/man/* bin/deb/doc/*
	$(foreach arch,$(DEB_ARCHS),GOARCH=$(arch) $(GO_BUILD) -o bin/deb/$(arch)/lazybpf ./cmd/lazybpf && \
		ARCH=$(arch) $(NFPM) package -f packaging/nfpm.yaml -p deb -t bin/ &&) :

demo: build ## shows a peer sleep, wake and sleep again (as root)
	./bin/lazybpf demo

test: ## vet, all tests, every benchmark once (as root)
	go vet ./...
	@test -n "$(RACE)" || echo 'without the race detector: it needs cgo and a working C compiler'
	$(if $(RACE),CGO_ENABLED=1 )go test -count=1 $(RACE) ./...
	@$(MAKE) --no-print-directory bench-smoke

bench: ## the benchmarks in full, writes docs/benchmarks.md; BENCH=regexp runs some and writes nothing (as root)
	BENCH='$(BENCH)' bench/run $(BENCHMARKED)

bench-smoke: ## every benchmark once, with few peers (as root)
	go test -count=1 -short -run '^$$' -bench . -benchtime 1x $(BENCHMARKED)

test-vm: ## all tests in VMs with kernel WireGuard; KERNEL=5.10, 6.1, 6.12 or newest: in one
	hack/vm/run test $(KERNEL)

test-deb: ## installs the package in a VM with systemd, lives with it, and purges it
	$(MAKE) deb DEB_ARCHS=amd64
	BOOT=packaging/boot PACKAGES='systemd iproute2 wireguard-tools' hack/vm/run boot $(or $(KERNEL),6.1)

vm-shell: ## a shell in one of these VMs
	hack/vm/run shell $(or $(KERNEL),newest)

screenshots: build ## docs/images, of the real programs; PICTURES=dashboard makes that one (as root, with Prometheus)
	go run ./hack/screenshots bin/lazybpf docs/images $(PICTURES)

generate: ## compiles bpf/ and writes pkg/detect/bpf_*
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(STRIP) go generate ./...

check-generated: ## fails if what is committed is not what generate makes
	find pkg -name '*_bpfe[lb].*' -delete
	@$(MAKE) --no-print-directory generate
	git diff --exit-code --stat -- $(GENERATED)
	@! git ls-files --others -- $(GENERATED) | sed 's/$$/: generated, not committed/' | grep .

format: ## gofmt and clang-format, in place
	gofmt -l -w .
	$(CLANG_FORMAT) -i $(C_FILES)

lint: ## golangci-lint, clang-format, go.mod
	$(GOLANGCI_LINT) run --allow-parallel-runners
	$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)
	go mod tidy -diff

install: build ## to $(DESTDIR)$(PREFIX)/sbin
	install -D -m 755 bin/lazybpf $(DESTDIR)$(PREFIX)/sbin/lazybpf

clean: ## what build made
	rm -rf bin
