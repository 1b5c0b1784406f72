//! The agent in this process, against stand-ins over real sockets.

mod agent;
mod broker;
mod crd;
mod doors;
mod events;
mod exchanges;
mod failures;
mod fuzz;
mod imds;
mod layers;
mod manifests;
mod metrics;
mod monitoring;
mod page;
mod paths;
mod reach;
mod readme;
mod sidecar;
mod sidecar_manifests;
mod sources;
mod startup_taint;
mod status;
mod tokens;
mod upstream;
mod watch;
mod webhook;
