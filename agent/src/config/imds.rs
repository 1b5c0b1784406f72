//! What the instance metadata service answers, and to whom.

use clap::ValueEnum;

use super::args::{ImdsArgs, PassthroughName};
use super::{Error, usage};

/// How instance metadata is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imds {
    /// What a request must show.
    pub versions: ImdsVersions,
    /// Whom it is for.
    pub pods: ImdsPods,
    /// What is answered besides credentials.
    pub passthrough: Passthrough,
}

/// The versions of the service that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImdsVersions {
    /// A request without a session token is answered, too.
    #[default]
    Both,
    /// Each request needs a session token.
    V2,
}

impl From<bool> for ImdsVersions {
    fn from(v2_is_required: bool) -> Self {
        if v2_is_required { Self::V2 } else { Self::Both }
    }
}

/// The pods that instance metadata is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ImdsPods {
    /// Those that ask for it by a label.
    #[default]
    OptedIn,
    /// Every pod.
    All,
}

/// What of the node's own metadata a pod may read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Passthrough {
    /// Nothing.
    #[default]
    None,
    /// Where the node is.
    Region(Placement),
}

/// Where the node is, as far as that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    region: Option<String>,
    zone: Option<String>,
    zone_id: Option<String>,
}

/// A part of where the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `region`.
    Region,
    /// `availability-zone`.
    Zone,
    /// `availability-zone-id`.
    ZoneId,
}

impl Place {
    /// As instance metadata calls it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "region" => Some(Self::Region),
            "availability-zone" => Some(Self::Zone),
            "availability-zone-id" => Some(Self::ZoneId),
            _ => None,
        }
    }
}

impl Placement {
    /// What is set of that part.
    pub fn get(&self, place: Place) -> Option<&str> {
        match place {
            Place::Region => self.region.as_deref(),
            Place::Zone => self.zone.as_deref(),
            Place::ZoneId => self.zone_id.as_deref(),
        }
    }

    /// With that part set.
    #[must_use]
    pub fn with(mut self, place: Place, name: &str) -> Self {
        let name = Some(name.to_owned());
        match place {
            Place::Region => self.region = name,
            Place::Zone => self.zone = name,
            Place::ZoneId => self.zone_id = name,
        }
        self
    }
}

impl ImdsArgs {
    /// Refuses a place that nothing tells.
    pub(super) fn settings(self) -> Result<Imds, Error> {
        let Self {
            imds_pods,
            imds_require_v2,
            imds_passthrough,
            imds_placement,
        } = self;
        let passthrough = match (imds_passthrough, imds_placement.is_empty()) {
            (PassthroughName::None, true) => Passthrough::None,
            (PassthroughName::None, false) => {
                return Err(usage("--imds-placement", "takes --imds-passthrough region"));
            }
            (PassthroughName::Region, _) => {
                let set = imds_placement.iter();
                let set = set.fold(Placement::default(), |set, (place, name)| {
                    set.with(*place, name)
                });
                Passthrough::Region(set)
            }
        };
        Ok(Imds {
            versions: imds_require_v2.into(),
            pods: imds_pods,
            passthrough,
        })
    }
}
