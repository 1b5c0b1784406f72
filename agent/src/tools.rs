//! What people run by hand, besides the agent.

pub mod explain;
pub mod trust_policy;
