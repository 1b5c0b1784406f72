//! Who listens on this node, and what runs here, as `/proc` tells it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) at: SocketAddr,
    inode: u64,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// As the kernel has it, cut after 15 bytes.
    pub(super) name: String,
    /// The whole command line, if it can be read.
    pub(super) command: String,
    /// Whether it is in the calling thread's network namespace.
    pub(super) is_here: bool,
    sockets: Vec<u64>,
}

impl Process {
    pub(super) fn holds(&self, socket: &Listening) -> bool {
        self.sockets.contains(&socket.inode)
    }
}

/// Of the calling thread's network namespace.
pub(super) fn listening() -> std::io::Result<Vec<Listening>> {
    let mut all = Vec::new();
    let folder = Path::new("/proc/thread-self/net");
    all.extend(table(&fs::read_to_string(folder.join("tcp"))?));
    // A kernel without IPv6 has no such file.
    if let Ok(text) = fs::read_to_string(folder.join("tcp6")) {
        all.extend(table(&text));
    }
    Ok(all)
}

/// Those that this one can see; of others' sockets it takes `CAP_SYS_PTRACE`.
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let network = fs::read_link("/proc/thread-self/ns/net").ok();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| process(pid, network.as_deref()))
        .collect()
}

/// `None`: it has ended meanwhile.
fn process(pid: u32, network: Option<&Path>) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let name = fs::read_to_string(folder.join("comm")).ok()?;
    let command = fs::read(folder.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let files = fs::read_dir(folder.join("fd")).into_iter().flatten();
    let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let sockets = links.filter_map(|link| {
        let text = link.to_str()?;
        text.strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    });
    Some(Process {
        pid,
        name: name.trim_end().to_owned(),
        command: command.trim_end().to_owned(),
        is_here: fs::read_link(folder.join("ns/net")).ok().as_deref() == network,
        sockets: sockets.collect(),
    })
}

/// The listening sockets of `/proc/net/tcp` or `tcp6` (proc(5)).
fn table(text: &str) -> Vec<Listening> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (at, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (address, port) = at.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (*state == LISTEN).then_some(Listening {
            at: SocketAddr::new(self::address(address)?, port),
            inode: inode.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// Words of four bytes as the machine has them, in hexadecimal digits.
fn address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = digits.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_tables_are_read() {
        let v4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 17AAFEA9:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
             1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        let v6 = "header\n   0: 0000C20EFD000000230000000000000000:0050 nonsense\n   \
             1: 00000000000000000000000000000000:0A8F 0:0 0A 0:0 0:0 0 0 0 7 1\n";
        let rows = table(v4);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].at, "169.254.170.23:80".parse().expect("an address"));
        assert_eq!(rows[0].inode, 4711);
        let rows = table(v6);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].at, "[::]:2703".parse().expect("an address"));
    }

    #[test]
    fn a_listener_of_this_process_is_found_with_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("bound");
        let all = listening().expect("procfs");
        let socket = all.iter().find(|it| it.at == at).expect("it listens");
        let own = processes()
            .into_iter()
            .find(|process| process.holds(socket))
            .expect("this process");
        assert_eq!(own.pid, std::process::id());
    }
}
