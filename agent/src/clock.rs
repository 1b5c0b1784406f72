//! Wall time: the only reader of the system's clock.
//!
//! AWS dates credentials by wall time, so freshness is judged by it and never
//! by a timer that fired late or by a monotonic clock that a suspended machine
//! stops. Timers themselves are tokio's; [`Clock::paused`] ties wall time to
//! them, so that a test under `start_paused` lives through a day in
//! milliseconds.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Where wall time comes from. Handed to whoever needs it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    System,
    Tokio {
        wall: SystemTime,
        at: Instant,
    },
    #[cfg(test)]
    Stepped {
        wall: SystemTime,
        at: Instant,
        ahead: &'static AtomicU64,
    },
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that starts at `wall` and advances with tokio's.
    pub fn paused(wall: SystemTime) -> Self {
        Self(Source::Tokio {
            wall,
            at: Instant::now(),
        })
    }

    /// As [`Self::paused`], for a machine whose wall clock goes `ahead` by so
    /// many seconds without its timers: it was suspended, or its clock was set.
    #[cfg(test)]
    pub(crate) fn stepped(wall: SystemTime, ahead: &'static AtomicU64) -> Self {
        let at = Instant::now();
        Self(Source::Stepped { wall, at, ahead })
    }

    /// Wall time.
    pub fn now(&self) -> SystemTime {
        match self.0 {
            Source::System => SystemTime::now(),
            Source::Tokio { wall, at } => wall + at.elapsed(),
            #[cfg(test)]
            Source::Stepped { wall, at, ahead } => {
                wall + at.elapsed() + Duration::from_secs(ahead.load(Ordering::Relaxed))
            }
        }
    }

    /// How long until `then`; zero once it has passed.
    pub fn until(&self, then: SystemTime) -> Duration {
        then.duration_since(self.now()).unwrap_or_default()
    }
}
