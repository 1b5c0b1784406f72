//! Pods that were here: so many that a token of one is refused at once, and no more.

use std::collections::{HashSet, VecDeque};

use crate::model::PodUid;

/// Some days of a busy node, or an hour of one that runs nothing but jobs.
const MOST: usize = 4096;

/// The UIDs of pods that live no more, the oldest forgotten first.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    order: VecDeque<PodUid>,
    known: HashSet<PodUid>,
}

impl Gone {
    pub(super) fn insert(&mut self, uid: PodUid) {
        if !self.known.insert(uid.clone()) {
            return;
        }
        self.order.push_back(uid);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, uid: &PodUid) -> bool {
        self.known.contains(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let uid = |number: usize| PodUid::new(&number.to_string()).expect("not empty");
        let mut gone = Gone::default();
        for number in 0..=MOST {
            gone.insert(uid(number));
            gone.insert(uid(MOST / 2));
        }
        assert!(!gone.contains(&uid(0)));
        assert!(gone.contains(&uid(MOST)));
        assert_eq!((gone.order.len(), gone.known.len()), (MOST, MOST));
    }
}
