//! The way from a node to the API server, which a test can cut.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes connections on. Ends when dropped.
pub(crate) struct Relay {
    here: SocketAddr,
    to: SocketAddr,
    connections: Mutex<JoinSet<()>>,
}

impl Relay {
    /// Listens on the address that it passes on to, which `to`'s certificate
    /// names, at another port.
    pub(crate) async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((to.ip(), 0)).await.expect("a free port");
        Self::on(listener, to)
    }

    /// The same on a listener of any network namespace.
    pub(crate) fn on(listener: TcpListener, to: SocketAddr) -> Self {
        let relay = Self {
            here: listener.local_addr().expect("it is bound"),
            to,
            connections: Mutex::default(),
        };
        relay.serve(listener);
        relay
    }

    /// What clients are to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.here
    }

    /// Closes every connection and refuses new ones.
    pub(crate) async fn cut(&self) {
        let mut cut = std::mem::take(&mut *self.connections.lock().expect("no panic under it"));
        cut.shutdown().await;
    }

    /// Passes connections on again.
    pub(crate) async fn mend(&self) {
        let listener = TcpListener::bind(self.here).await;
        self.serve(listener.expect("nobody took the port"));
    }

    fn serve(&self, listener: TcpListener) {
        let mut connections = self.connections.lock().expect("no panic under it");
        connections.spawn(pass_on(listener, self.to));
    }
}

async fn pass_on(listener: TcpListener, to: SocketAddr) {
    let mut open = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        open.spawn(async move {
            let mut far = TcpStream::connect(to).await?;
            copy_bidirectional(&mut near, &mut far).await
        });
        while open.try_join_next().is_some() {}
    }
}
