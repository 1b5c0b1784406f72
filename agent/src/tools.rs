//! What is in nobody's way to credentials: the tools of people and of the cluster.

pub mod inject;
pub mod trust_policy;
