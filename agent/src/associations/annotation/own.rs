//! Roles that pods name for themselves, as they do for GKE's emulator of instance
//! metadata.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Annotations, NAME};
use crate::apiserver::Survey;
use crate::associations::spec::Defaults;
use crate::associations::watched::{Declared, Look, objects};
use crate::config::Presence;
use crate::model::{Association, Grant, Means, OwnRole};

/// The source `annotation`, as far as pods are concerned.
///
/// Such a role is had for a token of the pod's account alone, so that AWS judges
/// who may have it: whoever may only create pods must not choose among the roles
/// that the agent itself may assume.
pub struct OwnRoles(pub(super) Arc<Annotations>);

impl Declared for OwnRoles {
    type Subject = OwnRole;

    const NAME: &'static str = NAME;

    fn look(&self, own: &OwnRole) -> Look {
        let Annotations {
            accounts,
            namespaces,
            prefix: _,
            defaults,
            presence,
        } = &*self.0;
        let account = own.account();
        // Where the source is off, what pods say is as if it were not there.
        let on = accounts.look(account, |state| objects(state, *presence).map(drop));
        if let Err(look) = on {
            return look;
        }
        match named(own, defaults) {
            Ok(association) => namespaces.guard(account, NAME, Arc::new(association)),
            Err(why) => Look::unusable(account, NAME, why),
        }
    }

    fn want(&self, own: &OwnRole) {
        self.0.want(own.account());
    }

    /// The lists are the accounts', whose source ends to follow them.
    fn retain(&self, _: &HashSet<OwnRole>) {}

    fn survey(&self) -> (Vec<Survey>, Presence) {
        self.0.survey()
    }
}

/// What a pod names for itself, or why it cannot be used.
pub fn named(own: &OwnRole, defaults: &Defaults) -> Result<Association, String> {
    let role = own.text().parse();
    let wrong = |invalid| format!("the pod's annotation {}: {invalid}", OwnRole::ANNOTATION);
    let means = Means::WebIdentity {
        audience: Arc::clone(&defaults.audience),
    };
    Ok(Association::Role(Grant {
        means,
        ..Grant::of(role.map_err(wrong)?)
    }))
}
