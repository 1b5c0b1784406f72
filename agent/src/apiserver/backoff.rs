//! How long to wait before the API server is asked again.

use std::time::Duration;

/// The pause before the next attempt: doubled each time, half of it random, so
/// that the nodes of a cluster do not come back to its API server in step.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LAST: Duration = Duration::from_secs(30);

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LAST);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_half_of_each_is_chance() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        let mut longest = Duration::from_millis(200);
        for pause in &pauses {
            assert!((longest / 2..=longest).contains(pause), "{pauses:?}");
            longest = (longest * 2).min(Duration::from_secs(30));
        }
        assert_ne!(pauses[18], pauses[19]);
    }
}
