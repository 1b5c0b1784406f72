//! What people run by hand, besides the agent.

pub mod trust_policy;
