//! Learns the paths, follows the kernel's changes, and asks the API server where they disagree.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, Fuse, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::{Instant, sleep_until, timeout};

use super::book::{Book, Since};
use super::{Change, Kernel, Path, Shown};
use crate::clock::Clock;
use crate::identity::pods::{Life, Owner, PodIndex, Report};
use crate::identity::watch::Reader;
use crate::identity::{Known, Shared};
use crate::model::PodUid;

/// How often one address may cost a read of its pod.
const PACE: Duration = Duration::from_secs(1);
/// How long a read may take.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How many of the kernel's changes are taken before what they concern is looked at.
const AT_ONCE: usize = 1024;
/// How many reads are under way at a time.
const READS: usize = 8;

/// What the keeper counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Pods that were read afresh, because their path was not what it was.
    pub confirmations: Family<OutcomeLabels, Counter>,
}

impl Default for Metrics {
    /// Rare events are worth an alert: it takes a zero to see the first.
    fn default() -> Self {
        let confirmations = Family::<OutcomeLabels, Counter>::default();
        for outcome in [Outcome::Confirmed, Outcome::Refuted, Outcome::Failed] {
            drop(confirmations.get_or_create(&OutcomeLabels { outcome }));
        }
        Self { confirmations }
    }
}

/// The labels of [`Metrics::confirmations`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// How it ended.
    pub outcome: Outcome,
}

/// How the read of a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The pod has the address, and the new path is its own.
    Confirmed,
    /// It does not, or not surely.
    Refuted,
    /// The API server did not answer.
    Failed,
}

/// The one writer of the book.
pub struct Keeper {
    shared: Arc<Shared>,
    kernel: Arc<dyn Kernel>,
    changes: Fuse<BoxStream<'static, Change>>,
    reader: Reader,
    clock: Clock,
    metrics: Metrics,
    /// The links that were there from the start.
    old: HashSet<u32>,
    /// The links that appeared since, and when.
    appeared: HashMap<u32, SystemTime>,
    /// Addresses to which the way may have changed.
    concerned: HashSet<IpAddr>,
    /// When a read for an address was last begun.
    asked: HashMap<IpAddr, Instant>,
    /// Addresses that were doubted again too soon after that.
    deferred: HashSet<IpAddr>,
    reads: FuturesUnordered<BoxFuture<'static, Read>>,
}

/// An unconfirmed path, and what the API server said of the pod meanwhile.
struct Read {
    address: IpAddr,
    pod: PodUid,
    path: Path,
    report: Result<Option<Report>, String>,
}

impl Keeper {
    /// `changes` has begun already, with the `links` that there were, so that
    /// nothing that happens after the first look is missed.
    pub(in crate::identity) fn new(
        shared: Arc<Shared>,
        kernel: Arc<dyn Kernel>,
        changes: BoxStream<'static, Change>,
        links: HashSet<u32>,
        reader: Reader,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self {
            shared,
            kernel,
            changes: changes.fuse(),
            reader,
            clock,
            metrics,
            old: links,
            appeared: HashMap::new(),
            concerned: HashSet::new(),
            asked: HashMap::new(),
            deferred: HashSet::new(),
            reads: FuturesUnordered::new(),
        }
    }

    /// Runs for the life of the process; returns only when the kernel tells of
    /// no more changes.
    pub async fn run(mut self) -> &'static str {
        let mut owners = self.shared.changes.subscribe();
        loop {
            self.follow_owners().await;
            self.listen();
            self.follow_kernel().await;
            let again = self.deferred_until();
            tokio::select! {
                () = ready(()), if !self.concerned.is_empty() => {}
                // The sender is shared, and so lives as long as this.
                _ = owners.changed() => {}
                change = self.changes.next() => match change {
                    Some(change) => self.hear(change),
                    None => return "the kernel's changes are no longer told",
                },
                () = self.shared.doubted.notified() => self.confirm_doubted().await,
                () = sleep_until(again), if !self.deferred.is_empty() => {
                    self.confirm_doubted().await;
                }
                Some(read) = self.reads.next() => self.conclude(read).await,
            }
        }
    }

    /// Learns the paths of addresses whose owner is new.
    async fn follow_owners(&mut self) {
        let unlearnt = self.write(|pods, paths| paths.follow(pods));
        let unlearnt = unlearnt.unwrap_or_default();
        for address in &unlearnt {
            let shown = self.look(*address).await;
            if shown == Shown::Unresolved
                && let Err(error) = self.kernel.resolve(*address).await
            {
                tracing::debug!(%address, %error, "the neighbour cannot be asked");
            }
            // A link may have the index of one that went before it was looked at.
            self.listen();
            let since = self.since(shown);
            self.write(|pods, paths| paths.learn(pods, *address, shown, since));
        }
        if !unlearnt.is_empty() {
            self.shared.changed();
        }
    }

    /// Looks at what may have changed. One look answers all that came together.
    async fn follow_kernel(&mut self) {
        let mut is_other = false;
        for address in std::mem::take(&mut self.concerned) {
            is_other |= self.see(address).await;
        }
        if is_other {
            self.shared.changed();
        }
    }

    /// Takes what the kernel has told meanwhile: a link counts from when it was
    /// heard of, and nobody is known while a link may have gone unheard. Up to a
    /// limit: pods can make the kernel tell without an end.
    fn listen(&mut self) {
        for _ in 0..AT_ONCE {
            match self.changes.next().now_or_never().flatten() {
                Some(change) => self.hear(change),
                None => break,
            }
        }
    }

    fn hear(&mut self, change: Change) {
        let concerned = self.shared.read().paths.concerned(change);
        self.concerned.extend(concerned);
        match change {
            Change::Appeared(link) => {
                self.appeared.insert(link, self.clock.now());
            }
            Change::Gone(link) => {
                self.old.remove(&link);
                self.appeared.remove(&link);
                if self.shared.write().paths.lose(link, self.clock.now()) {
                    self.shared.changed();
                }
            }
            Change::Address(_)
            | Change::Neighbour(_)
            | Change::Mac(_)
            | Change::Link(_)
            | Change::Network(..)
            | Change::Any => {}
        }
    }

    /// Begins to read the pods whose callers came by a path that is not known
    /// to be theirs.
    async fn confirm_doubted(&mut self) {
        let mut doubted = self.shared.take_doubted();
        doubted.extend(self.deferred.drain());
        let now = Instant::now();
        self.asked.retain(|_, asked| *asked + PACE > now);
        for address in doubted {
            if self.see(address).await {
                self.shared.changed();
            }
            let Some(read) = self.read_of(address) else {
                continue;
            };
            if self.asked.contains_key(&address) || self.reads.len() >= READS {
                self.deferred.insert(address);
                continue;
            }
            self.asked.insert(address, now);
            self.reads.push(read);
        }
    }

    /// When the first of them may be read again.
    fn deferred_until(&self) -> Instant {
        let asked = self.asked.values().min();
        asked.map_or_else(Instant::now, |asked| *asked) + PACE
    }

    fn read_of(&self, address: IpAddr) -> Option<BoxFuture<'static, Read>> {
        let known = self.shared.read();
        let (pod, path) = known.paths.unconfirmed(address)?;
        let Owner::Pod(_, caller) = known.pods.as_ref()?.owner(address) else {
            return None;
        };
        let (reader, pod) = (self.reader.clone(), pod.clone());
        let (namespace, name) = (
            caller.account().namespace().to_owned(),
            caller.name().to_owned(),
        );
        let read = async move {
            let answer = timeout(READ_WITHIN, reader.read(&namespace, &name));
            let report = answer.await.unwrap_or_else(|_| Err("no answer".to_owned()));
            Read {
                address,
                pod,
                path,
                report,
            }
        };
        Some(read.boxed())
    }

    async fn conclude(&mut self, read: Read) {
        let Read {
            address,
            pod,
            path,
            report,
        } = read;
        let outcome = match report {
            Err(why) => {
                tracing::warn!(%address, %pod, why, "a pod whose path is not known cannot be read");
                Outcome::Failed
            }
            Ok(report) => {
                // The path must be what it was before the pod was read.
                self.see(address).await;
                let since = self.since(Shown::Path(path));
                let as_of = report
                    .filter(|report| speaks_for(report, &pod, address))
                    .and_then(|report| report.as_of);
                let confirm = |_: &PodIndex, paths: &mut Book| {
                    as_of.is_some_and(|as_of| paths.confirm(address, &pod, path, as_of, since))
                };
                if self.write(confirm).unwrap_or(false) {
                    Outcome::Confirmed
                } else {
                    Outcome::Refuted
                }
            }
        };
        tracing::info!(%address, %pod, ?path, ?outcome, "a path was not known to be the pod's");
        let labels = OutcomeLabels { outcome };
        self.metrics.confirmations.get_or_create(&labels).inc();
        self.shared.changed();
    }

    /// Takes what the kernel shows now, and returns whether it is something else.
    async fn see(&mut self, address: IpAddr) -> bool {
        let shown = self.look(address).await;
        let since = self.since(shown);
        self.write(|pods, paths| paths.see(pods, address, shown, since))
            .unwrap_or(false)
    }

    /// A kernel that cannot be asked shows no path that anybody could come by.
    async fn look(&mut self, address: IpAddr) -> Shown {
        self.listen();
        match self.kernel.path(address).await {
            Ok(shown) => shown,
            Err(error) => {
                tracing::warn!(%address, %error, "the kernel does not say how it reaches an address");
                Shown::Unresolved
            }
        }
    }

    fn since(&self, shown: Shown) -> Since {
        match shown {
            Shown::Path(path) => {
                let link = path.own_link();
                match self.appeared.get(&link) {
                    Some(appeared) => Since::Seen(*appeared),
                    None if self.old.contains(&link) => Since::Start,
                    // It can be looked at before it is told of, and then before
                    // it is told what went before it came.
                    None => Since::Untold,
                }
            }
            Shown::Unresolved | Shown::Hidden => Since::Start,
        }
    }

    /// Before the first list there is nothing to write about.
    fn write<T>(&self, write: impl FnOnce(&PodIndex, &mut Book) -> T) -> Option<T> {
        let mut known = self.shared.write();
        let Known { pods, paths, .. } = &mut *known;
        pods.as_ref().map(|pods| write(pods, paths))
    }
}

/// Whether the pod that was read is the very one, has the address, and is to
/// keep it.
fn speaks_for(report: &Report, pod: &PodUid, address: IpAddr) -> bool {
    let is_live = match report.life {
        Life::Live => true,
        Life::Terminating | Life::Over => false,
    };
    let mut addresses = report.addresses.iter().filter_map(|text| text.parse().ok());
    is_live
        && PodUid::new(&report.uid).as_ref() == Ok(pod)
        && addresses.any(|own: IpAddr| own.to_canonical() == address)
}
