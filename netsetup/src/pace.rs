//! The pace of repairs that others undo.

use std::time::Duration;

use tokio::time::Instant;

/// The interval between repairs that do not last: it doubles from `FIRST` to `LONGEST`.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// A repair has lasted when the next is needed this much later, at the earliest.
const LASTED: Duration = Duration::from_secs(10);

/// How long to let others have their way.
#[derive(Default)]
pub(crate) struct Pace {
    repaired: Option<Instant>,
    /// Zero until a repair has not lasted.
    interval: Duration,
}

impl Pace {
    pub(crate) fn note_repair(&mut self, now: Instant) {
        let lasted = self
            .repaired
            .is_none_or(|before| now - before >= LASTED.max(2 * self.interval));
        self.interval = if lasted {
            Duration::ZERO
        } else {
            (2 * self.interval).clamp(FIRST, LONGEST)
        };
        self.repaired = Some(now);
    }

    /// What is left of the interval that the next repair has to wait.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        self.repaired.map_or(Duration::ZERO, |before| {
            (before + self.interval).saturating_duration_since(now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_that_does_not_last_waits_longer_each_time_and_one_that_lasted_not_at_all() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pace.note_repair(now);
            pauses.push(pace.pause(now));
            now += pace.pause(now);
        }
        assert_eq!(pauses[..4], [0, 100, 200, 400].map(Duration::from_millis));
        assert_eq!(pauses[11], LONGEST);
        pace.note_repair(now + 3 * LONGEST);
        assert_eq!(pace.pause(now + 3 * LONGEST), Duration::ZERO);
    }
}
