//! What credlet is tested with: stand-ins for what it talks to, a node to run it on,
//! and a pod's view of it.

pub mod browser;
pub mod callers;
pub mod client;
pub mod crd;
pub mod doctor;
pub mod fake_aws;
pub mod fake_kernel;
pub mod fake_kube;
pub mod front;
pub mod moto;
pub mod node;
pub mod process;
pub mod reviewer;
pub mod sidecar;
