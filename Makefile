# The only commands that a person needs to know.
.PHONY: demo test check bench image test-node

# Pods fetch credentials on a simulated node; STAY=1 keeps it up.
demo:
	scripts/demo

# Everything that can fail without a cluster or an account.
test: image
	scripts/sdk-tools
	cargo test --locked --workspace

# Format, lints, documentation, licences and bans.
check:
	scripts/check

# One table of ratios; PEER=start-script runs another agent beside it.
bench:
	scripts/bench

# target/image/credlet.oci.tar, for this machine's architecture.
image:
	scripts/image

# On a one-node cluster that may be written to: KUBECONFIG=...; the script's head has the rest.
test-node: image
	scripts/test-node
