//! Where a connection comes from, as the kernel tells it.

use std::net::IpAddr;
use std::sync::OnceLock;

use super::paths::{Kernel, Shown};

/// One connection's ends and the link between them.
#[derive(Debug)]
pub struct Origin {
    peer: IpAddr,
    local: IpAddr,
    link: Option<u32>,
    /// What the kernel showed of the way to the peer when that first mattered:
    /// whoever completed the handshake was there then, and goes by no other way
    /// as long as the connection lives.
    shown: OnceLock<Shown>,
}

impl Origin {
    /// A connection from `peer` to `local` that came in by the link of that
    /// index; `None` where the kernel does not tell.
    pub fn new(peer: IpAddr, local: IpAddr, link: Option<u32>) -> Self {
        Self {
            peer: peer.to_canonical(),
            local: local.to_canonical(),
            link,
            shown: OnceLock::new(),
        }
    }

    /// The caller's address.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The address that was connected to.
    pub fn local(&self) -> IpAddr {
        self.local
    }

    /// The link that the connection came in by.
    pub fn link(&self) -> Option<u32> {
        self.link
    }

    pub(super) fn shown(&self) -> Option<Shown> {
        self.shown.get().copied()
    }

    /// Has the kernel show the way to the peer; false if it cannot just now.
    pub(super) async fn look(&self, kernel: &dyn Kernel) -> bool {
        match kernel.path(self.peer).await {
            Ok(shown @ (Shown::Path(_) | Shown::Hidden)) => {
                // Of two requests at once either is right.
                self.shown.get_or_init(|| shown);
                true
            }
            Ok(Shown::Unresolved) | Err(_) => false,
        }
    }
}
