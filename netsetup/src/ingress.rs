//! Which link a connection came in by.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What the kernel puts before each piece of control data: its length, this
/// header's included, as a `size_t` whatever the C library calls it; level; type.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();

/// The largest piece asked for, an `in6_pktinfo`, takes 40 bytes.
const ROOM: usize = 128;

/// The index of the link by which the handshake of an accepted TCP connection
/// came in; `peer` is the address at its other end. Of a bridge's ports it is
/// the bridge, of the node's own connections the link that has the address
/// connected to, `lo` or not.
///
/// One system call, and no race with the links: the kernel notes the index with
/// the handshake's last packet (`tcp_v4_syn_recv_sock`, `mc_index`; over IPv6
/// with each packet since, `mcast_oif`), and a namespace does not use one twice.
///
/// `None` if the listener did not ask for it: `IP_PKTINFO`, and
/// `IPV6_RECVPKTINFO` on an IPv6 one, set before it listens.
pub fn ingress(socket: BorrowedFd<'_>, peer: IpAddr) -> Option<u32> {
    let (level, question, answer) = match peer {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_PKTOPTIONS, libc::IP_PKTINFO),
        IpAddr::V6(_) => (
            libc::SOL_IPV6,
            libc::IPV6_2292PKTOPTIONS,
            libc::IPV6_PKTINFO,
        ),
    };
    let mut buffer = [0; ROOM];
    let control = options(socket, level, question, &mut buffer).ok()?;
    let info = find(control, level, answer)?;
    // `in_pktinfo` begins with the index, `in6_pktinfo` ends with it.
    let index = match peer {
        IpAddr::V4(_) => number(info, 0),
        IpAddr::V6(_) => number(info, size_of::<libc::in6_addr>()),
    };
    index.map(i32::cast_unsigned).filter(|&index| index != 0)
}

/// What `getsockopt` writes.
fn options<'a>(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    buffer: &'a mut [u8; ROOM],
) -> io::Result<&'a [u8]> {
    let mut length = libc::socklen_t::try_from(ROOM).expect("a small constant");
    // SAFETY: the kernel writes at most `length` bytes into the buffer, which
    // has as many and is borrowed for the call, and then their count there.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    let written = usize::try_from(length).unwrap_or(ROOM).min(ROOM);
    Ok(&buffer[..written])
}

/// The first piece of control data of this level and type (cmsg(3)).
fn find(mut control: &[u8], level: i32, kind: i32) -> Option<&[u8]> {
    loop {
        let length = usize::from_ne_bytes(*control.first_chunk()?);
        let data = control.get(HEADER..length)?;
        let at = |offset| number(control, size_of::<usize>() + offset);
        if (at(0)?, at(size_of::<i32>())?) == (level, kind) {
            return Some(data);
        }
        control = control.get(length.checked_next_multiple_of(size_of::<usize>())?..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece of control data as the kernel lays it out.
    fn piece(length: usize, level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    #[test]
    fn the_piece_asked_for_is_found_behind_others() {
        let ttl = piece(HEADER + 4, libc::SOL_IP, libc::IP_TTL, &[64, 0, 0, 0]);
        let info = piece(HEADER + 12, libc::SOL_IP, libc::IP_PKTINFO, &[7; 12]);
        let both = [ttl, info].concat();
        assert_eq!(
            find(&both, libc::SOL_IP, libc::IP_PKTINFO),
            Some(&[7; 12][..])
        );
        assert_eq!(find(&both, libc::SOL_IPV6, libc::IP_PKTINFO), None);
    }

    #[test]
    fn lengths_that_lie_are_never_followed() {
        let whole = piece(HEADER + 12, libc::SOL_IP, libc::IP_TTL, &[7; 12]);
        for length in [0, 1, HEADER - 1, whole.len() + 1, usize::MAX] {
            let lying = piece(length, libc::SOL_IP, libc::IP_TTL, &[7; 12]);
            assert_eq!(find(&lying, libc::SOL_IP, libc::IP_PKTINFO), None);
            assert_eq!(find(&lying, libc::SOL_IP, libc::IP_TTL), None);
        }
        for end in 0..whole.len() {
            assert_eq!(find(&whole[..end], libc::SOL_IP, libc::IP_PKTINFO), None);
        }
    }

    #[test]
    fn a_connection_whose_listener_did_not_ask_has_no_link() {
        use std::net::{Ipv4Addr, TcpListener, TcpStream};
        use std::os::fd::AsFd;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let _client = TcpStream::connect(address).expect("a connection");
        let (accepted, peer) = listener.accept().expect("it was queued");
        assert_eq!(ingress(accepted.as_fd(), peer.ip()), None);
    }
}
