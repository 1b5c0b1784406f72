//! A model of a node: its API server, its kubelet and its kernel, each of which
//! knows only what it can, and later than the one before it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Which;
use crate::identity::paths::{Change, Path, Port, Shown};

/// What pods get, the last only where they get two.
pub(super) const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"];
pub(super) const NODE_ADDRESS: &str = "192.0.2.1";
pub(super) const NODE: &str = "node-1";
const NAMES: [&str; 4] = ["web-0", "web-1", "vault", "proxy"];
/// Always on the host network.
const PROXY: &str = "proxy";
pub(super) const LOOPBACK: u32 = 1;
const BRIDGE: u32 = 2;

/// How the network tells pods apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Net {
    /// A veth pair and a route for each.
    Routed,
    /// The same, and the node's end comes from inside the pod with the index
    /// that it had there, if that is free: the next pod has the same. Here what
    /// the kernel tells must be heard before the next pod asks.
    Moved,
    /// All on one bridge.
    Bridged,
}

/// A pod, as the kubelet and the API server have it.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: &'static str,
    pub(super) uid: String,
    /// The kubelet's, of its sandbox or of the last one.
    status: Value,
    sandbox: Option<usize>,
    /// The API server's; none before it is made and after it is deleted.
    object: Option<Value>,
}

impl Pod {
    pub(super) fn account(&self) -> String {
        format!("account-of-{}", self.uid)
    }

    pub(super) fn is_on_the_host(&self) -> bool {
        self.name == PROXY
    }
}

/// What can ask.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    pub(super) pod: usize,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) is_up: bool,
    /// Its veth pair's end in the node.
    pub(super) link: u32,
}

impl Sandbox {
    fn mac(&self) -> [u8; 6] {
        let [high, low] = u16::try_from(self.link).expect("few").to_be_bytes();
        [2, 0, 0, 0, high, low]
    }
}

/// What the watch tells.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Is(Value),
    Deleted(Value),
    All(Vec<Value>),
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) net: Net,
    pub(super) pods: Vec<Pod>,
    pub(super) sandboxes: Vec<Sandbox>,
    links: u32,
    /// Whose link-layer address the kernel has for an address.
    pub(super) neighbours: BTreeMap<IpAddr, usize>,
    /// What netlink has to tell yet.
    pub(super) notices: VecDeque<Change>,
    log: VecDeque<Event>,
    is_lost: bool,
    pub(super) api_is_up: bool,
    /// How long a read's answer takes from when it was true.
    pub(super) delay: Duration,
}

impl World {
    pub(super) fn new(net: Net) -> Self {
        Self {
            net,
            pods: Vec::new(),
            sandboxes: Vec::new(),
            links: BRIDGE,
            neighbours: BTreeMap::new(),
            notices: VecDeque::new(),
            log: VecDeque::new(),
            is_lost: false,
            api_is_up: true,
            delay: Duration::ZERO,
        }
    }

    /// A pod that the API server has.
    pub(super) fn pod(&self, which: Which) -> Option<usize> {
        let alive = |at: &usize| self.pods[*at].object.is_some();
        pick(which, (0..self.pods.len()).filter(alive))
    }

    pub(super) fn sandbox(&self, which: Which) -> Option<usize> {
        let is_up = |at: &usize| self.sandboxes[*at].is_up;
        pick(which, (0..self.sandboxes.len()).filter(is_up))
    }

    pub(super) fn create(&mut self, which: Which) {
        let name = NAMES[which.index(NAMES.len())];
        let exists = |pod: &Pod| pod.object.is_some() && pod.name == name;
        if self.pods.iter().any(exists) {
            return;
        }
        let pod = Pod {
            name,
            uid: format!("uid-{}", self.pods.len()),
            status: json!({"phase": "Pending"}),
            sandbox: None,
            object: None,
        };
        let object = json!({
            "metadata": {"namespace": "shop", "name": name, "uid": pod.uid, "resourceVersion": "1"},
            "spec": {
                "nodeName": NODE,
                "serviceAccountName": pod.account(),
                "hostNetwork": pod.is_on_the_host(),
            },
            "status": {"phase": "Pending"},
        });
        self.pods.push(pod);
        self.write(self.pods.len() - 1, object);
    }

    /// The kubelet gives the pod a sandbox and runs it.
    pub(super) fn start(&mut self, at: usize, which: Which, now: SystemTime) {
        let is_up = |sandbox: usize| self.sandboxes[sandbox].is_up;
        let is_over = self.pods[at].status["phase"] == "Succeeded";
        if is_over || self.pods[at].sandbox.is_some_and(is_up) {
            return;
        }
        let addresses = if self.pods[at].is_on_the_host() {
            vec![ip(NODE_ADDRESS)]
        } else {
            let free = ADDRESSES[..3].iter().map(|text| ip(text));
            let free = free.filter(|address| self.is_free(*address));
            let Some(first) = pick(which, free) else {
                return;
            };
            let second = ip(ADDRESSES[3]);
            let is_dual = self.is_free(second) && first == ip(ADDRESSES[0]);
            let addresses: Vec<IpAddr> = if is_dual {
                vec![first, second]
            } else {
                vec![first]
            };
            let link = self.next_link();
            self.notices.push_back(Change::Appeared(link));
            self.notices
                .extend(addresses.iter().copied().map(Change::Address));
            self.pods[at].sandbox = Some(self.sandboxes.len());
            self.sandboxes.push(Sandbox {
                pod: at,
                addresses: addresses.clone(),
                is_up: true,
                link,
            });
            addresses
        };
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        self.pods[at].status = json!({
            "phase": "Running",
            "podIPs": ips,
            "hostIPs": [{"ip": NODE_ADDRESS}],
            "conditions": [
                {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": second(now)},
                {"type": "ContainersReady", "status": "True", "lastTransitionTime": second(now)},
            ],
            "containerStatuses": [{"state": {"running": {"startedAt": second(now)}}}],
        });
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.holder(address).is_none()
    }

    fn next_link(&mut self) -> u32 {
        let is_free = |link: &u32| {
            let has = |sandbox: &Sandbox| sandbox.is_up && sandbox.link == *link;
            !self.sandboxes.iter().any(has)
        };
        match self.net {
            Net::Moved => (BRIDGE + 1..u32::MAX).find(is_free).expect("some are free"),
            Net::Routed | Net::Bridged => {
                self.links += 1;
                self.links
            }
        }
    }

    /// A container of the pod starts anew, if it has a sandbox to do so in; else
    /// the kubelet notices that it has none. It goes on to report the address
    /// that it saw last (`getPodIPs` in the kubelet's pleg).
    pub(super) fn look_after(&mut self, at: usize, now: SystemTime) {
        let Some(sandbox) = self.pods[at].sandbox else {
            return;
        };
        let is_up = self.sandboxes[sandbox].is_up;
        let status = &mut self.pods[at].status;
        if is_up {
            status["containerStatuses"] =
                json!([{"state": {"running": {"startedAt": second(now)}}}]);
        } else if status["conditions"][0]["status"] == "True" {
            status["containerStatuses"] =
                json!([{"state": {"terminated": {"finishedAt": second(now)}}}]);
            for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                condition["status"] = "False".into();
                condition["lastTransitionTime"] = second(now);
            }
        }
    }

    /// The kubelet tells the API server how the pod is.
    pub(super) fn post(&mut self, at: usize) {
        if let Some(mut object) = self.pods[at].object.clone() {
            object["status"] = self.pods[at].status.clone();
            self.write(at, object);
        }
    }

    pub(super) fn terminate(&mut self, at: usize, now: SystemTime) {
        if let Some(mut object) = self.pods[at].object.clone() {
            object["metadata"]["deletionTimestamp"] = second(now);
            self.write(at, object);
        }
    }

    /// All its containers have ended well, for ever.
    pub(super) fn finish(&mut self, at: usize) {
        self.pods[at].status["phase"] = "Succeeded".into();
    }

    /// The sandbox goes, and its link and addresses with it.
    pub(super) fn stop(&mut self, at: usize) {
        self.sandboxes[at].is_up = false;
        let Sandbox {
            link, addresses, ..
        } = self.sandboxes[at].clone();
        self.notices.push_back(Change::Gone(link));
        self.notices
            .extend(addresses.into_iter().map(Change::Address));
    }

    /// It is deleted, though its sandbox may be there yet.
    pub(super) fn delete(&mut self, at: usize) {
        if let Some(object) = self.pods[at].object.take() {
            self.log.push_back(Event::Deleted(object));
        }
    }

    pub(super) fn tell(&mut self, count: usize) -> Vec<Event> {
        if self.is_lost || !self.api_is_up {
            return Vec::new();
        }
        self.log.drain(..count.min(self.log.len())).collect()
    }

    pub(super) fn lose(&mut self) {
        self.is_lost = true;
    }

    pub(super) fn list(&mut self) -> Option<Event> {
        self.api_is_up.then(|| {
            self.is_lost = false;
            self.log.clear();
            Event::All(
                self.pods
                    .iter()
                    .filter_map(|pod| pod.object.clone())
                    .collect(),
            )
        })
    }

    /// The object of that name.
    pub(super) fn read(&self, name: &str) -> Option<Value> {
        let mut pods = self.pods.iter().filter(|pod| pod.name == name);
        pods.find_map(|pod| pod.object.clone())
    }

    fn write(&mut self, at: usize, object: Value) {
        self.log.push_back(Event::Is(object.clone()));
        self.pods[at].object = Some(object);
    }

    /// The sandbox that has the address now.
    pub(super) fn holder(&self, address: IpAddr) -> Option<usize> {
        let holds = |sandbox: &Sandbox| sandbox.is_up && sandbox.addresses.contains(&address);
        self.sandboxes.iter().position(holds)
    }

    /// What the kernel would do with a packet to the address.
    pub(super) fn shown(&self, address: IpAddr) -> Shown {
        match self.net {
            Net::Routed | Net::Moved => match self.holder(address) {
                Some(at) => Shown::Path(Path {
                    link: self.sandboxes[at].link,
                    port: Port::Own,
                }),
                // By the default route, as if it were somebody else's.
                None => Shown::Hidden,
            },
            Net::Bridged => {
                let known = self.neighbours.get(&address);
                let sandbox = known.map(|at| &self.sandboxes[*at]);
                match sandbox.filter(|sandbox| sandbox.is_up) {
                    Some(sandbox) => Shown::Path(Path {
                        link: BRIDGE,
                        port: Port::Bridged {
                            port: sandbox.link,
                            mac: sandbox.mac(),
                        },
                    }),
                    None => Shown::Unresolved,
                }
            }
        }
    }

    /// The kernel learns who answers for an address.
    pub(super) fn resolve(&mut self, address: IpAddr) {
        if self.net == Net::Bridged
            && let Some(holder) = self.holder(address)
            && self.neighbours.insert(address, holder) != Some(holder)
        {
            self.notices.push_back(Change::Neighbour(address));
        }
    }

    /// The link by which what a sandbox sends comes in.
    pub(super) fn ingress(&self, sandbox: usize) -> u32 {
        match self.net {
            Net::Routed | Net::Moved => self.sandboxes[sandbox].link,
            Net::Bridged => BRIDGE,
        }
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn pick<T>(which: Which, among: impl Iterator<Item = T>) -> Option<T> {
    let mut among: Vec<T> = among.collect();
    (!among.is_empty()).then(|| among.swap_remove(which.index(among.len())))
}

/// As the API writes it.
fn second(time: SystemTime) -> Value {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("later");
    let seconds = i64::try_from(since.as_secs()).expect("soon");
    Timestamp::from_second(seconds)
        .expect("soon")
        .to_string()
        .into()
}
