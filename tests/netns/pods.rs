//! Pods on a simulated node, served by the real agent.
