//! Associations from a file, re-read when it changes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::{Error, Known, Source};
use crate::model::{Association, Grant, Invalid, RoleArn, ServiceAccount, Session};

#[cfg(test)]
mod tests;

/// The largest file that is read: what fits into a `ConfigMap`.
const LARGEST_FILE: u64 = 1 << 20;

/// The longest external id that STS takes.
const LONGEST_EXTERNAL_ID: usize = 1224;

/// The longest inline policy that STS takes.
const LONGEST_POLICY: usize = 2048;

/// How long a change settles before it is read: an editor writes in pieces.
const SETTLE: Duration = Duration::from_millis(50);

type Table = HashMap<ServiceAccount, Arc<Association>>;

/// The file as it was when it was last good. Cheap to clone.
#[derive(Clone)]
pub struct File(Arc<Shared>);

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

struct State {
    table: Arc<Table>,
    /// Why what the file says now cannot be used.
    bad: Option<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The change notifications of the system are not to be had.
    #[error("cannot be watched: {0}")]
    Watch(#[from] notify::Error),
    /// It is larger than a `ConfigMap` can be.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// It is not YAML or JSON, or not of the form that is expected.
    #[error("cannot be understood: {0}")]
    Syntax(String),
    /// One entry, counted from 1, names what cannot be.
    #[error("entry {0}: {1}")]
    Entry(usize, Fault),
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A name or ARN.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The service account has an entry already.
    #[error("a second entry for {0}")]
    Twice(ServiceAccount),
    /// As in EKS.
    #[error("a policy requires disableSessionTags: true")]
    PolicyWithTags,
    /// STS would refuse it.
    #[error("externalId must have 2 to 1224 characters")]
    ExternalId,
    /// STS would refuse it.
    #[error("policy must be JSON of at most 2048 characters")]
    Policy,
}

impl File {
    /// Reads the file, which must be good, and starts to watch for changes. The
    /// future re-reads it; it ends only if the notifications do.
    pub fn load(path: &Path) -> Result<(Self, BoxFuture<'static, ()>), LoadError> {
        let changed = Arc::new(Notify::new());
        // Before the first read, so that no change falls between the two.
        let watcher = watch(path, Arc::clone(&changed))?;
        let table = read(path)?;
        tracing::info!(path = %path.display(), associations = table.len(), "association file read");
        let file = Self(Arc::new(Shared {
            path: path.to_owned(),
            state: Mutex::new(State {
                table: Arc::new(table),
                bad: None,
            }),
            changes: watch::Sender::new(0),
        }));
        let reader = file.clone();
        let future = async move {
            let _watcher = watcher;
            loop {
                changed.notified().await;
                sleep(SETTLE).await;
                reader.reread();
            }
        };
        Ok((file, future.boxed()))
    }

    /// Whether what the file says now cannot be used, so that an older content is.
    pub fn is_outdated(&self) -> bool {
        self.lock().bad.is_some()
    }

    /// At most a megabyte from a local file, so not worth a thread of its own.
    fn reread(&self) {
        let path = self.0.path.display();
        let read = read(&self.0.path).map_err(|error| error.to_string());
        let mut state = self.lock();
        match read {
            Ok(table) => {
                let recovers = state.bad.take().is_some();
                let changes = table != *state.table;
                if recovers || changes {
                    tracing::info!(%path, associations = table.len(), "association file read");
                }
                if changes {
                    state.table = Arc::new(table);
                    drop(state);
                    self.0.changes.send_modify(|count| *count += 1);
                }
            }
            Err(why) => {
                if state.bad.as_ref() != Some(&why) {
                    tracing::error!(%path, error = why, "association file is bad, its last good content stays");
                }
                state.bad = Some(why);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .expect("nobody panics with the lock held")
    }
}

impl Source for File {
    fn find<'a>(
        &'a self,
        account: &'a ServiceAccount,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>> {
        let found = self.lock().table.get(account).cloned();
        future::ready(Ok(found)).boxed()
    }

    fn peek(&self, account: &ServiceAccount) -> Known {
        let found = self.lock().table.get(account).cloned();
        found.map_or(Known::None, Known::Is)
    }

    fn prefetch(&self, _account: &ServiceAccount) {}

    fn retain(&self, _accounts: &HashSet<ServiceAccount>) {}

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

/// Watches the directory: a `ConfigMap` is updated by swapping a symbolic link
/// beside the file, and an editor renames a new file over the old one.
fn watch(path: &Path, changed: Arc<Notify>) -> Result<RecommendedWatcher, notify::Error> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let notice = move |event: notify::Result<Event>| {
        // Reading the file is an access too, and must not cause the next reading.
        let is_change = event.is_ok_and(|event| match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            _ => true,
        });
        if is_change {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(notice)?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    associations: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    namespace: String,
    service_account: String,
    role_arn: String,
    target_role_arn: Option<String>,
    external_id: Option<String>,
    policy: Option<String>,
    #[serde(default)]
    disable_session_tags: bool,
}

fn read(path: &Path) -> Result<Table, LoadError> {
    let mut text = String::new();
    let size = fs::File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut text)? as u64;
    if size > LARGEST_FILE {
        return Err(LoadError::TooLarge);
    }
    parse(&text)
}

/// What a file with this text says, by service account.
pub fn parse(text: &str) -> Result<Table, LoadError> {
    // JSON is YAML, so one parser reads both.
    // The error would quote the lines around it, and logs are no place for those.
    let options = serde_saphyr::options! { with_snippet: false };
    let document: Document = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| LoadError::Syntax(error.to_string()))?;
    let mut table = Table::with_capacity(document.associations.len());
    for (entry, number) in document.associations.into_iter().zip(1..) {
        let (account, association) =
            check(entry).map_err(|fault| LoadError::Entry(number, fault))?;
        if table.contains_key(&account) {
            return Err(LoadError::Entry(number, Fault::Twice(account)));
        }
        table.insert(account, Arc::new(association));
    }
    Ok(table)
}

fn check(entry: Entry) -> Result<(ServiceAccount, Association), Fault> {
    let external_id = entry.external_id;
    if external_id
        .as_ref()
        .is_some_and(|id| !(2..=LONGEST_EXTERNAL_ID).contains(&id.len()))
    {
        return Err(Fault::ExternalId);
    }
    let policy_fits = entry.policy.as_ref().is_none_or(|policy| {
        policy.len() <= LONGEST_POLICY
            && serde_json::from_str::<serde::de::IgnoredAny>(policy).is_ok()
    });
    if !policy_fits {
        return Err(Fault::Policy);
    }
    let session = match (entry.disable_session_tags, entry.policy) {
        (true, policy) => Session::Untagged { policy },
        (false, None) => Session::TAGGED,
        (false, Some(_)) => return Err(Fault::PolicyWithTags),
    };
    let target_role = entry.target_role_arn.as_deref().map(str::parse::<RoleArn>);
    let association = Association::Role(Grant {
        target_role: target_role.transpose()?,
        external_id,
        session,
        ..Grant::of(entry.role_arn.parse()?)
    });
    let account = ServiceAccount::new(&entry.namespace, &entry.service_account)?;
    Ok((account, association))
}
