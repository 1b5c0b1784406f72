//! What people run by hand, besides the agent.

pub mod doctor;
pub mod trust_policy;
