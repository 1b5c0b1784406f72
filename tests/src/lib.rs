//! What credlet is tested with: stand-ins for what it talks to, and a node to run it on.

pub mod fake_aws;
pub mod fake_kube;
pub mod node;
