//! The pod's role, where a file names it: an annotation, by the downward API.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::own::Own;
use super::{Error, file};
use crate::config::sidecar::Role;
use crate::model::{Invalid, RoleArn};

/// The kubelet writes an annotation that has changed within about a minute.
const PERIOD: Duration = Duration::from_secs(10);

/// Why a file names no role.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read, or is empty.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What it says is no role's ARN.
    #[error("{0}")]
    Arn(#[from] Invalid),
}

/// The role as it is now, and what follows its file, if one names it.
pub(super) fn read(role: &Role) -> Result<(RoleArn, Option<Follower>), Error> {
    match role {
        Role::Given(arn) => Ok((arn.clone(), None)),
        Role::File(path) => {
            let arn = arn(path).map_err(|why| Error::Role {
                path: path.clone(),
                why,
            })?;
            let follower = Follower {
                path: path.clone(),
                last: arn.clone(),
            };
            Ok((arn, Some(follower)))
        }
    }
}

/// Keeps the pod's role to what its file says.
pub(super) struct Follower {
    path: PathBuf,
    last: RoleArn,
}

impl Follower {
    /// For the life of the process. What cannot be used changes nothing.
    pub(super) async fn run(mut self, own: Arc<Own>) -> Infallible {
        loop {
            sleep(PERIOD).await;
            match arn(&self.path) {
                Ok(role) if role != self.last => {
                    tracing::info!(%role, "the pod has another role now");
                    own.change(role.clone());
                    self.last = role;
                }
                Ok(_) => {}
                Err(why) => tracing::debug!(%why, "the role file cannot be used"),
            }
        }
    }
}

fn arn(path: &Path) -> Result<RoleArn, Fault> {
    Ok(file::read(path)?.parse()?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::clock::Clock;
    use crate::config::sidecar::{Container, Exchange as Means};
    use crate::credentials::{Exchange, Key, Refusal, Vault};
    use crate::model::{Credentials, PodName, PodUid, ServiceAccount};

    const ROLE: &str = "arn:aws:iam::111122223333:role/checkout";
    const OTHER: &str = "arn:aws:iam::111122223333:role/reports";

    /// The vault has nobody to fill it.
    struct NeverAsked;

    impl Exchange for NeverAsked {
        fn exchange(&self, _: Key) -> BoxFuture<'static, Result<Credentials, Refusal>> {
            std::future::ready(Err(Refusal::Throttled)).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_role_in_the_file_takes_the_place_of_the_first_and_nonsense_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("role");
        fs::write(&path, format!("{ROLE}\n")).expect("writable");
        let (first, follower) = read(&Role::File(path.clone())).expect("a role");
        assert_eq!(first.as_str(), ROLE);

        let never_asked = Arc::new(NeverAsked);
        let clock = Clock::paused(SystemTime::UNIX_EPOCH);
        let (vault, _scheduler) = Vault::new(never_asked, clock);
        let pod = PodName {
            uid: PodUid::new("uid").expect("legal"),
            name: "checkout-1".into(),
        };
        let account = ServiceAccount::new("shop", "checkout").expect("legal");
        let means = Means::AssumeRole(Container::Other);
        let own = Arc::new(Own::new(account, pod, &means, first, vault));
        let role = || own.key().association.grant().expect("a role").role.clone();
        let follower = follower.expect("a file is followed").run(Arc::clone(&own));
        let mut follower = Box::pin(follower);
        let mut wait = async || {
            let time = sleep(PERIOD * 2);
            tokio::select! {
                never = follower.as_mut() => match never {},
                () = time => {}
            }
        };

        fs::write(&path, "none of your business").expect("writable");
        wait().await;
        assert_eq!(role().as_str(), ROLE);
        fs::write(&path, OTHER).expect("writable");
        wait().await;
        assert_eq!(role().as_str(), OTHER);
        fs::remove_file(&path).expect("it is there");
        wait().await;
        assert_eq!(role().as_str(), OTHER);
    }
}
