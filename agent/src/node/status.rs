//! `/status`: how the agent stands, gathered when somebody asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use super::readiness::Readiness;
use super::rooms::Rooms;
use crate::associations::{Health, Known, Level};
use crate::broker;
use crate::cache::{self, Failing, Patience};
use crate::clock::Moment;
use crate::credentials::{Entry, Key};
use crate::model::{Association, Means};
use crate::status::{Account, Exchange, Gate, Pods, Source, SourceState, State, Status, Trouble};

#[cfg(test)]
mod tests;

/// A node has hardly more pods than this of one account, and a person reads fewer.
const MOST_NAMES: usize = 100;

/// What is looked at.
pub(super) struct Looks {
    pub(super) rooms: Arc<Rooms>,
    pub(super) readiness: Readiness,
    pub(super) node: String,
    pub(super) cluster: Option<String>,
    pub(super) started: Instant,
}

impl Looks {
    /// How all of it stands now.
    pub(super) fn status(&self) -> Status {
        let rooms = &*self.rooms;
        let now = rooms.clock.moment(Instant::now());
        let ago = |age: Duration| date(now.wall - age);
        let sources = sources(rooms.broker.sources(now));
        let accounts = accounts(
            rooms.broker.accounts(),
            rooms.vault.entries(),
            &sources,
            now,
        );
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            cluster: self.cluster.clone(),
            now: date(now.wall),
            started_at: date(now.wall_at(self.started)),
            gates: self.gates(),
            pods: Pods {
                known: rooms.identity.pods(),
                heard_at: rooms.identity.watch_age().map(ago),
                keys_at: rooms.identity.keys_age().map(ago),
            },
            sources,
            accounts,
        }
    }

    /// The same as it is sent.
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.status()).expect("it has names and numbers alone")
    }

    fn gates(&self) -> Vec<Gate> {
        let gates = self.readiness.all().into_iter();
        let gate = |(name, open): (&str, bool)| Gate {
            name: name.to_owned(),
            open,
        };
        gates.map(gate).collect()
    }
}

fn sources(all: Vec<(&'static str, Health)>) -> Vec<Source> {
    let source = |(name, health): (&str, Health)| {
        let Health {
            level,
            known,
            as_of,
            why,
        } = health;
        Source {
            name: name.to_owned(),
            state: match level {
                Level::Good => SourceState::Good,
                Level::Absent => SourceState::Absent,
                Level::Waiting => SourceState::Waiting,
                Level::Failing => SourceState::Failing,
            },
            known,
            heard_at: as_of.map(date),
            error: why,
        }
    };
    all.into_iter().map(source).collect()
}

fn accounts(
    all: Vec<broker::Account>,
    entries: Vec<Entry>,
    sources: &[Source],
    now: Moment,
) -> Vec<Account> {
    let entries = entries.into_iter().map(|entry| (entry.key.clone(), entry));
    let entries: HashMap<Key, Entry> = entries.collect();
    let account = |account: broker::Account| {
        // While no source says what an account may use, it uses what it did.
        let of_same = || {
            let is_same = |entry: &&Entry| {
                entry.key.account == *account.subject.account() && entry.key.pod == account.pod
            };
            match account.known {
                Known::Unknown => entries.values().find(is_same),
                Known::Is(_) | Known::None | Known::Refused(_) => None,
            }
        };
        let entry = account.key.as_ref().and_then(|key| entries.get(key));
        let source = sources.iter().find(|it| Some(&*it.name) == account.source);
        row(&account, entry.or_else(of_same), source, now)
    };
    all.into_iter().map(account).collect()
}

fn row(
    account: &broker::Account,
    entry: Option<&Entry>,
    source: Option<&Source>,
    now: Moment,
) -> Account {
    let association = match &account.known {
        Known::Is(association) => Some(association),
        Known::None | Known::Refused(_) => None,
        Known::Unknown => entry.map(|entry| &entry.key.association),
    };
    let grant = association.and_then(|association| association.grant());
    let session = entry.and_then(|entry| entry.role.as_ref());
    let session = session.map(|role| role.session().to_owned());
    let service_account = account.subject.account();
    Account {
        namespace: service_account.namespace().to_owned(),
        service_account: service_account.name().to_owned(),
        pod: account.pod.as_ref().map(|pod| pod.name.to_string()),
        state: state(&account.known, entry, source),
        source: account.source.map(str::to_owned),
        role: grant.map(|grant| grant.final_role().to_string()),
        via_role: grant.and_then(|grant| {
            let target = grant.target_role.as_ref();
            target.map(|_| grant.role.to_string())
        }),
        exchange: association.map(|association| exchange(association)),
        session,
        refreshed_at: entry.and_then(|entry| entry.issued_at).map(date),
        next_at: entry.and_then(|entry| entry.next_at).map(date),
        expires_at: entry.and_then(|entry| entry.expires_at).map(date),
        trouble: trouble(&account.known, entry, source, now),
        users: account.pods.len(),
        pods: {
            let names = account.pods.iter().take(MOST_NAMES);
            names.map(ToString::to_string).collect()
        },
    }
}

fn exchange(association: &Association) -> Exchange {
    match association {
        Association::EksAuth => Exchange::EksAuth,
        Association::Role(grant) => match grant.means {
            Means::Agent => Exchange::AssumeRole,
            Means::WebIdentity { .. } => Exchange::WebIdentity,
        },
    }
}

fn state(known: &Known, entry: Option<&Entry>, source: Option<&Source>) -> State {
    match (known, entry) {
        (Known::None, _) => State::NoRole,
        (Known::Refused(_), _) => State::Refused,
        (Known::Unknown, None) => match source.map(|it| it.state) {
            // That there is none is believed for seconds, and asked for again
            // when a pod asks.
            Some(SourceState::Good) => State::NoRole,
            Some(SourceState::Absent | SourceState::Waiting | SourceState::Failing) | None => {
                State::Unknown
            }
        },
        (Known::Is(_), None) => State::Pending,
        (Known::Is(_) | Known::Unknown, Some(entry)) => match entry.state {
            cache::State::Pending => State::Pending,
            cache::State::Fresh => State::Fresh,
            cache::State::Stale => State::Stale,
            cache::State::Failed => match entry.failing.as_ref().map(|it| it.patience) {
                Some(Patience::AtOnce) => State::OnRequest,
                Some(Patience::OnDemand) => State::NoRole,
                Some(Patience::Soon | Patience::Late) | None => State::Failed,
            },
        },
    }
}

fn trouble(
    known: &Known,
    entry: Option<&Entry>,
    source: Option<&Source>,
    now: Moment,
) -> Option<Trouble> {
    let plain = |message: String| Trouble {
        message,
        at: None,
        attempts: 0,
    };
    match (known, entry) {
        (Known::Refused(why), _) => return Some(plain(why.to_string())),
        (Known::Unknown, None) => return source?.error.clone().map(plain),
        (Known::Is(_) | Known::None, _) | (Known::Unknown, Some(_)) => {}
    }
    let Failing {
        why,
        at,
        in_a_row,
        patience: _,
    } = entry?.failing.as_ref()?;
    Some(Trouble {
        message: why.clone(),
        at: Some(date((*at).min(now.wall))),
        attempts: *in_a_row,
    })
}

/// To the second: nobody reads more.
fn date(at: SystemTime) -> Timestamp {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(at.as_second()).expect("it was one")
}
