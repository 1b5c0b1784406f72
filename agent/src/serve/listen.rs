//! Listening sockets that two agents can share, so that one can follow the other unnoticed.
//!
//! Sockets with `SO_REUSEPORT` on one address form a group, in the order in
//! which they began to listen; a program of the group's chooses who gets a new
//! connection. An index that is not in the group leaves the choice to the
//! kernel's hash (`net/core/sock_reuseport.c`), so an agent that is alone gets
//! everything, whatever the program says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
const FIRST: u32 = 0;
const SECOND: u32 = 1;

/// Who of two agents that share an address gets new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// The one that was first, until it leaves: it has what pods ask for.
    Incumbent,
    /// The one that came last: a probe is to judge the new one by itself.
    Newcomer,
}

/// Why an address cannot be listened on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has it and does not share, or not with this user.
    #[error(
        "{0} is taken by another program or another user's agent: stop it, or choose another port"
    )]
    Taken(SocketAddr),
    /// No interface has it.
    #[error("no interface has the address {0}: let the agent set up the network, or bind another")]
    Absent(SocketAddr),
    /// It is others', and the process may not answer for them.
    #[error("not permitted to listen on {0}, which is others': that takes CAP_NET_ADMIN")]
    Unentitled(SocketAddr),
    /// The port is privileged.
    #[error("not permitted to listen on {0}: ports below 1024 need CAP_NET_BIND_SERVICE")]
    Forbidden(SocketAddr),
    /// The kernel has no such address family.
    #[error("the kernel cannot listen on {0}: it has no IPv6; disable IPv6 or bind IPv4 alone")]
    Unsupported(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}: {why}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        why: Arc<io::Error>,
    },
}

impl BindError {
    fn new(address: SocketAddr, why: io::Error) -> Self {
        match why.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::Taken(address),
            Some(libc::EADDRNOTAVAIL) => Self::Absent(address),
            Some(libc::EACCES | libc::EPERM) => Self::Forbidden(address),
            Some(libc::EAFNOSUPPORT) => Self::Unsupported(address),
            Some(_) | None => Self::Other {
                address,
                why: Arc::new(why),
            },
        }
    }
}

/// Whose an address is that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Node,
    /// What is sent to it reaches this node all the same.
    Others,
}

/// Tells the index of the link that an accepted connection came in by; `None`
/// where the kernel does not tell.
pub type Ingress = fn(&TcpStream) -> Option<u32>;

/// Sockets that listen.
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Listens on each host; port 0 takes a free one for each. `stall` is how
    /// long a client may leave what was written unacknowledged.
    ///
    /// Needs a tokio runtime.
    pub fn bind(
        hosts: &[IpAddr],
        port: u16,
        prefer: Prefer,
        stall: Duration,
    ) -> Result<Self, BindError> {
        let addresses = hosts.iter().map(|host| SocketAddr::new(*host, port));
        Self::bind_each(addresses, prefer, stall)
    }

    /// The same for addresses that are others', where the node's rules and routes
    /// have what is sent to them come here.
    pub fn bind_captured(
        hosts: &[IpAddr],
        port: u16,
        prefer: Prefer,
        stall: Duration,
    ) -> Result<Self, BindError> {
        let addresses = hosts.iter().map(|host| SocketAddr::new(*host, port));
        Self::bind_as(Owner::Others, addresses, prefer, stall)
    }

    /// The same at addresses whose ports may differ.
    pub fn bind_each(
        addresses: impl Iterator<Item = SocketAddr>,
        prefer: Prefer,
        stall: Duration,
    ) -> Result<Self, BindError> {
        Self::bind_as(Owner::Node, addresses, prefer, stall)
    }

    fn bind_as(
        owner: Owner,
        addresses: impl Iterator<Item = SocketAddr>,
        prefer: Prefer,
        stall: Duration,
    ) -> Result<Self, BindError> {
        addresses
            .map(|address| listen(owner, address, prefer, stall))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The addresses, with the ports that port 0 became.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        self.0.iter().map(address).collect()
    }

    pub(crate) fn into_inner(self) -> Vec<TcpListener> {
        self.0
    }
}

fn listen(
    owner: Owner,
    address: SocketAddr,
    prefer: Prefer,
    stall: Duration,
) -> Result<TcpListener, BindError> {
    let socket = open(address, stall).map_err(|why| BindError::new(address, why))?;
    match owner {
        Owner::Node => {}
        // The option is the same for both families, whatever its name.
        Owner::Others => socket
            .set_ip_transparent_v4(true)
            .map_err(|_| BindError::Unentitled(address))?,
    }
    let listener = begin(socket, address).map_err(|why| BindError::new(address, why))?;
    steer(
        &listener,
        match prefer {
            Prefer::Incumbent => FIRST,
            Prefer::Newcomer => SECOND,
        },
    );
    Ok(listener)
}

fn open(address: SocketAddr, stall: Duration) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit these (tcp(7)).
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(stall))?;
    if address.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(socket)
}

fn begin(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Gives new connections to the agent that came second, if there is one.
pub(super) fn prefer_successor(listener: &TcpListener) {
    steer(listener, SECOND);
}

/// Without a program the kernel spreads connections over the group, which costs
/// an overlap some 503 and nothing else.
fn steer(listener: &TcpListener, index: u32) {
    let mut program = [libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K).expect("an opcode"),
        jt: 0,
        jf: 0,
        k: index,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    if let Err(error) = setsockopt(listener, sockopt::AttachReusePortCbpf, &program) {
        tracing::warn!(%error, "cannot choose which of two agents gets new connections");
    }
}

/// Closes the listener and returns what was still in its queue, which the
/// kernel would have reset.
pub(crate) fn close(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    let listener = listener.into_std()?;
    let mut queued = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => queued.push(stream),
            Err(error) if of_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    drop(listener);
    let adopt = |stream: std::net::TcpStream| {
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    };
    queued.into_iter().map(adopt).collect()
}

/// Whether accepting failed because of the one connection, so that the next may
/// be well. accept(2) lists what is reported so.
pub(super) fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_nobody_has_accepted_outlives_its_listener() {
        let host = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];
        let bound = Listeners::bind(&host, 0, Prefer::Incumbent, Duration::from_secs(5));
        let mut listeners = bound.expect("loopback has a free port");
        let address = listeners.addresses()[0];
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(b"asked").await.expect("it is queued");

        let listener = listeners.0.pop().expect("one for each host");
        let mut queued = close(listener).expect("its queue can be emptied");
        let (mut server, mut heard) = (queued.pop().expect("it was queued"), [0; 5]);
        server.read_exact(&mut heard).await.expect("what was asked");
        assert_eq!(&heard, b"asked");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
