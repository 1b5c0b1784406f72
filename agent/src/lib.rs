//! credlet, the per-node AWS credential agent of a Kubernetes cluster.
//!
//! ```text
//! pod --TCP--> serve -origin, token--> broker
//!                                        |  who?    identity      address, path, token -> Caller
//!                                        |  which?  associations  ServiceAccount -> Association
//!                                        |  what?   credentials   Association -> Credentials
//! pod <--JSON-- serve <------------------+
//! ```
//!
//! Everything else fills these three (watches, pollers, refreshers) or looks at
//! them (metrics, readiness). The rooms, each knowing only those before it:
//!
//! | room | is for |
//! |---|---|
//! | [`model`] | the nouns: accounts, roles, associations, credentials |
//! | [`clock`] | wall time |
//! | [`config`] | the command line and the environment |
//! | [`process`] | what each program does first and last |
//! | [`status`] | what an agent tells of itself to people |
//! | [`cache`] | values that are fetched once, refreshed ahead and outlive an outage |
//! | [`aws`] | what every call to AWS shares: client settings, outcomes, counts |
//! | [`apiserver`] | the way to the API server, and lists that are kept up to date |
//! | [`identity`] | who is calling |
//! | [`associations`] | which role a service account may use |
//! | [`credentials`] | what credentials a role's session has |
//! | [`events`] | what the owners of pods are told |
//! | [`inject`] | what SDKs in a pod must find in its specification |
//! | [`broker`] | who, then which, then what; and prefetching the same |
//! | [`serve`] | the front doors |
//! | [`node`] | the daemon: composition, supervision, metrics, readiness |
//! | [`cluster`] | what is done once for a cluster, by a leader |
//! | [`sidecar`] | the same for one pod, inside it |
//! | [`tools`] | what people run by hand |

#![forbid(unsafe_code)]

pub mod apiserver;
pub mod associations;
pub mod aws;
pub mod broker;
pub mod cache;
mod causes;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod credentials;
pub mod events;
pub mod identity;
pub mod inject;
pub mod model;
pub mod node;
pub mod process;
pub mod serve;
pub mod sidecar;
pub mod status;
pub mod tools;
