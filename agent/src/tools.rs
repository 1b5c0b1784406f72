//! What is in nobody's way to credentials: the tools of people and of the cluster.

pub mod doctor;
pub mod explain;
pub mod inject;
pub mod reach;
pub mod status;
pub mod trust_policy;
