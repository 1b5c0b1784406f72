//! Which refusals the owners of a pod are told of: those that only they can end.

use super::Error;
use crate::credentials::NoToken;
use crate::events::{Notices, Reason};
use crate::identity::{Caller, OptIn};
use crate::model::PodName;
use crate::{associations, cache, credentials};

/// Which pods are told that nothing is declared for their account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// All: nobody asks who was not set up to.
    Told,
    /// Those alone that have asked for instance metadata by a label: SDKs in all
    /// others ask there by themselves.
    OptedIn,
}

/// Has an event on the caller's pod say what the caller was told, and what to change.
pub(super) fn tell(notices: &Notices, absence: Absence, caller: &Caller, error: &Error) {
    let Some(reason) = reason(error) else {
        return;
    };
    if reason == Reason::NoAssociation {
        match (absence, caller.imds()) {
            (Absence::Told, _) | (Absence::OptedIn, OptIn::In) => {}
            (Absence::OptedIn, OptIn::Out) => return,
        }
    }
    let pod = PodName {
        uid: caller.pod().clone(),
        name: caller.name().into(),
    };
    let note = match remedy(error) {
        "" => error.to_string(),
        remedy => format!("{error}; {remedy}"),
    };
    notices.tell(caller.account().namespace(), &pod, reason, &note);
}

/// What only the pod's owners can do, where the error does not say it.
fn remedy(error: &Error) -> &'static str {
    match error {
        Error::Association(associations::Error::None(_))
        | Error::Credentials(cache::Error::Fetch(credentials::Refusal::NotAssociated)) => {
            "declare one, or take from the pod what has its SDKs ask"
        }
        Error::Credentials(cache::Error::Fetch(refusal)) => match refusal {
            credentials::Refusal::Denied(message) => credentials::remedy(message),
            credentials::Refusal::NoToken(NoToken::NoneShown(_)) => {
                "mount a projected service account token for it, and name its file in \
                 AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
            }
            credentials::Refusal::NoToken(NoToken::Refused(_) | NoToken::Unavailable(_))
            | credentials::Refusal::NotAssociated
            | credentials::Refusal::TooLarge(_)
            | credentials::Refusal::Throttled
            | credentials::Refusal::Unavailable(_)
            | credentials::Refusal::Malformed(_) => "",
        },
        Error::Association(
            associations::Error::Refused(_)
            | associations::Error::Source { .. }
            | associations::Error::Deadline { .. },
        )
        | Error::Credentials(cache::Error::Broken(_) | cache::Error::Deadline)
        | Error::Identity(_) => "",
    }
}

fn reason(error: &Error) -> Option<Reason> {
    match error {
        Error::Identity(_) => None,
        Error::Association(error) => match error {
            associations::Error::None(_) => Some(Reason::NoAssociation),
            associations::Error::Source { .. } | associations::Error::Deadline { .. } => None,
            associations::Error::Refused(why) => Some(match **why {
                associations::Refused::NotAllowed { .. } => Reason::RoleNotAllowed,
                associations::Refused::Unusable { .. } => Reason::BadAssociation,
            }),
        },
        Error::Credentials(error) => match error {
            cache::Error::Fetch(refusal) => match refusal {
                credentials::Refusal::NotAssociated => Some(Reason::NoAssociation),
                credentials::Refusal::Denied(_) => Some(Reason::RoleRefused),
                credentials::Refusal::TooLarge(_) => Some(Reason::SessionTooLarge),
                credentials::Refusal::NoToken(NoToken::NoneShown(_)) => Some(Reason::NoToken),
                credentials::Refusal::NoToken(NoToken::Refused(_) | NoToken::Unavailable(_))
                | credentials::Refusal::Throttled
                | credentials::Refusal::Unavailable(_)
                | credentials::Refusal::Malformed(_) => None,
            },
            cache::Error::Broken(_) | cache::Error::Deadline => None,
        },
    }
}
