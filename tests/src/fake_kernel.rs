//! A stand-in for the kernel's knowledge of paths: it shows what it is told to.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use credlet::identity::paths::{Change, Kernel, Shown};
use futures::FutureExt;
use futures::StreamExt;
use futures::future::{BoxFuture, ready};
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

/// A network that shows no path for any pod, until it is told to.
pub struct FakeKernel {
    shown: Mutex<HashMap<IpAddr, Shown>>,
    changes: mpsc::UnboundedSender<Change>,
    heard: AtomicBool,
}

impl FakeKernel {
    /// The kernel, and what it tells.
    pub fn new() -> (Arc<Self>, BoxStream<'static, Change>) {
        let (changes, told) = mpsc::unbounded_channel();
        let kernel = Self {
            shown: Mutex::default(),
            changes,
            heard: AtomicBool::new(true),
        };
        let told = stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
        (Arc::new(kernel), told.boxed())
    }

    /// Shows this for the address from now on, and tells that it is a change.
    pub fn show(&self, address: IpAddr, shown: Shown) {
        self.show_silently(address, shown);
        self.tell(Change::Address(address));
    }

    /// Shows this for the address from now on; nobody is told.
    pub fn show_silently(&self, address: IpAddr, shown: Shown) {
        let mut all = self.shown.lock().expect("no panic under it");
        all.insert(address, shown);
    }

    /// Has something of links untold, or not.
    pub fn set_heard(&self, heard: bool) {
        self.heard.store(heard, Ordering::Relaxed);
    }

    /// Tells of a change.
    pub fn tell(&self, change: Change) {
        // The keeper may have ended with its test.
        let _ = self.changes.send(change);
    }
}

impl Kernel for FakeKernel {
    fn path(&self, address: IpAddr) -> BoxFuture<'_, io::Result<Shown>> {
        let shown = self.shown.lock().expect("no panic under it");
        ready(Ok(shown.get(&address).copied().unwrap_or(Shown::Hidden))).boxed()
    }

    fn resolve(&self, _address: IpAddr) -> BoxFuture<'_, io::Result<()>> {
        ready(Ok(())).boxed()
    }

    fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}
