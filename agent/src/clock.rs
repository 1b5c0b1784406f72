//! Wall time: the only reader of the system's clock.
//!
//! AWS dates credentials by wall time, so freshness is judged by it and never
//! by a timer that fired late or by a monotonic clock that a suspended machine
//! stops.
//!
//! A clock that is set back makes nothing old look new: the cache ages what it
//! keeps by whichever has gone further, wall time or tokio's. What is fetched
//! while the clock is wrong is dated wrongly by as much, and that is little: STS
//! refuses a request whose date is more than five minutes off (`SigV4`), and
//! `credentials` refuses sessions of a length that cannot be.
//!
//! Timers themselves are tokio's; [`Clock::paused`] ties wall time to
//! them, so that a test under `start_paused` lives through a day in
//! milliseconds.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(test)]
use std::time::Duration;
use std::time::SystemTime;

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

/// One moment by both clocks: reading them is most of what a look-up costs, so
/// a request reads each once.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Wall time.
    pub wall: SystemTime,
    /// Tokio's.
    pub at: Instant,
}

impl Moment {
    /// The wall time of what was at `at`, earlier or later, by the time between.
    pub fn wall_at(&self, at: Instant) -> SystemTime {
        let earlier = self.at.saturating_duration_since(at);
        self.wall + at.saturating_duration_since(self.at) - earlier
    }
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

    /// The moment `at`, which was just now.
    pub fn moment(&self, at: Instant) -> Moment {
        let wall = self.now();
        Moment { wall, at }
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
}
