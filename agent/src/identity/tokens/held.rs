//! Tokens that pods of this node have shown, or that were requested for them:
//! what an exchange shows AWS in their name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::Claims;
use crate::identity::pods::Caller;
use crate::model::{PodName, PodUid, Secret, ServiceAccount};

#[cfg(test)]
mod tests;

/// An association asks for one audience; a pod has seldom more than two mounted.
const MOST_OF_A_POD: usize = 4;

/// A token, and whose it is.
#[derive(Clone)]
pub struct Held {
    /// The pod that it is bound to.
    pub pod: PodName,
    /// The token itself.
    pub token: Arc<Secret>,
    /// When it ends, by the API server's clock.
    pub expires: SystemTime,
}

/// All of them: of each pod and audience the one that lives longest.
#[derive(Default)]
pub(in crate::identity) struct Shelf(Mutex<HashMap<PodUid, OfPod>>);

struct OfPod {
    caller: Caller,
    tokens: Vec<Kept>,
}

struct Kept {
    audience: Arc<str>,
    token: Arc<Secret>,
    expires: SystemTime,
}

impl Shelf {
    /// Takes what the pod has shown, as far as it is for one of `audiences`.
    pub(in crate::identity) fn take(
        &self,
        caller: &Caller,
        token: &str,
        claims: &Claims,
        audiences: &[Arc<str>],
    ) {
        let mut secret = None;
        for audience in audiences {
            if claims.audiences.iter().any(|it| **it == **audience) {
                let secret = secret.get_or_insert_with(|| Arc::new(Secret::new(token.to_owned())));
                self.put(caller, audience, secret, claims.expires);
            }
        }
    }

    /// Keeps a token, unless the pod has one that lives longer. Of too many
    /// audiences, the one goes whose token ends first.
    pub(in crate::identity) fn put(
        &self,
        caller: &Caller,
        audience: &Arc<str>,
        token: &Arc<Secret>,
        expires: SystemTime,
    ) {
        let mut pods = self.pods();
        let of_pod = pods
            .entry(caller.pod().clone())
            .or_insert_with(|| OfPod::of(caller));
        // A UID is one pod's, but it is the API server that says so.
        if !of_pod.caller.is(caller) {
            *of_pod = OfPod::of(caller);
        }
        let tokens = &mut of_pod.tokens;
        match tokens.iter().position(|kept| kept.audience == *audience) {
            Some(at) if tokens[at].expires >= expires => return,
            Some(at) => drop(tokens.swap_remove(at)),
            None if tokens.len() < MOST_OF_A_POD => {}
            None => {
                let first = (0..tokens.len()).min_by_key(|at| tokens[*at].expires);
                tokens.swap_remove(first.expect("there are some"));
            }
        }
        tokens.push(Kept {
            audience: Arc::clone(audience),
            token: Arc::clone(token),
            expires,
        });
    }

    /// Of the account's pods that live, or of that one alone, the token for this
    /// audience that ends last, if that is after `until`.
    pub(in crate::identity) fn find(
        &self,
        account: &ServiceAccount,
        pod: Option<&PodUid>,
        audience: &str,
        until: SystemTime,
        lives: impl Fn(&Caller) -> bool,
    ) -> Option<Held> {
        let pods = self.pods();
        let its = pods.values().filter(|of_pod| {
            of_pod.caller.account() == account
                && pod.is_none_or(|pod| of_pod.caller.pod() == pod)
                && lives(&of_pod.caller)
        });
        let tokens = its.flat_map(|of_pod| of_pod.tokens.iter().map(move |kept| (of_pod, kept)));
        let good = tokens.filter(|(_, kept)| *kept.audience == *audience && kept.expires > until);
        let (of_pod, kept) = good.max_by_key(|(_, kept)| kept.expires)?;
        Some(Held {
            pod: of_pod.caller.pod_name().clone(),
            token: Arc::clone(&kept.token),
            expires: kept.expires,
        })
    }

    /// Forgets what has expired or is of no live pod. Returns when the next expires.
    pub(in crate::identity) fn prune(
        &self,
        now: SystemTime,
        lives: impl Fn(&Caller) -> bool,
    ) -> Option<SystemTime> {
        let mut pods = self.pods();
        pods.retain(|_, of_pod| {
            of_pod.tokens.retain(|kept| kept.expires > now);
            !of_pod.tokens.is_empty() && lives(&of_pod.caller)
        });
        let tokens = pods.values().flat_map(|of_pod| &of_pod.tokens);
        tokens.map(|kept| kept.expires).min()
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<PodUid, OfPod>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfPod {
    fn of(caller: &Caller) -> Self {
        Self {
            caller: caller.clone(),
            tokens: Vec::new(),
        }
    }
}
