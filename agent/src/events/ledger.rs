//! Which events there are, and what is to be written of them: no I/O, no waiting.
//!
//! The first occurrence is written at once. Repeats within the window are
//! counted, and written as one count at its end; an event that did not repeat in
//! a window is forgotten, and its next occurrence is a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::{Limits, Reason};
use crate::model::{PodName, PodUid};

#[cfg(test)]
mod tests;

/// Events that are remembered, and so repeats that are recognized: more than
/// the pods of the largest node. Beyond it none is new.
const MOST: usize = 512;

/// What the API server takes of a note, in bytes.
const LONGEST_NOTE: usize = 1024;

/// The part of a pod's name that its events are named after. Names end at 253
/// bytes, and an event's has a dot and sixteen digits more.
const LONGEST_STEM: usize = 200;

/// The pod that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) namespace: Arc<str>,
    pub(super) pod: PodName,
}

/// What makes two occurrences one event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tale {
    pub(super) subject: Subject,
    pub(super) reason: Reason,
    pub(super) note: Arc<str>,
}

/// What is to be written of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tale: Tale,
    /// The event's own name, in the pod's namespace.
    pub(super) name: Arc<str>,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It is new.
    First { at: SystemTime },
    /// It has happened this often, and last then.
    Series { count: u32, last: SystemTime },
}

/// What an occurrence comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A new event, to be written.
    New(Entry),
    /// One that is there; the count is written at the end of its window.
    Repeat,
    /// A new event, but there have been too many.
    Limited,
}

/// The events of one node's pods.
pub(super) struct Ledger {
    limits: Limits,
    tales: HashMap<Tale, Record>,
    node: Bucket,
    /// Of pods whose bucket is not full.
    pods: HashMap<PodUid, Bucket>,
}

#[derive(Debug)]
struct Record {
    name: Arc<str>,
    window_ends: Instant,
    count: u32,
    written: u32,
    last: SystemTime,
}

impl Ledger {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            tales: HashMap::new(),
            node: Bucket::full(Instant::now()),
            pods: HashMap::new(),
        }
    }

    /// Takes in one occurrence.
    pub(super) fn hear(
        &mut self,
        subject: &Subject,
        reason: Reason,
        note: &str,
        now: Instant,
        wall: SystemTime,
    ) -> Heard {
        let tale = Tale {
            subject: subject.clone(),
            reason,
            note: shortened(note).into(),
        };
        if let Some(record) = self.tales.get_mut(&tale) {
            record.count = record.count.saturating_add(1);
            record.last = wall;
            return Heard::Repeat;
        }
        let full = Bucket::full(now);
        let pod = self.pods.get(&subject.pod.uid).unwrap_or(&full);
        if self.tales.len() >= MOST
            || !pod.has_one(self.limits.pod, now)
            || !self.node.has_one(self.limits.node, now)
        {
            return Heard::Limited;
        }
        // As many as the node's rate lets be less than full, and no more.
        self.pods.retain(|_, bucket| !bucket.is_full(now));
        let pod = self.pods.entry(subject.pod.uid.clone()).or_insert(full);
        pod.take(self.limits.pod, now);
        self.node.take(self.limits.node, now);
        let name: Arc<str> = name(&subject.pod.name, fastrand::u64(..)).into();
        let record = Record {
            name: Arc::clone(&name),
            window_ends: now + self.limits.window,
            count: 1,
            written: 1,
            last: wall,
        };
        self.tales.insert(tale.clone(), record);
        let what = What::First { at: wall };
        Heard::New(Entry { tale, name, what })
    }

    /// The counts of events whose window has ended; the others of these are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Entry> {
        let mut due = Vec::new();
        let window_ends = now + self.limits.window;
        self.tales.retain(|tale, record| {
            if record.window_ends > now {
                return true;
            }
            if record.count == record.written {
                return false;
            }
            (record.written, record.window_ends) = (record.count, window_ends);
            due.push(Entry {
                tale: tale.clone(),
                name: Arc::clone(&record.name),
                what: What::Series {
                    count: record.count,
                    last: record.last,
                },
            });
            true
        });
        due
    }

    /// When something is due next; `None` if nothing is.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.tales.values().map(|record| record.window_ends).min()
    }

    /// Forgets an event that was not written, so that its next occurrence is new.
    pub(super) fn forget(&mut self, entry: &Entry) {
        if let Some(record) = self.tales.get(&entry.tale)
            && record.name == entry.name
        {
            self.tales.remove(&entry.tale);
        }
    }
}

/// The note in the length that the API server takes.
fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(LONGEST_NOTE)]
}

/// A name that is the API server's kind of name whatever the pod's is.
fn name(pod: &str, unique: u64) -> String {
    let legal = |char: &char| char.is_ascii_lowercase() || char.is_ascii_digit() || *char == '-';
    let stem: String = pod.chars().filter(legal).take(LONGEST_STEM).collect();
    match stem.trim_matches('-') {
        "" => format!("{unique:016x}"),
        stem => format!("{stem}.{unique:016x}"),
    }
}
