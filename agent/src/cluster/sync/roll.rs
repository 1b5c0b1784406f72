//! Which association of a cluster is described next.
//!
//! A list of EKS's says of an association that it is there and whose it is, but
//! neither its role nor whether it has changed. So what is new is described at
//! once, what is known again when its description is old, and what is missing in
//! a list once more before it counts as gone: an entry that moves from page to
//! page while they are read is in none of them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Of one that could not be described: doubled with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// See [`FIRST_PAUSE`].
const LAST_PAUSE: Duration = Duration::from_mins(5);

/// What a list says of an association.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    /// EKS's id, unique in its region.
    pub(super) id: String,
    /// Its ARN.
    pub(super) arn: String,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Describe this one.
    Describe(Entry),
    /// Nothing until then.
    At(Instant),
    /// Nothing, as far as this is known.
    Nothing,
}

/// All associations of a cluster.
#[derive(Debug)]
pub(super) struct Roll {
    refresh: Duration,
    lines: HashMap<String, Line>,
}

#[derive(Debug)]
struct Line {
    entry: Entry,
    listed: bool,
    /// When it is described again: the earlier, the sooner. `None`: at once.
    due: Option<Instant>,
    failures: u32,
}

impl Line {
    /// What is first to be described comes first.
    fn rank(&self) -> (u8, Option<Instant>) {
        let class = match (self.due, self.listed) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => 2,
        };
        (class, self.due)
    }
}

impl Roll {
    /// An empty one, whose entries are described again after `refresh`.
    pub(super) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            lines: HashMap::new(),
        }
    }

    /// One that an earlier leader has described at some time, and has left in the
    /// cluster.
    pub(super) fn adopt(&mut self, entry: Entry, now: Instant) {
        let line = Line {
            listed: true,
            due: Some(now + self.refresh.mul_f64(fastrand::f64())),
            failures: 0,
            entry,
        };
        self.lines.insert(line.entry.id.clone(), line);
    }

    /// These are all that there are, but for what moved while they were listed.
    pub(super) fn listed(&mut self, entries: Vec<Entry>, now: Instant) {
        for line in self.lines.values_mut() {
            line.listed = false;
        }
        for entry in entries {
            let line = self.lines.entry(entry.id.clone());
            let line = line.or_insert_with(|| Line {
                entry,
                listed: false,
                due: None,
                failures: 0,
            });
            line.listed = true;
        }
        // What nobody has ever heard more of may go without a word.
        self.lines.retain(|_, it| it.listed || it.due.is_some());
        for line in self.lines.values_mut() {
            if !line.listed && line.failures == 0 {
                line.due = Some(now);
            }
        }
    }

    /// What is to be described now, or when.
    pub(super) fn next(&self, now: Instant) -> Next {
        let is_due = |it: &&Line| it.due.is_none_or(|due| due <= now);
        let due = self.lines.values().filter(is_due);
        if let Some(line) = due.min_by_key(|it| it.rank()) {
            return Next::Describe(line.entry.clone());
        }
        let next = self.lines.values().filter_map(|it| it.due).min();
        next.map_or(Next::Nothing, Next::At)
    }

    /// It was described.
    pub(super) fn described(&mut self, id: &str, now: Instant) {
        if let Some(line) = self.lines.get_mut(id) {
            line.due = Some(now + self.refresh);
            line.failures = 0;
        }
    }

    /// It could not be described.
    pub(super) fn failed(&mut self, id: &str, now: Instant) {
        if let Some(line) = self.lines.get_mut(id) {
            let pause = FIRST_PAUSE * 2_u32.pow(line.failures.min(10));
            line.failures += 1;
            line.due = Some(now + pause.min(LAST_PAUSE));
        }
    }

    /// EKS knows it no more.
    pub(super) fn gone(&mut self, id: &str) {
        self.lines.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            arn: format!("arn:{id}"),
        }
    }

    fn entries(ids: &[&str]) -> Vec<Entry> {
        ids.iter().map(|id| entry(id)).collect()
    }

    fn describe_all(roll: &mut Roll, now: Instant) -> Vec<String> {
        let mut ids = Vec::new();
        while let Next::Describe(entry) = roll.next(now) {
            roll.described(&entry.id, now);
            ids.push(entry.id);
        }
        ids.sort();
        ids
    }

    #[test]
    fn what_is_known_is_not_described_again_before_its_time() {
        let mut roll = Roll::new(5 * MINUTE);
        let start = Instant::now();
        roll.listed(entries(&["a", "b"]), start);
        assert_eq!(describe_all(&mut roll, start), ["a", "b"]);
        for minute in 1..5 {
            let now = start + minute * MINUTE;
            roll.listed(entries(&["a", "b"]), now);
            assert_eq!(roll.next(now), Next::At(start + 5 * MINUTE));
        }
        assert_eq!(describe_all(&mut roll, start + 5 * MINUTE), ["a", "b"]);
    }

    #[test]
    fn what_is_new_comes_before_what_is_missing_and_that_before_what_is_old() {
        let mut roll = Roll::new(5 * MINUTE);
        let start = Instant::now();
        roll.listed(entries(&["old", "missing"]), start);
        describe_all(&mut roll, start);
        let now = start + 6 * MINUTE;
        roll.listed(entries(&["old", "new"]), now);
        let mut order = Vec::new();
        while let Next::Describe(entry) = roll.next(now) {
            roll.described(&entry.id, now);
            order.push(entry.id);
        }
        assert_eq!(order, ["new", "missing", "old"]);
    }

    #[test]
    fn what_is_missing_in_a_list_stays_until_it_is_known_to_be_gone() {
        let mut roll = Roll::new(5 * MINUTE);
        let start = Instant::now();
        roll.listed(entries(&["a", "b"]), start);
        describe_all(&mut roll, start);
        roll.listed(entries(&["a"]), start + MINUTE);
        assert_eq!(roll.next(start + MINUTE), Next::Describe(entry("b")));
        // It is there after all.
        roll.described("b", start + MINUTE);
        assert_eq!(roll.next(start + MINUTE), Next::At(start + 5 * MINUTE));
        roll.listed(entries(&["a"]), start + 2 * MINUTE);
        roll.gone("b");
        assert_eq!(roll.lines.len(), 1);
    }

    #[test]
    fn one_that_cannot_be_described_keeps_nobody_waiting() {
        let mut roll = Roll::new(5 * MINUTE);
        let start = Instant::now();
        roll.listed(entries(&["bad"]), start);
        roll.failed("bad", start);
        roll.listed(entries(&["bad", "good"]), start);
        assert_eq!(roll.next(start), Next::Describe(entry("good")));
        roll.described("good", start);
        assert_eq!(roll.next(start), Next::At(start + FIRST_PAUSE));
        for _ in 0..20 {
            roll.failed("bad", start);
        }
        assert_eq!(roll.next(start), Next::At(start + LAST_PAUSE));
    }

    #[test]
    fn what_an_earlier_leader_left_is_described_again_within_one_refresh() {
        let mut roll = Roll::new(5 * MINUTE);
        let start = Instant::now();
        for number in 0..100 {
            roll.adopt(entry(&number.to_string()), start);
        }
        let at_once = describe_all(&mut roll, start).len();
        assert!(at_once < 5, "{at_once}");
        let half = describe_all(&mut roll, start + 150 * Duration::from_secs(1)).len();
        assert!((20..80).contains(&half), "{half}");
    }
}
