//! What it takes to know a caller: a token's first verification, and look-ups on nodes of several sizes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use credlet::identity::Origin;
use credlet::identity::paths::{Path, Port, Shown};
use credlet_tests::callers::{self, Callers};
use credlet_tests::fake_kube::{FakeKube, Pod};

use crate::{load, row};

const SIZES: [u16; 4] = [30, 110, 500, 1000];
const LOOK_UPS: u32 = 200_000;
const VERIFICATIONS: u64 = 400;
const DOOR: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23));

/// What was seen.
pub(crate) struct Seen {
    /// The pods of a node, and a look-up's time there.
    look_ups: Vec<(u16, Duration)>,
    /// The middle one.
    verification: Duration,
}

/// A node's pods, each on a link of its own.
struct Node {
    kube: FakeKube,
    callers: Callers,
    size: u16,
}

pub(crate) async fn measure() -> Seen {
    let mut look_ups = Vec::new();
    for size in SIZES {
        let node = Node::of(size).await;
        look_ups.push((size, node.look_up().await));
    }
    let verification = Node::of(SIZES[0]).await.verify().await;
    Seen {
        look_ups,
        verification,
    }
}

impl Node {
    async fn of(size: u16) -> Self {
        let kube = FakeKube::start().await;
        let callers = Callers::open(&kube, callers::settings());
        for index in 0..size {
            let (link, port) = (u32::from(index) + 10, Port::Own);
            let path = Shown::Path(Path { link, port });
            callers.kernel.show_silently(address(index), path);
            kube.apply(pod(index));
        }
        let mut changes = callers.identity.changes();
        while callers.identity.paths().known < usize::from(size) {
            changes.changed().await.expect("the watch goes on");
        }
        Self {
            kube,
            callers,
            size,
        }
    }

    fn origin(index: u16) -> Origin {
        Origin::new(address(index), DOOR, Some(u32::from(index) + 10))
    }

    async fn ask(&self, origin: &Origin, token: Option<&str>) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let caller = self.callers.identity.caller(origin, token, deadline);
        std::hint::black_box(caller.await.expect("a pod that is known"));
    }

    async fn look_up(&self) -> Duration {
        let origins: Vec<_> = (0..self.size).map(Self::origin).collect();
        let begun = Instant::now();
        for (_, origin) in (0..LOOK_UPS).zip(origins.iter().cycle()) {
            self.ask(origin, None).await;
        }
        begun.elapsed() / LOOK_UPS
    }

    async fn verify(&self) -> Duration {
        let origin = Self::origin(0);
        // Each token differs by its end.
        let lifetimes = (0..VERIFICATIONS).map(|more| Duration::from_secs(3600 + more));
        let tokens: Vec<_> = lifetimes
            .map(|it| self.kube.token(&pod(0), "pods.eks.amazonaws.com", it))
            .collect();
        let mut took = Vec::new();
        for token in &tokens {
            let begun = Instant::now();
            self.ask(&origin, Some(token)).await;
            took.push(begun.elapsed());
        }
        load::percentile(took, 50)
    }
}

fn address(index: u16) -> IpAddr {
    let [high, low] = index.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

fn pod(index: u16) -> Pod {
    let address = address(index).to_string();
    let pod = Pod::new("bench", &format!("pod-{index}"));
    pod.addresses([&*address])
}

impl Seen {
    pub(crate) fn print(&self) {
        let nanos = |duration: Duration| duration.as_nanos().to_string();
        for (size, took) in &self.look_ups {
            let name = format!("a caller by address among {size} pods, ns");
            row([&name, &nanos(*took), "", "", "", ""]);
        }
        let micros = format!("{:.0}", self.verification.as_secs_f64() * 1e6);
        row([
            "a token for the first time, us",
            &micros,
            "",
            "",
            "<= 1000",
            "",
        ]);
    }
}
