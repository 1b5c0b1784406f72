//! What is done once for a cluster.

pub mod lease;
pub mod sync;
pub mod webhook;
