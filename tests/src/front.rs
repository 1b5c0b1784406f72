//! The real front door and all behind it, but for AWS and the API server.
//!
//! The node's own addresses, loopback first, name no pod. So pods are addresses
//! of [`PODS`] here, in a network namespace of [`apart`]'s, and the front door
//! is at [`HOST`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use credlet::associations::{Associations, Error, Health, Known, Level, Source};
use credlet::broker::{self, Answers, Broker};
use credlet::clock::{Clock, Moment};
use credlet::credentials::{Exchange, Key, Refusal, Vault};
use credlet::identity::paths::{Path, Port, Shown};
use credlet::identity::{Caller, Origin};
use credlet::model::{
    Association, AssumedRole, Credentials, Grant, Secret, ServiceAccount, SessionScope,
};
use credlet::serve::{self, Door, Limits, Listeners, Metadata, Prefer};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::callers::{self, Callers};
use crate::fake_kube::{FakeKube, Pod};
use crate::node::{Namespace, netlink};

/// Where instance metadata is.
pub const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where the front door listens.
pub const HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);
/// The network of the pods, a /16.
pub const PODS: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 0);

/// A front door that is open until dropped.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where instance metadata is, if it is served.
    pub imds: Option<SocketAddr>,
    /// Where both are.
    pub both: Option<SocketAddr>,
    /// How many seconds ahead of all other clocks the door's is.
    pub ahead: Arc<AtomicU64>,
    /// What it counts.
    pub metrics: serve::Metrics,
    /// What stands in for AWS.
    pub upstream: Arc<Upstream>,
    /// Tells it to leave.
    pub leave: CancellationToken,
    door: JoinHandle<()>,
    _behind: JoinSet<()>,
    kube: FakeKube,
}

/// Pods with the address and the account of each.
pub type Pods = Vec<(Ipv4Addr, ServiceAccount)>;

/// Makes a namespace fit for a front door and its pods.
///
/// # Errors
/// `PermissionDenied` names what is missing.
async fn namespace() -> io::Result<Namespace> {
    let namespace = Namespace::new()?;
    namespace.run(add_addresses).await?;
    Ok(namespace)
}

/// Runs a test in a network of its own.
pub async fn apart(test: impl AsyncFnOnce() + Send + 'static) {
    let namespace = namespace().await.expect("network namespaces");
    namespace.run(test).await;
}

/// Gives the calling thread's namespace the addresses of the pods and the door.
pub async fn add_addresses() -> io::Result<()> {
    let handle = netlink()?;
    // On `lo`, a whole network is local.
    for (address, prefix) in [(HOST, 32), (IMDS, 32), (PODS, 16)] {
        let add = handle.address().add(LO, address.into(), prefix);
        add.execute().await.map_err(io::Error::other)?;
    }
    Ok(())
}

/// The index that `lo` has in every namespace.
const LO: u32 = 1;

impl Front {
    /// Opens on `port`, once all pods are known; 0 takes a free one.
    pub async fn open(port: u16, pods: &Pods, limits: Limits) -> Self {
        Self::with(None, port, pods, limits).await
    }

    /// With instance metadata beside it, and a door to both, if there is any. All
    /// pods have asked for it but those in the namespace `plain`.
    pub async fn with(metadata: Option<Metadata>, port: u16, pods: &Pods, limits: Limits) -> Self {
        let kube = FakeKube::start().await;
        for (address, account) in pods {
            kube.apply(object(*address, account));
        }
        let callers = Callers::open(&kube, callers::settings());
        for ((address, _), port) in pods.iter().zip(100..) {
            callers.kernel.show_silently((*address).into(), path(port));
        }
        let identity = callers.identity.clone();
        let mut behind = callers.into_tasks();
        identity.synced().await;

        let upstream = Arc::new(Upstream::default());
        let (vault, fill) = Vault::new(Arc::clone(&upstream) as _, Clock::system());
        behind.spawn(fill);
        let associations = Associations::new(vec![Box::new(OneRoleEach::new(pods))], None);
        let broker = Arc::new(Broker::new(
            identity,
            associations,
            vault,
            SessionScope::default(),
        ));

        let bind = |host: Ipv4Addr, port| {
            Listeners::bind(&[host.into()], port, Prefer::Incumbent, limits.stall)
                .expect("a namespace of `apart()`")
        };
        let mut doors = vec![(Door::Container, bind(HOST, port))];
        if let Some(metadata) = metadata.map(Arc::new) {
            doors.push((Door::Imds(Arc::clone(&metadata)), bind(IMDS, port)));
            doors.push((Door::Both(metadata), bind(HOST, 0)));
        }
        let mut addresses = doors.iter().map(|(_, listeners)| listeners.addresses()[0]);
        let address = addresses.next().expect("there is one door at least");
        let (imds, both) = (addresses.next(), addresses.next());
        drop(addresses);
        let ahead = Arc::new(AtomicU64::new(0));
        let answers = Ahead {
            answers: broker,
            by: Arc::clone(&ahead),
        };
        let (metrics, leave) = (serve::Metrics::default(), CancellationToken::new());
        let door = serve::run(
            doors,
            ingress,
            Arc::new(answers),
            limits,
            metrics.clone(),
            leave.clone(),
        );
        Self {
            address,
            imds,
            both,
            ahead,
            metrics,
            upstream,
            leave,
            door: tokio::spawn(door),
            _behind: behind,
            kube,
        }
    }

    /// A token of one of its pods.
    pub fn token(&self, address: Ipv4Addr, account: &ServiceAccount) -> String {
        let pod = object(address, account);
        self.kube
            .token(&pod, "pods.eks.amazonaws.com", Duration::from_hours(1))
    }

    /// Returns when it has closed, and fails if it panicked.
    pub async fn closed(mut self) {
        let door = &mut self.door;
        door.await.expect("the front door does not panic");
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.door.abort();
    }
}

/// As pods on a bridge have, which here is `lo`.
fn path(port: u32) -> Shown {
    let port = Port::Bridged { port, mac: [2; 6] };
    Shown::Path(Path { link: LO, port })
}

fn object(address: Ipv4Addr, account: &ServiceAccount) -> Pod {
    let address = address.to_string();
    let name = format!("pod-{}", address.replace('.', "-"));
    let pod = Pod::new(account.namespace(), &name).account(account.name());
    let pod = match account.namespace() {
        "plain" => pod,
        _ => pod.opted_in(),
    };
    pod.addresses([&*address])
}

fn ingress(stream: &TcpStream) -> Option<u32> {
    netsetup::ingress(stream.as_fd(), stream.peer_addr().ok()?.ip())
}

/// Room enough for any test, and deadlines of the real agent.
pub fn limits() -> Limits {
    Limits::for_open_files(2048)
}

/// Answers by a clock that is ahead.
struct Ahead {
    answers: Arc<Broker>,
    by: Arc<AtomicU64>,
}

impl Answers for Ahead {
    fn moment(&self, arrived: Instant) -> Moment {
        let now = self.answers.moment(arrived);
        let wall = now.wall + Duration::from_secs(self.by.load(Ordering::Relaxed));
        Moment { wall, ..now }
    }

    fn caller_at_once(&self, origin: &Origin, token: Option<&str>, now: Moment) -> Option<Caller> {
        self.answers.caller_at_once(origin, token, now)
    }

    fn caller<'a>(
        &'a self,
        origin: &'a Origin,
        token: Option<&'a str>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Caller, broker::Error>> {
        self.answers.caller(origin, token, deadline)
    }

    fn credentials_at_once(&self, caller: &Caller, now: Moment) -> Option<Arc<Credentials>> {
        self.answers.credentials_at_once(caller, now)
    }

    fn credentials<'a>(
        &'a self,
        caller: &'a Caller,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Arc<Credentials>, broker::Error>> {
        self.answers.credentials(caller, deadline)
    }
}

/// Stands in for AWS: counts, and answers when told to.
#[derive(Default)]
pub struct Upstream {
    calls: AtomicU64,
    delay_ms: AtomicU64,
}

impl Upstream {
    /// How often it was asked.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// From now on it takes this long.
    pub fn delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).expect("a short time");
        self.delay_ms.store(delay, Ordering::SeqCst);
    }
}

impl Exchange for Upstream {
    fn exchange(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let delay = Duration::from_millis(self.delay_ms.load(Ordering::SeqCst));
        async move {
            tokio::time::sleep(delay).await;
            Ok(credentials(&key.account))
        }
        .boxed()
    }
}

/// As long as those of STS, and valid for an hour.
fn credentials(account: &ServiceAccount) -> Credentials {
    Credentials::new(
        "ASIAEXAMPLEEXAMPLE00".into(),
        Secret::new("k".repeat(40)),
        Secret::new(format!("{account}:{}", "t".repeat(800))),
        SystemTime::now() + Duration::from_hours(1),
        AssumedRole::new(
            &format!(
                "arn:aws:sts::123456789012:assumed-role/{}/session",
                account.name()
            ),
            "AROAEXAMPLE:session",
        )
        .expect("a session of a role"),
    )
}

/// A source that knows one role for each account, but none in the namespace `none`.
struct OneRoleEach(HashMap<ServiceAccount, Arc<Association>>);

impl OneRoleEach {
    fn new(pods: &Pods) -> Self {
        let accounts = pods.iter().map(|(_, account)| account);
        let granted = accounts.filter(|account| account.namespace() != "none");
        Self(granted.map(|it| (it.clone(), association(it))).collect())
    }
}

fn association(account: &ServiceAccount) -> Arc<Association> {
    let role = format!("arn:aws:iam::123456789012:role/{}", account.name());
    let role = role.parse().expect("a role's ARN");
    Arc::new(Association::Role(Grant::of(role)))
}

impl Source for OneRoleEach {
    fn find<'a>(
        &'a self,
        account: &'a ServiceAccount,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>> {
        ready(Ok(self.0.get(account).cloned())).boxed()
    }

    fn peek(&self, account: &ServiceAccount) -> Known {
        let known = self.0.get(account).cloned();
        known.map_or(Known::None, Known::Is)
    }

    fn prefetch(&self, _account: &ServiceAccount) {}

    fn retain(&self, _accounts: &HashSet<ServiceAccount>) {}

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    fn name(&self) -> &'static str {
        "file"
    }

    fn health(&self, _now: Moment) -> Health {
        Health {
            level: Level::Good,
            known: self.0.len(),
            as_of: None,
            why: None,
        }
    }
}
