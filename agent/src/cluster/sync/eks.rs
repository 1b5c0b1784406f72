//! What EKS knows of one cluster: a list of what there is, and a description of
//! what is new or has not been described for a while.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_eks::Client;
use aws_sdk_eks::types::{PodIdentityAssociation, PodIdentityAssociationSummary};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::board::Board;
use super::mirrored::{Feed, Origin, Said, Wanted};
use super::pace::Pace;
use super::plan::Known;
use super::roll::{Entry, Next, Roll};
use crate::apiserver::Backoff;
use crate::aws::{Api, Failure, Fault, Metrics, SdkConfig};
use crate::clock::Clock;
use crate::config::Exchange;
use crate::model::ServiceAccount;

/// EKS keeps 1,000 associations a cluster unless it is asked for more, on pages
/// of 100; a list that goes on for longer than this goes round in circles.
const MOST_PAGES: usize = 200;

/// How many of the descriptions that failed are told one by one.
const MOST_FAULTS: usize = 1000;

/// How EKS is asked.
#[derive(Clone)]
pub(super) struct Asking {
    client: Client,
    metrics: Metrics,
    pace: Arc<Pace>,
    clock: Clock,
    /// How often it is listed what there is.
    every: Duration,
    /// How old a description may get.
    refresh: Duration,
    /// How the roles are had.
    exchange: Option<Exchange>,
}

/// How often, and how, EKS is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How often it is listed what there is.
    pub(super) every: Duration,
    /// How old a description may get.
    pub(super) refresh: Duration,
    /// How the roles are had; `None`: as each agent has them.
    pub(super) exchange: Option<Exchange>,
}

impl Asking {
    /// By one account, at one pace.
    pub(super) fn new(
        sdk: &SdkConfig,
        pace: Pace,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        let Settings {
            every,
            refresh,
            exchange,
        } = settings;
        Self {
            client: Client::new(sdk),
            metrics,
            pace: Arc::new(pace),
            clock,
            every,
            refresh,
            exchange,
        }
    }

    /// The outcome of one call, which the pace follows.
    async fn heed<T>(&self, call: BoxFuture<'_, Result<T, Failure>>) -> Result<T, Failure> {
        self.pace.turn().await;
        let outcome = call.await;
        match outcome.as_ref().map_err(|failure| failure.fault) {
            Err(Fault::Throttled) => self.pace.throttled(),
            Ok(_)
            | Err(
                Fault::Denied
                | Fault::NotFound
                | Fault::TooLarge
                | Fault::TimedOut
                | Fault::Unavailable
                | Fault::Malformed,
            ) => self.pace.answered(),
        }
        outcome
    }
}

/// One cluster.
pub(super) struct Cluster {
    asking: Asking,
    name: Arc<str>,
    feed: Feed,
    /// Which counts first of several clusters.
    order: usize,
    board: Board,
    roll: Roll,
}

impl Cluster {
    /// Tells `board`. `there` are the origins of the objects that are there.
    pub(super) fn new(
        asking: Asking,
        name: &Arc<str>,
        order: usize,
        board: Board,
        there: impl IntoIterator<Item = Origin>,
    ) -> Self {
        let feed = Feed::Eks(Arc::clone(name));
        let mut roll = Roll::new(asking.refresh);
        for origin in there {
            let entry = entry_of(&origin).filter(|_| origin.feed().as_ref() == Some(&feed));
            if let Some(entry) = entry {
                roll.adopt(entry, Instant::now());
            }
        }
        Self {
            asking,
            name: Arc::clone(name),
            feed,
            order,
            board,
            roll,
        }
    }

    /// Goes on for as long as it is let.
    pub(super) async fn run(mut self) -> Infallible {
        let mut list_at = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            if list_at <= Instant::now() {
                // Not of the next list's end, which may be some time from now.
                list_at = Instant::now() + self.asking.every;
                match self.list().await {
                    Ok(entries) => {
                        self.listed(entries);
                        backoff = Backoff::default();
                    }
                    Err(failure) => {
                        self.not_listed(&failure);
                        list_at = Instant::now() + backoff.next();
                    }
                }
                continue;
            }
            match self.roll.next(Instant::now()) {
                Next::Describe(entry) => self.describe(&entry).await,
                Next::At(at) => sleep_until(at.min(list_at)).await,
                Next::Nothing => sleep_until(list_at).await,
            }
        }
    }

    fn listed(&mut self, entries: Vec<Entry>) {
        let associations = entries.len();
        self.roll.listed(entries, Instant::now());
        let now = self.asking.clock.now();
        let cluster = &self.name;
        self.board.change(&self.feed, |it| {
            if it.standing.failure.take().is_some() || it.standing.listed_at.is_none() {
                info!(%cluster, associations, "EKS has listed the associations");
            }
            it.standing.listed_at = Some(now);
            it.standing.associations = associations;
        });
    }

    /// What was known stays.
    fn not_listed(&self, failure: &Failure) {
        let why = match failure.fault {
            Fault::NotFound => format!("EKS does not know the cluster here ({failure})"),
            Fault::Denied
            | Fault::TooLarge
            | Fault::Throttled
            | Fault::TimedOut
            | Fault::Unavailable
            | Fault::Malformed => failure.to_string(),
        };
        let cluster = &self.name;
        self.board.change(&self.feed, |it| {
            if it.standing.failure.is_none() {
                warn!(%cluster, %why, "EKS does not list the associations; none is removed");
            }
            it.standing.failure = Some(why);
        });
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let Asking {
            client, metrics, ..
        } = &self.asking;
        let mut entries = Vec::new();
        let mut next_token = None;
        for _ in 0..MOST_PAGES {
            let call = client
                .list_pod_identity_associations()
                .cluster_name(&*self.name)
                .set_next_token(next_token)
                .send();
            let listed = metrics.call(Api::ListPodIdentityAssociations, call, |answer| {
                Some((answer.associations?, answer.next_token))
            });
            let (page, more) = self.asking.heed(listed.boxed()).await?;
            for summary in page {
                entries.push(self.entry(summary)?);
            }
            next_token = more;
            if next_token.is_none() {
                return Ok(entries);
            }
        }
        Err(malformed("a list without an end"))
    }

    fn entry(&self, summary: PodIdentityAssociationSummary) -> Result<Entry, Failure> {
        let arn = summary.association_arn.unwrap_or_default();
        let origin = Origin::eks(&arn);
        let entry = entry_of(&origin).filter(|_| origin.feed().as_ref() == Some(&self.feed));
        entry.ok_or_else(|| malformed("an association of no such cluster, or without an id"))
    }

    async fn describe(&mut self, entry: &Entry) {
        let call = self
            .asking
            .client
            .describe_pod_identity_association()
            .cluster_name(&*self.name)
            .association_id(&entry.id)
            .send();
        let metrics = &self.asking.metrics;
        let described = metrics.call(Api::DescribePodIdentityAssociation, call, |answer| {
            answer.association
        });
        let described = self.asking.heed(described.boxed()).await;
        let (now, origin) = (Instant::now(), Origin::eks(&entry.arn));
        match described {
            Ok(association) => {
                self.roll.described(&entry.id, now);
                let wanted = self.accept(association, entry);
                self.board.change(&self.feed, |it| match wanted {
                    Ok(wanted) => {
                        it.standing.unusable.remove(&origin);
                        it.known.insert(origin, Known::Is(wanted));
                    }
                    // What it was before stays, as it does for agents that ask EKS.
                    Err(why) => note(&mut it.standing.unusable, origin, why),
                });
            }
            Err(failure) if failure.fault == Fault::NotFound => {
                self.roll.gone(&entry.id);
                self.board.change(&self.feed, |it| {
                    it.standing.unusable.remove(&origin);
                    it.known.insert(origin, Known::Gone);
                });
            }
            // The same again, at a slower pace.
            Err(failure) if failure.fault == Fault::Throttled => {}
            Err(failure) => {
                self.roll.failed(&entry.id, now);
                self.board.change(&self.feed, |it| {
                    note(&mut it.standing.unusable, origin, failure.to_string());
                });
            }
        }
    }

    fn accept(&self, described: PodIdentityAssociation, entry: &Entry) -> Result<Wanted, String> {
        let text = Option::unwrap_or_default;
        let account =
            ServiceAccount::new(&text(described.namespace), &text(described.service_account));
        let said = Said {
            role: described.role_arn,
            target_role: described.target_role_arn,
            external_id: described.external_id,
            policy: described.policy,
            tags: described.disable_session_tags.into(),
        };
        Wanted::new(
            account.map_err(|why| why.to_string())?,
            said,
            self.asking.exchange,
            format!("eks-{}", entry.id),
            Origin::eks(&entry.arn),
            (self.order, String::new()),
        )
    }
}

fn note(faults: &mut std::collections::BTreeMap<Origin, String>, origin: Origin, why: String) {
    if faults.contains_key(&origin) || faults.len() < MOST_FAULTS {
        faults.insert(origin, why);
    }
}

/// An id is a part of a name in the cluster, and of a path.
fn entry_of(origin: &Origin) -> Option<Entry> {
    let id = origin.eks_id()?;
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=63).contains(&id.len())
        && id.bytes().all(is_legal)
        && !id.starts_with('-')
        && !id.ends_with('-');
    fits.then(|| Entry {
        id: id.to_owned(),
        arn: origin.as_str().to_owned(),
    })
}

fn malformed(what: &str) -> Failure {
    Failure {
        fault: Fault::Malformed,
        message: format!("EKS answered {what}"),
    }
}
