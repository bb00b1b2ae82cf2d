# gosuda: build, try, test and measure. `make` alone prints this help.
#
# On a machine that has Go, git, make and root, every target works: what else it needs comes from Debian's packages and the Go
# module proxy, and is kept below .cache/.

SHELL       := /bin/bash -o pipefail
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

GO      ?= go
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ARGS    ?=

SHIM     := containerd-shim-gosuda-v2
# Go's older garbage collector touches fewer pages of a small heap: `run` of true takes 0.95 of the time with it, and a shim
# has 0.93 of the private memory. Go 1.27 is to drop it; a tool chain that does not know it builds with its own.
COLLECTOR := $(if $(shell GOEXPERIMENT=nogreenteagc $(GO) version 2>/dev/null),GOEXPERIMENT=nogreenteagc)
# gosudacon_entry is in cli/entry_*.s; what -R is for, internal/padexe says.
BUILD    := $(COLLECTOR) CGO_ENABLED=0 $(GO) build -trimpath -tags no_grpc -ldflags "-s -w -E gosudacon_entry -R 0x200000 -X main.version=$(VERSION)"
E2E      := $(GO) -C e2e

# What we compare with and test on, and where it comes from. A directory's name has its version, so a new version is a new build.
PEERS             := .cache/peers
CONTAINERD_VERSION := $(shell awk '$$1 == "github.com/containerd/containerd/v2" { print $$2 }' e2e/peers/containerd/go.mod)
RUNC_VERSION       := $(shell awk '$$1 == "github.com/opencontainers/runc" { print $$2 }' e2e/peers/runc/go.mod)
CONTAINERD := $(PEERS)/containerd-$(CONTAINERD_VERSION)
RUNC       := $(PEERS)/runc-$(RUNC_VERSION)
TOOLS_VERSION      := $(shell awk '$$1 == "github.com/opencontainers/runtime-tools" { print $$2 }' e2e/peers/runtime-tools/go.mod)
TOOLS      := $(PEERS)/runtime-tools-$(TOOLS_VERSION)
NERDCTL_VERSION    := $(shell awk '$$2 == "github.com/containerd/nerdctl/v2" { print $$3 }' e2e/peers/nerdctl/go.mod)
CNI_VERSION        := $(shell awk '$$1 == "github.com/containernetworking/plugins" { print $$2 }' e2e/peers/cni/go.mod)
CRITOOLS_VERSION   := $(shell awk '$$2 == "sigs.k8s.io/cri-tools" { print $$3 }' e2e/peers/cri-tools/go.mod)
NERDCTL    := $(PEERS)/nerdctl-$(NERDCTL_VERSION)
BUILDKIT_VERSION   := $(shell awk '$$1 == "github.com/moby/buildkit" { print $$2 }' e2e/peers/buildkit/go.mod)
BUILDKIT   := $(PEERS)/buildkit-$(BUILDKIT_VERSION)
CNI        := $(PEERS)/cni-$(CNI_VERSION)
KUBERNETES_VERSION := $(shell awk '$$1 == "k8s.io/kubernetes" { print $$2 }' e2e/peers/kubernetes/go.mod)
ETCD_VERSION       := $(shell awk '$$1 == "go.etcd.io/etcd/server/v3" { print $$2 }' e2e/peers/etcd/go.mod)
KUBERNETES := $(PEERS)/kubernetes-$(KUBERNETES_VERSION)
ETCD       := $(PEERS)/etcd-$(ETCD_VERSION)
CRITOOLS   := $(PEERS)/cri-tools-$(CRITOOLS_VERSION)

# The packages whose tests are about the kernel; make test-cgroup2 runs them on another one.
KERNEL_TESTS := ./runtime/internal/cgroup ./runtime/internal/hooks ./runtime/internal/rootfs ./runtime/internal/hold ./runtime/engine ./shim/sandbox ./shim/task

step = @printf '%s\n' "==> $(1)"

.PHONY: help
help: ## print this help
	@echo "gosuda: a containerd runtime that runs OCI containers inside its shim"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "PREFIX=DIR is where install puts things (/usr/local); ARGS='...' is handed to the demo, the benchmark and the tests."

## building

.PHONY: build build-arm64 install image clean FORCE
# place copies a program with one write: the page cache then holds it in large pieces, which a short process maps and unmaps in a tenth
# of its life less than the single pages that the linker, or a copy in small steps, leaves there.
place = { dd if=$(1) of=$(2).new bs=64M status=none && chmod 0755 $(2).new && mv -f $(2).new $(2); }

build: ## build bin/containerd-shim-gosuda-v2 and its symlink bin/gosudacon
	@$(BUILD) -o .cache/build/$(SHIM) ./cmd/$(SHIM)
	@$(GO) run ./internal/padexe .cache/build/$(SHIM) .cache/build/$(SHIM).padded
	@mkdir -p bin
	@cmp -s .cache/build/$(SHIM).padded bin/$(SHIM) || $(call place,.cache/build/$(SHIM).padded,bin/$(SHIM))
	@ln -sfn $(SHIM) bin/gosudacon

build-arm64: ## the same for linux/arm64, in bin/arm64
	@GOOS=linux GOARCH=arm64 $(BUILD) -o .cache/build/arm64/$(SHIM) ./cmd/$(SHIM)
	@mkdir -p bin/arm64
	@$(GO) run ./internal/padexe .cache/build/arm64/$(SHIM) bin/arm64/$(SHIM)
	@ln -sfn $(SHIM) bin/arm64/gosudacon

install: build ## install the shim and gosudacon, its manual page and completions below PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin
	$(call place,bin/$(SHIM),$(DESTDIR)$(PREFIX)/bin/$(SHIM))
	ln -sfn $(SHIM) $(DESTDIR)$(PREFIX)/bin/gosudacon
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man8 bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	bin/gosudacon man > $(DESTDIR)$(PREFIX)/share/man/man8/gosudacon.8
	bin/gosudacon completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/gosudacon
	bin/gosudacon completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_gosudacon
	bin/gosudacon completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/gosudacon.fish

INSTALLER ?= ghcr.io/gosuda/gosudacon-installer:latest
image: build busybox ## the image of deploy/'s installer, bin/gosudacon-installer.tar, without Docker; INSTALLER is its name
	@deploy/image.sh bin/gosudacon-installer.tar $(INSTALLER)

clean: ## remove what was built; .cache, with the peers, stays
	rm -rf bin

## trying and testing

.PHONY: demo test test-unit test-cli test-containerd test-nerdctl test-checkpoint test-podman test-docker test-buildkit test-cri test-cri-cgroup2 test-deploy test-kubernetes test-legacy test-restart test-limits test-oci test-oci-cgroup2 test-parity test-cgroup2 test-cgroup2-kernel test-cgroup2-next test-arm64 test-systemd fuzz bench bench-pods bench-stats bench-overhead check
demo: build containerd busybox ## run a container under a private containerd and show what happened
	@$(E2E) run ./demo $(ARGS)

test: test-unit test-cli test-containerd ## unit tests, the command line and the containerd tests, on this machine

test-unit: busybox images ## the tests of the packages alone
	@e2e/peers/packages.sh gcc libc6-dev pkg-config libseccomp-dev
	$(call step,unit tests)
	@CGO_ENABLED=0 $(GO) test -tags no_grpc ./...

test-cli: build runc crun criu busybox ## gosudacon as its callers call it, with runc and crun beside it
	@e2e/peers/packages.sh procps jq uidmap
	$(call step,command line tests)
	@$(E2E) test -count=1 -timeout 15m ./cli $(if $(ARGS),-args $(ARGS))

test-containerd: build containerd criu busybox images ## gosuda under containerd, driven by ctr
	$(call step,containerd tests ($(CONTAINERD_VERSION)))
	@$(E2E) test -count=1 -timeout 15m ./containerdtest ./shimdrive ./task $(if $(ARGS),-args $(ARGS))

test-nerdctl: build containerd runc criu nerdctl cni busybox ## gosuda under nerdctl: its flags, hooks, logger, networks and compose
	@e2e/peers/packages.sh iptables procps tini
	$(call step,nerdctl tests ($(NERDCTL_VERSION)))
	@$(E2E) test -count=1 -timeout 10m -parallel 4 ./nerdctl $(if $(ARGS),-args $(ARGS))

test-podman: build runc $(PEERS)/podman-4.3 $(PEERS)/podman-5.8 ## gosudacon under podman and buildah of Debian 12 and of sid
	$(call step,podman tests (4.3))
	@CGO_ENABLED=0 $(E2E) test -count=1 -timeout 10m -parallel 4 ./podman $(if $(ARGS),-args $(ARGS))
	$(call step,podman tests (5.8))
	@CGO_ENABLED=0 $(E2E) test -count=1 -timeout 10m -parallel 4 ./podman -args -root podman-5.8 $(ARGS)

test-buildkit: build buildkit busybox ## gosudacon under BuildKit's OCI worker
	$(call step,BuildKit tests ($(BUILDKIT_VERSION)))
	@$(E2E) test -count=1 -timeout 10m -parallel 4 ./buildkit $(if $(ARGS),-args $(ARGS))

test-cri: build containerd runc cri-tools cni $(PEERS)/busybox/busybox ## Kubernetes' critest: gosuda in each way that it is deployed, and runc beside it
	@e2e/peers/packages.sh iptables util-linux
	$(call step,containerd starts again under pods)
	@CGO_ENABLED=0 $(E2E) run ./cri -pod
	$(call step,critest ($(CRITOOLS_VERSION)))
	@CGO_ENABLED=0 $(E2E) run ./cri $(ARGS)

CRI_CGROUP2_HANDLERS ?= runc,gosuda
test-cri-cgroup2: build containerd runc cri-tools cni $(PEERS)/busybox/busybox ## critest on pure cgroup v2, in User Mode Linux: cgroups made by the runtimes, then by systemd. An hour
	@e2e/peers/packages.sh iptables kmod user-mode-linux systemd dbus
	@mkdir -p .cache/cgroup2/e2e
	@CGO_ENABLED=0 $(E2E) build -o ../.cache/cgroup2/e2e/cri ./cri
	$(call step,critest on cgroup v2)
	@e2e/uml/run.sh -t 7200 -m 4G e2e/cri/uml.sh .cache/cgroup2/e2e/cri -handlers $(CRI_CGROUP2_HANDLERS) $(ARGS)
	$(call step,critest on cgroup v2 with the cgroup driver systemd)
	@e2e/uml/run.sh -s -t 7200 -m 4G e2e/cri/uml.sh .cache/cgroup2/e2e/cri -systemd -handlers $(CRI_CGROUP2_HANDLERS) $(ARGS)

bench-pods: build containerd runc cri-tools cni $(PEERS)/busybox/busybox ## time and memory of pods, without pause containers, with them, and with runc
	@e2e/peers/packages.sh iptables util-linux
	@CGO_ENABLED=0 $(E2E) run ./cri -cost -handlers runc,gosuda,pauseless $(ARGS)

test-checkpoint: build containerd runc criu nerdctl cni busybox ## checkpoint and restore with criu: command line, shim, ctr and nerdctl
	@e2e/peers/packages.sh iptables procps tini
	$(call step,criu's messages)
	@$(GO) -C e2e/criu test -count=1 .
	$(call step,checkpoint tests)
	@$(E2E) test -count=1 -timeout 15m ./cli ./shimdrive ./task ./nerdctl -run 'Checkpoint|Restore|LazyPages|PageServer|PreDump' $(if $(ARGS),-args $(ARGS))

test-docker: build $(PEERS)/docker-28 ## gosuda's shim and gosudacon under Docker of Debian sid
	$(call step,Docker tests ($(SHIM)))
	@$(E2E) test -count=1 -timeout 10m -parallel 4 ./docker $(if $(ARGS),-args $(ARGS))
	$(call step,Docker tests (gosudacon))
	@$(E2E) test -count=1 -timeout 10m -parallel 4 ./docker -args -runtime gosudacon $(ARGS)

test-deploy: build containerd runc cri-tools cni busybox $(PEERS)/busybox/busybox ## deploy/install.sh and the installer's image, on a node of their own
	@e2e/peers/packages.sh iptables
	$(call step,deployment tests)
	@CGO_ENABLED=0 $(E2E) test -count=1 -timeout 10m ./deploy $(if $(ARGS),-args $(ARGS))

test-kubernetes: build containerd runc cri-tools cni kubernetes busybox $(PEERS)/busybox/busybox ## pods on a node of Kubernetes: with gosuda, without pause containers, then with runc
	@e2e/peers/packages.sh iptables iproute2
	$(call step,Kubernetes tests ($(KUBERNETES_VERSION)))
	@CGO_ENABLED=0 $(E2E) test -count=1 -timeout 15m -parallel 6 ./kubernetes $(if $(ARGS),-args $(ARGS))
	$(call step,Kubernetes tests without pause containers)
	@CGO_ENABLED=0 $(E2E) test -count=1 -timeout 15m -parallel 6 ./kubernetes -args -handler pauseless $(ARGS)
	$(call step,Kubernetes tests with runc)
	@CGO_ENABLED=0 $(E2E) test -count=1 -timeout 15m -parallel 6 ./kubernetes -args -handler runc $(ARGS)

test-legacy: build $(PEERS)/containerd-1.6 $(PEERS)/containerd-1.7 containerd criu busybox ## the same under Debian's containerd 1.6 and 1.7
	$(call step,containerd tests (1.6))
	@$(E2E) test -count=1 -timeout 15m ./task -args -containerd containerd-1.6 $(ARGS)
	$(call step,containerd tests (1.7))
	@$(E2E) test -count=1 -timeout 15m ./task -args -containerd containerd-1.7 $(ARGS)

test-restart: build $(PEERS)/containerd-1.6 $(PEERS)/containerd-1.7 containerd runc busybox ## containerd killed, upgraded, downgraded; the runc shim swapped for gosuda
	$(call step,restart tests)
	@$(E2E) test -count=1 -timeout 15m ./restart $(if $(ARGS),-args $(ARGS))

test-limits: build containerd runc busybox ## 500 containers with a shim each and 200 in one, beside the runc shim: a table, and nothing may be left
	$(call step,many containers at once: some minutes)
	@$(E2E) run ./crowd -stats 0 $(ARGS)

test-oci: build runc runtime-tools ## the OCI's validation programs: gosudacon, and runc beside it
	$(call step,OCI validation ($(TOOLS_VERSION)))
	@$(E2E) run ./oci $(ARGS)

test-oci-cgroup2: build runtime-tools ## the same for gosudacon on pure cgroup v2, in User Mode Linux
	$(call step,OCI validation on cgroup v2)
	@e2e/peers/packages.sh user-mode-linux kmod
	@mkdir -p .cache/cgroup2/e2e
	@CGO_ENABLED=0 $(E2E) build -o ../.cache/cgroup2/e2e/oci ./oci
	@e2e/uml/run.sh -t 3600 .cache/cgroup2/e2e/oci -runtimes gosudacon -parallel 1 $(ARGS)

# crun is Debian sid's, which changes; CI compares with runc alone.
PARITY ?= runc crun
test-parity: build $(PARITY) busybox ## the same 500 bundles with gosudacon, runc and crun: what their processes see, field by field
	$(call step,parity with $(PARITY))
	@$(E2E) run ./parity -runtimes $$(echo gosudacon $(PARITY) | tr ' ' ,) $(ARGS)

test-runc: containerd runc criu busybox # the containerd tests on the runc shim: what differs is in the tests, with the reason
	@$(E2E) test -count=1 -timeout 15m ./task -args -runtime io.containerd.runc.v2 $(ARGS)

test-runc-shim: build containerd runc criu busybox ## the containerd tests on the runc shim with gosudacon in runc's place
	$(call step,containerd tests (containerd-shim-runc-v2 and gosudacon))
	@$(E2E) test -count=1 -timeout 15m ./task -args -runtime io.containerd.runc.v2 -runc gosudacon $(ARGS)

CGROUP2_SUITES = shimdrive task restart
test-cgroup2: cgroup2-suites cgroup2-programs ## the kernel tests and ctr run on pure cgroup v2, in User Mode Linux
	$(call step,cgroup v2 tests)
	@e2e/uml/run.sh -t 7200 e2e/cgroup2.sh $(CURDIR) "$(KERNEL_TESTS)" "$(CGROUP2_SUITES)" $(ARGS)
	@$(MAKE) test-cgroup2-next test-systemd test-oci-cgroup2

test-cgroup2-kernel: cgroup2-programs ## the kernel tests alone on pure cgroup v2: minutes instead of half an hour
	$(call step,kernel tests on cgroup v2)
	@e2e/uml/run.sh -t 3600 e2e/cgroup2.sh $(CURDIR) "$(KERNEL_TESTS)" ""

test-cgroup2-next: cgroup2-programs $(PEERS)/uml-sid ## the kernel tests on the newest kernel of Debian sid
	$(call step,kernel tests on the kernel of Debian sid)
	@UML_KERNEL=$(CURDIR)/$(PEERS)/uml-sid/usr/bin/linux.uml UML_MODULES=$(CURDIR)/$(PEERS)/uml-sid/usr/lib/uml/modules \
		e2e/uml/run.sh -t 3600 e2e/cgroup2.sh $(CURDIR) "$(KERNEL_TESTS)" ""

ARM64_TESTS := ./internal/catch ./runtime/internal/launch/rawchild ./runtime/internal/launch ./runtime/internal/seccomp $(KERNEL_TESTS)
test-arm64: build-arm64 $(PEERS)/arm64 ## the kernel tests, and gosudacon run, on an arm64 kernel, in QEMU
	@e2e/peers/packages.sh qemu-system-arm cpio
	$(call step,kernel tests on arm64)
	@mkdir -p .cache/arm64
	@GOARCH=arm64 CGO_ENABLED=0 $(GO) test -c -tags no_grpc -ldflags "-s -w" -o .cache/arm64/ $(ARM64_TESTS)
	@for arch in arm64 arm; do GOARCH=$$arch CGO_ENABLED=0 $(GO) build -o .cache/arm64/probe-$$arch ./runtime/internal/seccomp/testdata/probe || exit; done
	@e2e/arm64/run.sh $(CURDIR) $(PEERS)/arm64 $(ARM64_TESTS)

.PHONY: cgroup2-programs cgroup2-suites
cgroup2-programs:
	@e2e/peers/packages.sh user-mode-linux kmod busybox-static e2fsprogs erofs-utils
	@mkdir -p .cache/cgroup2/unit
	@CGO_ENABLED=0 $(GO) test -c -tags no_grpc -o .cache/cgroup2/unit/ $(KERNEL_TESTS)

cgroup2-suites: build $(PEERS)/containerd-1.6 $(PEERS)/containerd-1.7 containerd runc criu busybox
	@mkdir -p .cache/cgroup2/e2e
	@CGO_ENABLED=0 $(E2E) test -c -o ../.cache/cgroup2/e2e/ ./task ./shimdrive ./restart

SYSTEMD_TESTS := ./runtime/internal/cgroup ./runtime/engine
test-systemd: cgroup2-suites cgroup2-programs ## the tests of cgroups with systemd as the first process, on cgroup v2 and v1, in User Mode Linux
	$(call step,systemd tests)
	@e2e/peers/packages.sh systemd dbus
	@e2e/uml/run.sh -s -t 3600 e2e/cgroup2.sh $(CURDIR) "$(SYSTEMD_TESTS)" task -test.run=Systemd
	@if grep -qw amx_tile /proc/cpuinfo; then \
		echo "skipped: systemd on cgroup v1: the kernel that run.sh takes on a processor with AMX has no v1 memory controller (CONFIG_MEMCG_V1)"; \
	else \
		e2e/uml/run.sh -s -1 -t 3600 e2e/cgroup2.sh $(CURDIR) "$(SYSTEMD_TESTS)" task -test.run=Systemd; \
	fi

FUZZTIME ?= 30s
fuzz: ## run every fuzz test for FUZZTIME (30s); what it finds is kept in the package's testdata
	@grep -rho --include='*_test.go' '^func Fuzz[A-Za-z]*' -H runtime shim cli internal | while IFS=: read -r file name; do \
		printf '==> %s %s\n' "$$(dirname $$file)" "$${name#func }"; \
		CGO_ENABLED=0 $(GO) test -tags no_grpc -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
	done

bench: build containerd runc crun busybox ## measure against containerd-shim-runc-v2 with runc and with crun
	@$(E2E) run ./bench $(ARGS)

# Docker's, podman's and containerd's clients; e2e/beside knows podman-4.3 and podman-5.8 too.
SUITES ?= nerdctl docker ctr restart
.PHONY: beside
beside: build containerd runc criu nerdctl cni busybox $(PEERS)/docker-28 $(PEERS)/podman-4.3 $(PEERS)/podman-5.8 $(PEERS)/containerd-1.6 $(PEERS)/containerd-1.7 ## the tests of SUITES with runc and with gosuda: a table, command by command
	@e2e/peers/packages.sh iptables procps tini
	$(call step,the same tests with runc and with gosuda: some minutes)
	@$(E2E) run ./beside $(ARGS) $(SUITES)

bench-stats: build containerd runc busybox ## what it costs to ask 100 containers for their statistics every second
	@$(E2E) run ./crowd -own 0 -pod 0 $(ARGS)

bench-overhead: build containerd runc cri-tools cni kubernetes busybox $(PEERS)/busybox/busybox ## what a pod costs besides its containers, for deploy/runtimeclass.yaml
	@e2e/peers/packages.sh iptables iproute2
	@for handler in gosuda runc; do CGO_ENABLED=0 $(E2E) test -v -count=1 ./kubernetes -args -handler $$handler -test.run TestOverhead || exit; done

check: ## format, vet, dependencies and budgets, and the build for arm64
	$(call step,gofmt)
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "gofmt: $$files" >&2; exit 1; }
	$(call step,vet)
	@CGO_ENABLED=0 $(GO) vet -tags no_grpc ./...
	@$(E2E) vet ./...
	$(call step,the names of tests in docs/runtime-spec.md)
	@CGO_ENABLED=0 $(E2E) test -count=1 ./parity
	$(call step,dependencies and budgets)
	@CGO_ENABLED=0 $(GO) test -tags no_grpc .
	$(call step,arm64)
	@$(MAKE) build-arm64
	@CGO_ENABLED=0 GOARCH=arm64 $(GO) vet -tags no_grpc ./...

## peers and tools

.PHONY: peers containerd runc crun criu runtime-tools nerdctl buildkit cni cri-tools kubernetes busybox
peers: containerd runc crun criu $(PEERS)/containerd-1.6 $(PEERS)/containerd-1.7 $(PEERS)/uml-sid $(PEERS)/arm64 # everything that tests and benchmarks compare with

containerd: $(CONTAINERD)/containerd-shim-runc-v2
	@ln -sfn $(notdir $(CONTAINERD)) $(PEERS)/containerd

# Built as upstream releases them: static, stripped, the shim without gRPC.
$(CONTAINERD)/containerd-shim-runc-v2:
	$(call step,build containerd and ctr $(CONTAINERD_VERSION): some minutes the first time)
	@mkdir -p $(CONTAINERD)
	@cd e2e/peers/containerd && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(CONTAINERD)/ \
		github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/ctr
	@cd e2e/peers/containerd && CGO_ENABLED=0 $(GO) build -trimpath -tags no_grpc -ldflags "-s -w" -o $(CURDIR)/$(CONTAINERD)/ \
		github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2

runc: $(RUNC)/runc
	@ln -sfn $(notdir $(RUNC)) $(PEERS)/runc

# Static as upstream's release, so that no dynamic loader counts against it.
$(RUNC)/runc:
	@e2e/peers/packages.sh libseccomp-dev pkg-config gcc libc6-dev
	$(call step,build runc $(RUNC_VERSION))
	@mkdir -p $(RUNC)
	@cd e2e/peers/runc && CGO_ENABLED=1 $(GO) build -trimpath -buildmode=pie -tags "seccomp urfave_cli_no_docs netgo osusergo" \
		-ldflags "-s -w -linkmode external -extldflags -static-pie" -o $(CURDIR)/$(RUNC)/ github.com/opencontainers/runc

runtime-tools: $(TOOLS)/runtimetest
	@ln -sfn $(notdir $(TOOLS)) $(PEERS)/runtime-tools

# Every program that the module names as a tool, and the root file system of their containers, which they look for where they run.
$(TOOLS)/runtimetest:
	$(call step,build the validation programs of runtime-tools $(TOOLS_VERSION))
	@mkdir -p $(TOOLS)
	@cd e2e/peers/runtime-tools && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(TOOLS)/ tool && \
		cp -f $$($(GO) list -m -f '{{.Dir}}' github.com/opencontainers/runtime-tools)/rootfs-*.tar.gz $(CURDIR)/$(TOOLS)/

nerdctl: $(NERDCTL)/nerdctl
	@ln -sfn $(notdir $(NERDCTL)) $(PEERS)/nerdctl

$(NERDCTL)/nerdctl:
	$(call step,build nerdctl $(NERDCTL_VERSION): some minutes the first time)
	@mkdir -p $(NERDCTL)
	@cd e2e/peers/nerdctl && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(NERDCTL)/ github.com/containerd/nerdctl/v2/cmd/nerdctl

buildkit: $(BUILDKIT)/buildkitd
	@ln -sfn $(notdir $(BUILDKIT)) $(PEERS)/buildkit

$(BUILDKIT)/buildkitd:
	$(call step,build BuildKit $(BUILDKIT_VERSION): some minutes the first time)
	@mkdir -p $(BUILDKIT)
	@cd e2e/peers/buildkit && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(BUILDKIT)/ tool

cni: $(CNI)/bridge
	@ln -sfn $(notdir $(CNI)) $(PEERS)/cni

$(CNI)/bridge:
	$(call step,build the CNI plugins $(CNI_VERSION))
	@mkdir -p $(CNI)
	@cd e2e/peers/cni && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(CNI)/ tool

cri-tools: $(CRITOOLS)/critest
	@ln -sfn $(notdir $(CRITOOLS)) $(PEERS)/cri-tools

$(CRITOOLS)/critest:
	$(call step,build crictl and critest $(CRITOOLS_VERSION))
	@mkdir -p $(CRITOOLS)
	@cd e2e/peers/cri-tools && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(CRITOOLS)/ sigs.k8s.io/cri-tools/cmd/crictl
	@e2e/peers/critest.sh $(CRITOOLS) $$($(E2E) run ./cri -print-digest)

kubernetes: $(KUBERNETES)/kube-scheduler $(ETCD)/etcd
	@ln -sfn $(notdir $(KUBERNETES)) $(PEERS)/kubernetes
	@ln -sfn $(notdir $(ETCD)) $(PEERS)/etcd

$(KUBERNETES)/kube-scheduler:
	$(call step,build the programs of Kubernetes $(KUBERNETES_VERSION): many minutes the first time)
	@mkdir -p $(KUBERNETES)
	@cd e2e/peers/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(KUBERNETES)/ tool

$(ETCD)/etcd:
	$(call step,build etcd $(ETCD_VERSION))
	@mkdir -p $(ETCD)
	@cd e2e/peers/etcd && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(CURDIR)/$(ETCD)/etcd go.etcd.io/etcd/server/v3

$(PEERS)/busybox/busybox:
	@e2e/peers/packages.sh gcc libc6-dev make bzip2 dpkg-dev
	$(call step,build busybox from Debian's sources)
	@e2e/peers/busybox.sh $(PEERS)/busybox

crun: $(PEERS)/crun/usr/share/doc/libcriu2
$(PEERS)/crun/usr/share/doc/libcriu2: # which crun loads for checkpoints
	@e2e/peers/packages.sh patchelf
	$(call step,unpack crun of Debian sid)
	@e2e/peers/debian.sh sid $(PEERS)/crun crun libcriu2

criu: $(PEERS)/criu
	@e2e/peers/packages.sh iptables # with which it locks a network namespace
$(PEERS)/criu:
	@e2e/peers/packages.sh patchelf
	$(call step,unpack criu of Debian sid)
	@e2e/peers/debian.sh sid $@ criu

$(PEERS)/containerd-1.6:
	@e2e/peers/packages.sh patchelf
	$(call step,unpack containerd of Debian 12)
	@e2e/peers/debian.sh bookworm $@ containerd runc

$(PEERS)/containerd-1.7:
	@e2e/peers/packages.sh patchelf
	$(call step,unpack containerd of Debian 13)
	@e2e/peers/debian.sh trixie $@ containerd runc

PODMAN_PACKAGES := podman buildah conmon catatonit netavark aardvark-dns
$(PEERS)/podman-4.3:
	$(call step,unpack podman of Debian 12)
	@e2e/peers/debian.sh -r bookworm $@ $(PODMAN_PACKAGES)

$(PEERS)/podman-5.8:
	$(call step,unpack podman of Debian sid)
	@e2e/peers/debian.sh -r sid $@ $(PODMAN_PACKAGES)

$(PEERS)/arm64:
	@e2e/peers/packages.sh xz-utils
	$(call step,unpack the arm64 kernel of Debian 13)
	@e2e/arm64/machine.sh trixie $@

$(PEERS)/docker-28:
	$(call step,unpack Docker of Debian sid)
	@e2e/peers/debian.sh -r sid $@ docker.io docker-cli containerd runc tini procps

$(PEERS)/uml-sid:
	@e2e/peers/packages.sh patchelf
	$(call step,unpack User Mode Linux of Debian sid)
	@e2e/peers/debian.sh sid $@ user-mode-linux

busybox:
	@e2e/peers/packages.sh busybox-static

.PHONY: images
images: # what makes images of file systems
	@e2e/peers/packages.sh e2fsprogs erofs-utils
