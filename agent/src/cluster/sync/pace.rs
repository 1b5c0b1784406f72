//! How fast EKS is asked, by all feeds together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How much slower than it may be asked EKS is asked at most.
const SLOWEST: f64 = 32.0;

/// How many calls that go well make up for one that was throttled.
const RECOVERY: f64 = 10.0;

/// One call at a time, each at least a gap after the one before; the gap doubles
/// with each call that is throttled, and shrinks with those that are not.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: Instant,
    factor: f64,
}

impl Pace {
    /// At most `rate` calls a second, which is more than 0.
    pub(super) fn new(rate: f64) -> Self {
        let state = State {
            next: Instant::now(),
            factor: 1.0,
        };
        Self {
            gap: Duration::from_secs_f64(1.0 / rate),
            state: Mutex::new(state),
        }
    }

    /// Resolves when it is the caller's turn.
    pub(super) async fn turn(&self) {
        let at = {
            let mut state = self.state();
            let at = state.next.max(Instant::now());
            state.next = at + self.gap.mul_f64(state.factor);
            at
        };
        sleep_until(at).await;
    }

    /// EKS asked to come back later.
    pub(super) fn throttled(&self) {
        let mut state = self.state();
        state.factor = (state.factor * 2.0).min(SLOWEST);
        state.next = state
            .next
            .max(Instant::now() + self.gap.mul_f64(state.factor));
    }

    /// EKS answered.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.factor = (state.factor * 0.5_f64.powf(1.0 / RECOVERY)).max(1.0);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(pace: &Pace, calls: u32) -> f64 {
        let start = Instant::now();
        for _ in 0..calls {
            pace.turn().await;
        }
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_a_second_than_are_allowed() {
        let pace = Pace::new(5.0);
        let took = seconds_for(&pace, 101).await;
        assert!((20.0..20.3).contains(&took), "{took}");
        // What was not used is not saved up.
        tokio::time::sleep(Duration::from_mins(1)).await;
        let took = seconds_for(&pace, 11).await;
        assert!((2.0..2.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_rate_and_good_answers_bring_it_back() {
        let pace = Pace::new(10.0);
        for _ in 0..3 {
            pace.throttled();
        }
        pace.turn().await;
        let slow = seconds_for(&pace, 10).await;
        assert!((7.9..8.2).contains(&slow), "{slow}");
        for _ in 0..30 {
            pace.answered();
        }
        pace.turn().await;
        let quick = seconds_for(&pace, 10).await;
        assert!(quick < 1.1, "{quick}");
        for _ in 0..20 {
            pace.throttled();
        }
        pace.turn().await;
        let slowest = seconds_for(&pace, 1).await;
        assert!(slowest < 3.3, "{slowest}");
    }
}
