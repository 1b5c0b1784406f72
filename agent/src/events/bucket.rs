//! So many at once, and then one after each interval.

use std::time::Duration;

use tokio::time::Instant;

/// How many, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    at_once: u32,
    interval: Duration,
}

impl Rate {
    /// `at_once` without waiting, then one each `interval`.
    pub const fn new(at_once: u32, interval: Duration) -> Self {
        Self { at_once, interval }
    }
}

/// One bucket of tokens, by the moment at which it is full again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Whether there is a token.
    pub(super) fn has_one(&self, rate: Rate, now: Instant) -> bool {
        let missing = self.full_at.saturating_duration_since(now);
        missing + rate.interval <= rate.interval * rate.at_once
    }

    /// Takes one that is there.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) {
        self.full_at = self.full_at.max(now) + rate.interval;
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::new(3, Duration::from_mins(1));

    fn taken(bucket: &mut Bucket, now: Instant) -> usize {
        let take = || bucket.has_one(RATE, now).then(|| bucket.take(RATE, now));
        std::iter::from_fn(take).take(100).count()
    }

    #[test]
    fn a_full_bucket_gives_what_it_holds_and_then_one_each_interval() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert_eq!(taken(&mut bucket, start), 3);
        let mut now = start;
        for _ in 0..5 {
            now += Duration::from_secs(59);
            assert_eq!(taken(&mut bucket, now), 0);
            now += Duration::from_secs(1);
            assert_eq!(taken(&mut bucket, now), 1);
        }
    }

    #[test]
    fn a_bucket_never_holds_more_than_it_did_at_first() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert_eq!(taken(&mut bucket, start), 3);
        let later = start + Duration::from_mins(3);
        assert!(!bucket.is_full(later - Duration::from_secs(1)));
        assert!(bucket.is_full(later));
        assert_eq!(taken(&mut bucket, later + Duration::from_hours(1)), 3);
    }
}
