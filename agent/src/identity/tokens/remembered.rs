//! Tokens that were verified before, by hash: what is asked on every request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use foldhash::HashMap;
use tokio::time::Instant;

use super::keys::LocalKey;
use super::{Claims, Source};

/// Far more than the pods of a node have at a time.
const MOST: usize = 4096;
/// A review is believed for no longer: the API server looks whether the pod
/// still is there, and that changes.
pub(super) const REVIEWED: Duration = Duration::from_mins(1);

/// Stands for a token and does not tell it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::identity) struct Hash([u8; SHA256_OUTPUT_LEN]);

impl Hash {
    pub(in crate::identity) fn of(token: &str) -> Self {
        let hash = digest(&SHA256, token.as_bytes());
        Self(hash.as_ref().try_into().expect("it has this length"))
    }
}

/// One answer, which was good.
pub(super) struct Remembered {
    pub(super) claims: Arc<Claims>,
    pub(super) expires: SystemTime,
    pub(super) basis: Basis,
}

/// What an answer rests on.
pub(super) enum Basis {
    Key(Arc<LocalKey>),
    /// A review that was asked for at that time.
    Review(Instant),
}

impl Remembered {
    /// Whether it still could be given where tokens are verified by `source`.
    pub(super) fn holds(&self, source: &Source) -> bool {
        match (&self.basis, source) {
            (Basis::Key(key), Source::Keys(keys)) => keys.has(key),
            (Basis::Key(_), Source::Nothing | Source::Review) => false,
            (Basis::Review(_), Source::Nothing | Source::Keys(_) | Source::Review) => true,
        }
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        let known = match &self.basis {
            Basis::Key(_) => true,
            Basis::Review(asked) => asked.elapsed() < REVIEWED,
        };
        known && now < self.expires
    }
}

/// All of them, and never too many.
#[derive(Default)]
pub(super) struct Memory(HashMap<Hash, Remembered>);

impl Memory {
    pub(super) fn recall(&self, hash: &Hash, now: SystemTime) -> Option<Arc<Claims>> {
        let found = self.0.get(hash)?;
        found.is_fresh(now).then(|| Arc::clone(&found.claims))
    }

    /// Makes room, if there is none, by what has expired, else by what will first.
    pub(super) fn insert(&mut self, hash: Hash, answer: Remembered, now: SystemTime) {
        if self.0.len() >= MOST && !self.0.contains_key(&hash) {
            self.0.retain(|_, old| old.is_fresh(now));
            if self.0.len() >= MOST {
                let first = self.0.iter().min_by_key(|(_, old)| old.expires);
                let first = first.map(|(hash, _)| *hash);
                first.and_then(|first| self.0.remove(&first));
            }
        }
        self.0.insert(hash, answer);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Remembered) -> bool) {
        self.0.retain(|_, answer| keep(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PodUid, ServiceAccount};

    fn answer(expires: SystemTime, basis: Basis) -> Remembered {
        let claims = Claims {
            pod: PodUid::new("uid").unwrap(),
            pod_name: "pod".to_owned(),
            account: ServiceAccount::new("shop", "cart").unwrap(),
            node: None,
            audiences: Vec::new(),
            expires,
        };
        Remembered {
            claims: Arc::new(claims),
            expires,
            basis,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn hash(number: usize) -> Hash {
        Hash::of(&number.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_forgets_first_what_expires_first() {
        let mut memory = Memory::default();
        let asked = Instant::now();
        for number in 0..MOST {
            let expires = at(2000 - u64::try_from(number % 1000).unwrap());
            memory.insert(hash(number), answer(expires, Basis::Review(asked)), at(0));
        }
        // Those that expire first of all, at 1001.
        let late: Vec<usize> = (0..MOST).filter(|number| number % 1000 == 999).collect();
        for more in 0..late.len() {
            let new = answer(at(3000), Basis::Review(asked));
            memory.insert(hash(MOST + more), new, at(0));
            assert_eq!(memory.0.len(), MOST);
        }
        assert!(
            late.iter()
                .all(|it| memory.recall(&hash(*it), at(0)).is_none())
        );
        assert!(memory.recall(&hash(998), at(0)).is_some());
        let new = answer(at(3000), Basis::Review(asked));
        memory.insert(hash(2 * MOST), new, at(1500));
        assert!(memory.0.len() < MOST / 2 + 1000, "{}", memory.0.len());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_with_its_token_and_a_reviewed_one_after_a_minute() {
        let mut memory = Memory::default();
        let asked = Instant::now();
        memory.insert(hash(1), answer(at(100), Basis::Review(asked)), at(0));
        assert!(memory.recall(&hash(1), at(99)).is_some());
        assert!(memory.recall(&hash(1), at(100)).is_none());
        tokio::time::advance(REVIEWED).await;
        assert!(memory.recall(&hash(1), at(99)).is_none());
    }
}
