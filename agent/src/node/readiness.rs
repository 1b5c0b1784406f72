//! Named gates: the agent is ready while all of them are open.
//!
//! A gate opens by an explicit call only, so that a task which died before it
//! got there never reads as ready.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// What must be so before pods are served well. `ALL` is in the order of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The link and the addresses are there.
    Network,
    /// The first full list of pods has arrived.
    Pods,
    /// The front doors accept connections, and the process is not ending.
    Doors,
}

impl Gate {
    const ALL: [Self; 3] = [Self::Network, Self::Pods, Self::Doors];

    fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Pods => "pods",
            Self::Doors => "doors",
        }
    }
}

/// All gates, closed at first. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Gates>);

#[derive(Debug, Default)]
struct Gates {
    open: [AtomicBool; Gate::ALL.len()],
    opened: Notify,
}

impl Readiness {
    /// Opens a gate.
    pub fn open(&self, gate: Gate) {
        self.0.open[gate as usize].store(true, Ordering::Release);
        self.0.opened.notify_waiters();
    }

    /// Closes a gate again.
    pub fn close(&self, gate: Gate) {
        self.0.open[gate as usize].store(false, Ordering::Release);
    }

    /// Returns when no gate is closed.
    pub async fn ready(&self) {
        loop {
            let mut opened = pin!(self.0.opened.notified());
            // Before the look: what opens meanwhile is heard of.
            opened.as_mut().enable();
            if self.closed().is_empty() {
                return;
            }
            opened.await;
        }
    }

    /// The gates that are closed; none when ready.
    pub fn closed(&self) -> Vec<Gate> {
        let is_closed = |gate: &Gate| !self.0.open[*gate as usize].load(Ordering::Acquire);
        Gate::ALL.into_iter().filter(is_closed).collect()
    }

    /// All gates by name, and whether each is open.
    pub fn all(&self) -> [(&'static str, bool); Gate::ALL.len()] {
        Gate::ALL.map(|gate| {
            (
                gate.name(),
                self.0.open[gate as usize].load(Ordering::Acquire),
            )
        })
    }

    /// As [`Self::closed`], as `/readyz` names them.
    pub fn closed_names(&self) -> Vec<String> {
        let closed = self.closed().into_iter();
        closed.map(|gate| gate.name().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_is_closed_until_it_is_opened() {
        let readiness = Readiness::default();
        assert_eq!(readiness.closed(), Gate::ALL);
        readiness.open(Gate::Pods);
        assert_eq!(readiness.closed(), [Gate::Network, Gate::Doors]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_all_gates_hears_of_the_last_that_opens() {
        let readiness = Readiness::default();
        let waits = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        for gate in Gate::ALL {
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            readiness.open(gate);
        }
        waits.await.expect("it did not panic");
        readiness.ready().await;
    }

    #[test]
    fn an_open_gate_can_close_again() {
        let readiness = Readiness::default();
        for gate in Gate::ALL {
            readiness.open(gate);
        }
        assert!(readiness.closed().is_empty());
        readiness.close(Gate::Doors);
        assert_eq!(readiness.closed(), [Gate::Doors]);
    }
}
