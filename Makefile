# The only commands that a person needs to know.
.PHONY: demo test check bench fuzz soak image test-node build

# The simulated node needs a root of its own where the caller is none.
as_root := $(if $(filter 0,$(shell id -u)),,unshare --map-root-user --net)
programs := $(or $(CARGO_TARGET_DIR),target)/debug

# Pods fetch credentials on a simulated node; STAY=1 keeps it up.
demo: build
	$(as_root) $(programs)/credlet-demo

# Everything that can fail without a cluster or an account.
test: build image
	scripts/sdk-tools
	scripts/cluster-tools
	scripts/chart-tools
	cargo test --locked --workspace
	@echo 'make test: everything passed'

# Format, lints, documentation, licences and bans.
check:
	scripts/check

# One table of ratios; PEER=start-script runs another agent beside it.
bench:
	scripts/bench

# Any bytes at what reads bytes of others, FUZZ_SECONDS (60) for each target.
fuzz:
	scripts/fuzz

# The searches of `make test`, a hundred times as long, and its churn for ten minutes.
soak: build
	CREDLET_SOAK=1 cargo test --locked --package credlet --lib -- identity::tests --nocapture
	CREDLET_SOAK=1 cargo test --locked --package credlet-tests --test netns -- churn --nocapture

# target/image/credlet.oci.tar, for this machine's architecture.
image:
	scripts/image

# On a one-node cluster that may be written to: KUBECONFIG=...; the script's head has the rest.
test-node: build image
	scripts/test-node
	scripts/test-node-chart

# What the tests and the demo start.
build:
	cargo build --locked --workspace --bins
