//! How fast a service may be asked: a bucket of calls, as AWS throttles an account.

use tokio::time::Instant;

use super::FakeAws;

impl FakeAws {
    /// Lets EKS throttle whoever asks faster: so many calls a second, and as many
    /// more at once as were not made before.
    pub fn limit(&self, rate: f64, burst: f64) {
        self.state.lock().limit = Some(Bucket::new(rate, burst));
    }

    /// How many calls of EKS's were throttled by [`Self::limit`].
    pub fn throttled(&self) -> usize {
        let inner = self.state.lock();
        inner.limit.as_ref().map_or(0, Bucket::refused)
    }
}

pub(super) struct Bucket {
    rate: f64,
    most: f64,
    left: f64,
    at: Instant,
    refused: usize,
}

impl Bucket {
    pub(super) fn new(rate: f64, burst: f64) -> Self {
        Self {
            rate,
            most: burst,
            left: burst,
            at: Instant::now(),
            refused: 0,
        }
    }

    /// Whether a call may be made now.
    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        let since = now.duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * self.rate).min(self.most);
        self.at = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        } else {
            self.refused += 1;
        }
        may
    }

    pub(super) fn refused(&self) -> usize {
        self.refused
    }
}
