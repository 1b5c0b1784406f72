//! One change to the node's network, as data.

use std::fmt;
use std::net::IpAddr;

use crate::plan::capture::TABLE;
use crate::rule::Rule;

/// One change to the node's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the dummy link.
    CreateDummy,
    /// Set a link up.
    SetUp(Place),
    /// Give a link an address.
    AddAddress(Place, IpAddr),
    /// Take an address away.
    RemoveAddress(Place, IpAddr),
    /// Delete the dummy link, its addresses with it.
    DeleteDummy,
    /// Add a policy rule.
    AddRule(Rule),
    /// Remove a policy rule.
    RemoveRule(Rule),
    /// Have what the rules give to it be delivered here.
    AddRoute(IpAddr),
    /// Have it not.
    RemoveRoute(IpAddr),
}

/// A link that steps are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The dummy link of the spec's name.
    Dummy,
    /// The loopback link.
    Lo,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateDummy => f.write_str("create the dummy link"),
            Self::SetUp(place) => write!(f, "set {place} up"),
            Self::AddAddress(place, address) => write!(f, "add {address} to {place}"),
            Self::RemoveAddress(place, address) => write!(f, "remove {address} from {place}"),
            Self::DeleteDummy => f.write_str("delete the dummy link"),
            Self::AddRule(rule) => write!(f, "add the rule {rule}"),
            Self::RemoveRule(rule) => write!(f, "remove the rule {rule}"),
            Self::AddRoute(address) => {
                write!(f, "add the route local {address} dev lo table {TABLE}")
            }
            Self::RemoveRoute(address) => {
                write!(f, "remove the route local {address} dev lo table {TABLE}")
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dummy => f.write_str("the dummy link"),
            Self::Lo => f.write_str("lo"),
        }
    }
}
