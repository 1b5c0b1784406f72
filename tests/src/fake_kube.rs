//! A stand-in for the Kubernetes API: pods and service account tokens, with
//! scripted faults.
//!
//! ```no_run
//! # async fn demo() {
//! use credlet_tests::fake_kube::{FakeKube, Fault, Pod, Verb};
//! let kube = FakeKube::start().await;
//! kube.apply(Pod::new("shop", "cart-0").account("cart").addresses(["10.0.0.7"]));
//! kube.fail_next(Verb::Watch, Fault::Status(500));
//! std::fs::write("kubeconfig", kube.kubeconfig()).unwrap();
//! kube.called(Verb::Watch, 2).await; // the agent came back
//! kube.delete("shop", "cart-0");
//! # }
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

mod events;
mod nodes;
mod objects;
mod pod;
mod server;
pub mod signer;
mod tokens;
mod version;

pub use objects::Kind;
use objects::Objects;
use pod::Key;
pub use pod::Pod;
pub use tokens::{ISSUER, claims};

/// The node of every pod that names no other.
pub const NODE: &str = "node-1";

/// How long [`FakeKube::called`] waits for a call before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server. It runs until it is dropped, which cuts all its connections.
pub struct FakeKube {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Mutex<JoinSet<()>>,
}

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// All pods, now.
    List,
    /// What happens to pods from a resource version on.
    Watch,
    /// Objects of another kind, now.
    ListOther,
    /// What happens to them from a resource version on.
    WatchOther,
    /// One pod, as it is now.
    Get,
    /// Who issues tokens: `/.well-known/openid-configuration`.
    Discovery,
    /// The public keys of the issuer: `/openid/v1/jwks`.
    Keys,
    /// Whether a token is good: a `TokenReview`.
    Review,
    /// A new event.
    CreateEvent,
    /// More of an event.
    PatchEvent,
    /// A token of a pod's: a `TokenRequest`.
    Token,
    /// `/version`.
    Version,
    /// Less of a node.
    PatchNode,
}

/// A request that reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked for.
    pub verb: Verb,
    /// The path.
    pub path: String,
    /// The decoded query.
    pub query: HashMap<String, String>,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The answer has this HTTP status.
    Status(u16),
    /// The request is read and never answered.
    Stall,
    /// The connection is closed without an answer.
    Cut,
    /// The answer comes this much later.
    Slow(Duration),
    /// The answer is 200, and its body is no JSON.
    Garbage,
}

/// What happens to every watch that is open, and to none that opens later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// A bookmark with the latest resource version.
    Bookmark,
    /// An `ERROR` event with this code; 410 is "too old resource version".
    Error(u16),
    /// The server ends the watch in an orderly way, as it does every few minutes.
    End,
    /// The connection breaks in the middle of the answer.
    Cut,
    /// A line that is no JSON.
    Garbage,
    /// The watch stays open, and tells of no pod any more.
    Silence,
}

impl FakeKube {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        Self::on(listener)
    }

    /// Serves on a listener of any network namespace.
    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("the listener is bound");
        let shared = Arc::new(Shared::default());
        let mut server = JoinSet::new();
        server.spawn(server::serve(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            server: Mutex::new(server),
        }
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text of a kubeconfig file that names this server.
    pub fn kubeconfig(&self) -> String {
        // JSON is YAML.
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url()}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        })
        .to_string()
    }

    /// Adds the pod, or replaces the one of its namespace and name.
    pub fn apply(&self, pod: Pod) {
        self.shared.change(|state, version| {
            let pod = pod.at_version(version);
            let event = match state.pods.insert(pod.key(), pod.clone()) {
                None => "ADDED",
                Some(_) => "MODIFIED",
            };
            Event::Pod(event, pod)
        });
    }

    /// Deletes a pod, which must be there.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.shared.change(|state, version| {
            let key = (namespace.to_owned(), name.to_owned());
            let pod = state.pods.remove(&key).expect("the pod is there");
            Event::Pod("DELETED", pod.at_version(version))
        });
    }

    /// Has these kinds, as yet without objects. A kind that is not offered is
    /// not found, as that of a custom resource which is not installed.
    pub fn offer(&self, kinds: &[Kind]) {
        self.shared.state().objects.offered.extend(kinds);
    }

    /// Adds the object, or replaces the one of its kind, namespace and name.
    pub fn put(&self, kind: Kind, object: Value) {
        self.shared.put(kind, object);
    }

    /// Deletes an object, which must be there; of no namespace: the empty one.
    pub fn take(&self, kind: Kind, namespace: &str, name: &str) {
        self.shared.change(|state, version| {
            let key = (kind, namespace.to_owned(), name.to_owned());
            let mut object = state.objects.all.remove(&key).expect("it is there");
            object["metadata"]["resourceVersion"] = version.to_string().into();
            Event::Object("DELETED", kind, object)
        });
    }

    /// Forgets all history: a watch from before gets the `ERROR` event 410.
    pub fn compact(&self) {
        let mut state = self.shared.state();
        state.compacted = state.version;
    }

    /// Spoils the next request of this kind; further calls queue up.
    pub fn fail_next(&self, verb: Verb, fault: Fault) {
        self.shared.state().faults.push_back((verb, fault));
    }

    /// Answers 403 to all requests of this kind, until [`Self::permit`].
    pub fn forbid(&self, verb: Verb) {
        self.shared.state().forbidden.push(verb);
    }

    /// Permits what was forbidden.
    pub fn permit(&self, verb: Verb) {
        self.shared.state().forbidden.retain(|it| *it != verb);
    }

    /// Does this to every watch that is open now.
    pub fn interrupt(&self, interruption: Interruption) {
        self.shared.change(|_, _| Event::Interruption(interruption));
    }

    /// Closes every connection and refuses new ones, until [`Self::up`].
    pub async fn down(&self) {
        let mut server = std::mem::take(&mut *self.server.lock().expect("no panic under it"));
        server.shutdown().await;
    }

    /// Listens again, on the same port.
    pub async fn up(&self) {
        let listener = TcpListener::bind(self.address).await;
        self.up_on(listener.expect("nobody took the port"));
    }

    /// The same on a listener of the caller's, on the same address in the
    /// network namespace of the one before.
    pub fn up_on(&self, listener: TcpListener) {
        let serve = server::serve(listener, Arc::clone(&self.shared));
        self.server.lock().expect("no panic under it").spawn(serve);
    }

    /// Every request so far, the spoilt ones included.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// Returns once `count` requests of this kind have come since the start.
    ///
    /// Panics if they do not come: the call that a test expects is its subject.
    pub async fn called(&self, verb: Verb, count: usize) {
        let mut changes = self.shared.changes.subscribe();
        let enough = async {
            while self.count(verb) < count {
                changes.changed().await.expect("the state holds the sender");
            }
        };
        if timeout(PATIENCE, enough).await.is_err() {
            let calls = self.calls();
            panic!("{count} calls of {verb:?} were expected; there were {calls:?}");
        }
    }

    /// How many requests of this kind have come since the start.
    pub fn count(&self, verb: Verb) -> usize {
        let state = self.shared.state();
        state.calls.iter().filter(|call| call.verb == verb).count()
    }
}

/// What the test and the server's connections share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<Key, Pod>,
    objects: Objects,
    version: u64,
    /// Watches from before this version get 410.
    compacted: u64,
    /// Everything that ever happened, with the version that it led to.
    events: Vec<(u64, Event)>,
    faults: VecDeque<(Verb, Fault)>,
    forbidden: Vec<Verb>,
    calls: Vec<Call>,
    tokens: tokens::Tokens,
    /// What the `Date` of `/version` says.
    date: Option<String>,
    /// On pods, in the order of their creation.
    written: Vec<Value>,
}

#[derive(Clone)]
enum Event {
    Pod(&'static str, Pod),
    Object(&'static str, Kind, Value),
    Interruption(Interruption),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under it")
    }

    fn change(&self, change: impl FnOnce(&mut State, u64) -> Event) {
        let mut state = self.state();
        let version = state.version + 1;
        let event = change(&mut state, version);
        state.version = version;
        state.events.push((version, event));
        drop(state);
        self.changes.send_replace(());
    }

    fn put(&self, kind: Kind, mut object: Value) {
        self.change(|state, version| {
            let metadata = &mut object["metadata"];
            metadata["resourceVersion"] = version.to_string().into();
            let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            let key = (kind, text("namespace"), text("name"));
            let event = match state.objects.all.insert(key, object.clone()) {
                None => "ADDED",
                Some(_) => "MODIFIED",
            };
            Event::Object(event, kind, object.clone())
        });
    }

    /// Records the call and hands out the fault that was meant for it.
    fn record(&self, call: Call) -> Option<Fault> {
        let mut state = self.state();
        let meant = |(verb, _): &(Verb, Fault)| *verb == call.verb;
        let fault = state.faults.iter().position(meant);
        let fault = fault.and_then(|index| state.faults.remove(index));
        let forbidden = state.forbidden.contains(&call.verb);
        let fault = fault.or(forbidden.then_some((call.verb, Fault::Status(403))));
        state.calls.push(call);
        drop(state);
        self.changes.send_replace(());
        fault.map(|(_, fault)| fault)
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        Some(self.state().pods.get(&key)?.json().clone())
    }

    fn list(&self, node: Option<&str>) -> Value {
        let state = self.state();
        let pods = state.pods.values().filter(|pod| pod.is_on(node));
        let items: Vec<&Value> = pods.map(Pod::json).collect();
        json!({
            "apiVersion": "v1",
            "kind": "PodList",
            "metadata": {"resourceVersion": state.version.to_string()},
            "items": items,
        })
    }
}
