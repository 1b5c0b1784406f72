//! The daemon: composition, supervision, what operators look at.

pub mod ops;
pub mod readiness;
pub mod supervise;
pub mod telemetry;
