//! The pod watch: Kubernetes -> index.
