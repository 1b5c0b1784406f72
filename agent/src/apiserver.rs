//! The API server: the way to it, and lists of it that are kept up to date.

use std::time::Duration;

pub mod ask;
mod backoff;
mod connect;
mod follow;
mod lost;
mod meta;
mod shelf;

pub(crate) use self::backoff::Backoff;
pub use self::connect::{ConnectError, connect};
pub use self::follow::{Again, Follow, Keep, Object, Place, View};
pub use self::lost::{Lost, LostLabels, Reason};
pub use self::meta::Meta;
pub use self::shelf::{Losses, Named, Shelf, Standing, State, Survey};

/// The API server, as far as the rooms that pass it on need to know.
pub use kube::Client;

/// How long a watch waits for the API server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a whole list, and for a watch to open.
    pub answer: Duration,
    /// For the next event or bookmark, before the connection counts as dead
    /// and the watch resumes on another. API servers bookmark about once a
    /// minute (`bookmarkFrequency` in k8s.io/apiserver's cacher).
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(150),
        }
    }
}
