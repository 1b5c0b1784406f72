//! The node's network for those who ask who has an address: `netsetup`'s answers in their terms.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use netsetup::{Backlog, Changes, Error, LinkEvent, Paths};
use tokio::net::TcpStream;

use crate::identity::paths::{Change, Kernel, Path, Port, Shown};

/// What shows paths, what tells their changes, and what answers for both.
pub(super) struct Opened {
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) changes: BoxStream<'static, Change>,
    /// The links from before the first change.
    pub(super) links: HashSet<u32>,
    /// Ends only by failing.
    pub(super) driver: BoxFuture<'static, Error>,
}

/// For the network namespace of this process.
pub(super) async fn open() -> Result<Opened, Error> {
    let (paths, changes, driver) = Paths::open().await?;
    Ok(Opened {
        kernel: Arc::new(Node {
            paths,
            backlog: changes.backlog(),
        }),
        links: changes.links().collect(),
        changes: follow(changes),
        driver: driver.boxed(),
    })
}

/// The link that an accepted connection came in by.
pub(crate) fn ingress(stream: &TcpStream) -> Option<u32> {
    let peer = stream.peer_addr().ok()?;
    netsetup::ingress(stream.as_fd(), peer.ip())
}

struct Node {
    paths: Paths,
    backlog: Backlog,
}

impl Kernel for Node {
    fn path(&self, address: IpAddr) -> BoxFuture<'_, io::Result<Shown>> {
        async move { self.paths.path(address).await.map(shown) }.boxed()
    }

    fn resolve(&self, address: IpAddr) -> BoxFuture<'_, io::Result<()>> {
        self.paths.resolve(address).boxed()
    }

    fn is_heard(&self) -> bool {
        self.backlog.is_empty()
    }
}

fn follow(changes: Changes) -> BoxStream<'static, Change> {
    let next = async |mut changes: Changes| match changes.next().await {
        Ok(told) => Some((change(told), changes)),
        Err(error) => {
            tracing::error!(%error, "the kernel's changes cannot be followed");
            None
        }
    };
    stream::unfold(changes, next).boxed()
}

fn shown(shown: netsetup::Shown) -> Shown {
    match shown {
        netsetup::Shown::Path(netsetup::Path { link, port }) => Shown::Path(Path {
            link,
            port: match port {
                netsetup::Port::Own => Port::Own,
                netsetup::Port::Bridged { port, mac } => Port::Bridged { port, mac },
            },
        }),
        netsetup::Shown::Unresolved => Shown::Unresolved,
        netsetup::Shown::Hidden => Shown::Hidden,
    }
}

fn change(change: netsetup::Change) -> Change {
    match change {
        netsetup::Change::Address(address) => Change::Address(address),
        netsetup::Change::Network { address, prefix } => Change::Network(address, prefix),
        netsetup::Change::All => Change::Any,
        netsetup::Change::Neighbour { address, .. } => Change::Neighbour(address),
        netsetup::Change::Station { mac, .. } => Change::Mac(mac),
        netsetup::Change::Link { index, event } => match event {
            LinkEvent::Appeared => Change::Appeared(index),
            LinkEvent::Changed => Change::Link(index),
            LinkEvent::Gone => Change::Gone(index),
        },
    }
}
