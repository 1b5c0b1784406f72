//! Who listens where the agent does, and where it would.

use std::net::SocketAddr;

use super::finding::{Check, Finding};
use super::procfs::{Listening, Process};

/// What the agent's process is called, and those of its programs.
const OURS: &str = "credlet";

/// A listener in the way, or the agent's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// What the agent wants.
    pub(super) wanted: SocketAddr,
    /// What is listened on: the same, or every address.
    pub(super) at: SocketAddr,
    /// By whom; `None`: by a process that cannot be seen from here.
    pub(super) by: Option<(u32, String)>,
}

/// Which of the wanted are listened on, by whom.
pub(super) fn taken(
    wanted: &[SocketAddr],
    listening: &[Listening],
    processes: &[Process],
) -> Vec<Taken> {
    let mut all = Vec::new();
    for &wanted in wanted {
        for socket in listening.iter().filter(|it| collides(wanted, it.at)) {
            let owner = processes.iter().find(|process| process.holds(socket));
            all.push(Taken {
                wanted,
                at: socket.at,
                by: owner.map(|process| (process.pid, process.name.clone())),
            });
        }
    }
    all
}

/// Whether a listener there keeps another from the wanted address. One on `::`
/// has the addresses of IPv4, too, unless it says otherwise, which does not show.
fn collides(wanted: SocketAddr, at: SocketAddr) -> bool {
    let is_any = at.ip().is_unspecified() && (at.is_ipv6() || wanted.is_ipv4());
    at.port() == wanted.port() && (at.ip() == wanted.ip() || is_any)
}

pub(super) fn judge(wanted: &[SocketAddr], taken: &[Taken]) -> Vec<Finding> {
    let mut all = Vec::new();
    for Taken { wanted, at, by } in taken {
        match by {
            Some((_, name)) if name.starts_with(OURS) => {}
            Some((pid, name)) => {
                let says = if at.ip().is_unspecified() {
                    format!("{name} (process {pid}) listens on {at}, and so on {wanted}")
                } else {
                    format!("{name} (process {pid}) listens on {wanted}")
                };
                all.push(Finding::failure(Check::Ports, says, remedy(name)));
            }
            None => {
                let says = format!("somebody listens on {at}, and who cannot be seen from here");
                let remedy = "run this as root on the node itself: `ss -ltnp` there says who it is";
                all.push(Finding::warning(Check::Ports, says, remedy));
            }
        }
    }
    if all.is_empty() {
        let is_free = |wanted: &SocketAddr| taken.iter().all(|it| it.wanted != *wanted);
        let free = wanted.iter().filter(|it| is_free(it)).count();
        let says = match free {
            0 => "the agent listens on all of its ports, and nobody else does".to_owned(),
            _ if free == wanted.len() => "nobody listens on the agent's ports".to_owned(),
            _ => "only the agent listens on its ports".to_owned(),
        };
        all.push(Finding::ok(Check::Ports, says));
    }
    all
}

fn remedy(name: &str) -> String {
    if name.starts_with("eks-pod-identit") {
        return "remove the EKS Pod Identity Agent, which credlet replaces: `aws eks delete-addon \
            --addon-name eks-pod-identity-agent --cluster-name CLUSTER`"
            .to_owned();
    }
    format!(
        "stop {name} on this node, have it listen on one address of its own, or give the agent \
         another --port, --probe-port or --metrics-address"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_in_the_way_of_each_of_its_family() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (wanted, listens, is_in_the_way) in [
            ("169.254.170.23:80", "169.254.170.23:80", true),
            ("169.254.170.23:80", "0.0.0.0:80", true),
            ("169.254.170.23:80", "[::]:80", true),
            ("[fd00:ec2::23]:80", "[::]:80", true),
            ("[fd00:ec2::23]:80", "0.0.0.0:80", false),
            ("169.254.170.23:80", "10.0.0.1:80", false),
            ("169.254.170.23:80", "169.254.170.23:2703", false),
        ] {
            let collides = collides(at(wanted), at(listens));
            assert_eq!(collides, is_in_the_way, "{wanted} {listens}");
        }
    }
}
