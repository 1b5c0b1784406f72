//! Kernel state and real source addresses, in network namespaces of the tests' own.

mod churn;
mod cluster;
mod demo;
mod doctor;
mod exchanges;
mod imds;
mod network;
mod paths;
mod pods;
mod reuse;
mod sidecar;
mod upgrade;
