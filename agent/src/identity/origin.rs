//! Where a connection comes from, as the kernel tells it.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::paths::{Kernel, Shown};
use super::tokens::Hash;

/// What it takes to learn of a link.
const SOON: Duration = Duration::from_millis(1);

/// One connection's ends and the link between them.
pub struct Origin {
    peer: IpAddr,
    local: IpAddr,
    link: Option<u32>,
    /// Whether all is known of links that had gone before the connection was made.
    settled: AtomicBool,
    /// What the kernel showed of the way to the peer when that first mattered.
    /// It is the way by which the handshake was completed, unless somebody on a
    /// bridge answers for the address again and again.
    shown: OnceLock<Shown>,
    /// The last token that came by it, and that one's hash: on a connection that
    /// is kept it is the same again, and comparing is the cheaper.
    token: Mutex<Option<(Zeroizing<String>, Hash)>>,
}

impl Origin {
    /// A connection from `peer` to `local` that came in by the link of that
    /// index; `None` where the kernel does not tell.
    pub fn new(peer: IpAddr, local: IpAddr, link: Option<u32>) -> Self {
        Self {
            peer: peer.to_canonical(),
            local: local.to_canonical(),
            link,
            settled: AtomicBool::new(false),
            shown: OnceLock::new(),
            token: Mutex::default(),
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

    pub(super) fn hash_of(&self, token: &str) -> Hash {
        let mut last = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((text, hash)) if **text == token => *hash,
            Some(_) | None => {
                let hash = Hash::of(token);
                *last = Some((Zeroizing::new(token.to_owned()), hash));
                hash
            }
        }
    }

    /// Waits until nothing that happened to a link before the connection was
    /// made is still to be learnt: the link may have the index of another, and
    /// that one's pod be known by it. False if that takes until `deadline`.
    pub(super) async fn settle(&self, kernel: &dyn Kernel, deadline: Instant) -> bool {
        while !self.is_settled(kernel) {
            if Instant::now() >= deadline {
                return false;
            }
            // Whoever learns is about to; nobody tells when.
            sleep(SOON).await;
        }
        true
    }

    /// Whether there is nothing of that kind to wait for. One system call for a
    /// connection.
    pub(super) fn is_settled(&self, kernel: &dyn Kernel) -> bool {
        if !self.settled.load(Ordering::Relaxed) && kernel.is_heard() {
            self.settled.store(true, Ordering::Relaxed);
        }
        self.settled.load(Ordering::Relaxed)
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

/// Without the token.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("peer", &self.peer)
            .field("local", &self.local)
            .field("link", &self.link)
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}
