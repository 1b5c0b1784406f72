//! Why a pod has the credentials that it has, or none.

use std::io::{self, Write};

use self::candidates::{Candidate, Says, candidates};
use self::environment::{Container, containers, left};
use self::facts::Facts;
use self::first::{First, first};
use self::role::{Described, role};
use crate::apiserver::ask::Unanswered;
use crate::apiserver::{ConnectError, connect};
use crate::config::{Explain, Output};
use crate::identity::Caller;
use crate::inject::Left;
use crate::process::Verdict;

mod candidates;
mod environment;
mod facts;
mod first;
pub(super) mod observe;
mod report;
mod role;
#[cfg(test)]
mod tests;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server is not known.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It does not show the pod.
    #[error("the pod {pod}: {why}")]
    Pod {
        /// Its namespace and name.
        pod: String,
        /// The API server's words.
        why: Unanswered,
    },
    /// What it shows cannot be.
    #[error("the API server answers what cannot be read: {0}")]
    Odd(String),
    /// Nobody reads it.
    #[error("it could not be said: {0}")]
    Said(#[from] io::Error),
}

/// All that is said of a pod.
struct Explanation<'a> {
    facts: &'a Facts,
    caller: Caller,
    candidates: Vec<Candidate>,
    role: Option<Described>,
    containers: Vec<Container>,
    left: Option<Left>,
    first: First,
}

/// Looks, and says on standard output what comes of it.
pub async fn run(config: &Explain) -> Result<Verdict, Error> {
    let client = connect(config.kubeconfig.as_deref()).await?;
    let facts = observe::observe(&client, config).await?;
    let explanation = explain(&facts)?;
    let text = match config.output {
        Output::Text => report::text(&explanation),
        Output::Json => format!("{:#}\n", report::json(&explanation)),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(explanation.answer())
}

fn explain(facts: &Facts) -> Result<Explanation<'_>, Error> {
    let caller = facts.report.caller();
    let caller = caller.map_err(|why| Error::Odd(why.to_string()))?;
    let candidates = candidates(facts, &caller);
    let association = candidates.first().and_then(|it| match &it.says {
        Says::Is(association) => Some(association),
        Says::Refused(_) | Says::Failing(_) | Says::Unseen(_) => None,
    });
    let containers = containers(facts, &caller, &candidates);
    Ok(Explanation {
        role: association.map(|it| role(facts, &caller, it)),
        left: left(facts, &candidates),
        first: first(facts, &caller, &candidates, &containers),
        facts,
        caller,
        candidates,
        containers,
    })
}

impl Explanation<'_> {
    fn answer(&self) -> Verdict {
        match (&self.first, &self.facts.asked) {
            (First::Asked { .. }, None) => Verdict::Well,
            (First::Asked { .. }, Some(Ok(asked))) if asked.status == 200 => Verdict::Well,
            (
                First::Asked { .. }
                | First::Refused { .. }
                | First::NotAsked { .. }
                | First::Nobody { .. }
                | First::Unclear { .. },
                _,
            ) => Verdict::Amiss,
        }
    }
}
