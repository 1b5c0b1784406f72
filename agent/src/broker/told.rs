//! Which refusals the owners of a pod are told of: those that only they can end.

use super::Error;
use crate::credentials::NoToken;
use crate::events::{Notices, Reason};
use crate::identity::Caller;
use crate::model::PodName;
use crate::{associations, cache, credentials};

/// Has an event on the caller's pod say what the caller was told.
pub(super) fn tell(notices: &Notices, caller: &Caller, error: &Error) {
    let Some(reason) = reason(error) else {
        return;
    };
    let pod = PodName {
        uid: caller.pod().clone(),
        name: caller.name().into(),
    };
    notices.tell(
        caller.account().namespace(),
        &pod,
        reason,
        &error.to_string(),
    );
}

fn reason(error: &Error) -> Option<Reason> {
    match error {
        Error::Identity(_) => None,
        Error::Association(error) => match error {
            // Pods that have no role, and ask all the same, are many.
            associations::Error::None(_)
            | associations::Error::Source { .. }
            | associations::Error::Deadline { .. } => None,
            associations::Error::Refused(why) => Some(match **why {
                associations::Refused::NotAllowed { .. } => Reason::RoleNotAllowed,
                associations::Refused::Unusable { .. } => Reason::BadAssociation,
            }),
        },
        Error::Credentials(error) => match error {
            cache::Error::Fetch(refusal) => match refusal {
                credentials::Refusal::Denied(_) => Some(Reason::RoleRefused),
                credentials::Refusal::TooLarge(_) => Some(Reason::SessionTooLarge),
                credentials::Refusal::NoToken(NoToken::NoneShown(_)) => Some(Reason::NoToken),
                credentials::Refusal::NoToken(NoToken::Refused(_) | NoToken::Unavailable(_))
                | credentials::Refusal::NotAssociated
                | credentials::Refusal::Throttled
                | credentials::Refusal::Unavailable(_)
                | credentials::Refusal::Malformed(_) => None,
            },
            cache::Error::Broken(_) | cache::Error::Deadline => None,
        },
    }
}
