//! What happens on the pod's first request.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::candidates::{Candidate, Says};
use super::environment::{Container, Token};
use super::facts::{Facts, Here};
use crate::config::{IdentityMode, TokenRequests};
use crate::credentials::eks_auth::AUDIENCE;
use crate::credentials::{NoToken, Refusal, remedy};
use crate::identity::Caller;
use crate::identity::pods::{Life, Network};
use crate::model::{Association, Means};
use crate::serve::Told;
use crate::{associations, broker, cache, identity};

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub(super) enum First {
    /// AWS decides: all that credlet asks for is there.
    Asked { call: &'static str },
    /// credlet refuses.
    Refused {
        status: u16,
        code: String,
        message: String,
        /// What to do.
        advice: &'static str,
    },
    /// No container's SDK asks credlet.
    NotAsked { why: &'static str },
    /// Nobody is there to answer.
    Nobody { why: String },
    /// From here it cannot be said.
    Unclear { why: String },
}

/// As far as the cluster shows it.
pub(super) fn first(
    facts: &Facts,
    caller: &Caller,
    all: &[Candidate],
    containers: &[Container],
) -> First {
    if let Some(nobody) = nobody(&facts.here) {
        return nobody;
    }
    let asking = containers.iter().filter(|it| it.way.leads_here());
    let asking: Vec<&Container> = asking.collect();
    if asking.is_empty() {
        return not_asked(containers);
    }
    // The first that cannot have what another has is the pod's trouble.
    let shown: Vec<&Token> = asking.iter().map(|it| it.way.token()).collect();
    if let Some(error) = unknown(facts, caller, &shown) {
        return refused(error.into());
    }
    let association = match all.first().map(|it| &it.says) {
        None => {
            let none = associations::Error::None(caller.account().clone());
            return refused(none.into());
        }
        Some(Says::Is(association)) => association,
        Some(Says::Refused(why)) => {
            return refused(associations::Error::Refused(Arc::clone(why)).into());
        }
        Some(Says::Failing(why)) => {
            let (origin, why) = (all[0].source, why.clone());
            return refused(associations::Error::Source { origin, why }.into());
        }
        Some(Says::Unseen(why)) => return First::Unclear { why: why.clone() },
    };
    asked(facts, association, &shown)
}

fn nobody(here: &Here) -> Option<First> {
    let nobody = |why: &str| {
        Some(First::Nobody {
            why: why.to_owned(),
        })
    };
    match here {
        Here::Ready(_) | Here::Unseen(_) => None,
        Here::Unready(name) => Some(First::Nobody {
            why: format!("the node's agent, {name}, is not ready"),
        }),
        Here::None => nobody("there is no agent on the pod's node"),
        Here::Nowhere => nobody("the pod has no node yet"),
    }
}

fn not_asked(containers: &[Container]) -> First {
    use super::environment::Way;
    let is = |fits: fn(&Way) -> bool| containers.iter().any(|it| fits(&it.way));
    let why = if is(|way| matches!(way, Way::Nothing)) {
        "nothing in its environment leads to credlet: its SDKs use the node's role, if they reach \
         it, or have no credentials; credlet webhook, credlet inject or EKS's webhook add what is \
         missing when the pod is created, so create it anew"
    } else if is(|way| matches!(way, Way::Sts { .. })) {
        "its SDKs ask STS themselves, with a token of the pod's"
    } else if is(|way| matches!(way, Way::Keys)) {
        "its SDKs use the keys in its environment"
    } else {
        "its SDKs ask somebody else"
    };
    First::NotAsked { why }
}

/// Why the agent would not know the caller.
fn unknown(facts: &Facts, caller: &Caller, shown: &[&Token]) -> Option<identity::Error> {
    let report = &facts.report;
    let addresses = |list: &[String]| -> Option<IpAddr> { list.first()?.parse().ok() };
    let bare = shown.contains(&&Token::None);
    let wants_token = match facts.config.identity {
        IdentityMode::Address => false,
        IdentityMode::Token | IdentityMode::Both => true,
    };
    match report.life {
        Life::Over => return Some(identity::Error::GonePod(caller.pod().clone())),
        Life::Live | Life::Terminating => {}
    }
    match report.network {
        Network::Node if bare => {
            let node = addresses(&report.node_addresses).unwrap_or(IpAddr::from([0, 0, 0, 0]));
            Some(identity::Error::Node(node))
        }
        Network::Pod | Network::Node | Network::Unclear if bare && wants_token => {
            Some(identity::Error::NoToken)
        }
        Network::Pod | Network::Node | Network::Unclear => None,
    }
}

fn asked(facts: &Facts, association: &Association, shown: &[&Token]) -> First {
    let lent = |audience: &str| {
        let fits = |token: &&&Token| match token {
            Token::None => false,
            Token::Unclear => true,
            Token::For { audience: it } => it == audience,
        };
        match facts.config.token_requests {
            TokenRequests::On => true,
            TokenRequests::Off => shown.iter().any(|token| fits(&token)),
        }
    };
    let (call, audience) = match association {
        Association::EksAuth => ("eks-auth:AssumeRoleForPodIdentity", Some(AUDIENCE)),
        Association::Role(grant) => match &grant.means {
            Means::Agent => ("sts:AssumeRole", None),
            Means::WebIdentity { audience } => ("sts:AssumeRoleWithWebIdentity", Some(&**audience)),
        },
    };
    match audience.filter(|audience| !lent(audience)) {
        Some(audience) => {
            let none = NoToken::NoneShown(audience.into());
            refused(broker::Error::Credentials(cache::Error::Fetch(
                Refusal::NoToken(none),
            )))
        }
        None => First::Asked { call },
    }
}

fn refused(error: broker::Error) -> First {
    let Told {
        status,
        code,
        message,
    } = error.into();
    First::Refused {
        advice: advice(&code, &message),
        status,
        code,
        message,
    }
}

/// What a person can do about an answer.
pub(super) fn advice(code: &str, message: &str) -> &'static str {
    match code {
        "NoAssociation" => {
            "declare one: a PodIdentityAssociation in the pod's namespace, an entry of the \
             association file, an association of EKS, or the annotation role-arn of the service \
             account"
        }
        "RoleNotAllowed" => {
            "use a role that is allowed, or have it allowed: by --allowed-roles of the agent, or \
             the namespace's annotation credlet.dev/allowed-roles, as the message says"
        }
        "BadAssociation" => "mend what is declared: nothing behind it is looked at",
        "NoToken" => {
            "mount a projected service account token for the audience, name its file in \
             AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, and create the pod anew; or use the \
             component request-tokens"
        }
        "NodeAddress" => {
            "a pod on the host network is known by a token alone: mount one and name its file in \
             AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
        }
        "Denied" => remedy(message),
        "TooLarge" => "drop some of the session's tags, or shorten its policy",
        "GonePod" => "the pod has ended: look at one that runs",
        "SourceFailed" | "SourceLate" => {
            "see why the source fails: credlet doctor, and the agent's log"
        }
        _ => "",
    }
}
