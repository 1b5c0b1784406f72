//! credlet against a real Kubernetes API server: what the stand-in cannot know.
//!
//! `scripts/cluster-tools` builds the server and its etcd. The agent runs under
//! its own service account, and so under the RBAC of `manifests/` and no more.

mod agent;
mod agent_writes;
mod chart;
mod confirmation;
mod control_plane;
mod declarations;
mod docs;
mod doctor;
mod events;
mod explain;
mod follower;
mod injection;
mod lease;
mod manifests;
mod outage;
mod own_roles;
mod permissions;
mod place;
mod process;
mod relay;
mod requests;
mod startup_taint;
mod sync;
mod tokens;
mod vpc_cni;
mod watch;
mod webhook;
mod wire;
