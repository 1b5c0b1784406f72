//! The agent's keeper of paths and its judge, on the model of a node.

use std::cell::Cell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::{self, BoxFuture};
use futures::{FutureExt, StreamExt};
use http_body_util::Full;
use kube::Client;
use kube::client::Body;
use proptest::prelude::*;
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep};

use super::callers::{Deed, Step, Token};
use super::node::{ADDRESSES, Event, LOOPBACK, NODE, NODE_ADDRESS, Net, World, ip};
use crate::clock::Clock;
use crate::config::IdentityMode;
use crate::identity::judge::{Rules, Verdict, judge};
use crate::identity::paths::{Change, Keeper, Kernel, Shown};
use crate::identity::pods::{PodIndex, Report, Resident};
use crate::identity::tokens::Claims;
use crate::identity::watch::Reader;
use crate::identity::{Origin, Shared};
use crate::model::{PodUid, ServiceAccount};

type Shelf = Arc<Mutex<World>>;

fn lock(world: &Shelf) -> MutexGuard<'_, World> {
    world.lock().expect("nobody panics with the lock held")
}

struct Seen(Shelf);

impl Kernel for Seen {
    fn path(&self, address: IpAddr) -> BoxFuture<'_, io::Result<Shown>> {
        future::ready(Ok(lock(&self.0).shown(address))).boxed()
    }

    fn resolve(&self, address: IpAddr) -> BoxFuture<'_, io::Result<()>> {
        lock(&self.0).resolve(address);
        future::ready(Ok(())).boxed()
    }

    fn is_heard(&self) -> bool {
        true
    }
}

/// The API server, for reads of a pod. What it says was true when it was asked.
fn client(world: &Shelf) -> Client {
    let world = Arc::clone(world);
    let answer = move |request: hyper::Request<Body>| {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let (object, is_up, delay) = {
            let world = lock(&world);
            (world.read(name), world.api_is_up, world.delay)
        };
        let failure = |code: u16| json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code});
        let (code, body) = match object {
            _ if !is_up => (503, failure(503)),
            Some(object) => (200, object),
            None => (404, failure(404)),
        };
        async move {
            sleep(delay).await;
            let body = Full::new(Bytes::from(body.to_string()));
            let response = hyper::Response::builder().status(code).body(body);
            Ok::<_, Infallible>(response.expect("a response"))
        }
    };
    Client::new(tower::service_fn(answer), "default")
}

/// Who made a connection: a pod's sandbox, or the node itself.
#[derive(Clone, Copy, Debug)]
enum Maker {
    Sandbox(usize),
    /// From the address of another that is there.
    Forger(usize),
    /// From an address that it answers for, as long as the kernel believes that.
    Spoofer(usize),
    Node,
}

struct Connection {
    maker: Maker,
    origin: Origin,
    claims: Option<Claims>,
}

pub(super) struct Agent {
    world: Shelf,
    shared: Arc<Shared>,
    changes: UnboundedSender<Change>,
    clock: Clock,
    rules: Rules,
    connections: Vec<Connection>,
}

impl Agent {
    pub(super) fn start(net: Net, mode: IdentityMode) -> Self {
        let world = Arc::new(Mutex::new(World::new(net)));
        let shared = Arc::new(Shared {
            known: RwLock::default(),
            changes: Sender::new(0),
            doubts: Mutex::default(),
            doubted: Notify::new(),
        });
        let clock = Clock::paused(SystemTime::UNIX_EPOCH + Duration::from_hours(480_000));
        let (changes, told) = unbounded();
        let keeper = Keeper::new(
            Arc::clone(&shared),
            Arc::new(Seen(Arc::clone(&world))),
            told.boxed(),
            HashSet::new(),
            Reader::new(client(&world)),
            clock,
            <_>::default(),
        );
        tokio::spawn(keeper.run());
        let rules = Rules {
            node: NODE.to_owned(),
            mode,
            max_pod_staleness: Duration::from_mins(5),
        };
        let mut agent = Self {
            world,
            shared,
            changes,
            clock,
            rules,
            connections: Vec::new(),
        };
        let event = lock(&agent.world).list();
        agent.hear(event);
        agent
    }

    /// As the watch does.
    fn hear(&mut self, events: impl IntoIterator<Item = Event>) {
        let report = |object| serde_json::from_value::<Report>(object).expect("any JSON makes one");
        for event in events {
            let mut known = self.shared.write();
            known.heard = Some(Instant::now());
            let pods = known.pods.get_or_insert_default();
            match event {
                Event::Is(object) => drop(pods.apply(report(object))),
                Event::Deleted(object) => drop(pods.remove(report(object))),
                Event::All(objects) => {
                    let mut listed = PodIndex::default();
                    for object in objects {
                        listed.apply(report(object));
                    }
                    listed.succeed(pods);
                    *pods = listed;
                }
            }
            drop(known);
            self.shared.changed();
        }
    }

    pub(super) async fn step(&mut self, step: &Step) {
        let events = self.act(step);
        self.hear(events);
        // A paused clock goes on only when nothing is left to be done.
        let pause = if let Step::Wait(milliseconds) = *step {
            milliseconds
        } else {
            1
        };
        sleep(Duration::from_millis(pause)).await;
        // Those of a sandbox that has gone are closed.
        let world = lock(&self.world);
        let is_open = |connection: &Connection| match connection.maker {
            Maker::Sandbox(sandbox) => world.sandboxes[sandbox].is_up,
            Maker::Forger(sandbox) => {
                world.sandboxes[sandbox].is_up && world.holder(connection.origin.peer()).is_some()
            }
            Maker::Spoofer(sandbox) => {
                world.sandboxes[sandbox].is_up
                    && world.neighbours.get(&connection.origin.peer()) == Some(&sandbox)
            }
            Maker::Node => true,
        };
        self.connections.retain(is_open);
    }

    fn act(&mut self, step: &Step) -> Vec<Event> {
        let now = self.clock.now();
        let model = Arc::clone(&self.world);
        let mut world = lock(&model);
        let mut events = Vec::new();
        match *step {
            Step::Create(name) => world.create(name),
            Step::Pod(pod, deed) => {
                if let Some(at) = world.pod(pod) {
                    match deed {
                        Deed::Start(address) => world.start(at, address, now),
                        Deed::LookAfter => world.look_after(at, now),
                        Deed::Post => world.post(at),
                        Deed::Terminate => world.terminate(at, now),
                        Deed::Finish => world.finish(at),
                        Deed::Delete => world.delete(at),
                    }
                }
            }
            Step::Stop(sandbox) => {
                if let Some(sandbox) = world.sandbox(sandbox) {
                    world.stop(sandbox);
                }
            }
            Step::Tell(count) => events = world.tell(count),
            Step::List => events.extend(world.list()),
            Step::Lose => world.lose(),
            Step::Api(is_up) => world.api_is_up = is_up,
            Step::Delay(milliseconds) => world.delay = Duration::from_millis(milliseconds),
            Step::Notice(count) => self.notice(&mut world, count),
            Step::Connect(sandbox, at, ref token) => {
                if let Some(sandbox) = world.sandbox(sandbox) {
                    let own = &world.sandboxes[sandbox].addresses;
                    let peer = own[at.index(own.len())];
                    world.resolve(peer);
                    let claims = claims(&world, token, Some(world.sandboxes[sandbox].pod));
                    let link = world.ingress(sandbox);
                    self.connect(Maker::Sandbox(sandbox), peer, link, claims);
                }
            }
            Step::Forge(sandbox, address) => {
                let peer = ip(ADDRESSES[address.index(ADDRESSES.len())]);
                if let Some(sandbox) = world.sandbox(sandbox)
                    && world.net != Net::Bridged
                {
                    let link = world.ingress(sandbox);
                    self.connect(Maker::Forger(sandbox), peer, link, None);
                }
            }
            Step::Spoof(sandbox, address) => {
                let peer = ip(ADDRESSES[address.index(ADDRESSES.len())]);
                let sandbox = world.sandbox(sandbox).filter(|at| {
                    let known = self.shared.read();
                    known.paths.holder(world.sandboxes[*at].link).is_some()
                });
                if let Some(sandbox) = sandbox
                    && world.net == Net::Bridged
                {
                    world.neighbours.insert(peer, sandbox);
                    world.notices.push_back(Change::Neighbour(peer));
                    let link = world.ingress(sandbox);
                    self.connect(Maker::Spoofer(sandbox), peer, link, None);
                }
            }
            Step::ConnectFromNode(ref token) => {
                let claims = claims(&world, token, None);
                self.connect(Maker::Node, ip(NODE_ADDRESS), LOOPBACK, claims);
            }
            Step::Wait(_) => {}
        }
        if world.net == Net::Moved {
            // Nothing else tells one link from the next.
            self.notice(&mut world, usize::MAX);
        }
        events
    }

    fn notice(&self, world: &mut World, count: usize) {
        let count = count.min(world.notices.len());
        for change in world.notices.drain(..count) {
            self.changes
                .unbounded_send(change)
                .expect("the keeper runs");
        }
    }

    fn connect(&mut self, maker: Maker, peer: IpAddr, link: u32, claims: Option<Claims>) {
        self.connections.push(Connection {
            maker,
            origin: Origin::new(peer, ip("169.254.170.23"), Some(link)),
            claims,
        });
    }

    async fn judge(&self, origin: &Origin, claims: Option<&Claims>) -> Option<PodUid> {
        let seen = Seen(Arc::clone(&self.world));
        loop {
            let verdict = judge(&self.shared.read(), origin, claims, &self.rules);
            match verdict {
                Verdict::Is(caller) => return Some(caller.pod().clone()),
                Verdict::Refuse(_) | Verdict::Wait(_) => return None,
                Verdict::Look => {
                    if !origin.look(&seen).await {
                        return None;
                    }
                }
                Verdict::Confirm => {
                    self.shared.doubt(origin.peer());
                    return None;
                }
            }
        }
    }

    /// Whom each connection is taken for now.
    pub(super) async fn check(&self, counts: &Counts) -> Result<(), TestCaseError> {
        for connection in &self.connections {
            let Connection {
                maker,
                origin,
                claims,
            } = connection;
            let (maker, link) = match *maker {
                Maker::Sandbox(sandbox) | Maker::Forger(sandbox) | Maker::Spoofer(sandbox) => {
                    let world = lock(&self.world);
                    let sandbox = &world.sandboxes[sandbox];
                    (Some(world.pods[sandbox.pod].uid.clone()), sandbox.link)
                }
                Maker::Node => (None, LOOPBACK),
            };
            counts.look_ups.set(counts.look_ups.get() + 1);
            let taken = self.judge(origin, claims.as_ref()).await;
            let Some(taken) = taken else { continue };
            counts.taken.set(counts.taken.get() + 1);
            match claims {
                None => prop_assert_eq!(Some(taken.to_string()), maker, "from {:?}", origin),
                Some(claims) => {
                    prop_assert_eq!(&taken, &claims.pod);
                    let known = self.shared.read();
                    let lives = known.pods.as_ref().map(|pods| pods.resident(&taken));
                    prop_assert!(
                        matches!(lives, Some(Resident::Live(..))),
                        "{:?} has gone",
                        taken
                    );
                    let holder = known.paths.holder(link).filter(|pod| **pod != taken);
                    prop_assert_eq!(holder, None, "a token of another pod");
                    drop(known);
                    let by_address = Rules {
                        mode: IdentityMode::Address,
                        node: NODE.to_owned(),
                        ..self.rules
                    };
                    let verdict = judge(&self.shared.read(), origin, None, &by_address);
                    if let Verdict::Is(owner) = verdict {
                        prop_assert_eq!(owner.pod(), &taken, "a token of another pod");
                    }
                }
            }
        }
        Ok(())
    }
}

fn claims(world: &World, token: &Token, own: Option<usize>) -> Option<Claims> {
    let at = match token {
        Token::None => return None,
        Token::Own => own?,
        Token::Of(_) if world.pods.is_empty() => return None,
        Token::Of(which) => which.index(world.pods.len()),
    };
    let pod = &world.pods[at];
    Some(Claims {
        pod: PodUid::new(&pod.uid).expect("not empty"),
        pod_name: pod.name.to_owned(),
        account: ServiceAccount::new("shop", &pod.account()).expect("legal"),
        node: Some(NODE.to_owned()),
        audiences: Vec::new(),
        expires: SystemTime::UNIX_EPOCH,
    })
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) look_ups: Cell<u64>,
    pub(super) taken: Cell<u64>,
}
