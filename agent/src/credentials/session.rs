//! How sessions are described to AWS: their names, tags, source identities and lengths.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::Key;
use crate::aws::{Failure, Fault};
use crate::config::Config;
use crate::model::{Field, Grant, Part, Session, SessionName, is_in_session_names};

#[cfg(test)]
mod tests;

/// The longest session name, and source identity, that STS accepts, in bytes.
const LONGEST_NAME: usize = 64;

/// The most tags that STS takes.
const MOST_TAGS: usize = 50;

/// How many bytes of a hash end a session name that had to be changed.
const HASH_BYTES: usize = 8;

/// What all of the agent's sessions have in common.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// A tag and a field of names, where the cluster has a name.
    pub cluster_name: Option<Arc<str>>,
    /// A tag, where the association does not bring its own.
    pub cluster_arn: Option<Arc<str>>,
    /// A field of names.
    pub node: Arc<str>,
    /// How long they last unless the grant says otherwise or they are chained.
    pub duration: Duration,
    /// What they are called; `None`: `namespace.serviceAccount`.
    pub name: Option<SessionName>,
    /// `sts:SourceIdentity`, which `CloudTrail` shows through all later roles.
    pub source_identity: Option<SessionName>,
    /// More tags, by key.
    pub tags: BTreeMap<String, String>,
}

impl From<&Config> for Sessions {
    fn from(config: &Config) -> Self {
        Self {
            cluster_name: config.cluster_name.as_deref().map(Arc::from),
            cluster_arn: config.cluster_arn.as_deref().map(Arc::from),
            node: config.node_name.as_str().into(),
            duration: config.session_duration,
            name: config.session_name.clone(),
            source_identity: config.source_identity.clone(),
            tags: config.session_tags.clone(),
        }
    }
}

impl Sessions {
    /// Depends on nothing but the account, where the template does not, so that
    /// `CloudTrail` and policies see one name over restarts and nodes.
    pub fn name(&self, key: &Key, grant: &Grant) -> String {
        match grant.name.as_ref().or(self.name.as_ref()) {
            Some(name) => self.render(name, key),
            // A namespace has no dot, so no two accounts share one.
            None => fit(format!(
                "{}.{}",
                key.account.namespace(),
                key.account.name()
            )),
        }
    }

    /// What `CloudTrail` shows through all later roles, if anything.
    pub fn source_identity(&self, key: &Key) -> Option<String> {
        let template = self.source_identity.as_ref()?;
        Some(self.render(template, key))
    }

    /// How long such a session is asked for.
    pub fn duration(&self, grant: &Grant) -> Duration {
        grant.duration.unwrap_or(self.duration)
    }

    /// As EKS names them, then the grant's own and the agent's, if STS takes as many.
    pub fn tags<'a>(
        &'a self,
        key: &'a Key,
        grant: &'a Grant,
    ) -> Result<BTreeMap<&'a str, String>, Failure> {
        let (cluster_arn, extra) = match &grant.session {
            Session::Untagged { .. } => return Ok(BTreeMap::new()),
            Session::Tagged { cluster_arn, extra } => (cluster_arn, extra),
        };
        // STS refuses two keys that differ in case alone; the grant's wins.
        let mine: HashSet<String> = extra.keys().map(|key| key.to_lowercase()).collect();
        let agents = self.tags.iter();
        let agents = agents.filter(|(key, _)| !mine.contains(&key.to_lowercase()));
        let own = agents.chain(extra);
        let mut tags: BTreeMap<&str, String> = own
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        let pod = key.pod.as_ref();
        let known = [
            (
                "eks-cluster-arn",
                (cluster_arn.as_deref().or(self.cluster_arn.as_deref())).map(str::to_owned),
            ),
            (
                "eks-cluster-name",
                self.cluster_name.as_deref().map(str::to_owned),
            ),
            (
                "kubernetes-namespace",
                Some(key.account.namespace().to_owned()),
            ),
            (
                "kubernetes-service-account",
                Some(key.account.name().to_owned()),
            ),
            (
                "kubernetes-pod-name",
                pod.map(|pod| String::from(&*pod.name)),
            ),
            ("kubernetes-pod-uid", pod.map(|pod| pod.uid.to_string())),
        ];
        // Last, so that nobody declares another pod's.
        tags.extend(
            known
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        if tags.len() > MOST_TAGS {
            return Err(Failure {
                fault: Fault::TooLarge,
                message: format!("{} session tags, and STS takes {MOST_TAGS}", tags.len()),
            });
        }
        Ok(tags)
    }

    /// What to do about a session of which STS says that it is too large, but
    /// not what could go.
    pub(super) fn advice(&self, grant: &Grant) -> &'static str {
        match &grant.session {
            Session::Untagged { .. } => "shorten the association's policy",
            Session::Tagged { extra, .. } if !extra.is_empty() => {
                "drop some of the association's session tags"
            }
            Session::Tagged { .. } if !self.tags.is_empty() => "drop some of --session-tag",
            Session::Tagged { .. } => "disable the association's session tags",
        }
    }

    fn render(&self, template: &SessionName, key: &Key) -> String {
        let field = |field: &Field| match field {
            Field::Cluster => self.cluster_name.as_deref().unwrap_or_default(),
            Field::Namespace => key.account.namespace(),
            Field::ServiceAccount => key.account.name(),
            Field::Pod => key.pod.as_ref().map_or("", |pod| &pod.name),
            Field::Node => &self.node,
        };
        let parts = template.parts().iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Field(it) => field(it),
        });
        fit(parts.collect())
    }
}

/// What STS accepts: the name itself or, where that is too long or has a
/// character that STS refuses, what can stay of it with `=` and a hash of the
/// whole, so that names that differ still do.
fn fit(whole: String) -> String {
    if (2..=LONGEST_NAME).contains(&whole.len()) && whole.chars().all(is_in_session_names) {
        return whole;
    }
    let digest = digest(&SHA256, whole.as_bytes());
    let hash = digest.as_ref()[..HASH_BYTES]
        .iter()
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    let legal = |letter| {
        if is_in_session_names(letter) {
            letter
        } else {
            '-'
        }
    };
    let legal = whole.chars().map(legal);
    let kept: String = legal.take(LONGEST_NAME - 1 - 2 * HASH_BYTES).collect();
    format!("{kept}={hash:016x}")
}
