//! Every task of the process: an early end of any is fatal, loudly.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

/// A task that should have run as long as the process did not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It returned.
    #[error("the task `{0}` ended by itself: {1}")]
    Ended(&'static str, String),
    /// It panicked.
    #[error("the task `{0}` panicked")]
    Panicked(&'static str),
}

impl Error {
    /// For a task that somebody else started and saw ending.
    pub fn of(name: &'static str, end: &Result<(), JoinError>) -> Self {
        match end {
            Ok(()) => Self::Ended(name, "nothing was left to do".to_owned()),
            Err(_) => Self::Panicked(name),
        }
    }
}

/// The process's tasks. Dropping it aborts them all.
#[derive(Default)]
pub struct Supervisor {
    tasks: JoinSet<String>,
    names: HashMap<Id, &'static str>,
}

impl Supervisor {
    /// Starts a task that runs for the life of the process; what it returns
    /// says why it did not.
    pub fn spawn<T: ToString>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(async move { task.await.to_string() });
        self.names.insert(handle.id(), name);
    }

    /// Resolves when the first task ends, which none should.
    pub async fn failure(&mut self) -> Error {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, why))) => Error::Ended(self.name(id), why),
            Some(Err(error)) => Error::Panicked(self.name(JoinError::id(&error))),
        }
    }

    /// Until `stop`, then `leave`s and drains: returns when the front doors have
    /// ended, which they do once they were told.
    pub async fn serve(
        mut self,
        mut doors: JoinHandle<()>,
        stop: impl Future<Output = ()>,
        leave: impl FnOnce(),
    ) -> Result<(), Error> {
        tokio::select! {
            failure = self.failure() => return Err(failure),
            ended = &mut doors => return Err(Error::of("front doors", &ended)),
            () = stop => {}
        }
        tracing::info!("credlet leaves: it answers what it has accepted");
        leave();
        tokio::select! {
            failure = self.failure() => Err(failure),
            ended = &mut doors => match ended {
                Ok(()) => Ok(()),
                Err(_) => Err(Error::of("front doors", &ended)),
            },
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().expect("named when spawned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_returns_is_a_failure_with_its_name() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn::<String>("steady", std::future::pending());
        supervisor.spawn("brief", async { "nothing left to do" });
        let failure = supervisor.failure().await.to_string();
        assert_eq!(
            failure,
            "the task `brief` ended by itself: nothing left to do"
        );
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_the_task_s_name() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn::<String>("fragile", async { panic!("on purpose") });
        assert!(matches!(
            supervisor.failure().await,
            Error::Panicked("fragile")
        ));
    }
}
