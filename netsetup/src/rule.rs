//! A policy rule, as data and as `ip rule` writes it.

use std::fmt;
use std::net::IpAddr;

/// A family of addresses, each of which has rules and routes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A policy rule, as far as those of [`Captured`](crate::Captured) go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub(crate) family: Family,
    /// Rules are tried in this order.
    pub(crate) preference: u32,
    /// The only source that it is for; `None`: any.
    pub(crate) from: Option<IpAddr>,
    pub(crate) to: To,
    /// The name of the only link that it is for, as the one that packets come
    /// in by; the node's own come from `lo`. `None`: any.
    pub(crate) link: Option<String>,
    pub(crate) action: Action,
}

/// Which destinations a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum To {
    All,
    Only(IpAddr),
    AllBut(IpAddr),
}

/// What a rule has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    /// Goes on with the rule of this preference.
    Goto(u32),
    /// Looks into this table, and goes on if nothing is there.
    Lookup(u32),
    Unreachable,
    /// Nothing: something to go to.
    Nop,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.preference)?;
        if matches!(self.to, To::AllBut(_)) {
            f.write_str(" not")?;
        }
        match self.from {
            Some(address) => write!(f, " from {address}")?,
            None => f.write_str(" from all")?,
        }
        match self.to {
            To::All => {}
            To::Only(address) | To::AllBut(address) => write!(f, " to {address}")?,
        }
        if let Some(link) = &self.link {
            write!(f, " iif {link}")?;
        }
        match self.action {
            Action::Goto(preference) => write!(f, " goto {preference}"),
            Action::Lookup(table) => write!(f, " lookup {table}"),
            Action::Unreachable => f.write_str(" unreachable"),
            Action::Nop => f.write_str(" nop"),
        }
    }
}
