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
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::spec::{self, Defaults, Spec};
use super::{Error, Health, Known, Level, Source};
use crate::clock::Moment;
use crate::model::{Association, Invalid, ServiceAccount};

mod table;
#[cfg(test)]
mod tests;

pub use table::Table;
use table::{Pattern, Whose};

/// The largest file that is read: what fits into a `ConfigMap`.
const LARGEST_FILE: u64 = 1 << 20;

/// How long a change settles before it is read: an editor writes in pieces.
const SETTLE: Duration = Duration::from_millis(50);

/// The file as it was when it was last good. Cheap to clone.
#[derive(Clone)]
pub struct File(Arc<Shared>);

struct Shared {
    path: PathBuf,
    defaults: Defaults,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

struct State {
    table: Arc<Table>,
    /// What patterns said of accounts, so that each is tried once.
    found: HashMap<ServiceAccount, Option<Arc<Association>>>,
    /// When the file was last read.
    read: Instant,
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
    /// The namespace or the service account.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The service account has an entry already.
    #[error("a second entry for {0}")]
    Twice(String),
    /// A field is unknown, or not of the form that is expected.
    #[error("{0}")]
    Form(String),
    /// What is declared for it.
    #[error("{0}")]
    Spec(#[from] spec::Fault),
}

impl File {
    /// Reads the file, which must be good, and starts to watch for changes. The
    /// future re-reads it; it ends only if the notifications do.
    pub fn load(
        path: &Path,
        defaults: Defaults,
    ) -> Result<(Self, BoxFuture<'static, ()>), LoadError> {
        let changed = Arc::new(Notify::new());
        // Before the first read, so that no change falls between the two.
        let watcher = watch(path, Arc::clone(&changed))?;
        let table = read(path, &defaults)?;
        tracing::info!(path = %path.display(), associations = table.len(), "association file read");
        let file = Self(Arc::new(Shared {
            path: path.to_owned(),
            defaults,
            state: Mutex::new(State {
                table: Arc::new(table),
                found: HashMap::new(),
                read: Instant::now(),
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
        let read = read(&self.0.path, &self.0.defaults).map_err(|error| error.to_string());
        let mut state = self.lock();
        state.read = Instant::now();
        match read {
            Ok(table) => {
                let recovers = state.bad.take().is_some();
                let changes = table != *state.table;
                if recovers || changes {
                    tracing::info!(%path, associations = table.len(), "association file read");
                }
                if changes {
                    state.table = Arc::new(table);
                    state.found.clear();
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

    fn look(&self, account: &ServiceAccount) -> Option<Arc<Association>> {
        let mut state = self.lock();
        if !state.table.has_patterns() {
            return state.table.get(account).cloned();
        }
        if let Some(found) = state.found.get(account) {
            return found.clone();
        }
        let found = state.table.get(account).cloned();
        state.found.insert(account.clone(), found.clone());
        found
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
        let found = self.look(account);
        future::ready(Ok(found)).boxed()
    }

    fn peek(&self, account: &ServiceAccount) -> Known {
        let found = self.look(account);
        found.map_or(Known::None, Known::Is)
    }

    fn prefetch(&self, _account: &ServiceAccount) {}

    fn retain(&self, accounts: &HashSet<ServiceAccount>) {
        let mut state = self.lock();
        state.found.retain(|account, _| accounts.contains(account));
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn name(&self) -> &'static str {
        "file"
    }

    fn health(&self, now: Moment) -> Health {
        let state = self.lock();
        Health {
            level: state.bad.as_ref().map_or(Level::Good, |_| Level::Failing),
            known: state.table.len(),
            as_of: Some(now.wall_at(state.read)),
            why: state.bad.clone(),
        }
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
    associations: Vec<Map<String, Value>>,
}

fn read(path: &Path, defaults: &Defaults) -> Result<Table, LoadError> {
    let mut text = String::new();
    let size = fs::File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut text)? as u64;
    if size > LARGEST_FILE {
        return Err(LoadError::TooLarge);
    }
    parse(&text, defaults)
}

/// What a file with this text says, by service account.
pub fn parse(text: &str, defaults: &Defaults) -> Result<Table, LoadError> {
    // JSON is YAML, so one parser reads both.
    // The error would quote the lines around it, and logs are no place for those.
    let options = serde_saphyr::options! { with_snippet: false };
    let document: Document = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| LoadError::Syntax(error.to_string()))?;
    let mut table = Table::default();
    for (mut entry, number) in document.associations.into_iter().zip(1..) {
        let wrong = |fault| LoadError::Entry(number, fault);
        let account = account(&mut entry).map_err(wrong)?;
        // All that is left: serde's `flatten` would let unknown fields pass.
        let spec: Spec = serde_json::from_value(Value::Object(entry))
            .map_err(|error| wrong(Fault::Form(error.to_string())))?;
        let association = spec.accept(defaults);
        let association = association.map_err(|fault| wrong(fault.into()))?;
        let inserted = table.insert(account, association);
        inserted.map_err(|whose| wrong(Fault::Twice(whose)))?;
    }
    table.sort();
    Ok(table)
}

fn account(entry: &mut Map<String, Value>) -> Result<Whose, Fault> {
    let mut take = |field| match entry.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) | None => Err(Fault::Form(format!("{field} is missing, or no text"))),
    };
    let (namespace, name) = (take("namespace")?, take("serviceAccount")?);
    if !namespace.contains('*') && !name.contains('*') {
        return Ok(Whose::Account(ServiceAccount::new(&namespace, &name)?));
    }
    let glob = |field: &str, text: &str| {
        let is_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"*.-".contains(&byte);
        let glob = text.parse().ok().filter(|_| text.bytes().all(is_name));
        glob.ok_or_else(|| Fault::Form(format!("{field} is no pattern of names")))
    };
    Ok(Whose::Accounts(Pattern {
        namespace: glob("namespace", &namespace)?,
        name: glob("serviceAccount", &name)?,
    }))
}
