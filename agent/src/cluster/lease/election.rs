//! Whose lease it is, as one candidate may conclude from what it has seen.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Terms;

/// A lease as the API server has it, or is to have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody, if it was let go of.
    pub holder: Option<Arc<str>>,
    /// How long it lives after each change.
    pub life: Duration,
    /// Since when the holder has it, for people.
    pub acquired: String,
    /// When it was renewed, for people; tells a renewal from none.
    pub renewed: String,
    /// How often it went from one to another.
    pub transitions: i64,
    /// The version of the object; none, if there is none yet.
    pub version: Option<String>,
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: this one holds it.
    Wait(Arc<str>),
    /// Has this written, which takes or renews it.
    Write(Record),
}

/// What one candidate has seen.
#[derive(Debug)]
pub struct Election {
    me: Arc<str>,
    terms: Terms,
    /// Another's lease, and since when it is known to be just so.
    seen: Option<(Record, Instant)>,
    leads_until: Option<Instant>,
}

impl Election {
    /// Of a candidate that has seen nothing.
    pub fn new(me: &str, terms: Terms) -> Self {
        Self {
            me: me.into(),
            terms,
            seen: None,
            leads_until: None,
        }
    }

    /// What follows from the lease that was found, `at` this moment at the latest.
    pub fn look(&mut self, found: Option<Record>, at: Instant, now: &str) -> Step {
        let found = found.unwrap_or_default();
        let holder = match &found.holder {
            Some(holder) if *holder != self.me => Arc::clone(holder),
            Some(_) => return Step::Write(self.renewed(found, now)),
            None => return Step::Write(self.taken(found, now)),
        };
        // Whoever has it now took it from this one.
        self.leads_until = None;
        let since = match &self.seen {
            Some((seen, since)) if seen.is_as(&found) => *since,
            Some(_) | None => at,
        };
        if at.duration_since(since) >= found.life {
            return Step::Write(self.taken(found, now));
        }
        self.seen = Some((found, since));
        Step::Wait(holder)
    }

    /// What was to be written is, having been asked for at that moment.
    pub fn won(&mut self, asked: Instant) {
        self.seen = None;
        self.leads_until = Some(asked + self.terms.lead);
    }

    /// Until when this candidate leads without another renewal, if it does.
    pub fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.leads_until.filter(|until| now < *until)
    }

    /// The lease let go of, if it is this candidate's.
    pub fn released(&mut self, found: Option<Record>, now: &str) -> Option<Record> {
        self.leads_until = None;
        let found = found.filter(|it| it.holder.as_ref() == Some(&self.me))?;
        let released = Record {
            holder: None,
            // The API server takes no less.
            life: Duration::from_secs(1),
            renewed: now.to_owned(),
            ..found
        };
        Some(released)
    }

    fn renewed(&self, found: Record, now: &str) -> Record {
        Record {
            life: self.terms.life,
            renewed: now.to_owned(),
            ..found
        }
    }

    fn taken(&self, found: Record, now: &str) -> Record {
        let is_new = found.version.is_none();
        Record {
            holder: Some(Arc::clone(&self.me)),
            life: self.terms.life,
            acquired: now.to_owned(),
            renewed: now.to_owned(),
            transitions: found.transitions + i64::from(!is_new),
            version: found.version,
        }
    }
}

impl Record {
    /// Whether its holder has not renewed it; somebody may have labelled it.
    fn is_as(&self, other: &Self) -> bool {
        let Self {
            holder,
            life,
            acquired,
            renewed,
            transitions,
            version: _,
        } = self;
        *holder == other.holder
            && *life == other.life
            && *acquired == other.acquired
            && *renewed == other.renewed
            && *transitions == other.transitions
    }
}
