//! One change to the node's network, as data.

use std::fmt;
use std::net::IpAddr;

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
