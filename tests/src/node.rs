//! A simulated node: network namespaces joined by veth pairs.
