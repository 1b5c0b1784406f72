//! The keys on disk, so that an agent that starts while the API server is down
//! can verify tokens.
//!
//! Whoever can write the file can make tokens: it is believed only if nobody
//! but this user can.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::{Jwk, KeySet, Published};

/// In the state directory.
const NAME: &str = "token-keys.json";
/// More than the API server may publish.
const LARGEST: u64 = 512 * 1024;
/// The date of keys that have not changed is written again after so long.
const REDATED: Duration = Duration::from_mins(30);

/// Why the file was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{}: {why}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        why: io::Error,
    },
    #[error("{}: {why}", path.display())]
    Distrusted { path: PathBuf, why: &'static str },
}

/// The file, and what this process wrote to it last.
#[derive(Clone)]
pub(super) struct KeyFile {
    folder: PathBuf,
    written: Option<Written>,
}

#[derive(Clone)]
struct Written {
    issuer: String,
    keys: Vec<Jwk>,
    fetched: SystemTime,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    issuer: &'a str,
    fetched_at: u64,
    keys: Vec<&'a Jwk>,
}

#[derive(Deserialize)]
struct Incoming {
    issuer: String,
    fetched_at: u64,
    keys: Vec<Value>,
}

impl KeyFile {
    pub(super) fn new(folder: PathBuf) -> Self {
        let written = None;
        Self { folder, written }
    }

    /// The keys, of whatever age; `None` if there is no file.
    pub(super) fn load(&self, now: SystemTime) -> Result<Option<KeySet>, FileError> {
        let path = self.folder.join(NAME);
        let distrusted = |why| FileError::Distrusted {
            path: path.clone(),
            why,
        };
        let text = match read(&path) {
            Ok(text) => text,
            Err(FileError::Io { why, .. }) if why.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let incoming: Incoming =
            serde_json::from_slice(&text).map_err(|_| distrusted("it is garbled"))?;
        let since = Duration::from_secs(incoming.fetched_at);
        let fetched = SystemTime::UNIX_EPOCH.checked_add(since);
        let fetched = fetched.filter(|fetched| *fetched <= now);
        let fetched = fetched.ok_or_else(|| distrusted("it is from the future"))?;
        let published = Published::of(incoming.keys);
        let keys = KeySet::new(incoming.issuer, published, fetched).map_err(distrusted)?;
        Ok(Some(keys))
    }

    /// Replaces the file in one step, if there is something new to say.
    pub(super) fn save(&mut self, keys: &KeySet) -> Result<(), FileError> {
        let published: Vec<Jwk> = keys.published().into_iter().cloned().collect();
        if let Some(written) = &self.written {
            let age = keys.fetched().duration_since(written.fetched);
            let same = written.issuer == keys.issuer() && written.keys == published;
            if same && age.is_ok_and(|age| age < REDATED) {
                return Ok(());
            }
        }
        let since = keys.fetched().duration_since(SystemTime::UNIX_EPOCH);
        let outgoing = Outgoing {
            issuer: keys.issuer(),
            fetched_at: since.unwrap_or_default().as_secs(),
            keys: keys.published(),
        };
        let text = serde_json::to_vec(&outgoing).expect("texts and a number are JSON");
        // Of a name of its own: two agents overlap while one replaces the other.
        let fresh = self
            .folder
            .join(format!(".{NAME}.{:016x}", fastrand::u64(..)));
        let replaced = write(&fresh, &text)
            .and_then(|()| fs::rename(&fresh, self.folder.join(NAME)))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(why) = replaced {
            // It may not be there.
            let _ = fs::remove_file(&fresh);
            let path = self.folder.join(NAME);
            return Err(FileError::Io { path, why });
        }
        self.written = Some(Written {
            issuer: keys.issuer().to_owned(),
            keys: published,
            fetched: keys.fetched(),
        });
        Ok(())
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let io = |why| FileError::Io {
        path: path.to_owned(),
        why,
    };
    let distrusted = |why| {
        let path = path.to_owned();
        Err(FileError::Distrusted { path, why })
    };
    // Neither through a link nor, where it is a pipe, for ever.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(io)?;
    let about = file.metadata().map_err(io)?;
    if !about.is_file() {
        return distrusted("it is no regular file");
    }
    if about.uid() != Uid::effective().as_raw() {
        return distrusted("it belongs to another user");
    }
    if about.mode() & 0o022 != 0 {
        return distrusted("others may write to it");
    }
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > LARGEST {
        return distrusted("it is too large");
    }
    Ok(text)
}
